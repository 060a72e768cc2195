"""Both clients over a real connection: the same questions, the same answers, the same errors."""

from __future__ import annotations

import asyncio
import inspect
from datetime import timedelta
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


def methods_of(client: type) -> dict[str, Any]:
    """Its own, and those that it has from the classes that it is made of."""
    return {name: member for name, member in inspect.getmembers(client, callable) if not name.startswith("_")}


def test_both_clients_have_the_same_methods() -> None:
    """What one can do the other can, with the same parameters."""

    def surface(client: type) -> dict[str, Any]:
        return {
            name: [(each.name, each.kind, each.default) for each in inspect.signature(member).parameters.values()]
            for name, member in methods_of(client).items()
        }

    assert surface(Client) == surface(AsyncClient)
    assert len(surface(Client)) >= 47


LEASE = {"job": {**JOB, "status": "processing"}, "token": "t.1.n", "lease_expires_at": "2030-01-01T00:00:30.000Z"}
BEAT = {"job_id": ID, "cancel_requested": True, "lease_expires_at": "2030-01-01T00:00:30.000Z"}
SETTLED = {"job_id": ID, "status": "completed", "follow_ups": ["x"]}
FLOW = {"workflow_id": "w1", "status": "running", "total": 2, "ended": 1, "job_ids": [ID], "counts": {"failed": 1}}
NIGHTLY = {"name": "nightly", "type": "report", "cron_expression": "@daily", "next_fires": ["2030-01-01T00:00:00Z"]}
KEY = {"id": "k1", "name": "ci", "scopes": ["submit"], "key": "gn_secret"}

ASKED: dict[str, Any] = {
    # method: (arguments, options), (HTTP method, path, query, body), what the node answers, what becomes of it
    "submit": (("email", {"a": 1}), {}, "POST", "jobs", {}, {"type": "email", "payload": {"a": 1}}, JOB, ID),
    "submit_many": (([{"type": "email"}],), {}, "POST", "jobs/bulk", {}, [{"type": "email"}], {"items": [JOB]}, (ID,)),
    "get": ((ID,), {}, "GET", f"jobs/{ID}", {}, None, JOB, ID),
    "list": ((), {"tag": "a"}, "GET", "jobs", {"tag": "a", "limit": "200"}, None, {"items": [JOB]}, [ID]),
    "cancel": ((ID,), {}, "POST", f"jobs/{ID}/cancel", {}, None, JOB, ID),
    "retry": ((ID,), {}, "POST", f"jobs/{ID}/retry", {}, None, JOB, ID),
    "run_now": ((ID,), {}, "POST", f"jobs/{ID}/run-now", {}, None, JOB, ID),
    "edit": (
        (ID,),
        {"priority": Priority.LOW, "delay": timedelta(seconds=5)},
        *("PATCH", f"jobs/{ID}", {}, {"priority": "low", "delay": 5.0}, JOB, ID),
    ),
    "delete": ((ID,), {}, "DELETE", f"jobs/{ID}", {}, None, None, None),
    "cancel_many": ((), {"type": "a"}, "POST", "jobs/cancel", {"type": "a"}, None, {"cancelled": 3}, 3),
    "retry_many": ((), {"tag": "a"}, "POST", "jobs/retry", {"tag": "a"}, None, {"retried": 3}, 3),
    "run_now_many": ((), {"all": True}, "POST", "jobs/run-now", {"all": "true"}, None, {"moved": 3}, 3),
    "delete_many": (
        (),
        {"all": True, "status": ["failed", "cancelled"]},
        *("DELETE", "jobs", {"status": "failed,cancelled"}, None, {"deleted": 3}, 3),
    ),
    "dead_letters": (
        ("email",),
        {"group": "acme"},
        *("GET", "dead-letters", {"type": "email", "group": "acme", "limit": "200"}, None, {"items": [JOB]}, [ID]),
    ),
    "retry_all": (("email",), {}, "POST", "dead-letters/retry", {"type": "email"}, None, {"retried": 7}, 7),
    "delete_dead_letters": (
        (),
        {"job_ids": ["a", "b"]},
        *("DELETE", "dead-letters", {}, {"job_ids": ["a", "b"]}, {"deleted": 2}, 2),
    ),
    "submit_workflow": (
        ([{"type": "a", "name": "x"}, {"type": "b", "depends_on": ("x",)}],),
        {"name": "n", "on_success": {"type": "c"}},
        *("POST", "workflows", {}),
        {
            "name": "n",
            "jobs": [{"type": "a", "name": "x"}, {"type": "b", "depends_on": ["x"]}],
            "on_success": {"type": "c"},
        },
        *(FLOW, "w1"),
    ),
    "workflow": (("w1",), {}, "GET", "workflows/w1", {}, None, FLOW, "w1"),
    "workflows": ((), {"limit": 5}, "GET", "workflows", {"limit": "5"}, None, {"items": [FLOW]}, ["w1"]),
    "workflow_jobs": (("w1",), {}, "GET", "workflows/w1/jobs", {"limit": "200"}, None, {"items": [JOB]}, [ID]),
    "add_to_workflow": (
        ("w1", [{"type": "email"}]),
        {},
        *("POST", "workflows/w1/jobs", {}, {"jobs": [{"type": "email"}]}, {"items": [JOB]}, (ID,)),
    ),
    "cancel_workflow": (("w1",), {}, "POST", "workflows/w1/cancel", {}, None, FLOW, "w1"),
    "create_recurring": (
        ("nightly", "report", {"n": 1}),
        {"cron_expression": "@daily", "timezone": "Europe/Berlin", "timeout": timedelta(minutes=1)},
        *("POST", "recurring", {}),
        {
            **{"name": "nightly", "type": "report", "payload": {"n": 1}, "timeout": 60.0},
            **{"cron_expression": "@daily", "timezone": "Europe/Berlin"},
        },
        *(NIGHTLY, "report"),
    ),
    "recurring_jobs": ((), {"limit": 5}, "GET", "recurring", {"limit": "5"}, None, {"items": [NIGHTLY]}, ["report"]),
    "recurring_job": (("nightly",), {}, "GET", "recurring/nightly", {}, None, NIGHTLY, "report"),
    "edit_recurring": (
        ("nightly",),
        {"every": "15m", "payload": [1]},
        *("PATCH", "recurring/nightly", {}, {"every": "15m", "payload": [1]}, NIGHTLY, "report"),
    ),
    "delete_recurring": (("nightly",), {}, "DELETE", "recurring/nightly", {}, None, None, None),
    "pause_recurring": (("nightly",), {}, "POST", "recurring/nightly/pause", {}, None, NIGHTLY, "report"),
    "resume_recurring": (("nightly",), {}, "POST", "recurring/nightly/resume", {}, None, NIGHTLY, "report"),
    "trigger_recurring": (("nightly",), {}, "POST", "recurring/nightly/trigger", {}, None, JOB, ID),
    "preview_recurring": (
        ("@daily",),
        {"count": 2},
        *("POST", "recurring/preview", {}, {"cron_expression": "@daily", "count": 2}),
        *({"in_words": "At 00:00 every day (UTC)", "next_fires": ["2030-01-01T00:00:00Z"]}, "At 00:00 every day (UTC)"),
    ),
    "queues": ((), {}, "GET", "queues", {}, None, {"items": [{"type": "a"}]}, ("a",)),
    "queue": (("a",), {}, "GET", "queues/a", {}, None, {"type": "a"}, "a"),
    "purge": (("email", "low"), {}, "POST", "queues/email/purge", {"priority": "low"}, None, {"purged": 3}, 3),
    "rate_limits": ((), {}, "GET", "rate-limits", {}, None, {"items": [{"type": "a", "limit": 5}]}, ("a",)),
    "rate_limit": (("a",), {}, "GET", "rate-limits/a", {}, None, {"type": "a"}, "a"),
    "set_rate_limit": (
        ("a", 100),
        {"per": timedelta(minutes=1), "group": {"limit": 1, "per": timedelta(seconds=1)}},
        *("POST", "rate-limits/a", {}, {"limit": 100, "per": 60.0, "group": {"limit": 1, "per": 1.0}}),
        *({"type": "a"}, "a"),
    ),
    "delete_rate_limit": (("a",), {}, "DELETE", "rate-limits/a", {}, None, {"type": "a"}, "a"),
    "limit": (
        ("a",),
        {"rate_limit": None, "max_running": 3, "breaker": {}},
        *("PATCH", "queues/a", {}, {"rate_limit": None, "max_running": 3, "breaker": {}}, {"type": "a"}, "a"),
    ),
    "pause": (
        ("a",),
        {"priority": Priority.LOW},
        "POST",
        "queues/a/pause",
        {},
        {"priority": "low"},
        {"type": "a"},
        "a",
    ),
    "resume": (("a",), {"group": "x"}, "POST", "queues/a/resume", {}, {"group": "x"}, {"type": "a"}, "a"),
    "drain": (("a",), {}, "POST", "queues/a/drain", {}, None, {"type": "a"}, "a"),
    "log": (
        (ID, "12"),
        {},
        *("GET", f"jobs/{ID}/log", {"cursor": "12"}, None),
        {
            "items": [{"at": "2030-01-01T00:00:00Z", "attempt": 1, "level": "info", "message": "Half."}],
            "next_cursor": "13",
        },
        "13",
    ),
    "breakers": ((), {}, "GET", "breakers", {}, None, {"items": [{"type": "a", "state": "open"}]}, ("a",)),
    **{
        method: (("a",), {}, verb, f"breakers/a{path}", {}, None, {"type": "a", "state": "open"}, "a")
        for method, verb, path in (
            ("breaker", "GET", ""),
            ("open_breaker", "POST", "/open"),
            ("close_breaker", "POST", "/close"),
            ("reset_breaker", "POST", "/reset"),
        )
    },
    "handlers": ((), {}, "GET", "handlers", {}, None, {"items": [{"type": "a"}]}, ("a",)),
    "nodes": ((), {}, "GET", "nodes", {}, None, {"items": [{"id": "n1"}]}, ("n1",)),
    "node": (("n/1",), {}, "GET", "nodes/n%2F1", {}, None, {"id": "n1"}, "n1"),
    "workers": ((), {}, "GET", "workers", {}, None, {"workers": 2, "items": [{"running": 1}]}, 2),
    "stats": ((), {}, "GET", "stats", {}, None, STATS, 12.5),
    "stats_history": (
        (5, "a"),
        {},
        *("GET", "stats/history", {"minutes": "5", "type": "a"}, None),
        {"items": [{"at": "2030-01-01T00:00:00Z", "submitted": 4}]},
        (4,),
    ),
    "autoscale": (
        ("a",),
        {"within": timedelta(minutes=2)},
        *("GET", "autoscale", {"type": "a", "within": "2m"}, None),
        *({"target": 7, "ready": 3, "due_soon": 2, "running": 2, "exact": True}, 7),
    ),
    "keys": ((), {}, "GET", "keys", {}, None, {"items": [KEY]}, ("k1",)),
    "create_key": (
        ("ci", ["submit"]),
        {"expires_in": "30d", "rate_limit": (100, timedelta(minutes=1))},
        *("POST", "keys", {}),
        {"name": "ci", "scopes": ["submit"], "expires_in": "30d", "rate_limit": {"limit": 100, "window": 60.0}},
        *(KEY, "k1"),
    ),
    "revoke_key": (("k1",), {}, "DELETE", "keys/k1", {}, None, None, None),
    "rotate_key": (("k1",), {"overlap": "1h"}, "POST", "keys/k1/rotate", {}, {"overlap": "1h"}, KEY, "k1"),
    "lease": (
        ("email", 5, "2s"),
        {"worker": "w1"},
        *("POST", "leases", {}),
        {"types": ["email"], "max_jobs": 5, "wait": 2.0, "worker": "w1"},
        *({"items": [LEASE]}, ("t.1.n",)),
    ),
    "heartbeat": (
        ("t.1.n",),
        {"progress": 0.5},
        *("POST", "leases/heartbeat", {}, {"items": [{"token": "t.1.n", "progress": 0.5}]}, {"items": [BEAT]}, True),
    ),
    "complete": (
        ("t.1.n", {"sum": 3}),
        {"follow_ups": [{"type": "b", "priority": Priority.HIGH}]},
        *("POST", "leases/complete", {}),
        {"items": [{"token": "t.1.n", "result": {"sum": 3}, "follow_ups": [{"type": "b", "priority": "high"}]}]},
        *({"items": [SETTLED]}, ID),
    ),
    "fail": (
        ("t.1.n", "no paper"),
        {"code": "empty", "retryable": False},
        *("POST", "leases/fail", {}),
        {"items": [{"token": "t.1.n", "error": {"message": "no paper", "code": "empty"}, "retryable": False}]},
        *({"items": [SETTLED]}, ID),
    ),
    "release": (
        ("t.1.n",),
        {},
        "POST",
        "leases/release",
        {},
        {"items": [{"token": "t.1.n"}]},
        {"items": [SETTLED]},
        ID,
    ),
}


def essence(found: Any) -> Any:
    """What tells one answer from another."""
    if isinstance(found, (list, tuple)):
        return type(found)(essence(each) for each in found)
    names = ("workflow_id", "cancel_requested", "token", "job_id", "id", "workers", "uptime", "submitted", "type")
    for name in (*names, "in_words", "next_cursor", "target"):
        if hasattr(found, name) and not isinstance(found, JobView):
            return getattr(found, name)
    return found.job_id if isinstance(found, JobView) else found


@pytest.mark.parametrize("method", ASKED)
async def test_each_method_asks_and_answers(stage: Any, connect: Any, method: str) -> None:
    """Every method is one request of the API, and its answer a typed value."""
    arguments, options, verb, path, query, body, answer, result = ASKED[method]
    stage.answer(answer, 200 if answer else 204)

    found = await getattr(connect(stage.url), method)(*arguments, **options)

    seen = stage.asked[0]
    assert (seen.method, seen.path, seen.query, seen.body) == (verb, f"/api/v1/{path}", query, body)
    assert essence(found) == result


def test_no_method_is_left_untried() -> None:
    """Whoever adds a method adds its request to the table above, or a test of its own."""
    elsewhere = {"close", "wait", "wait_workflow", "health", "events", "submit_all", "submit_stream"}

    assert methods_of(Client).keys() - elsewhere == set(ASKED)


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


async def cut(request: web.Request) -> web.Response:
    """The connection ends after the request was read."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def test_a_submit_whose_answer_is_lost_is_sent_again(stage: Any, connect: Any) -> None:
    """The job may be stored, so the repeat carries the same key and body; the node knows it by that."""
    stage.act(cut)
    stage.answer(JOB, 201)

    assert (await connect(stage.url).submit("email", {"a": 1})).job_id == ID
    first, second = (headers["Idempotency-Key"] for headers in stage.headers)
    assert first == second
    assert stage.asked[0] == stage.asked[1]


async def test_an_act_whose_answer_is_lost_is_done_once(stage: Any, connect: Any) -> None:
    """It may have been done, and nothing tells the node that a second one would be the same."""
    stage.act(cut)

    with pytest.raises(NoAnswer, match="may or may not have been done"):
        await connect(stage.url).retry(ID)
    assert len(stage.asked) == 1


async def test_a_silent_node_is_not_waited_for_longer_than_allowed(stage: Any, connect: Any) -> None:
    """The time limit of the client ends an exchange."""
    never = asyncio.Event()

    async def hang(_request: web.Request) -> web.Response:
        await never.wait()
        return web.Response()

    stage.act(hang)

    with pytest.raises(NoAnswer, match=r"none within 0\.05 s"):
        await connect(stage.url, timeout=0.05, retries=0).submit("email")
    never.set()


async def test_where_nobody_listens_nobody_answers(connect: Any, free_port: int) -> None:
    """The error names the address and what to do."""
    url = f"http://127.0.0.1:{free_port}"

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
