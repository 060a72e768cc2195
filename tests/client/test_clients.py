"""Both clients over a real connection: the same questions, the same answers, the same errors."""

from __future__ import annotations

import asyncio
import inspect
import socket
from typing import Any

import httpx2
import pytest
from aiohttp import web

from gopher_node.client import (
    AsyncClient,
    Client,
    InvalidState,
    JobView,
    NoAnswer,
    ServerUnavailable,
    TooManyRequests,
    WaitTimeout,
)
from gopher_node.job import Priority, State

ID = "7f7a2b1e-6f0e-4d7a-9a55-0d9a9f3ad001"
JOB = {
    "job_id": ID,
    "type": "email",
    "status": "enqueued",
    "priority": "high",
    "created_at": "2030-01-01T00:00:00.000Z",
}
STATS = {
    "jobs_submitted": 3,
    "jobs_completed": 2,
    "jobs_failed": 1,
    "workers_active": 0,
    "queue_size": 0,
    "uptime": 12.5,
    "queues": [{"type": "email", "depth": {"high": 1}, "states": {"enqueued": 1}}],
}


def test_both_clients_have_the_same_methods() -> None:
    """What one can do the other can, with the same parameters."""

    def surface(client: type) -> dict[str, Any]:
        return {
            name: [(each.name, each.kind, each.default) for each in inspect.signature(member).parameters.values()]
            for name, member in vars(client).items()
            if not name.startswith("_") and callable(member)
        }

    assert surface(Client) == surface(AsyncClient)
    assert len(surface(Client)) == 15


@pytest.mark.parametrize(
    ("method", "arguments", "asked", "answer", "result"),
    [
        ("submit", ("email", {"a": 1}), ("POST", "/api/v1/jobs", {"type": "email", "payload": {"a": 1}}), JOB, ID),
        (
            "submit_many",
            ([{"type": "email"}],),
            ("POST", "/api/v1/jobs/bulk", [{"type": "email"}]),
            {"items": [JOB]},
            (ID,),
        ),
        ("get", (ID,), ("GET", f"/api/v1/jobs/{ID}", None), JOB, ID),
        ("list", (), ("GET", "/api/v1/jobs", None), {"items": [JOB], "next_cursor": None}, [ID]),
        ("cancel", (ID,), ("POST", f"/api/v1/jobs/{ID}/cancel", None), JOB, ID),
        ("retry", (ID,), ("POST", f"/api/v1/jobs/{ID}/retry", None), JOB, ID),
        ("delete", (ID,), ("DELETE", f"/api/v1/jobs/{ID}", None), None, None),
        ("dead_letters", ("email",), ("GET", "/api/v1/dead-letters", None), {"items": [JOB]}, [ID]),
        ("retry_all", (), ("POST", "/api/v1/dead-letters/retry", None), {"retried": 7}, 7),
        ("purge", ("email", "low"), ("POST", "/api/v1/queues/email/purge", None), {"purged": 3}, 3),
    ],
)
async def test_each_method_asks_and_answers(
    stage: Any, connect: Any, method: str, arguments: Any, asked: Any, answer: Any, result: Any
) -> None:
    """Every method is one request of the API, and its answer a typed value."""
    stage.answer(answer, 200 if answer else 204)

    found = await getattr(connect(stage.url), method)(*arguments)

    seen = stage.asked[0]
    assert (seen.method, seen.path, seen.body) == asked
    if isinstance(found, (list, tuple)):
        found = type(found)(job.job_id for job in found)
    assert (found.job_id if isinstance(found, JobView) else found) == result


async def test_a_job_is_typed(stage: Any, connect: Any) -> None:
    """States, priorities and times are values of their own, and the answer itself is kept."""
    stage.answer({**JOB, "result": {"sum": 3}, "field_of_tomorrow": 1})

    job = await connect(stage.url).get(ID)

    assert job.status is State.ENQUEUED
    assert job.priority is Priority.HIGH
    assert job.created_at.isoformat() == "2030-01-01T00:00:00+00:00"
    assert job.result == {"sum": 3}
    assert job.raw["field_of_tomorrow"] == 1


async def test_statistics_and_handlers_are_typed(stage: Any, connect: Any) -> None:
    """Unset options of a handler stay unset."""
    client = connect(stage.url)
    stage.answer(STATS)
    stage.answer({"items": [{"type": "email", "priority": None, "timeout": 30.0}, {"type": "math", "priority": "low"}]})
    stage.answer({"status": "healthy", "timestamp": "2030-01-01T00:00:00Z", "checks": {"store": "ok"}})

    assert (await client.stats()).queues[0].depth == {"high": 1}
    assert [handler.priority for handler in await client.handlers()] == [None, Priority.LOW]
    assert (await client.health()).status == "healthy"


async def test_a_list_goes_from_page_to_page(stage: Any, connect: Any) -> None:
    """Only as many pages are asked for as are needed."""
    stage.answer({"items": [{**JOB, "job_id": "a"}], "next_cursor": "x"})
    stage.answer({"items": [{**JOB, "job_id": "b"}], "next_cursor": "y"})

    found = await connect(stage.url).list(status="failed", limit=2)

    assert [job.job_id for job in found] == ["a", "b"]
    assert [each.query for each in stage.asked] == [
        {"status": "failed", "limit": "2"},
        {"status": "failed", "limit": "1", "cursor": "x"},
    ]


async def test_the_client_says_who_it_is(stage: Any, connect: Any) -> None:
    """A node's log can tell the SDK from others, and a body says that it is JSON."""
    stage.answer(JOB)

    await connect(stage.url).submit("email")

    assert stage.headers[0]["User-Agent"].startswith("gopher-node/")
    assert stage.headers[0]["Content-Type"] == "application/json"


async def test_a_base_path_stays_before_every_address(stage: Any, connect: Any) -> None:
    """A node behind a proxy may live below a path."""
    stage.answer(JOB)

    await connect(stage.url + "/queue/").get(ID)

    assert stage.asked[0].path == f"/queue/api/v1/jobs/{ID}"


async def test_a_refusal_is_raised(stage: Any, connect: Any) -> None:
    """The problem arrives as the exception that stands for it."""
    stage.refuse(409, "invalid-state", detail="The job is processing.", state="processing")

    with pytest.raises(InvalidState, match="The job is processing") as caught:
        await connect(stage.url).retry(ID)
    assert caught.value.state == "processing"


async def test_the_node_is_asked_again_when_it_says_so(stage: Any, connect: Any) -> None:
    """A busy node is given the pause it asks for, and then the job."""
    stage.refuse(429, "queue-full", {"Retry-After": "0"})
    stage.answer(JOB)

    assert (await connect(stage.url).submit("email")).job_id == ID
    assert len(stage.asked) == 2


async def test_a_node_that_stays_busy_is_left_alone(stage: Any, connect: Any) -> None:
    """Repeats end, and the caller decides."""
    stage.refuse(429, "queue-full", {"Retry-After": "0"})

    with pytest.raises(TooManyRequests):
        await connect(stage.url, retries=3).submit("email")
    assert len(stage.asked) == 4


async def test_a_submit_whose_answer_is_lost_is_sent_once(stage: Any, connect: Any) -> None:
    """The connection ends after the request was read: the job may be stored, so it is not submitted twice."""

    async def cut(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    stage.act(cut)

    with pytest.raises(NoAnswer, match="may or may not have been done"):
        await connect(stage.url).submit("email")
    assert len(stage.asked) == 1


async def test_a_silent_node_is_not_waited_for_longer_than_allowed(stage: Any, connect: Any) -> None:
    """The time limit of the client ends an exchange."""
    never = asyncio.Event()

    async def hang(_request: web.Request) -> web.Response:
        await never.wait()
        return web.Response()

    stage.act(hang)

    with pytest.raises(NoAnswer, match=r"none within 0\.05 s"):
        await connect(stage.url, timeout=0.05).submit("email")
    never.set()


async def test_where_nobody_listens_nobody_answers(connect: Any) -> None:
    """The error names the address and what to do."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"

        with pytest.raises(ServerUnavailable, match="Start one there") as caught:
            await connect(url, retries=0).stats()
    assert caught.value.url == url
    assert not caught.value.outcome_unknown


async def test_waiting_returns_the_job_that_has_ended(stage: Any, connect: Any) -> None:
    """The node is asked to hold its answer back, and asked again when it answers before the end."""
    stage.answer({**JOB, "status": "processing"})
    stage.answer({**JOB, "status": "completed", "result": 3})

    job = await connect(stage.url).wait(ID, timeout="10s")

    assert job.result == 3
    assert [each.query["wait"][-1] for each in stage.asked] == ["s", "s"]


async def test_waiting_may_be_in_vain(stage: Any, connect: Any) -> None:
    """The error holds the job as it was last."""
    stage.answer({**JOB, "status": "processing"})

    with pytest.raises(WaitTimeout) as caught:
        await connect(stage.url).wait(ID, timeout=0.01)
    assert caught.value.job.status is State.PROCESSING


async def test_clients_are_context_managers(stage: Any) -> None:
    """Both close their connections at the end of the block."""
    stage.answer(JOB)

    async with AsyncClient(stage.url) as client:
        assert (await client.get(ID)).job_id == ID

    def use() -> str:
        with Client(stage.url) as client:
            return client.get(ID).job_id

    assert await asyncio.to_thread(use) == ID


def test_a_program_can_be_tested_without_a_node() -> None:
    """Who writes tests for code that uses a client can answer in the node's place."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        assert request.url.path == f"/api/v1/jobs/{ID}"
        return httpx2.Response(200, json=JOB)

    with Client(transport=httpx2.MockTransport(answer)) as client:
        assert client.get(ID).status is State.ENQUEUED
