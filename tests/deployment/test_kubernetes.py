"""The Kubernetes manifests: valid by the schemas, whole, restricted, and of one mind with each other."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import yaml

from gopher_node.settings import Settings
from gopher_node.store.embedded import find_binary
from tests.conftest import server
from tests.deployment.deployed import DOCKER, IMAGE, KUBERNETES, ROOT, documents, durability_at

VERSION = "1.31"
CUSTOM = ("ScaledObject", "TriggerAuthentication", "ServiceMonitor", "Kustomization", "Component")


@pytest.fixture
def built(tmp_path: Path) -> dict[str, dict[str, Any]]:
    """All that is applied when both components are chosen, by kind and name."""
    copy = tmp_path / "kubernetes"
    shutil.copytree(KUBERNETES, copy)
    kustomization = copy / "kustomization.yaml"
    text = kustomization.read_text()
    kustomization.write_text(text.replace("#components:\n#  - ", "components:\n  - ").replace("\n#  - ", "\n  - "))
    return _build(copy)


def _build(folder: Path) -> dict[str, dict[str, Any]]:
    ran = subprocess.run(["kubectl", "kustomize", str(folder)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return {f"{one['kind']}/{one['metadata']['name']}": one for one in yaml.safe_load_all(ran.stdout)}


def _pods(found: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        name: one["spec"]["template"] for name, one in found.items() if name.startswith(("Deployment/", "StatefulSet/"))
    }


def _plain() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted(KUBERNETES.rglob("*.yaml")):
        for document in documents(path):
            if document["kind"] not in CUSTOM:
                yield f"{path.name} {document['kind']}", document


def test_they_are_valid_by_the_schemas_of_kubernetes() -> None:
    """Also strictly: a field with a slip in it is none."""
    found = dict(_plain())

    assert len(found) >= 12
    for name, document in found.items():
        kubernetes_validate.validate(document, VERSION, strict=True)
        assert document["apiVersion"], name


@pytest.mark.tool("kubectl")
def test_without_components_there_is_nothing_that_a_cluster_may_not_know() -> None:
    found = _build(KUBERNETES)

    assert not {one["kind"] for one in found.values()} & set(CUSTOM)
    assert found["Deployment/gopher-worker"]["spec"]["replicas"] == 3
    assert {one["metadata"].get("namespace", "gopher") for one in found.values()} == {"gopher"}


@pytest.mark.tool("kubectl")
def test_whatever_is_named_is_there(built: dict[str, dict[str, Any]]) -> None:
    """Settings, secrets, ports, and pods that somebody selects."""
    secrets = {one["metadata"]["name"]: one["stringData"] for one in documents(KUBERNETES / "secret.example.yaml")}
    pods = _pods(built)
    labels = [pod["metadata"]["labels"].items() for pod in pods.values()]

    for pod in pods.values():
        (container,) = pod["spec"]["containers"]
        for source in container.get("envFrom", []):
            assert source.get("secretRef", {}).get("name", "gopher-node") in secrets
            assert "configMapRef" not in source or f"ConfigMap/{source['configMapRef']['name']}" in built
        for variable in container.get("env", []):
            reference = variable["valueFrom"]["secretKeyRef"]
            assert reference["key"] in secrets[reference["name"]]
        mounted = {mount["name"] for mount in container["volumeMounts"]}
        kept = [volume["name"] for volume in pod["spec"]["volumes"]]
        assert mounted <= {*kept, "data"}
    for name, one in built.items():
        spec = one.get("spec", {})
        wanted = {
            "Service": spec.get("selector"),
            "PodDisruptionBudget": spec.get("selector", {}).get("matchLabels"),
            "NetworkPolicy": spec.get("podSelector", {}).get("matchLabels"),
        }.get(one["kind"])
        assert wanted is None or any(wanted.items() <= some for some in labels), name
    monitor = built["ServiceMonitor/gopher-node"]["spec"]
    watched = built["Service/gopher-metrics"]
    assert monitor["selector"]["matchLabels"].items() <= watched["metadata"]["labels"].items()
    assert monitor["jobLabel"] in watched["metadata"]["labels"]
    (endpoint,) = monitor["endpoints"]
    assert endpoint["port"] in [port["name"] for port in watched["spec"]["ports"]]
    credentials = endpoint["authorization"]["credentials"]
    assert credentials["key"] in secrets[credentials["name"]]


@pytest.mark.tool("kubectl")
def test_the_scaler_asks_the_api_and_scales_the_workers(built: dict[str, dict[str, Any]]) -> None:
    """With the key that may look, for as many jobs as a worker runs; and no other file says how many there are."""
    scaled = built["ScaledObject/gopher-worker"]["spec"]
    worker = built[f"Deployment/{scaled['scaleTargetRef']['name']}"]
    (trigger,) = scaled["triggers"]
    asked, place = trigger["metadata"], urlsplit(trigger["metadata"]["url"])
    service, namespace, *_ = str(place.hostname).split(".")
    authentication = built[f"TriggerAuthentication/{trigger['authenticationRef']['name']}"]
    (token,) = authentication["spec"]["secretTargetRef"]
    secrets = {one["metadata"]["name"]: one["stringData"] for one in documents(KUBERNETES / "secret.example.yaml")}
    (settings,) = [one["data"] for name, one in built.items() if name.startswith("ConfigMap/gopher-node-")]

    assert "replicas" not in worker["spec"]
    assert built[f"Service/{service}"]["metadata"]["namespace"] == namespace
    assert place.port == built[f"Service/{service}"]["spec"]["ports"][0]["port"]
    assert (trigger["type"], asked["authMode"], token["parameter"]) == ("metrics-api", "bearer", "token")
    assert (place.path, asked["valueLocation"]) == ("/api/v1/autoscale", "target")
    assert asked["targetValue"] == settings["WORKER_CONCURRENCY"]
    assert f"{secrets[token['name']][token['key']]}:read" in secrets["gopher-node"]["GOPHER_API_KEYS"]


def test_no_pod_may_do_more_than_it_must() -> None:
    """By the rules of the level `restricted`, and more: nothing is written but to its volumes."""
    for name, document in _plain():
        pod = document.get("spec", {}).get("template", {}).get("spec")
        if pod is None:
            continue
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["automountServiceAccountToken"] is False, name
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, name
        assert container["resources"]["limits"]["memory"], name
        assert container["image"] == IMAGE or ":" in container["image"], name


def test_the_example_of_a_secret_lets_nobody_in() -> None:
    """Who applies it as it stands gets a node that does not start, and not one whose key all the world knows."""
    secret = documents(KUBERNETES / "secret.example.yaml")[0]["stringData"]

    with pytest.raises(Exception, match="GOPHER_API_KEYS"):
        Settings.load(environ=secret)


def test_a_slow_request_is_no_reason_to_kill_a_node() -> None:
    """Liveness is asked with more patience than readiness, and the start is given minutes."""
    for role in ("api", "worker"):
        (deployment,) = documents(KUBERNETES / "base" / f"{role}.yaml")
        (node,) = deployment["spec"]["template"]["spec"]["containers"]
        startup, live, ready = (node[name] for name in ("startupProbe", "livenessProbe", "readinessProbe"))
        assert startup["periodSeconds"] * startup["failureThreshold"] >= 600
        assert live["periodSeconds"] * live["failureThreshold"] >= 30
        assert ready["periodSeconds"] * ready["failureThreshold"] <= 5
        assert {probe["httpGet"]["port"] for probe in (startup, live, ready)} == {node["ports"][0]["name"]}


async def test_the_store_loses_and_evicts_nothing(tmp_path: Path) -> None:
    (config, *_) = documents(KUBERNETES / "valkey" / "valkey.yaml")
    lines = config["data"]["valkey.conf"].replace("dir /data", f"dir {tmp_path}").splitlines()
    words = [word for line in lines if not line.startswith("#") for word in f"--{line}".replace('""', "").split(" ")]

    with server(str(find_binary()), *words) as url:
        assert await durability_at(url) == "fsync"


def test_the_alerts_become_a_rule_by_the_command_of_the_guide() -> None:
    """The file that Prometheus reads is the only one that has them."""
    guide = (ROOT / "docs" / "production.md").read_text()
    (command,) = [block for block in guide.split("```") if "kind: PrometheusRule" in block]
    ran = subprocess.run(
        ["sh", "-c", command.partition("\n")[2].replace("| kubectl apply -n gopher -f -", "")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    rule = yaml.safe_load(ran.stdout)

    assert rule["apiVersion"] == "monitoring.coreos.com/v1"
    assert rule["spec"] == documents(DOCKER / "prometheus" / "alerts.yml")[0]
