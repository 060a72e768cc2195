"""The dashboard: that it is sound, and that Prometheus answers what it asks, once it has watched a node at work."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from tests.deployment import queries
from tests.deployment.deployed import COMPOSE, DOCKER, compose, documents
from tests.deployment.prometheus_server import JOB, Prometheus, prometheus
from tests.node.node_process import NodeProcess, running

QUESTIONS = [
    "Is it healthy?",
    "Does work arrive and get done?",
    "How long do jobs wait and run?",
    "What is failing?",
    "Are there enough workers?",
    "What is held back?",
    "Do delayed and recurring jobs come on time?",
    "Is the store well?",
    "Are the nodes well?",
    "HTTP",
]
SCHEMA = 41
"""Of the Grafana that compose.yaml names; a newer one brings a dashboard up to date, an older one refuses it."""

CHOSEN = {"job": JOB, "instance": ".*", "queue": ".*", "__rate_interval": "10s"}
"""What Grafana puts in place of the variables; the interval by the scrapes once a second here."""

EMPTY = {
    "Firing alerts": "none fires of a node that is just started: each has to last",
    "annotation Alerts": "the same",
    "Failed calls, by reason": "no call to the store fails here",
}
"""What has no data when all is well, and why."""

ALERTING = {("GopherNoWorkerForType", "nobody-runs-it"), ("GopherBreakerOpen", "hopeless")}
"""What the node that is watched here gives rise to."""

FLOW = {
    "number": {"rate_limit": "5/s"},
    "sum": {"max_running": 5},
    "hopeless": {"breaker": {"minimum": 3, "cooldown": 600}},
}


def test_a_row_answers_each_question() -> None:
    assert queries.rows() == QUESTIONS
    types = [panel["type"] for panel in queries.dashboard()["panels"]]
    assert types[0] == "row"
    assert ("row", "row") not in zip(types, [*types[1:], "row"], strict=True)


def test_the_panels_are_sound() -> None:
    told = queries.dashboard()
    every, shown = told["panels"], queries.panels()

    assert told["schemaVersion"] == SCHEMA
    assert (told["uid"], told["id"]) == ("gopher-node", None)
    assert len({panel["id"] for panel in every}) == len(every)
    assert len({panel["title"] for panel in every}) == len(every)
    for panel in shown:
        title = panel["title"]
        assert len(panel["description"]) > 20, title
        assert panel["fieldConfig"]["defaults"]["unit"], title
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}, title
        ids = [target["refId"] for target in panel["targets"]]
        assert ids, title
        assert len(set(ids)) == len(ids), title
        if len(ids) > 1:
            assert all(target["legendFormat"] != "__auto" for target in panel["targets"]), title


def test_no_panel_covers_another() -> None:
    places = [(panel["title"], panel["gridPos"]) for panel in queries.dashboard()["panels"]]
    for title, at in places:
        assert at["x"] >= 0, title
        assert at["x"] + at["w"] <= 24, title
    for (one, a), (other, b) in combinations(places, 2):
        beside = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        apart = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert beside or apart, (one, other)


def test_what_it_asks_for_is_there() -> None:
    there = queries.samples_there_are()
    told = queries.dashboard()
    variables = {variable["name"] for variable in told["templating"]["list"]}

    assert variables == {"datasource", "job", "instance", "queue"}
    for title, query in queries.dashboard_queries():
        assert queries.metrics_named_in(query) <= there, title
        assert set(re.findall(r"\$(\w+)", query)) <= variables | {"__rate_interval"}, title
        # Of another system, nothing is shown.
        assert query.count("{") == query.count('job=~"$job') + query.count("ALERTS{") - query.count('job=~"$job|'), (
            title
        )
    for variable in told["templating"]["list"]:
        assert queries.metrics_named_in(json.dumps(variable)) <= there


@pytest.mark.parametrize("name", COMPOSE)
def test_grafana_finds_it(name: str) -> None:
    """What is provisioned is where the containers have it."""
    services: dict[str, Any] = compose("compose.yaml")["services"] | {
        service: told for service, told in compose(name)["services"].items() if "extends" not in told
    }
    mounts = dict(volume.split(":")[:2] for volume in services["grafana"]["volumes"])
    (provider,) = documents(DOCKER / "grafana" / "provisioning" / "dashboards" / "gopher-node.yaml")
    (sources,) = documents(DOCKER / "grafana" / "provisioning" / "datasources" / "prometheus.yaml")

    assert mounts["./grafana/provisioning"] == "/etc/grafana/provisioning"
    assert mounts["./grafana/dashboards"] == provider["providers"][0]["options"]["path"]
    assert sources["datasources"][0]["url"] == "http://prometheus:9090"
    assert "./prometheus:/etc/prometheus:ro" in services["prometheus"]["volumes"]
    # The names that Prometheus looks up are those of the services.
    (config,) = documents(queries.CONFIG)
    names = set(config["scrape_configs"][0]["dns_sd_configs"][0]["names"])
    nodes = {service for service, told in services.items() if str(told["image"]).startswith("gopher-node:")}
    assert nodes <= names


@pytest.mark.tool("prometheus")
@pytest.mark.process
async def test_prometheus_answers_every_query(tmp_path: Path) -> None:
    """Each panel has data of a node that is at work, and each rule can be evaluated; two have begun to alert."""
    environment = {"GOPHER_FLOW": json.dumps(FLOW), "GOPHER_NAMESPACE": "dashboard"}
    async with (
        running("--handlers=userjobs,flows", f"--data-dir={tmp_path / 'data'}", **environment) as node,
        prometheus(tmp_path, node.url, rules=[queries.ALERTS]) as server,
    ):
        await _give_work(node)
        empty = await _ask(server, dict(_substituted()))
        alerting = await _alerting(server)
        rules = [rule for group in (await server.get("rules"))["groups"] for rule in group["rules"]]
        for rule in queries.rules():
            await server.query(rule["expr"])

    assert empty <= EMPTY.keys()
    assert {rule["name"]: rule["health"] for rule in rules if rule["health"] != "ok"} == {}
    assert len(rules) == len(queries.rules())
    assert alerting >= ALERTING


def _substituted() -> dict[tuple[str, int], str]:
    """Each query as Grafana sends it, by its title and place."""
    found: dict[tuple[str, int], str] = {}
    for place, (title, query) in enumerate(queries.dashboard_queries()):
        found[title, place] = re.sub(r"\$(\w+)", lambda name: CHOSEN[name[1]], query)
    return found


async def _give_work(node: NodeProcess) -> None:
    """Jobs that complete, fail, are tried again, wait for a rate, for a worker, for later; a breaker that opens."""
    batch: list[dict[str, Any]] = [{"type": "number", "payload": {"n": n}} for n in range(300)]
    batch += [{"type": "flaky", "payload": {"fails": 2}}] * 5 + [{"type": "hopeless", "payload": {}}] * 20
    batch += [{"type": "sum-in-process", "payload": {}}, {"type": "nobody-runs-it", "payload": {}}]
    batch += [{"type": "sum", "payload": {}, "delay": "1h"}, {"type": "sum", "payload": {}, "delay": "100ms"}]
    status, answer = await node.request("POST", "/api/v1/jobs/bulk", json=batch)
    assert status in (200, 201), answer
    status, answer = await node.request(
        "POST", "/api/v1/recurring", json={"name": "every-second", "type": "sum", "payload": {}, "every": "1s"}
    )
    assert status == 201, answer


async def _ask(server: Prometheus, asked: dict[tuple[str, int], str]) -> set[str]:
    """Ask again and again for what has no data yet; returns what has none in the end."""
    missing = dict(asked)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(20):
            while {title for title, _ in missing} - EMPTY.keys():
                for key, query in list(missing.items()):
                    if await server.query(query):
                        del missing[key]
                await asyncio.sleep(0.5)  # the next scrape comes within a second
    return {title for title, _ in missing}


async def _alerting(server: Prometheus) -> set[tuple[str, str]]:
    """The alerts that are pending, with their queues: as soon as the expected ones are, or ten seconds on."""
    found: set[tuple[str, str]] = set()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(10):
            while not found >= ALERTING:
                alerts = [alert["labels"] for alert in (await server.get("alerts"))["alerts"]]
                found = {(labels["alertname"], labels.get("queue", "")) for labels in alerts}
                await asyncio.sleep(0.2)  # rules are evaluated once a second
    return found
