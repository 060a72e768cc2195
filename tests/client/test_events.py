"""Following a job: the stream of its events, and how it is taken up again after it broke off."""

from __future__ import annotations

from typing import Any

import httpx2
import orjson
import pytest
from aiohttp import web

from gopher_node.client import JobNotFound, NoAnswer, ServerUnavailable, UnexpectedAnswer
from gopher_node.client.events import Following
from gopher_node.client.wire import Wire
from gopher_node.job import State

ID = "7f7a2b1e-6f0e-4d7a-9a55-0d9a9f3ad001"
JOB = {"job_id": ID, "type": "email", "status": "enqueued"}


def event(name: str, **changes: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), orjson.dumps({**JOB, **changes}))


ENQUEUED = event("enqueued")
RUNNING = event("processing", status="processing")
HALF = event("progress", status="processing", progress=0.5)
DONE = event("completed", status="completed", result=3)


def stream(stage: Any, *chunks: bytes, cut: bool = False) -> None:
    async def act(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
        if cut:
            assert request.transport is not None
            request.transport.close()
        return response

    stage.act(act)


async def test_each_change_of_a_job_is_told(stage: Any, connect: Any) -> None:
    """From how it is now to its final state; pings in between are no news."""
    stream(stage, ENQUEUED, b": ping\n\n", RUNNING, HALF, DONE)

    seen = await connect(stage.url).events(ID)

    assert [(job.status, job.progress) for job in seen] == [
        (State.ENQUEUED, None),
        (State.PROCESSING, None),
        (State.PROCESSING, 0.5),
        (State.COMPLETED, None),
    ]
    assert seen[-1].result == 3
    assert stage.asked[0].path == f"/api/v1/jobs/{ID}/events"
    assert stage.headers[0]["Accept"] == "text/event-stream"


@pytest.mark.parametrize("cut", [False, True], ids=["ended", "cut"])
async def test_a_stream_that_breaks_off_is_taken_up_again(stage: Any, connect: Any, cut: bool) -> None:
    """The node tells anew how the job is; what was told before is not told twice."""
    stream(stage, ENQUEUED, RUNNING, cut=cut)
    stream(stage, RUNNING, DONE)

    seen = await connect(stage.url).events(ID)

    assert [job.status for job in seen] == [State.ENQUEUED, State.PROCESSING, State.COMPLETED]


async def test_a_node_that_is_busy_or_restarts_is_asked_again(stage: Any, connect: Any) -> None:
    """As long as it answers at all, its Retry-After is obeyed."""
    stage.refuse(503, "draining", {"Retry-After": "0"})
    stage.refuse(429, "rate-limited", {"Retry-After": "0"})
    stream(stage, DONE)

    assert [job.status for job in await connect(stage.url).events(ID)] == [State.COMPLETED]


async def test_a_job_that_is_gone_ends_the_stream(stage: Any, connect: Any) -> None:
    """A refusal is raised as it is for any other question."""
    stream(stage, ENQUEUED)
    stage.refuse(404, "job-not-found")

    with pytest.raises(JobNotFound):
        await connect(stage.url).events(ID)


async def test_a_node_that_is_not_there_is_told(connect: Any, free_port: int) -> None:
    """Before the first event, the retries are all there is."""
    with pytest.raises(ServerUnavailable):
        await connect(f"http://127.0.0.1:{free_port}", retries=0).events(ID)


async def test_a_stream_that_tells_nothing_is_no_stream(stage: Any, connect: Any) -> None:
    """It is not opened for ever."""
    stream(stage)

    with pytest.raises(NoAnswer, match="stream of events ended"):
        await connect(stage.url, retries=1).events(ID)
    assert len(stage.asked) == 2


@pytest.mark.parametrize("content", [b"event: x\ndata: {}\n\n", b"data: oops\n\n", b"data: []\n\n"])
async def test_events_of_another_kind_are_named_as_such(stage: Any, connect: Any, content: bytes) -> None:
    """What is no job is not passed on as one."""
    stream(stage, content)

    with pytest.raises(UnexpectedAnswer):
        await connect(stage.url).events(ID)


async def test_another_kind_of_answer_is_named_as_such(stage: Any, connect: Any) -> None:
    """A success that is no stream comes from something else than a node."""
    stage.answer(JOB)

    with pytest.raises(UnexpectedAnswer, match="stream of events"):
        await connect(stage.url).events(ID)


def test_a_silent_connection_is_given_up() -> None:
    """A node shows a sign of life every few seconds; a stream without any is opened anew in the end."""
    wire = Wire("http://node.example", 10, 0)

    timeout = wire.stream_options(Following(wire, ID).call)["timeout"]

    assert (timeout.connect, timeout.read) == (10.0, 60.0)


def test_an_outage_after_the_first_event_may_last() -> None:
    """Half a minute of it, however often that is tried; then it is told."""
    now = 100.0
    wire = Wire("http://node.example", 10, 0)
    following = Following(wire, ID, clock=lambda: now)
    following.take(httpx2.ServerSentEvent("enqueued", orjson.dumps(JOB).decode()))
    refused = httpx2.ConnectError("[Errno 111] Connection refused")

    for _ in range(9):
        assert following.pause(refused) <= 5.0
    now += 31.0
    with pytest.raises(ServerUnavailable):
        following.pause(refused)
