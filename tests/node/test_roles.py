"""Nodes that take jobs beside nodes that run them: what the handlers declare holds on both sides."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gopher_node.store import Store
from tests.node.node_process import NodeProcess, running

pytestmark = pytest.mark.process


@asynccontextmanager
async def split(valkey_url: str, store: Store) -> AsyncIterator[tuple[NodeProcess, NodeProcess]]:
    """A node that only takes jobs and knows no handlers, and one that only runs them."""
    shared = {"REDIS_URL": valkey_url, "GOPHER_NAMESPACE": store.namespace}
    async with (
        running("--role=api", **shared) as api,
        running("--role=worker", "--handlers=paying", **shared) as worker,
    ):
        while len(await store.nodes.all()) < 2:
            pass
        yield api, worker


async def test_a_job_is_run_as_its_handler_declares(valkey_url: str, store: Store) -> None:
    """Once, if that is what it says; the job that is answered tells it."""
    async with split(valkey_url, store) as (api, _):
        submitted = await api.submit("pay", {"amount": 3})
        job = await api.ended(submitted["job_id"])

    assert (submitted["max_retries"], submitted["priority"]) == (0, "low")
    assert (job["status"], len(job["attempts"]), job["max_retries"]) == ("failed", 1, 0)
    assert (await store.get(job["job_id"])).timeout_ms == 20_000


async def test_a_handler_is_shown_where_it_does_not_run(valkey_url: str, store: Store) -> None:
    """With its payload's schema, and who runs it; also once that node has gone, and then nobody does."""
    async with split(valkey_url, store) as (api, worker):
        _, found = await api.request("GET", "/api/v1/handlers")
        (runs,) = [node["id"] for node in await store.nodes.all() if node["pid"] == worker.pid]
        await worker.stop()
        _, after = await api.request("GET", "/api/v1/handlers")
        again = await api.submit("pay", {"amount": 3})

    (shown,) = [item for item in found["items"] if item["type"] == "pay"]
    schema, policy = shown.pop("payload_schema"), shown.pop("policy")
    assert set(policy.values()) == {None}
    assert shown == {
        "type": "pay",
        "description": "Pays once.",
        "mode": "async",
        "endpoint": None,
        "timeout": 20.0,
        "max_retries": 0,
        "priority": "low",
        "concurrency": 3,
        "nodes": [runs],
    }
    assert schema["required"] == ["amount"]
    assert [item["nodes"] for item in after["items"] if item["type"] == "pay"] == [[]]
    assert again["max_retries"] == 0


@pytest.mark.parametrize("role", ["api", "worker"])
async def test_a_role_on_a_store_of_its_own(role: str, tmp_path: Path) -> None:
    """The log says once that nobody else sees its jobs, and what to do."""
    async with running(f"--role={role}", f"--data-dir={tmp_path}", cold=role == "worker") as node:
        (line,) = [line for line in node.log if line["msg"] == "node.alone"]
        assert "REDIS_URL" in line["reason"]
        assert line["level"] == "warning"

        async with running("--role=api", f"--data-dir={tmp_path}") as second:
            assert "node.alone" not in [line["msg"] for line in second.log]


async def test_roles_on_a_shared_store(valkey_url: str, store: Store, tmp_path: Path) -> None:
    """Neither they, nor a node that does everything, are warned of."""
    shared = {"REDIS_URL": valkey_url, "GOPHER_NAMESPACE": store.namespace}
    async with running("--role=api", **shared) as api, running(f"--data-dir={tmp_path}") as alone:
        for node in (api, alone):
            assert "node.alone" not in [line["msg"] for line in node.log]


async def test_balancers_see_that_a_node_stops(valkey_url: str, store: Store) -> None:
    """For as long as it is told to, a node that stops is unready and takes jobs nevertheless; but not if in a hurry."""
    shared = {"REDIS_URL": valkey_url, "GOPHER_NAMESPACE": store.namespace}
    async with running("--role=api", **shared, SERVER_SHUTDOWN_DELAY="10m") as node:
        node.kill(signal.SIGTERM)
        await node.logged(lambda line: line["msg"] == "node.stopping")
        status, told = await node.request("GET", "/readyz")
        assert (status, told["status"]) == (503, "unready")
        assert "shutting down" in told["checks"]["accepting"]
        await node.submit("default")
        node.kill(signal.SIGTERM)
        assert await node.wait(20) == 0
