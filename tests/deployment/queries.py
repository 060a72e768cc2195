"""What alert rules and dashboard ask Prometheus for, read from their files."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import yaml
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from gopher_node.telemetry import cluster_metrics, metrics
from tests.deployment.deployed import DOCKER, ROOT

ALERTS = DOCKER / "prometheus" / "alerts.yml"
ALERTS_TEST = DOCKER / "prometheus" / "alerts_test.yml"
CONFIG = DOCKER / "prometheus" / "prometheus.yml"
DASHBOARD = DOCKER / "grafana" / "dashboards" / "gopher-node.json"
PAGE = ROOT / "docs" / "alerts.md"

_NAME = re.compile(r"\b(?:gopher|process|python)_[a-z0-9_]+")


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def alerts() -> dict[str, dict[str, Any]]:
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def dashboard() -> dict[str, Any]:
    return json.loads(DASHBOARD.read_text())


def panels() -> list[dict[str, Any]]:
    """Those that show something."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def rows() -> list[str]:
    return [panel["title"] for panel in dashboard()["panels"] if panel["type"] == "row"]


def dashboard_queries() -> Iterator[tuple[str, str]]:
    """Each query with the title of what it is for, its variables as they stand."""
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for annotation in dashboard()["annotations"]["list"]:
        if "expr" in annotation:
            yield f"annotation {annotation['name']}", annotation["expr"]


def metrics_named_in(query: str) -> set[str]:
    """A rule's own name, which has colons, is none."""
    return {name for name in _NAME.findall(re.sub(r"\w+:\w+:\w+", "", query)) if name}


def samples_there_are() -> set[str]:
    """The names that a query can find, of all that a node tells."""
    found: set[str] = set()
    for told in (*metrics.FAMILIES, *cluster_metrics.FAMILIES):
        endings = ("_bucket", "_sum", "_count") if told.kind == "histogram" else ("",)
        found.update(told.full_name + ending for ending in endings)
    registry = CollectorRegistry()
    for make in (ProcessCollector, PlatformCollector, GCCollector):
        make(registry=registry)
    found.update(sample.name for family in registry.collect() for sample in family.samples)
    return found
