"""What the files under docker/ deploy, read from them: how each starts a node, what it is told, and how it is asked."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from configparser import RawConfigParser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from gopher_node.durations import parse_duration
from gopher_node.store import Connections, Store

ROOT = Path(__file__).parent.parent.parent
DOCKER = ROOT / "docker"
KUBERNETES = DOCKER / "kubernetes"
UNIT = DOCKER / "systemd" / "gopher-node.service"
COMPOSE = ("compose.yaml", "compose.split.yaml")

KEY = "a-key-that-only-these-tests-know-of"
IMAGE = "gopher-node"
DRAIN = 30.0
"""What a node that is told nothing gives running jobs when it stops; WORKER_SHUTDOWN_TIMEOUT."""


@dataclass(frozen=True)
class Started:
    """One way to start a node: `command` follows gopher-node, and `grace` is how long it has to stop, in seconds."""

    place: str
    command: list[str]
    environment: dict[str, str]
    probes: tuple[str, ...]
    grace: float
    spent: float = 0.0
    """The part of the grace that is over before the node is told to stop."""

    @property
    def drain(self) -> float:
        return parse_duration(self.environment.get("WORKER_SHUTDOWN_TIMEOUT", DRAIN))


def documents(path: Path) -> list[Any]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document is not None]


def compose(name: str) -> dict[str, Any]:
    """A compose file as it is with nothing but a key in the environment, and what its services extend."""
    (found,) = documents(DOCKER / name)
    found = _interpolated(found)
    for service, told in found["services"].items():
        if (extends := told.pop("extends", None)) is not None:
            found["services"][service] = {**compose(extends["file"])["services"][extends["service"]], **told}
    return found


def _interpolated(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _interpolated(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_interpolated(inner) for inner in value]
    if not isinstance(value, str):
        return value

    def written(found: re.Match[str]) -> str:
        name, sign, rest = found.groups()
        if sign == ":?":
            assert name == "GOPHER_API_KEYS", f"{name} is asked for"
            return KEY
        return rest

    filled = re.sub(r"\$\{(\w+)(:[?-])([^}]*)\}", written, value)
    assert "$" not in filled, value
    return filled


def image_environment() -> dict[str, str]:
    """What the image itself tells a node."""
    final = (DOCKER / "Dockerfile").read_text().rpartition("\nFROM ")[2]
    (block,) = re.findall(r"^ENV (GOPHER_DATA_DIR(?:.*\\\n)*.*)$", final, re.MULTILINE)
    return dict(word.split("=", 1) for word in shlex.split(block.replace("\\\n", " ")))


def healthcheck() -> list[str]:
    (found,) = re.findall(r"^HEALTHCHECK .*CMD (\[.*\])$", (DOCKER / "Dockerfile").read_text(), re.MULTILINE)
    return yaml.safe_load(found)


def units() -> dict[str, dict[str, list[str]]]:
    """The unit's sections; what may be said again is a list."""
    parser = RawConfigParser(strict=False, interpolation=None, dict_type=_Multi, delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(UNIT)
    return {section: {key: value.split("\n") for key, value in parser.items(section)} for section in parser.sections()}


class _Multi(dict[str, Any]):
    def __setitem__(self, key: str, value: Any) -> None:
        if isinstance(value, list) and isinstance(self.get(key), list):
            self[key].extend(value)
        else:
            super().__setitem__(key, value)


def starts() -> Iterator[Started]:
    """Every way in which a file starts a node."""
    yield from _by_compose()
    yield from _by_kubernetes()
    unit = units()["Service"]
    (command,), (grace,), (told,) = unit["ExecStart"], unit["TimeoutStopSec"], unit["Environment"]
    environment = dict(word.split("=", 1) for word in told.split()) | environment_file()
    yield Started("systemd", command.split()[1:], environment, (), float(grace))


def environment_file() -> dict[str, str]:
    lines = (ROOT / "config" / "gopher-node.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def _by_compose() -> Iterator[Started]:
    for name in COMPOSE:
        for service, told in compose(name)["services"].items():
            if told["image"].partition(":")[0] == IMAGE:
                environment = image_environment() | told["environment"]
                yield Started(
                    f"{name}: {service}", told["command"], environment, (), parse_duration(told["stop_grace_period"])
                )


def _by_kubernetes() -> Iterator[Started]:
    (settings,) = documents(KUBERNETES / "base" / "kustomization.yaml")
    (generated,) = settings["configMapGenerator"]
    secret = documents(KUBERNETES / "secret.example.yaml")[0]["stringData"]
    environment = image_environment() | dict(literal.split("=", 1) for literal in generated["literals"]) | secret
    for name in ("api.yaml", "worker.yaml"):
        (deployment,) = documents(KUBERNETES / "base" / name)
        pod = deployment["spec"]["template"]["spec"]
        (node,) = pod["containers"]
        probes = [node[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe", "readinessProbe")]
        before = node.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["sleep", "0"])
        grace = float(pod["terminationGracePeriodSeconds"])
        yield Started(f"kubernetes: {name}", node["args"], environment, tuple(probes), grace, float(before[1]))


async def durability_at(url: str) -> str:
    """What a node says of jobs that are stored there. Raises UnusableStore for a server that it refuses."""
    store = Store(Connections(url))
    try:
        await store.open()
        return store.durability
    finally:
        await store.close()
