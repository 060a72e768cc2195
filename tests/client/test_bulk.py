"""Any number of jobs: how they are cut into batches, and that each of them gets its own result."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from aiohttp import web

from gopher_node.client import (
    AsyncClient,
    Forbidden,
    InvalidRequest,
    JobExists,
    QueueFull,
    ServerUnavailable,
    Unauthenticated,
    UnexpectedAnswer,
    bulk,
)


class Node:
    """Takes batches as the API does: whole or not at all, and a known idempotency key is answered as before."""

    def __init__(self, stage: Any) -> None:
        self.stored: list[str] = []
        self.batches: list[int] = []
        self._known: dict[str, tuple[int, Any]] = {}
        self.cut_after = 0
        stage.act(self.respond)

    async def respond(self, request: web.Request) -> web.Response:
        jobs = orjson.loads(await request.read())
        key = request.headers["Idempotency-Key"]
        self.batches.append(len(jobs))
        answer = self._known.get(key) or self._submit(jobs)
        if answer[0] == 201:
            self._known[key] = answer
        self.cut_after -= 1
        if self.cut_after == 0:
            assert request.transport is not None
            request.transport.abort()
        status, content = answer
        kind = "application/problem+json" if status >= 400 else "application/json"
        return web.Response(body=orjson.dumps(content), status=status, content_type=kind)

    def _submit(self, jobs: list[dict[str, Any]]) -> Any:
        faults = [
            {"pointer": f"/{place}/payload/n", "code": "too-big", "detail": "must be small"}
            for place, job in enumerate(jobs)
            if job["payload"] == "faulty"
        ]
        if faults:
            return 422, {"type": "/problems/invalid-job", "title": "The job is not valid.", "errors": faults[:100]}
        if any(job["payload"] == "exists" for job in jobs):
            return 409, {"type": "/problems/job-exists", "detail": "There.", "state": "failed"}
        full = next((place for place, job in enumerate(jobs) if job["type"] == "full"), None)
        if full is not None:
            fault = {"pointer": f"/{full}/type", "code": "queue-full", "detail": "Full."}
            return 429, {"type": "/problems/queue-full", "detail": "No room.", "errors": [fault]}
        self.stored += [job["payload"] for job in jobs]
        return 201, {"items": [{"job_id": job["payload"], "type": "a", "status": "enqueued"} for job in jobs]}


def requests(count: int, **special: str) -> list[Any]:
    return [{"type": "a", "payload": special.get(f"n{n}", f"job-{n}")} for n in range(count)]


@pytest.fixture
def node(stage: Any) -> Node:
    return Node(stage)


async def test_a_full_queue_holds_up_no_other(stage: Any, connect: Any, node: Node) -> None:
    """All of its jobs are set aside at once, each with the node's own words; those of other types are stored."""
    mixed: list[Any] = [{"type": "full" if n % 2 else "a", "payload": f"job-{n}"} for n in range(100)]

    results = await connect(stage.url, retries=0).submit_all(mixed)

    assert [type(result.error) for result in results] == [type(None), QueueFull] * 50
    assert str(results[1].error) == "No room."
    assert (len(node.stored), node.batches) == (50, [100, 50])


@pytest.mark.parametrize("method", ["submit_all", "submit_stream"])
async def test_many_jobs_are_cut_into_batches(stage: Any, connect: Any, node: Node, method: str) -> None:
    """Each job has a result, in the order in which they came."""
    results = await getattr(connect(stage.url), method)(requests(2005))

    assert node.batches == [1000, 1000, 5]
    assert [result.index for result in results] == list(range(2005))
    assert [result.job.job_id for result in results] == [f"job-{n}" for n in range(2005)]
    assert all(result.ok and result.error is None for result in results)


async def test_no_jobs_are_no_batch(stage: Any, connect: Any, node: Node) -> None:
    """An empty stream asks for nothing."""
    assert await connect(stage.url).submit_all([]) == ()
    assert node.batches == []


async def test_a_batch_is_bounded_in_bytes(
    stage: Any, connect: Any, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large payloads make batches of fewer jobs; one that is too large by itself goes alone, for the node to judge."""
    monkeypatch.setattr(bulk, "MOST_BYTES", 100)
    jobs = [{"type": "a", "payload": "x" * size} for size in (10, 10, 200, 10)]

    results = await connect(stage.url).submit_all(jobs)

    assert node.batches == [2, 1, 1]
    assert all(result.ok for result in results)


async def test_a_faulty_job_does_not_hold_up_the_others(stage: Any, connect: Any, node: Node) -> None:
    """The faults say which jobs to leave out; each gets its own, with pointers as if it had been sent alone."""
    results = await connect(stage.url).submit_all(requests(10, n3="faulty", n7="faulty"))

    assert [result.index for result in results if not result.ok] == [3, 7]
    error = results[3].error
    assert isinstance(error, InvalidRequest)
    assert [fault.pointer for fault in error.errors] == ["/payload/n"]
    assert node.stored == [f"job-{n}" for n in range(10) if n not in (3, 7)]
    assert node.batches == [10, 8]


async def test_more_faults_than_are_told_at_once_are_all_found(stage: Any, connect: Any, node: Node) -> None:
    """The node names so many faults and no more; what is left is sent again until it has named them all."""
    jobs = requests(300, **{f"n{n}": "faulty" for n in range(0, 300, 2)})

    results = await connect(stage.url).submit_all(jobs)

    assert [result.index for result in results if not result.ok] == list(range(0, 300, 2))
    assert len(node.stored) == len(set(node.stored)) == 150


async def test_a_refusal_that_names_no_job_is_narrowed_down(stage: Any, connect: Any, node: Node) -> None:
    """Halving finds the job that exists already, and the others are stored once."""
    results = await connect(stage.url).submit_all(requests(100, n41="exists"))

    assert [result.index for result in results if not result.ok] == [41]
    assert isinstance(results[41].error, JobExists)
    assert results[41].error.state == "failed"
    assert sorted(node.stored) == sorted(f"job-{n}" for n in range(100) if n != 41)
    assert len(node.batches) < 20


async def test_what_cannot_be_sent_is_a_result_too(stage: Any, connect: Any, node: Node) -> None:
    """A payload that is no JSON, an option that does not exist, or no job at all, costs only that one."""
    jobs: list[Any] = [*requests(2), {"type": "a", "payload": {1}}, {"type": "a", "oops": 1}, {}, 7, *requests(1)]

    results = await connect(stage.url).submit_all(jobs)

    assert [type(result.error) for result in results[2:6]] == [TypeError] * 4
    assert [result.index for result in results] == list(range(7))
    assert node.stored == ["job-0", "job-1", "job-0"]


async def test_a_batch_whose_answer_is_lost_is_stored_once(stage: Any, connect: Any, node: Node) -> None:
    """It is sent again under its key, and answered as before."""
    node.cut_after = 2

    results = await connect(stage.url).submit_all(requests(2005))

    assert node.batches == [1000, 1000, 1000, 5]
    assert len(node.stored) == len(set(node.stored)) == 2005
    assert all(result.ok for result in results)


async def test_what_is_about_no_job_ends_it(stage: Any, connect: Any) -> None:
    """A key that is not known is not asked about for a million jobs."""
    stage.refuse(401, "unauthenticated")

    with pytest.raises(Unauthenticated):
        await connect(stage.url).submit_all(requests(2005))
    assert len(stage.asked) == 1


async def test_results_come_before_the_error_after_them(stage: Any) -> None:
    """Whoever reads the stream knows of each job that was stored before the error."""
    node = Node(stage)
    stage.refuse(403, "forbidden", scope="submit")
    seen: list[int] = []

    async def read(client: AsyncClient) -> None:
        async for result in client.submit_stream(requests(2005)):
            seen.append(result.index)  # noqa: PERF401 - what was seen before the error is what counts

    async with AsyncClient(stage.url) as client:
        with pytest.raises(Forbidden):
            await read(client)

    assert seen == list(range(1000))
    assert len(node.stored) == 1000


async def test_a_node_that_never_was_there_is_told_at_once(connect: Any, free_port: int) -> None:
    """Patience is for a node that has answered before."""
    with pytest.raises(ServerUnavailable):
        await connect(f"http://127.0.0.1:{free_port}", retries=0).submit_all(requests(1))


async def test_an_answer_with_fewer_jobs_is_not_believed(stage: Any, connect: Any) -> None:
    """Results would be given to the wrong jobs."""
    stage.answer({"items": []}, 201)

    with pytest.raises(UnexpectedAnswer):
        await connect(stage.url).submit_all(requests(2))


async def test_jobs_may_come_over_time(stage: Any, node: Node) -> None:
    """The asynchronous client also takes what is itself asynchronous."""

    async def source() -> AsyncIterator[Any]:
        for request in requests(3):
            yield request

    async with AsyncClient(stage.url) as client:
        results = await client.submit_all(source())

    assert [result.job.job_id for result in results if result.job] == ["job-0", "job-1", "job-2"]


@pytest.mark.parametrize("total", [2005, None])
async def test_progress_is_told(stage: Any, connect: Any, node: Node, total: int | None) -> None:
    """After each batch, with the number of all jobs if that is known."""
    told: list[Any] = []
    jobs = requests(2005)

    await connect(stage.url).submit_all(
        jobs if total else iter(jobs), progress=lambda done, total: told.append((done, total))
    )

    assert told == [(1000, total), (2000, total), (2005, total)]


async def test_progress_of_one_batch_is_told(stage: Any, connect: Any, node: Node) -> None:
    """The atomic submit of many has the same option."""
    told: list[Any] = []

    await connect(stage.url).submit_many(requests(5), progress=lambda done, total: told.append((done, total)))

    assert told == [(5, 5)]


async def test_progress_may_be_a_bar(stage: Any, connect: Any, node: Node, capsys: pytest.CaptureFixture[str]) -> None:
    """It is shown where it does not mix with a program's output."""
    await connect(stage.url).submit_all(requests(1500), progress=True)

    out, err = capsys.readouterr()
    assert out == ""
    assert "1500/1500" in err


def test_the_bars_library_is_not_loaded_for_nothing() -> None:
    """Who wants no bar does not wait for its import."""
    code = "import gopher_node.client, sys; sys.exit('rich' in sys.modules or 'opentelemetry' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
