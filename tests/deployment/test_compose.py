"""The compose files: what they publish, keep, ask for and refer to."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest

from gopher_node.durations import parse_duration
from gopher_node.settings import SETTINGS, Settings
from gopher_node.store.embedded import find_binary
from tests.conftest import server
from tests.deployment.deployed import COMPOSE, DOCKER, IMAGE, compose, documents, durability_at

PINNED = re.compile(r"[a-z0-9./-]+:v?\d+\.\d+[\w.-]*\Z")

by_file = pytest.mark.parametrize("name", COMPOSE)


def _nodes(services: dict[str, Any]) -> set[str]:
    return {service for service, told in services.items() if told["image"].startswith(f"{IMAGE}:")}


@by_file
def test_what_it_refers_to_is_there(name: str) -> None:
    found = compose(name)
    services = found["services"]

    for service, told in services.items():
        assert PINNED.match(told["image"]), service
        # The image of the node has its own.
        assert "healthcheck" in told or service in _nodes(services), service
        assert set(told.get("depends_on", {})) <= set(services)
        assert set(told.get("networks", [])) <= set(found.get("networks", {}))
        for volume in told.get("volumes", []):
            source, target, *_ = volume.split(":")
            assert target.startswith("/")
            assert (DOCKER / source).exists() if source.startswith(".") else source in found["volumes"], volume
        if "build" in told:
            assert (DOCKER / told["build"]["context"] / told["build"]["dockerfile"]).samefile(DOCKER / "Dockerfile")
    kept = {volume.split(":")[0] for told in services.values() for volume in told.get("volumes", [])}
    assert set(found["volumes"]) <= kept


@by_file
def test_nothing_is_open(name: str) -> None:
    """It does not come up without a key, and publishes on this machine alone. The store is not published at all."""
    text = (DOCKER / name).read_text()
    services = compose(name)["services"]

    assert "${GOPHER_API_KEYS:?" in text
    assert "SERVER_ANONYMOUS" not in text
    ports = [port for told in services.values() for port in told.get("ports", [])]
    assert sorted(ports) == [f"127.0.0.1:{port}:{port}" for port in (3000, 8080, 9090)]
    assert not services.get("store", {}).get("ports")


@by_file
def test_the_nodes_are_told_what_they_know(name: str) -> None:
    services = compose(name)["services"]
    known = {name for setting in SETTINGS for name in setting.env}

    for service in _nodes(services):
        environment = services[service]["environment"]
        settings = Settings.load(environ=environment)
        assert set(environment) <= known
        assert settings.warnings == ()
        assert len(settings.api_keys) == 1


@by_file
def test_prometheus_asks_every_node_there_is(name: str) -> None:
    """Under the names and the port that the containers have; and nodes let it in without a key, which it has not."""
    services = compose(name)["services"]
    (config,) = documents(DOCKER / "prometheus" / "prometheus.yml")
    asked = {
        service
        for job in config["scrape_configs"]
        for found in job.get("dns_sd_configs", [])
        if found["port"] == 8080
        for service in found["names"]
    }

    assert asked & set(services) == _nodes(services)
    assert {services[service]["environment"]["METRICS_ANONYMOUS"] for service in _nodes(services)} == {"true"}


def test_grafana_finds_its_dashboards_and_prometheus() -> None:
    services = compose("compose.yaml")["services"]
    mounts = dict(volume.split(":")[:2] for volume in services["grafana"]["volumes"])
    (home,) = [value for key, value in services["grafana"]["environment"].items() if key.endswith("DASHBOARD_PATH")]
    provisioning = DOCKER / "grafana" / "provisioning"
    folders = [
        provider["options"]["path"]
        for path in (provisioning / "dashboards").glob("*.yaml")
        for provider in documents(path)[0]["providers"]
    ]
    sources = [
        source["url"]
        for path in (provisioning / "datasources").glob("*.yaml")
        for source in documents(path)[0]["datasources"]
    ]

    assert folders == [mounts["./grafana/dashboards"]]
    assert mounts["./grafana/provisioning"] == "/etc/grafana/provisioning"
    assert home == f"{folders[0]}/gopher-node.json"
    assert sources == ["http://prometheus:9090"]


def test_the_split_has_two_that_take_jobs_and_three_that_run_them() -> None:
    """Behind one address, whose proxy the nodes believe."""
    services = compose("compose.split.yaml")["services"]
    api, worker, balancer = services["api"], services["worker"], services["balancer"]
    haproxy = (DOCKER / "haproxy" / "haproxy.cfg").read_text()

    assert (api["deploy"]["replicas"], worker["deploy"]["replicas"]) == (2, 3)
    assert "ports" not in api
    assert balancer["ports"] == ["127.0.0.1:8080:8080"]
    assert "option httpchk GET /readyz\n" in haproxy
    assert re.search(r"^\s+server-template api \d+ api:8080 ", haproxy, re.MULTILINE)
    assert Settings.load(environ=api["environment"]).server.trusted_proxies
    # A request may wait for a minute, and a stream of events is silent for a quarter of one.
    (patience,) = re.findall(r"timeout server (\S+)", haproxy)
    assert parse_duration(patience) > 60


@pytest.mark.tool("haproxy")
def test_haproxy_takes_its_configuration() -> None:
    path = str(DOCKER / "haproxy" / "haproxy.cfg")
    ran = subprocess.run(["haproxy", "-c", "-f", path], capture_output=True, text=True)

    assert ran.returncode == 0, ran.stderr


async def test_the_store_loses_and_evicts_nothing() -> None:
    """Started with the same words, it is one that a node calls durable."""
    program, *words = compose("compose.split.yaml")["services"]["store"]["command"]
    assert program == "valkey-server"

    with server(str(find_binary()), *words) as url:
        assert await durability_at(url) == "fsync"
