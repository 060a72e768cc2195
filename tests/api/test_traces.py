"""The spans of requests, and of the jobs that they send and settle."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest
from opentelemetry.trace import SpanKind

from gopher_node.job import NewJob, trace_headers
from gopher_node.scheduler import Scheduler
from gopher_node.schedules import Schedule
from gopher_node.store import Definition, Store
from gopher_node.telemetry import Events
from tests.api.conftest import Api
from tests.spans import CALLER, CALLER_TRACE, Spans, is_child, links_of, trace_of

CALL = {"headers": {"traceparent": CALLER, "tracestate": "vendor=1"}}


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture
async def api(serve: Callable[..., Awaitable[Api]], spans: Spans) -> Api:
    return await serve(traces=spans.traces)


async def test_a_request_is_a_part_of_its_callers_trace(api: Api, spans: Spans) -> None:
    """And the job is sent in it. The job has the context of that, for whoever runs it."""
    job_id = (await submit(api, priority="high"))["job_id"]

    server, send = spans.one("POST /api/v1/jobs"), spans.one("send unserved")
    assert (server.context.trace_id, f"{server.parent.span_id:016x}") == (CALLER_TRACE, CALLER[36:52])
    assert server.kind is SpanKind.SERVER
    assert server.attributes["http.response.status_code"] == 201
    assert is_child(send, server)
    assert send.kind is SpanKind.PRODUCER
    assert dict(send.attributes) == {
        "messaging.system": "gopher_node",
        "messaging.operation.type": "send",
        "messaging.operation.name": "enqueue",
        "messaging.destination.name": "unserved",
        "messaging.message.id": job_id,
        "messaging.message.body.size": 2,
        "messaging.client.id": "node-1",
        "gopher.job.type": "unserved",
        "gopher.job.priority": "high",
    }
    headers = trace_headers((await api.store.get(job_id)).options.trace)
    assert headers["traceparent"].startswith(trace_of(send))
    assert headers["tracestate"] == "vendor=1"


async def test_no_span_holds_a_secret_and_probes_have_none(api: Api, spans: Spans) -> None:
    """Not the token of a lease in a path, nor a query, nor a header; the route says which address it was."""
    for path in ("/livez", "/readyz", "/startupz", "/health"):
        await api.get(path)
    assert not spans.all

    await api.get("/api/v1/jobs?tag=secret", headers={"Authorization": "Bearer secret-secret"})
    await api.post("/api/v1/leases/secret.1.0123456789abcdef/release", {})
    await api.get("/secret")

    names = ["GET /api/v1/jobs", "POST /api/v1/leases/{token}/release", "GET"]
    assert [span.name for span in spans.all] == names
    assert "secret" not in "".join(span.to_json() for span in spans.all)


async def test_jobs_that_are_sent_together_share_a_span(api: Api, spans: Spans) -> None:
    """One for each type, of an array as of the lines of a stream."""
    jobs = [{"type": "a"}, {"type": "b"}, {"type": "a"}]
    stored = (await api.post("/api/v1/jobs/bulk", jobs)).json["items"]
    lines = b"".join(orjson.dumps(job) + b"\n" for job in jobs)
    await api.call("POST", "/api/v1/jobs/bulk", data=lines, headers={"Content-Type": "application/x-ndjson"})

    sends = spans.named("send a")
    assert [span.attributes["messaging.batch.message_count"] for span in sends] == [2, 2]
    assert len(spans.named("send b")) == 2
    assert await sent_in(api, stored[0]["job_id"]) == await sent_in(api, stored[2]["job_id"])
    assert (await sent_in(api, stored[0]["job_id"])).startswith(trace_of(sends[0]))


async def test_what_was_known_before_is_not_sent_again(api: Api, spans: Spans) -> None:
    """A replay, the bearer of a unique key, and what is refused: these requests have no `send`."""
    once = {"headers": {"Idempotency-Key": "k"}}
    first = await api.post("/api/v1/jobs", {"type": "a"}, **once)
    await api.post("/api/v1/jobs", {"type": "b", "unique_key": "u"})
    before = await sent_in(api, first.json["job_id"])
    assert len(spans.named("send a") + spans.named("send b")) == 2

    assert "Idempotency-Replayed" in (await api.post("/api/v1/jobs", {"type": "a"}, **once)).headers
    assert (await api.post("/api/v1/jobs", {"type": "b", "unique_key": "u"})).status == 200
    assert (await api.post("/api/v1/jobs/bulk", [{"type": "b", "unique_key": "u"}])).status == 201
    refused = {"type": "b", "unique_key": "u", "on_duplicate": "reject"}
    assert (await api.post("/api/v1/jobs", refused)).status == 409

    assert len(spans.named("send a") + spans.named("send b")) == 2
    assert await sent_in(api, first.json["job_id"]) == before


async def test_workflows_old_spellings_and_jobs_of_recurring_ones(api: Api, spans: Spans) -> None:
    """Whatever the address, a job that is stored was sent by its request."""
    flow = {"jobs": [{"name": "one", "type": "a"}], "on_complete": {"type": "z"}}
    workflow = (await api.post("/api/v1/workflows", flow)).json
    await api.post("/jobs?type=b", {})
    recurring = {"type": "c", "recurring": {"cron_expression": "0 6 * * *"}}
    first = (await api.post("/api/v1/jobs", recurring)).json
    await api.post(f"/api/v1/recurring/{first['recurring']}/trigger")

    server = spans.one("POST /api/v1/workflows")
    assert [is_child(spans.one(name), server) for name in ("send a", "send z")] == [True, True]
    assert spans.one("send a").attributes["messaging.message.conversation_id"] == workflow["workflow_id"]
    assert is_child(spans.one("send b"), spans.one("POST /jobs"))
    ahead, triggered = spans.named("send c")
    assert ahead.attributes["gopher.recurring.name"] == triggered.attributes["gopher.recurring.name"]
    assert (await sent_in(api, first["job_id"])).startswith(trace_of(ahead))
    assert is_child(triggered, spans.one("POST /api/v1/recurring/{name}/trigger"))


async def test_a_fire_begins_a_trace(store: Store, spans: Spans) -> None:
    """Nobody asked for it; of all nodes that try, the one that fired sent it."""
    definition = Definition(name="nightly", schedule=Schedule(every_ms=60_000), job=NewJob(type="c"))
    await store.recurring.create(definition, now=1_000_000)
    schedulers = [Scheduler(store, Events(), spans.traces) for _ in range(3)]

    for scheduler in schedulers:
        await scheduler.fire()

    send = spans.one("send c")
    assert send.parent is None
    assert send.attributes["gopher.recurring.name"] == "nightly"
    assert (await store.get(send.attributes["messaging.message.id"])).options.trace.startswith(trace_of(send))


async def test_a_worker_over_http_goes_on_with_the_trace(api: Api, spans: Spans) -> None:
    """The lease tells where the job was sent; what its worker says of the run is a span that links to that."""
    await submit(api, type="a", max_retries=1)
    await submit(api, type="a", max_retries=1)
    send = spans.named("send a")[0]
    claim = {"types": ["a"], "max_jobs": 2}
    first, second = (await api.post("/api/v1/leases", claim)).json["items"]
    assert first["job"]["traceparent"].startswith(trace_of(send))
    assert first["job"]["tracestate"] == "vendor=1"

    own = {"headers": {"traceparent": CALLER.replace("4bf9", "5bf9")}}
    done = {"result": 1, "follow_ups": [{"type": "b"}]}
    await api.post(f"/api/v1/leases/{first['token']}/complete", done, **own)
    await api.post(f"/api/v1/leases/{first['token']}/complete", done, **own)
    batch = {"items": [{"token": second["token"], "error": "no", "retryable": False}]}
    await api.post("/api/v1/leases/fail", batch)

    settled = spans.named("settle a")
    names = [span.attributes["messaging.operation.name"] for span in settled]
    assert names == ["ack", "ack", "dead_letter"]
    assert links_of(settled[0]) == [trace_of(send)]
    assert is_child(settled[0], spans.named("POST /api/v1/leases/{token}/complete")[0])
    assert settled[0].attributes["gopher.job.attempt"] == 1
    assert is_child(spans.one("send b"), settled[0])


async def test_a_job_that_was_not_traced_shows_nothing(serve: Callable[..., Awaitable[Api]]) -> None:
    """A caller's header changes nothing where there are no traces."""
    api = await serve()
    job_id = (await submit(api, type="a"))["job_id"]

    (lease,) = (await api.post("/api/v1/leases", {"types": ["a"]})).json["items"]

    assert not {"traceparent", "tracestate"} & lease["job"].keys()
    assert await sent_in(api, job_id) == ""


async def submit(api: Api, type: str = "unserved", **fields: Any) -> Any:
    answer = await api.post("/api/v1/jobs", {"type": type, **fields}, **CALL)
    assert answer.status == 201, answer.body
    return answer.json


async def sent_in(api: Api, job_id: str) -> str:
    return (await api.store.get(job_id)).options.trace
