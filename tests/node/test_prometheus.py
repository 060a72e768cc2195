"""A real Prometheus scrapes a real node that has been at work, and knows every metric that is documented."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from gopher_node.telemetry import cluster_metrics, metrics
from gopher_node.telemetry.families import Declaration
from tests.deployment.prometheus_server import Prometheus, prometheus
from tests.node.node_process import NodeProcess, running

pytestmark = [pytest.mark.process, pytest.mark.tool("prometheus")]

FLOW = {"sum": {"rate_limit": "50/s", "max_running": 5}, "hopeless": {"breaker": True}}


async def work(node: NodeProcess) -> None:
    """Jobs of two priorities that complete, are retried and fail; a job that comes again; requests that are refused."""
    every_second = {"name": "steady", "type": "sum", "payload": {}, "every": "1s"}
    assert (await node.request("POST", "/api/v1/recurring", json=every_second))[0] == 201
    stored = [
        await node.submit("number", {"n": 1}, priority="low"),
        await node.submit("number", {"n": 2}, priority="urgent", delay=0.05),
        await node.submit("sum"),
        await node.submit("flaky", {"fails": 1}),
        await node.submit("hopeless"),
    ]
    for job in stored:
        await node.ended(job["job_id"])
    assert (await node.request("GET", "/none"))[0] == 404
    await node.submit("nobody-runs-it", priority="high")


async def known(server: Prometheus, told: Declaration) -> list[tuple[dict[str, str], float]]:
    return await server.query(told.full_name + ("_count" if told.kind == "histogram" else ""))


async def test_prometheus_knows_every_metric(valkey_url: str, namespace: str, tmp_path: Path) -> None:
    """Each has data, with the labels that it is documented with; and the numbers are those of what was done."""
    shared = {"REDIS_URL": valkey_url, "GOPHER_NAMESPACE": namespace, "GOPHER_FLOW": json.dumps(FLOW)}
    async with running("--handlers=flows,userjobs", **shared) as node:
        await work(node)
        async with prometheus(tmp_path, node.url) as server, asyncio.timeout(40):
            depth = 'gopher_queue_depth{queue="nobody-runs-it", priority="high"} == 1'
            while not (await server.query(depth) and await known(server, metrics.LAST_FIRE)):  # noqa: ASYNC110
                await asyncio.sleep(0.2)  # until it has scraped what is there by then
            found = {told: await known(server, told) for told in (*metrics.FAMILIES, *cluster_metrics.FAMILIES)}
            runs = await server.query('sum by (status) (gopher_jobs_processed_total{queue="flaky"}) > 0')
            routes = await server.query('gopher_http_request_duration_seconds_count{route="unknown", status="4xx"}')
            slow = "histogram_quantile(0.95, sum by (le) (gopher_redis_call_duration_seconds_bucket))"
            quantile = await server.query(slow)

    assert {told.name for told, series in found.items() if not series} == set()
    for told, series in found.items():
        for labels, _ in series:
            assert set(labels) == {"__name__", "instance", "job", *told.labels}, told.name
    assert {(labels["status"], value) for labels, value in runs} == {("completed", 1), ("retried", 1)}
    assert [value for _, value in routes] == [1]
    assert 0 < quantile[0][1] < 10
