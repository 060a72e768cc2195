"""How long jobs took lately, and how many there are for workers, as they are told over HTTP."""

from __future__ import annotations

from datetime import datetime

import pytest

from gopher_node.api.http_work.http_workers import HTTP_WORKERS
from gopher_node.api.resources.autoscale import AutoscaleDocument
from gopher_node.api.resources.queues import QueueDocument
from gopher_node.api.resources.stats import StatsDocument
from gopher_node.job import NewJob
from gopher_node.telemetry.took import merged
from tests.api.conftest import Api

NONE = {"count": 0, "mean": None, "p50": None, "p95": None, "p99": None}
MINUTE = 60_000


async def report(api: Api, node: str, share: bytes) -> int:
    now = (await api.store.survey()).now_ms
    await api.store.latencies.report(node, {now // MINUTE * MINUTE: (1, share)})
    return now


async def test_stats_tell_how_long_jobs_took(api: Api) -> None:
    """Of each type and of all, from all nodes; of what ran and is gone too; and when that was."""
    await api.submit(type="mail")
    await report(api, "a", b'{"mail":[{"44":3},4.5,{"33":1},0.1]}')
    now = await report(api, "b", b'{"mail":[{"44":1},1.5,{},0],"gone":[{"55":1},10.0,{},0]}')

    answer = await api.get("/api/v1/stats")

    StatsDocument.model_validate(answer.json)
    by_type = {queue["type"]: queue for queue in answer.json["queues"]}
    assert by_type.keys() == {"mail", "gone"}
    mail = by_type["mail"]["run_seconds"]
    assert (mail["count"], mail["mean"]) == (4, 1.5)
    assert 0.7 <= mail["p50"] < mail["p95"] < mail["p99"] <= 1.0
    assert (by_type["mail"]["wait_seconds"]["count"], by_type["gone"]["wait_seconds"]) == (1, NONE)
    latency = answer.json["latency"]
    assert (latency["run_seconds"]["count"], latency["run_seconds"]["mean"]) == (5, 3.2)
    since, until = (datetime.fromisoformat(latency[name]).timestamp() for name in ("since", "until"))
    assert since % 60 == 0
    assert 600 <= until - since < 660
    assert until >= now / 1000
    queue = (await api.get("/api/v1/queues/mail")).json
    QueueDocument.model_validate(queue)
    assert queue["run_seconds"] == mail


async def test_nothing_yet(api: Api) -> None:
    answer = await api.get("/api/v1/stats")

    StatsDocument.model_validate(answer.json)
    assert (answer.json["latency"]["run_seconds"], answer.json["latency"]["wait_seconds"]) == (NONE, NONE)


async def test_history_tells_how_long_jobs_took(api: Api) -> None:
    """In each minute, of all jobs or of a type."""
    last = (await api.store.survey()).now_ms // MINUTE * MINUTE - MINUTE
    await api.store.history.tick(now=last + MINUTE)
    summary = merged([b'{"mail":[{"44":1},1.0,{},0],"math":[{"3":9},0.001,{},0]}']).summary()
    await api.store.latencies.summarise(last, summary)

    found = {type: (await api.get(f"/api/v1/stats/history?type={type}")).json["items"] for type in ("mail", "other")}
    (of_all,) = (await api.get("/api/v1/stats/history")).json["items"]

    (mail,), (other,) = found["mail"], found["other"]
    assert mail["run_seconds"] == {"p50": 0.925, "p95": 0.992, "p99": 0.998}
    assert of_all["run_seconds"]["p50"] < 0.001
    assert [each["p50"] for each in (mail["wait_seconds"], other["run_seconds"])] == [None, None]


async def test_runs_over_http_are_measured_too(api: Api) -> None:
    """By the node that they were claimed from: how long the job was due, and how long the run took."""
    await api.submit(type="mail")
    claimed = await api.post("/api/v1/leases", {"types": ["mail"]})
    token = claimed.json["items"][0]["token"]
    measured = api.events.measures.types["mail"]
    assert (measured.wait.count, measured.run.count) == (1, 0)

    await api.post(f"/api/v1/leases/{token}/complete", {})

    assert (measured.wait.count, measured.run.count) == (1, 1)
    assert api.app[HTTP_WORKERS].ended == {"completed": 1}


@pytest.mark.parametrize("word", ["type", "queue"])
async def test_autoscale(api: Api, word: str) -> None:
    """One number and its parts; within another time; of all jobs; and zeros of what is not known."""
    for _ in range(2):
        await api.submit(type="mail")
    await api.post("/api/v1/leases", {"types": ["mail"]})
    await api.submit(type="mail", delay=10)
    await api.store.submit_many([NewJob(type="math", delay_ms=60_000)])

    async def ask(query: str) -> list[int]:
        answer = await api.get(f"/api/v1/autoscale{query}")
        AutoscaleDocument.model_validate(answer.json)
        return [answer.json[name] for name in ("target", "ready", "due_soon", "running")]

    assert await ask(f"?{word}=mail") == [3, 1, 1, 1]
    assert await ask(f"?{word}=mail&within=1s") == [2, 1, 0, 1]
    assert await ask("?within=2m") == [4, 1, 2, 1]
    assert await ask(f"?{word}=nothing") == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("query", "code"), [("?type=a:b", "invalid-name"), ("?within=2h", "out-of-range"), ("?x=1", "unknown-parameter")]
)
async def test_bad_questions(api: Api, query: str, code: str) -> None:
    answer = await api.get(f"/api/v1/autoscale{query}")

    assert (answer.status, answer.problem, answer.json["errors"][0]["code"]) == (422, "invalid-parameter", code)
