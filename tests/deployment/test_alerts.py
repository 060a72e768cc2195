"""The alert rules: that each fires when it should, and leads an operator to a page that says what to do."""

from __future__ import annotations

import re
import subprocess
from typing import Any

import pytest
import yaml

from gopher_node.telemetry import cluster_metrics
from tests.deployment import queries
from tests.deployment.queries import ALERTS, ALERTS_TEST, CONFIG, PAGE

PROMISED = {
    "GopherNoWorkerForType",
    "GopherOldestJobTooOld",
    "GopherBacklogGrowing",
    "GopherDeadLettersGrowing",
    "GopherBreakerOpen",
    "GopherLeaseLosses",
    "GopherStoreErrors",
    "GopherStoreDown",
    "GopherStoreMemoryFull",
    "GopherSlotsExhausted",
    "GopherEventLoopLag",
    "GopherSchedulerLate",
    "GopherNodeDown",
    "GopherNodeNotReady",
}


@pytest.mark.tool("promtool")
@pytest.mark.parametrize(
    "arguments",
    [("test", "rules", ALERTS_TEST), ("check", "rules", "--lint-fatal", ALERTS), ("check", "config", CONFIG)],
)
def test_promtool_finds_nothing_wrong(arguments: tuple[object, ...]) -> None:
    told = subprocess.run(["promtool", *map(str, arguments)], capture_output=True, text=True, timeout=50)
    assert told.returncode == 0, told.stdout + told.stderr


def test_each_alert_is_tested_to_fire_and_not_to() -> None:
    fires: set[str] = set()
    rests: set[str] = set()
    for test in yaml.safe_load(ALERTS_TEST.read_text())["tests"]:
        for case in test["promql_expr_test"]:
            for name in re.findall(r'alertname="(\w+)"', case["expr"]):
                (fires if case.get("exp_samples") else rests).add(name)
                # Beside what fires there are series that do not: of other queues, nodes or systems.
                if case.get("exp_samples") and len(test["input_series"]) > len(case["exp_samples"]):
                    rests.add(name)

    assert queries.alerts().keys() >= PROMISED
    assert fires == rests == queries.alerts().keys()


def test_each_alert_tells_what_to_do() -> None:
    sections: dict[str, str] = dict(re.findall(r"^### (\w+)\n\n(.*?)(?=^##|\Z)", PAGE.read_text(), re.M | re.S))
    alerts = queries.alerts()

    assert sections.keys() == alerts.keys()
    for name, alert in alerts.items():
        told: dict[str, Any] = alert["annotations"]
        assert alert["labels"]["severity"] in ("critical", "warning")
        assert sections[name].startswith(f"{alert['labels']['severity']}. "), name
        assert "- Look: " in sections[name], name
        assert "- Do: " in sections[name], name
        assert told["runbook"] == f"docs/alerts.md#{name.lower()}"
        assert len(told["summary"]) < 120, name
        assert len(told["description"]) > 120, name
        # Whatever is not told by itself must have lasted; what counts over a time has.
        assert "for" in alert or re.search(r"\[\d+m|offset \d+m", alert["expr"]), name


def test_the_rows_that_texts_name_are_on_the_dashboard() -> None:
    texts = [PAGE.read_text(), *(alert["annotations"]["description"] for alert in queries.alerts().values())]
    named = {name for text in texts for name in re.findall(r'"([A-Z][^"]*\?|HTTP)"', " ".join(text.split()))}

    assert len(named) > 5
    assert named <= set(queries.rows())


def test_what_rules_ask_for_is_there() -> None:
    there = queries.samples_there_are()
    for rule in queries.rules():
        assert queries.metrics_named_in(rule["expr"]) <= there, rule


def test_the_queues_of_two_nodes_are_not_added_up() -> None:
    """Each node tells the same of the whole system, so each such metric is looked at through an aggregation."""
    shared = {told.full_name for told in cluster_metrics.FAMILIES}
    asked = [rule["expr"] for rule in queries.rules()] + [query for _, query in queries.dashboard_queries()]
    for query in asked:
        for name in queries.metrics_named_in(query) & shared:
            assert not re.search(rf"\b(?:sum|avg)(?: by \([^)]*\))? ?\({name}\b", query), query
