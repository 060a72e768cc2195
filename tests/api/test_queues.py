"""Queues: each value is what the store knows, and a queue is there if anything is known of it or it is served."""

from __future__ import annotations

import time
import uuid
from typing import Any

import orjson
import pytest

from gopher_node.api.http_work.http_workers import HttpWorkers
from gopher_node.api.resources.queues import PurgedDocument, QueueDocument, QueueListDocument
from gopher_node.job import NewJob, Priority, State
from gopher_node.store import Pool
from gopher_node.telemetry import Events
from tests.api.conftest import Api

LEVELS = ("urgent", "high", "normal", "low")


async def queue(api: Api, type: str) -> dict[str, Any]:
    answer = await api.get(f"/api/v1/queues/{type}")
    assert answer.status == 200, answer.body
    QueueDocument.model_validate(answer.json)
    return answer.json


async def now_ms(api: Api) -> int:
    return (await api.store.survey()).now_ms


async def report(api: Api, id: str, *types: str, **more: Any) -> None:
    await api.store.nodes.report(id, orjson.dumps({"id": id, "types": types, "slots": 4, **more}))


async def test_every_value(api: Api) -> None:
    """Depth by priority, all that waits, how long the oldest has, the jobs in each state, and who serves them."""
    session = await api.store.open_session("n", 15.0)
    for _ in range(2):
        await api.submit(type="mail", priority="urgent")
    first, _ = (await api.store.claim(session, Pool.of(["mail"]), 2)).leases
    await api.store.complete(first)
    at = await now_ms(api)
    for level, ages in ((Priority.HIGH, [70_000, 50_000]), (Priority.LOW, [90_000])):
        for age in ages:
            await api.store.submit_many([NewJob(type="mail", priority=level)], now=at - age)
    await api.submit(type="mail", delay=60)
    await report(api, "n1", "mail", "report")
    await report(api, "n2", "mail")
    await report(api, "n3", "report")

    found = await queue(api, "mail")

    assert found["depth"] == {"urgent": 0, "high": 2, "normal": 0, "low": 1}
    assert found["waiting"] == 3
    assert list(found["depth"]) == list(LEVELS)
    assert found["states"] == {
        **{state.value: 0 for state in State},
        "enqueued": 3,
        "scheduled": 1,
        "processing": 1,
        "completed": 1,
    }
    late = (await now_ms(api) - at) / 1000
    assert 70 <= found["oldest_ages"]["high"] <= 70 + late
    assert 90 <= found["oldest_ages"]["low"] <= 90 + late
    assert found["oldest_age"] == found["oldest_ages"]["low"]
    assert (found["oldest_ages"]["urgent"], found["oldest_ages"]["normal"]) == (None, None)
    assert found["served_by"] == 2


async def test_rates_are_of_the_last_whole_minute(api: Api) -> None:
    """As the tick wrote it down."""
    session = await api.store.open_session("n", 15.0)
    for _ in range(5):
        await api.submit(type="mail")
    done, broken, *_ = (await api.store.claim(session, Pool.of(["mail"]), 5)).leases
    await api.store.complete(done)
    await api.store.fail(broken, b'{"code":"broken","message":""}')
    assert (await queue(api, "mail"))["rates"] == {"submitted": 0, "completed": 0, "failed": 0}

    await api.store.history.tick(now=await now_ms(api))

    assert (await queue(api, "mail"))["rates"] == {"submitted": 5, "completed": 1, "failed": 1}
    await api.store.history.tick(now=await now_ms(api) + 60_000)
    assert (await queue(api, "mail"))["rates"] == {"submitted": 0, "completed": 0, "failed": 0}


async def test_all_queues_are_listed(api: Api) -> None:
    """By type, each as it is shown alone."""
    assert (await api.get("/api/v1/queues")).json == {"items": []}
    for type in ("mail", "audit", "mail"):
        await api.store.submit_many([NewJob(type=type, delay_ms=60_000)])

    answer = await api.get("/api/v1/queues")

    QueueListDocument.model_validate(answer.json)
    assert answer.json["items"] == [await queue(api, "audit"), await queue(api, "mail")]
    assert [item["states"]["scheduled"] for item in answer.json["items"]] == [1, 2]


async def test_a_queue_that_is_served_is_there_before_its_first_job(api: Api) -> None:
    """With a handler here, or on any other node; it is empty."""
    await report(api, "far", "elsewhere")

    for type, served in (("plain", 0), ("elsewhere", 1)):
        found = await queue(api, type)
        assert (found["type"], found["waiting"], found["oldest_age"]) == (type, 0, None)
        assert found["served_by"] == served
        assert set(found["states"].values()) == {0}


async def test_workers_over_http_serve_too(api: Api) -> None:
    """Those that lately asked for a type, here or at another node, each name once."""
    here, now = {"types": ["mail", "audit"], "worker": "crane"}, time.time_ns() // 1_000_000
    await api.post("/api/v1/leases", here)
    told = {"name": "dock", "active": 1, "completed": 0, "failed": 0, "claimed": 1, "released": 0, "types": ["mail"]}
    there = [
        {**told, "last_seen_ms": now},
        {**told, "name": "crane", "last_seen_ms": now},
        {**told, "name": "gone", "last_seen_ms": now - 121_000},
    ]
    await report(api, "far", "mail")
    (record,) = await api.store.nodes.all()
    await api.store.nodes.report("far", orjson.dumps({**record, "http_workers": there}))

    assert [(await queue(api, type))["served_by"] for type in ("mail", "audit")] == [3, 1]


async def test_a_claim_is_remembered_while_its_worker_is_busy() -> None:
    """And forgotten with its next claim, if that comes later and asks for something else."""
    workers = HttpWorkers(Events())
    workers.seen("crane", ["mail"])
    workers.seen("crane", ["audit"])
    workers.seen("crane")
    assert workers.records()[0]["types"] == ("mail", "audit")

    workers._asked["crane"]["mail"] -= 120_001
    assert workers.seen("crane", ["audit"]).types == ("audit",)


async def test_purge_of_no_queue(api: Api) -> None:
    """A misspelt name is not answered as if all were well."""
    await api.submit(type="mail")

    answer = await api.post("/api/v1/queues/mial/purge")

    assert (answer.status, answer.problem) == (404, "queue-not-found")
    assert (await api.post("/api/v1/queues/plain/purge")).json == {"purged": 0}


async def test_a_queue_outlives_its_jobs(api: Api) -> None:
    """What has had jobs is known."""
    await api.submit(type="mail")
    await api.post("/api/v1/queues/mail/purge")

    assert (await queue(api, "mail"))["waiting"] == 0


@pytest.mark.parametrize("type", ["nothing", "a%3Ab", "a%20b", "%7Bx%7D", "x" * 101])
async def test_no_such_queue(api: Api, type: str) -> None:
    """Nothing is known of it, or it cannot be the name of one."""
    await api.submit(type="mail")

    answer = await api.get(f"/api/v1/queues/{type}")

    assert (answer.status, answer.problem) == (404, "queue-not-found")


async def test_unknown_parameters_are_refused(api: Api) -> None:
    answer = await api.get("/api/v1/queues?typ=mail")

    assert (answer.status, answer.problem) == (422, "invalid-parameter")


async def test_purge(api: Api) -> None:
    """All that waits, or one priority of it; running and ended jobs stay, and told again there is nothing left."""
    kept, _ = await api.submit(type="mail"), await api.submit(type="mail")
    session = await api.store.open_session("n", 15.0)
    running, ended = (await api.store.claim(session, Pool.of(["mail"]), 2)).leases
    await api.store.complete(ended)
    for level in ("high", "low", "low"):
        await api.submit(type="mail", priority=level)
    await api.submit(type="mail", priority="low", delay=60)
    other = await api.submit(type="other")

    counts: list[int] = []
    for query in ("?priority=high", "?priority=1", "", ""):
        answer = await api.post(f"/api/v1/queues/mail/purge{query}")
        assert answer.status == 200, answer.body
        PurgedDocument.model_validate(answer.json)
        counts.append(answer.json["purged"])

    assert counts == [1, 3, 0, 0]
    assert (await api.store.get(kept)).state in (State.PROCESSING, State.COMPLETED)
    assert (await api.store.get(other)).state is State.ENQUEUED
    assert (await api.store.get(running.job.id)).state is State.PROCESSING


async def test_a_bad_purge_deletes_nothing(api: Api) -> None:
    await api.submit(type="mail")

    answer = await api.post("/api/v1/queues/mail/purge?priority=9")

    assert (answer.status, answer.problem) == (422, "invalid-parameter")
    assert (await queue(api, "mail"))["waiting"] == 1
    missing = await api.post(f"/api/v1/queues/{uuid.uuid4()}:/purge")
    assert (missing.status, missing.problem) == (404, "queue-not-found")
