"""Nodes, workers and handlers: who is there, as each told of itself, and who works through this one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from gopher_node.api.answers.views import format_time
from gopher_node.api.resources.handlers import HandlerListDocument
from gopher_node.api.resources.nodes import NodeDocument, NodeListDocument, WorkersDocument
from gopher_node.job import Job, State
from gopher_node.reporting import Rates, Reporter
from gopher_node.store import Store
from gopher_node.telemetry import Events
from gopher_node.worker.status import WorkerStatus
from tests.api.conftest import Api

STATUS = WorkerStatus(
    slots=8,
    busy=2,
    stuck=1,
    unsettled=0,
    last_claim_age=0.1,
    unanswered=0.0,
    draining=False,
    store_ok=True,
    session="s",
)
COUNTED = ("completed", "failed", "cancelled", "crashed")


def record(id: str, *types: str, slots: int = 4, **more: Any) -> dict[str, Any]:
    """What a node reports, as `Reporter` makes it."""
    fixed = {
        "id": id,
        "role": "all" if slots else "api",
        "version": "1.2.3",
        "host": "h",
        "pid": 7,
        "started_at": 1_700_000_000_000,
        "types": types,
        "url": "http://h:1",
    }
    worker = WorkerStatus(slots, 1, 0, 0, 0.1, 0.0, False, True, "s") if slots else None
    return {**Reporter(None, Events(), fixed, None).record(worker), **more}  # type: ignore[arg-type]


async def report(store: Store, id: str, *types: str, now: int | None = None, **more: Any) -> None:
    await store.nodes.report(id, orjson.dumps(record(id, *types, **more)), now=now)


async def workers(api: Api) -> dict[str, Any]:
    answer = await api.get("/api/v1/workers")
    assert answer.status == 200, answer.body
    WorkersDocument.model_validate(answer.json)
    return answer.json


async def test_a_node_is_shown_as_it_told_of_itself(api: Api) -> None:
    """Every field; beside others, and alone."""
    await report(api.store, "n2", "mail", slots=4, completed=9, utilisation=0.25)
    await report(api.store, "n1", slots=0)

    listed = (await api.get("/api/v1/nodes")).json
    alone = await api.get("/api/v1/nodes/n2")

    NodeListDocument.model_validate(listed)
    NodeDocument.model_validate(alone.json)
    assert [node["id"] for node in listed["items"]] == ["n1", "n2"]
    silent = datetime.now(UTC) - datetime.fromisoformat(alone.json["last_seen"])
    assert -5 < silent.total_seconds() < 15
    assert {**alone.json, "last_seen": "lately"} == {
        "id": "n2",
        "role": "all",
        "version": "1.2.3",
        "host": "h",
        "pid": 7,
        "url": "http://h:1",
        "started_at": "2023-11-14T22:13:20.000Z",
        "last_seen": "lately",
        "status": "ok",
        "draining": False,
        "types": ["mail"],
        "slots": 4,
        "running": 1,
        "stuck": 0,
        "utilisation": 0.25,
        "completed": 9,
        "failed": 0,
        "cancelled": 0,
        "crashed": 0,
        "per_minute": dict.fromkeys(COUNTED, 0.0),
    }


async def test_a_node_that_drains_says_so(api: Api) -> None:
    await report(api.store, "n1", draining=True)

    assert (await api.get("/api/v1/nodes/n1")).json["status"] == "draining"


async def test_what_a_newer_node_tells_is_left_out(api: Api) -> None:
    """Answers stay as they are documented."""
    await report(api.store, "n1", mood="good")

    NodeListDocument.model_validate((await api.get("/api/v1/nodes")).json)


async def test_a_silent_node_is_gone(api: Api) -> None:
    """A minute after it last told of itself; its slots and types go with it."""
    now = (await api.store.survey()).now_ms
    await report(api.store, "lately", "mail", now=now - 30_000)
    await report(api.store, "silent", "mail", now=now - 61_000)

    (node,) = (await api.get("/api/v1/nodes")).json["items"]

    assert (node["id"], node["status"]) == ("lately", "silent")
    assert 25 < (datetime.now(UTC) - datetime.fromisoformat(node["last_seen"])).total_seconds() < 60
    assert (await workers(api))["workers"] == 4
    missing = await api.get("/api/v1/nodes/silent")
    assert (missing.status, missing.problem) == (404, "node-not-found")


@pytest.mark.parametrize("id", ["nobody", "a%2Fb", "%7B%7D"])
async def test_no_such_node(api: Api, id: str) -> None:
    answer = await api.get(f"/api/v1/nodes/{id}")

    assert (answer.status, answer.problem) == (404, "node-not-found")


async def test_workers_are_all_that_run_jobs(api: Api) -> None:
    """The slots of all nodes, and each node's worker with its own counts; a node without slots has no worker."""
    rates = {"completed": 12.0, "failed": 1.0, "cancelled": 0.0, "crashed": 0.0}
    await report(api.store, "n1", slots=4, completed=7, failed=2, crashed=1, per_minute=rates, utilisation=0.5)
    await report(api.store, "n2", slots=10)
    await report(api.store, "n3", slots=0)

    found = await workers(api)

    assert found["workers"] == 14
    assert [(item["name"], item["kind"], item["node"]) for item in found["items"]] == [
        ("n1", "node", "n1"),
        ("n2", "node", "n2"),
    ]
    assert found["items"][0] == {
        "name": "n1",
        "kind": "node",
        "node": "n1",
        "running": 1,
        "completed": 7,
        "failed": 2,
        "slots": 4,
        "crashed": 1,
        "utilisation": 0.5,
        "per_minute": rates,
    }


async def claim(api: Api, worker: str, **options: Any) -> list[str]:
    """The tokens that a worker of this name got."""
    answer = await api.post("/api/v1/leases", {"types": ["unserved"], "worker": worker, "max_jobs": 10, **options})
    assert answer.status == 200, answer.body
    return [item["token"] for item in answer.json["items"]]


async def test_workers_over_http_are_shown_by_name(api: Api) -> None:
    """What each has claimed, holds, and brought to which end."""
    before = time.time_ns() // 1_000_000
    for _ in range(5):
        await api.submit()
    tokens = await claim(api, "ann")
    await claim(api, "idle")
    for token, verb in zip(tokens, ("complete", "complete", "fail", "release"), strict=False):
        content = {"error": "x", "retryable": False} if verb == "fail" else {}
        assert (await api.post(f"/api/v1/leases/{token}/{verb}", content)).status == 200
    forged = tokens[4].rpartition(".")[0] + "." + "0" * 16
    assert (await api.post(f"/api/v1/leases/{forged}/complete")).problem == "lease-lost"

    items = {item["name"]: item for item in (await workers(api))["items"]}

    told = ("kind", "node", "claimed", "completed", "failed", "released", "running")
    assert [items["ann"][name] for name in told] == ["http", "node-1", 5, 2, 1, 1, 1]
    assert [items["idle"][name] for name in told] == ["http", "node-1", 0, 0, 0, 0, 0]
    assert items["ann"]["last_seen"] >= str(format_time(before))


async def test_workers_at_another_node(serve: Callable[..., Awaitable[Api]], store: Store) -> None:
    """As that one last told; what this node knows itself is not told twice."""
    here, there = await serve(), await serve()
    there.status.id = "node-2"
    for name, api in (("ann", here), ("bob", there)):
        await api.submit()
        assert len(await claim(api, name)) == 1
    for api in (here, there):
        await report(store, api.status.id, slots=2, http_workers=api.server.http_workers())

    for api in (here, there):
        found = await workers(api)
        assert found["workers"] == 4
        http = [(item["name"], item["node"], item["running"]) for item in found["items"] if item["kind"] == "http"]
        assert sorted(http) == [("ann", "node-1", 1), ("bob", "node-2", 1)]


async def test_handlers_and_who_serves_them(api: Api) -> None:
    """Those of this node, each with the nodes that run it, and those that only other nodes know."""
    await report(api.store, "n1", "greet", "faxes")
    await report(api.store, "n2", "greet")

    answer = await api.get("/api/v1/handlers")

    HandlerListDocument.model_validate(answer.json)
    items = {item["type"]: item for item in answer.json["items"]}
    assert {type: item["nodes"] for type, item in items.items()} == {
        "greet": ["n1", "n2"],
        "plain": [],
        "faxes": ["n1"],
    }
    assert (items["faxes"]["mode"], items["faxes"]["payload_schema"]) == (None, {})
    assert (items["greet"]["mode"], items["greet"]["description"]) == ("thread", "Says hello.")


# What a node reports


def test_runs_over_http_are_not_the_nodes_own() -> None:
    """A node's counts are those of its slots, and what came of others' runs is theirs."""
    events = Events()
    job = Job(id="a", type="mail", state=State.PROCESSING, payload=b"", priority=2, created_ms=0)  # type: ignore[arg-type]
    for state in (State.COMPLETED, State.COMPLETED, State.COMPLETED, State.FAILED):
        events.settled(job, state, state.value, 0.1)

    told = Reporter(None, events, {}, None, ended_over_http=lambda: {"completed": 2}).record(STATUS)  # type: ignore[arg-type]

    assert [told[what] for what in COUNTED] == [1, 1, 0, 0]
    assert (told["slots"], told["running"], told["stuck"], told["draining"]) == (8, 2, 1, False)


async def test_a_node_without_a_worker_drains_too(api: Api) -> None:
    """It says so at once, not when it would have reported anyway."""
    draining = asyncio.Event()
    reporter = Reporter(api.store, api.events, record("n1", slots=0), None, draining=draining.is_set, every=3600.0)
    task = asyncio.create_task(reporter.run())

    async def told(expected: bool) -> None:
        async with asyncio.timeout(10):
            while [node["draining"] for node in await api.store.nodes.all()] != [expected]:
                pass

    await told(False)
    draining.set()
    await told(True)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_runs_over_http_are_told_apart(api: Api) -> None:
    """Each run that a worker over HTTP settles is counted as such, once."""
    await api.submit()
    (token,) = await claim(api, "ann")
    for _ in range(2):
        await api.post(f"/api/v1/leases/{token}/complete")

    assert api.events.counts["completed"] == 1
    assert api.server.ended_over_http() == {"completed": 1}


async def test_a_run_counts_at_the_node_where_it_ends(serve: Callable[..., Awaitable[Api]]) -> None:
    """Behind a balancer each request may go to another node: the run is measured all the same, and once."""
    here, there = await serve(), await serve()
    for _ in range(2):
        await here.submit()
    done, broken = await claim(here, "ann")
    for _ in range(2):
        await there.post(f"/api/v1/leases/{done}/complete")
        await there.post(f"/api/v1/leases/{broken}/fail", {"error": "No.", "retryable": False})

    measured = there.events.measures.types["unserved"]
    assert (measured.ended, measured.run.count) == ({"completed": 1, "failed": 1}, 2)
    assert there.server.ended_over_http() == {"completed": 1, "failed": 1}


def test_rates_are_per_minute() -> None:
    """What was done within the last minute, and how busy the slots were; a short time is no rate yet."""
    clock = iter(range(1000))
    rates = Rates(clock=lambda: float(next(clock)))
    for second in range(31):
        rates.look({"completed": second, "failed": 0, "cancelled": 0, "crashed": 0}, busy=0.5)
    assert (rates.per_minute()["completed"], rates.utilisation) == (30.0, 0.5)
    for second in range(31, 200):
        rates.look({"completed": 2 * second, "failed": 7, "cancelled": 0, "crashed": 0}, busy=1.0)
    assert rates.per_minute() == {"completed": 120.0, "failed": 0.0, "cancelled": 0.0, "crashed": 0.0}
    assert rates.utilisation == 1.0
