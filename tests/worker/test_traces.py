"""The spans of runs: each attempt is one, linked to where its job was sent, and its end another."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from opentelemetry import trace
from opentelemetry.trace import SpanKind

from gopher_node.errors import Fail
from gopher_node.handlers import JobContext
from gopher_node.job import JobOptions
from gopher_node.telemetry.traces import write_trace
from tests.spans import CALLER, CALLER_TRACE, Spans, failed, is_child, links_of, trace_of
from tests.worker.conftest import Bench

SENT = JobOptions(trace=f"{CALLER} vendor=1")


@pytest.fixture
def spans(bench: Bench) -> Spans:
    spans = Spans()
    bench.traces = spans.traces
    return spans


async def test_each_attempt_is_a_trace_that_links_to_the_sender(bench: Bench, spans: Spans) -> None:
    """The failed one alone is an error; the ends are told in spans of their own."""

    @bench.registry.handler("flaky")
    async def flaky(ctx: JobContext) -> None:
        if ctx.attempt == 1:
            raise ValueError("not yet")

    worker = bench.start()
    job = await bench.run("flaky", options=SENT)
    await bench.stop(worker)

    first, second = spans.named("process flaky")
    assert [links_of(span) for span in (first, second)] == [[CALLER[:-2]]] * 2
    assert first.links[0].context.trace_state["vendor"] == "1"
    assert len({first.context.trace_id, second.context.trace_id, CALLER_TRACE}) == 3
    assert (first.kind, first.parent) == (SpanKind.CONSUMER, None)
    assert (failed(first), failed(second)) == (True, False)
    assert first.attributes["error.type"] == "ValueError"
    told = dict(second.attributes)
    assert 0 <= told.pop("gopher.job.wait_seconds") < 30
    assert told == {
        "messaging.system": "gopher_node",
        "messaging.operation.type": "process",
        "messaging.operation.name": "run",
        "messaging.destination.name": "flaky",
        "messaging.message.id": job.id,
        "messaging.message.body.size": 2,
        "messaging.client.id": "node-1",
        "gopher.job.type": "flaky",
        "gopher.job.attempt": 2,
        "gopher.job.max_attempts": 4,
        "gopher.job.priority": "normal",
        "gopher.job.outcome": "completed",
    }
    settled = spans.named("settle flaky")
    assert [span.attributes["messaging.operation.name"] for span in settled] == ["nack", "ack"]
    assert [is_child(settle, of) for settle, of in zip(settled, (first, second), strict=True)] == [True, True]
    assert not any(map(failed, settled))
    assert settled[0].kind is SpanKind.CLIENT


async def test_follow_ups_are_sent_by_the_run_that_completed(bench: Bench, spans: Spans) -> None:
    """The next run links to that; a run that failed has sent nothing. What nobody sent in a trace begins its own."""

    @bench.registry.handler("first")
    async def first(ctx: JobContext) -> None:
        ctx.enqueue("second")
        if ctx.attempt == 1:
            raise ValueError

    @bench.registry.handler("second")
    async def second() -> None: ...

    worker = bench.start()
    await bench.run("first")
    await bench.events.until(lambda: len([one for one in bench.events.settlements if one.job.type == "second"]) == 1)
    await bench.stop(worker)

    failure, success = spans.named("process first")
    send = spans.one("send second")
    assert not failure.links
    assert failure.parent is None
    assert is_child(send, success)
    assert send.kind is SpanKind.PRODUCER
    assert links_of(spans.one("process second")) == [trace_of(send)]


async def test_a_run_may_be_a_part_of_the_senders_trace(bench: Bench) -> None:
    """With parent_mode `parent`."""
    spans = Spans("parent")
    bench.traces = spans.traces
    bench.registry.handler("plain")(lambda: None)
    worker = bench.start()
    await bench.run("plain", options=SENT)
    await bench.stop(worker)

    process = spans.one("process plain")
    assert (process.context.trace_id, f"{process.parent.span_id:016x}") == (CALLER_TRACE, CALLER[36:52])
    assert not process.links


@pytest.mark.parametrize("mode", ["async", "thread"])
async def test_a_handlers_own_spans_are_parts_of_its_run(bench: Bench, spans: Spans, mode: str) -> None:
    """The run is the current span there, and in what the handler logs."""

    def here() -> str:
        return write_trace(trace.get_current_span())

    async def in_task() -> str:
        return here()

    bench.registry.handler("look")(in_task if mode == "async" else here)
    worker = bench.start()
    job = await bench.run("look")
    await bench.stop(worker)

    assert orjson.loads(job.result or b"").startswith(trace_of(spans.one("process look")))


async def test_the_last_failure_is_a_dead_letter(bench: Bench, spans: Spans) -> None:
    """The span of its run says why it failed, in the words of the log; a payload is in neither."""

    @bench.registry.handler("hopeless")
    async def hopeless() -> None:
        raise Fail("no way to redis://me:hunter2@store", code="hopeless")

    worker = bench.start()
    await bench.run("hopeless")
    await bench.stop(worker)

    dead = spans.one("process hopeless")
    assert spans.one("settle hopeless").attributes["messaging.operation.name"] == "dead_letter"
    assert (dead.attributes["gopher.job.outcome"], dead.attributes["error.type"]) == ("failed", "hopeless")
    assert dead.status.description == "hopeless: no way to redis://***@store"


async def test_a_run_that_is_handed_back_did_not_fail(bench: Bench, spans: Spans) -> None:
    """Nor is one cut short by the node's own end an error."""
    entered = asyncio.Event()

    @bench.registry.handler("long")
    async def long() -> None:
        entered.set()
        await asyncio.Event().wait()

    worker = bench.start()
    await bench.submit("long")
    await entered.wait()
    worker.release_now()
    await bench.stop(worker)

    process = spans.one("process long")
    assert (process.attributes["gopher.job.outcome"], failed(process)) == ("released", False)
    assert spans.one("settle long").attributes["messaging.operation.name"] == "release"


async def test_a_callback_is_of_the_trace_of_the_job_that_it_tells_of(bench: Bench, spans: Spans) -> None:
    """The store makes that job, and knows where the other one was sent."""
    bench.registry.handler("plain")(lambda: None)

    @bench.registry.handler("job_callback")
    async def tell(payload: dict[str, Any]) -> None: ...

    worker = bench.start()
    await bench.run("plain", options=SENT, callback_url="https://example.org/")
    await bench.events.until_settled(2)
    await bench.stop(worker)

    assert links_of(spans.one("process job_callback")) == [CALLER[:-2]]
