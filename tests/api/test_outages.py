"""What clients are told when the node or its store cannot serve them."""

import asyncio

import pytest
import structlog
from aiohttp import web

from gopher_node.api.answers.problems import problem_of
from gopher_node.errors import (
    JobExists,
    KeyReused,
    OutcomeUnknown,
    StoreError,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
    UnusableStore,
)
from gopher_node.store import Connections, Store


@pytest.fixture
async def operator(valkey_url):
    """A connection of the server's operator."""
    connections = Connections(valkey_url)
    yield connections
    await connections.request("CLIENT", "UNPAUSE")
    await connections.close()


async def test_a_store_that_does_not_answer(serve, valkey_url, namespace, operator):
    """If the store may have done it, the answer says that the outcome is unknown."""
    hasty = Store(Connections(valkey_url, timeout=0.1), namespace=namespace, patience=0.2)
    await hasty.open()
    api = await serve(behind=hasty)
    await operator.request("CLIENT", "PAUSE", 60_000, "WRITE")

    answer = await api.post("/api/v1/jobs", {"type": "mail"})

    assert (answer.status, answer.problem) == (503, "store-timeout")
    assert answer.json["outcome"] == "unknown"
    assert int(answer.headers["Retry-After"]) > 0
    await hasty.close()


async def test_a_store_that_cannot_be_reached(serve, namespace, tmp_path):
    """If nobody was reached, the answer says that nothing was done, and not where the store is."""
    away = Store(Connections(f"unix://{tmp_path}/none", timeout=0.1), namespace=namespace, patience=0.1)
    api = await serve(behind=away)

    for answer in [await api.post("/api/v1/jobs", {"type": "mail"}), await api.get("/api/v1/stats")]:
        assert (answer.status, answer.problem) == (503, "store-unavailable")
        assert answer.json["outcome"] == "not-done"
        assert str(tmp_path) not in answer.body.decode()
        assert "Retry-After" in answer.headers
    await away.close()


SHORT_OF = {
    "NOREPLICAS": ("CONFIG", "SET", "min-replicas-to-write", "1"),
    "READONLY": ("REPLICAOF", "127.0.0.1", "1"),
    "OOM": ("CONFIG", "SET", "maxmemory", "1"),
}
BACK = {
    "NOREPLICAS": ("CONFIG", "SET", "min-replicas-to-write", "0"),
    "READONLY": ("REPLICAOF", "NO", "ONE"),
    "OOM": ("CONFIG", "SET", "maxmemory", "0"),
}


@pytest.mark.parametrize(
    ("refusal", "problem"),
    [("NOREPLICAS", "store-read-only"), ("READONLY", "store-read-only"), ("OOM", "store-full")],
)
async def test_a_store_that_takes_no_writes(serve, valkey_url, namespace, operator, refusal, problem):
    """A store that refuses to write stores nothing, and the answer says when to come again."""
    hasty = Store(Connections(valkey_url), namespace=namespace, patience=0.1)
    await hasty.open()
    api = await serve(behind=hasty)
    await operator.request(*SHORT_OF[refusal])
    try:
        one = await api.post("/api/v1/jobs", {"type": "mail"})
        many = await api.post("/api/v1/jobs/bulk", [{"type": "mail"}])
    finally:
        await operator.request(*BACK[refusal])

    for answer in (one, many):
        assert (answer.status, answer.problem) == (503, problem)
        assert answer.json["outcome"] == "not-done"
        assert int(answer.headers["Retry-After"]) > 0
    assert await api.stored() == 0
    await hasty.close()


@pytest.mark.parametrize(
    ("error", "status", "name"),
    [
        (StoreUnavailable(), 503, "store-unavailable"),
        (OutcomeUnknown(), 503, "store-timeout"),
        (StoreFull(), 503, "store-full"),
        (StoreReadOnly(), 503, "store-read-only"),
        (JobExists("enqueued"), 409, "job-exists"),
        (KeyReused(), 422, "idempotency-key-reused"),
        (UnusableStore(), 503, "store-unavailable"),
        (StoreError("ERR secret"), 500, "internal"),
        (KeyError("secret"), 500, "internal"),
        (web.HTTPConflict(), 400, "bad-request"),
        (web.HTTPBadGateway(), 500, "internal"),
    ],
)
def test_every_exception_is_a_problem(error, status, name):
    """Each of our errors has its problem, and all that is unforeseen is internal and says nothing."""
    problem = problem_of(error)

    assert (problem.kind.status, problem.name) == (status, name)
    assert "secret" not in problem.detail


@pytest.fixture
def logged(monkeypatch):
    """What the API logs, at any level."""
    capture = structlog.testing.LogCapture()
    log = structlog.wrap_logger(None, [capture], structlog.make_filtering_bound_logger(0))
    monkeypatch.setattr("gopher_node.api.middleware.log", log)
    monkeypatch.setattr("gopher_node.api.server.log", log)
    return capture.entries


async def test_a_bug_is_logged_and_not_told(api, monkeypatch, logged):
    """An unforeseen exception is answered 500 with an id, and the log has it under this id."""

    async def broken():
        raise RuntimeError("secret")

    monkeypatch.setattr(api.store, "stats", broken)
    answer = await api.get("/api/v1/stats")

    assert (answer.status, answer.problem) == (500, "internal")
    assert b"secret" not in answer.body
    (line,) = logged
    assert line["event"] == "http.failed"
    assert line["request_id"] == answer.json["instance"]
    assert str(line["exc_info"]) == "secret"
    assert line["route"] == "/api/v1/stats"


@pytest.mark.parametrize("raw", [b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", b"nonsense\r\n\r\n"])
async def test_no_answer_names_the_library(api, raw):
    """Which library serves, and in which version, is not told."""
    assert (await api.exchange(raw)).headers["Server"] == "gopher-node"


async def test_the_debug_log_has_every_request(serve, logged):
    """At level debug each request is a line, with the route and not the address."""
    api = await serve(log_level="debug")
    await api.get("/api/v1/jobs/secret")

    (line,) = logged
    assert (line["event"], line["log_level"], line["status"]) == ("http.request", "debug", 404)
    assert line["route"] == "/api/v1/jobs/{job_id}"


async def test_draining_refuses_jobs_and_answers_the_rest(api):
    """A node that shuts down takes no job, says when to come again, and still answers questions."""
    job_id = await api.submit()

    api.server.drain()
    refused = [await api.post("/api/v1/jobs", {"type": "mail"}), await api.post("/api/v1/jobs/bulk", [])]
    found = await api.get(f"/api/v1/jobs/{job_id}?wait=60s")
    cancelled = await api.post(f"/api/v1/jobs/{job_id}/cancel")

    for answer in refused:
        assert (answer.status, answer.problem) == (503, "draining")
        assert answer.headers["Connection"] == "close"
        assert answer.json["outcome"] == "not-done"
        assert "Retry-After" in answer.headers
    assert (found.status, found.json["status"]) == (200, "enqueued")
    assert found.headers["Connection"] == "close"
    assert cancelled.status == 200
    assert await api.stored() == 1


async def test_draining_ends_long_polls(api):
    """Who waits for a job when the node begins to shut down is answered at once."""
    job_id = await api.submit()
    waiting = asyncio.ensure_future(api.get(f"/api/v1/jobs/{job_id}?wait=60s"))
    await api.store.wait_begun.wait()

    api.server.drain()

    answer = await asyncio.wait_for(waiting, 10)
    assert (answer.status, answer.json["status"]) == (200, "enqueued")


async def test_stopping_lets_requests_end(api, operator):
    """A request under way when the server stops is answered before its connection is closed."""
    await operator.request("CLIENT", "PAUSE", 60_000, "WRITE")
    submitting = asyncio.ensure_future(api.post("/api/v1/jobs", {"type": "mail"}))
    await api.store.submit_begun.wait()

    stopping = asyncio.ensure_future(api.server.stop())
    await operator.request("CLIENT", "UNPAUSE")
    await stopping

    assert (await submitting).status == 201
    assert api.server.address is None
    assert api.server.connections == 0


async def test_a_port_that_is_taken(api, serve):
    """A port that is taken is an OSError, and leaves nothing behind that cannot be stopped."""
    with pytest.raises(OSError, match="in use"):
        await serve(port=api.server.address[1])
