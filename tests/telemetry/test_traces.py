"""Traces apart from nodes: what is kept, what goes out, and what it takes to have none."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time

import pytest
import structlog
from aiohttp import web
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.trace import NonRecordingSpan, use_span

from gopher_node.errors import SettingError
from gopher_node.handlers.builtin.delivery import Outgoing
from gopher_node.job import Job, JobOptions, NewJob, Priority, State
from gopher_node.settings import TracingSettings
from gopher_node.telemetry.exporting import Exporter, Follow
from gopher_node.telemetry.traces import Traces, open_traces, read_trace, write_trace
from tests.handlers.receiver import Receiver
from tests.spans import CALLER, Spans, links_of


def job(trace: str) -> Job:
    return Job(
        id="i",
        type="a",
        state=State.PROCESSING,
        payload=b"{}",
        priority=Priority.HIGH,
        created_ms=0,
        options=JobOptions(trace=trace),
    )


async def in_a_task(traces: Traces, trace: str) -> None:
    traces.process(job(trace)).end("completed")


async def test_all_of_a_job_is_kept_or_nothing() -> None:
    """Its runs are kept if its sending was, whatever the ratio; it decides of jobs that nobody has sent in a trace."""
    spans = Spans(sampler=ParentBased(Follow(ALWAYS_OFF)))

    for trace in ("", CALLER, CALLER[:-1] + "0", CALLER[:-1] + "3"):
        await asyncio.create_task(in_a_task(spans.traces, trace))

    assert [links_of(span) for span in spans.all] == [[CALLER[:-2]]] * 2


def test_a_context_is_written_as_it_is_read() -> None:
    """With what vendors have added, unless that is too long to be stored with each job; nonsense is none."""
    spans = Spans()
    context = read_trace(f"{CALLER} a=1,b=2")
    assert context is not None
    assert (context.trace_state["a"], context.is_remote) == ("1", True)
    long = read_trace(f"{CALLER} a={'x' * 250},b={'y' * 250}")
    assert long is not None

    assert write_trace(NonRecordingSpan(context)) == f"{CALLER} a=1,b=2"
    assert write_trace(NonRecordingSpan(long)) == CALLER
    assert [read_trace(text) for text in ("", "x", "00-0-0-00", f"ff-{CALLER[3:]}")] == [None] * 4
    sends = spans.traces.send((NewJob(type="a"),), root=True)
    assert read_trace(sends.trace) is not None
    assert not spans.all  # until somebody has stored it


class Moody(InMemorySpanExporter):
    """A collector that is away sometimes."""

    away = True

    def export(self, spans: object) -> SpanExportResult:
        return SpanExportResult.FAILURE if self.away else SpanExportResult.SUCCESS


def test_an_outage_of_the_collector_is_said_once() -> None:
    """And its end, with how much was lost."""
    inner = Moody()
    exporter = Exporter(inner, "http://collector")
    batch: list[ReadableSpan] = [ReadableSpan("a")] * 3
    with structlog.testing.capture_logs() as lines:
        for away in (True, True, False, False, True):
            inner.away = away
            exporter.export(batch)

    assert [line["event"] for line in lines] == ["traces.lost", "traces.sent_again", "traces.lost"]
    assert lines[1]["lost"] == 6


async def test_a_collector_that_hangs_holds_up_no_end() -> None:
    """The last spans are given up, and the thread that holds them keeps no program from ending."""
    hanging = threading.Event()
    traces = Traces(Spans().provider, node="n", close=hanging.wait)
    began = time.monotonic()

    await traces.close(0.05)

    assert time.monotonic() - began < 5
    assert all(thread.daemon for thread in threading.enumerate() if thread.name == "gopher-traces")
    hanging.set()


def test_without_the_extra_the_start_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The endpoint alone does not do it."""
    monkeypatch.delitem(sys.modules, "gopher_node.telemetry.exporting")
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)

    with pytest.raises(SettingError, match=r"TRACING_ENDPOINT.* is not installed: pip install 'gopher-node\[otel\]'"):
        open_traces(TracingSettings(endpoint="http://127.0.0.1:4318"), "node")


def test_a_node_without_traces_loads_nothing_that_sends_them() -> None:
    """Nor what instruments requests. (redis loads what it finds of metrics by itself.)"""
    unwanted = ("opentelemetry.sdk.trace", "opentelemetry.exporter", "opentelemetry.instrumentation")
    look = f"import sys, gopher_node.node; print([name for name in sys.modules if name.startswith({unwanted!r})])"

    found = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)

    assert found.stdout == "[]\n"


async def test_what_handlers_send_out_says_which_run_it_is_of() -> None:
    """Pushed jobs, callbacks and webhooks carry the trace; a header of the user's own stays as it is."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.receive)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.port = runner.addresses[0][1]
    outgoing, spans = Outgoing([]), Spans()
    span = spans.provider.get_tracer("t").start_span("run")
    try:
        for headers in ({}, {"Traceparent": CALLER}):
            with use_span(span):
                await outgoing.send("POST", receiver.url, body=b"", headers=headers, timeout=10, trusted=True)
        await outgoing.send("POST", receiver.url, body=b"", headers={}, timeout=10, trusted=True)
    finally:
        await outgoing.close()
        await runner.cleanup()

    assert [sent.get("traceparent") for _, _, sent, _ in receiver.requests] == [write_trace(span), CALLER, None]
