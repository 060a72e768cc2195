"""
The spans of jobs: sent, run and settled, by OpenTelemetry's conventions for messaging.

This needs only OpenTelemetry's interface, and is imported only where there are traces; `exporting.py` sends them.
Calls of the store have no spans of their own: the node makes them all the time, for many jobs at once, so they belong
to no job's trace, and each would cost as much as the call.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from opentelemetry.context import Context, attach
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TracerProvider,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from gopher_node import __version__
from gopher_node.errors import SettingError
from gopher_node.job import Job, JobError, NewJob, State, trace_headers
from gopher_node.telemetry.hiding import hide_in_text
from gopher_node.telemetry.logs import get_logger

if TYPE_CHECKING:
    from gopher_node.settings import TracingSettings

FLUSH = 1.5
"""Seconds that a node which ends waits for its last spans to be sent."""
SYSTEM = "gopher_node"
MAX_TRACE = 512
"""So much of traceparent and tracestate is stored with a job; a tracestate beyond that is left out."""
MAX_MESSAGE = 500

Ended = Literal["completed", "failed", "cancelled", "released"]
"""How a run ended, as whoever ran it says."""

# W3C's, whatever OTEL_PROPAGATORS says: it is stored with the job, and read by whoever runs that.
_W3C = TraceContextTextMapPropagator()


def open_traces(settings: TracingSettings, node: str, *, of_handler: bool = False) -> Traces:
    """
    What makes the spans of this process and sends them to the collector that the settings name.

    Raises SettingError if the extra `otel` is not installed.
    """
    try:
        from gopher_node.telemetry.exporting import make_provider
    except ImportError as error:
        raise SettingError(
            f"TRACING_ENDPOINT (or OTEL_EXPORTER_OTLP_ENDPOINT) is set, and {error.name} is not installed: "
            "pip install 'gopher-node[otel]', or unset it."
        ) from None
    provider = make_provider(settings, node, of_handler=of_handler)
    return Traces(provider, node=node, parent_mode=settings.parent_mode, close=provider.shutdown)


class Traces:
    """
    Makes the spans. Each is one of the job's story: its `send`, and for each attempt a `process` and a `settle`.

    A run is a trace of its own that links to where its job was sent, for it may be days later and one of many; with
    `parent_mode` "parent" it is a part of the sender's trace.
    """

    def __init__(
        self,
        provider: TracerProvider,
        *,
        node: str,
        parent_mode: Literal["link", "parent"] = "link",
        close: Callable[[], None] | None = None,
    ) -> None:
        """`close` ends what sends the spans, and may block."""
        self.provider = provider
        self._node = node
        self._parent_mode = parent_mode
        self._tracer = provider.get_tracer("gopher_node", __version__)
        self._close = close

    def send(
        self, jobs: Sequence[NewJob], *, parent: Span | None = None, recurring: str = "", root: bool = False
    ) -> Sends:
        """
        Begin to send jobs: as a part of `parent`, else of the span that is current, else or with `root` of nothing.

        Jobs of one type that are sent together share a span.
        """
        context = set_span_in_context(parent) if parent is not None else Context() if root else None
        by_type: defaultdict[str, list[int]] = defaultdict(list)
        for place, job in enumerate(jobs):
            by_type[job.type].append(place)
        traced = list(jobs)
        spans: list[tuple[Span, list[int]]] = []
        for type, places in by_type.items():
            span = self._begin("send", "enqueue", type, SpanKind.PRODUCER, context)
            written = write_trace(span)
            for place in places:
                traced[place] = with_trace(jobs[place], written)
            if recurring:
                span.set_attribute("gopher.recurring.name", recurring)
            spans.append((span, places))
        return Sends(traced, spans)

    def process(self, job: Job) -> Process:
        """Begin an attempt, which is current from now on for all that this task does."""
        sender = read_trace(job.options.trace)
        links: list[Link] = []
        context = Context()
        if sender is not None and self._parent_mode == "parent":
            context = set_span_in_context(NonRecordingSpan(sender), context)
        elif sender is not None:
            links.append(Link(sender))
        waited_since = job.created_ms if job.due_ms is None else job.due_ms
        attributes = {
            **_of_job(job),
            "messaging.message.body.size": len(job.payload),
            "gopher.job.max_attempts": job.max_retries + 1,
            "gopher.job.wait_seconds": max(0.0, round(time.time() - waited_since / 1000, 3)),
        }
        span = self._begin("process", "run", job.type, SpanKind.CONSUMER, context, attributes, links)
        return Process(self, job, span)

    def settle(self, job: Job, parent: Span | None = None) -> Settle:
        """
        Begin to settle a run: as a part of `parent`, its own span; without one, as a part of the current span, with a
        link to where the job was sent.
        """
        links: list[Link] = []
        if parent is None and (sender := read_trace(job.options.trace)) is not None:
            links.append(Link(sender))
        context = None if parent is None else set_span_in_context(parent)
        return Settle(self, self._begin("settle", "", job.type, SpanKind.CLIENT, context, _of_job(job), links))

    def _begin(
        self,
        operation: Literal["send", "process", "settle"],
        name: str,
        type: str,
        kind: SpanKind,
        context: Context | None,
        attributes: Mapping[str, Any] | None = None,
        links: Sequence[Link] = (),
    ) -> Span:
        known: dict[str, Any] = {
            "messaging.system": SYSTEM,
            "messaging.operation.type": operation,
            "messaging.destination.name": type,
            "messaging.client.id": self._node,
            "gopher.job.type": type,
            **(attributes or {}),
        }
        if name:
            known["messaging.operation.name"] = name
        return self._tracer.start_span(f"{operation} {type}", context, kind, known, links)

    async def close(self, patience: float = FLUSH) -> None:
        """Send what has not been sent, within so many seconds: a collector that is away must not hold up the end."""
        if self._close is None:
            return
        close, loop, done = self._close, asyncio.get_running_loop(), asyncio.Event()

        def send_the_rest() -> None:
            close()
            with contextlib.suppress(RuntimeError):  # the loop has gone, and nobody waits
                loop.call_soon_threadsafe(done.set)

        # A daemon, which nothing joins; a thread of the loop's own pool would be waited for at the end.
        threading.Thread(target=send_the_rest, name="gopher-traces", daemon=True).start()
        try:
            async with asyncio.timeout(patience):
                await done.wait()
        except TimeoutError:
            get_logger("gopher_node.telemetry").warning(
                "traces.left", reason="The collector did not take the last ones."
            )


class Sends:
    """
    Jobs that are being sent, each with the context of its span in its options.

    The span of jobs that nobody has stored is dropped: what was refused, or known before, was not sent.
    """

    def __init__(self, jobs: list[NewJob], spans: list[tuple[Span, list[int]]]) -> None:
        self.jobs = jobs
        self._spans = spans

    @property
    def trace(self) -> str:
        """The context of the first job."""
        return self.jobs[0].options.trace

    def sent(self, ids: Sequence[str | None], *, workflow: str = "") -> None:
        """They were stored under these ids, '' where it is not known; None is for those that were not, or not now."""
        for span, places in self._spans:
            stored = [id for place in places if place < len(ids) and (id := ids[place]) is not None]
            if not stored:
                continue
            first = self.jobs[places[0]]
            conversation = workflow or first.options.workflow
            if len(stored) > 1:
                span.set_attribute("messaging.batch.message_count", len(stored))
            else:
                if stored[0]:
                    span.set_attribute("messaging.message.id", stored[0])
                span.set_attribute("messaging.message.body.size", len(first.payload))
                span.set_attribute("gopher.job.priority", first.priority.label)
            if conversation:
                span.set_attribute("messaging.message.conversation_id", conversation)
            span.end()


class Process:
    """An attempt of a job. What comes after its handler, up to `end`, is not counted in its time."""

    def __init__(self, traces: Traces, job: Job, span: Span) -> None:
        self._traces = traces
        self._job = job
        self._ended_ns: int | None = None
        self.span = span
        self.enter()

    def enter(self) -> None:
        """Let the attempt be what the current task does, to its end."""
        attach(set_span_in_context(self.span, Context()))

    def over(self) -> None:
        """Its handler has ended."""
        self._ended_ns = time.time_ns()

    def send(self, jobs: Sequence[NewJob]) -> Sends:
        """Begin to send the jobs that follow from it."""
        return self._traces.send(jobs, parent=self.span)

    def settle(self) -> Settle:
        return self._traces.settle(self._job, self.span)

    def end(self, outcome: str, error: JobError | None = None) -> None:
        """`outcome` is what became of the job by it; `error` why it failed, if it did."""
        span = self.span
        span.set_attribute("gopher.job.outcome", outcome)
        if error is not None:
            span.set_attribute("error.type", error.kind or error.code)
            span.set_status(StatusCode.ERROR, hide_in_text(f"{error.code}: {error.message}")[:MAX_MESSAGE])
        span.end(self._ended_ns)


class Settle:
    """A run whose end is being told to the store."""

    def __init__(self, traces: Traces, span: Span) -> None:
        self._traces = traces
        self._span = span

    def send(self, jobs: Sequence[NewJob]) -> Sends:
        """Begin to send the jobs that follow from a run whose own span is its worker's."""
        return self._traces.send(jobs, parent=self._span)

    def end(self, ended: Ended, state: State | None) -> None:
        """`state` is the job's from now on; None means that the run was stale."""
        self._span.set_attribute("messaging.operation.name", _operation(ended, state))
        self._span.set_attribute("gopher.job.outcome", outcome_of(ended, state))
        self._span.end()


def outcome_of(ended: Ended, state: State | None) -> str:
    """What became of a job by a run that ended so."""
    if state is None:
        return "stale"
    return state.value if state.final else "released" if ended == "released" else "retried"


def _operation(ended: Ended, state: State | None) -> str:
    if ended == "failed":
        return "dead_letter" if state is State.FAILED else "nack"
    return {"completed": "ack", "cancelled": "cancel", "released": "release"}[ended]


def _of_job(job: Job) -> dict[str, Any]:
    found: dict[str, Any] = {
        "messaging.message.id": job.id,
        "gopher.job.attempt": job.attempt,
        "gopher.job.priority": job.priority.label,
    }
    if job.options.workflow:
        found["messaging.message.conversation_id"] = job.options.workflow
    if job.options.recurring:
        found["gopher.recurring.name"] = job.options.recurring
    return found


def with_trace(job: NewJob, trace: str) -> NewJob:
    return replace(job, options=replace(job.options, trace=trace)) if trace else job


def write_trace(span: Span) -> str:
    """A span's context as jobs have it in their options; empty if it has none."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier, set_span_in_context(span, Context()))
    text = " ".join(carrier[name] for name in ("traceparent", "tracestate") if name in carrier)
    return text if len(text) <= MAX_TRACE else carrier["traceparent"]


def read_trace(trace: str) -> SpanContext | None:
    """The context that is written so."""
    if not trace:
        return None
    found = get_current_span(_W3C.extract(trace_headers(trace), Context())).get_span_context()
    return found if found.is_valid else None


def enter_trace(trace: str) -> None:
    """Let what the current thread does from now on be a part of the span that is written so, or of none."""
    found = read_trace(trace)
    attach(Context() if found is None else set_span_in_context(NonRecordingSpan(found), Context()))
