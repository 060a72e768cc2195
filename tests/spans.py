"""Spans that stay in memory, for tests to read."""

from __future__ import annotations

from typing import Any, Literal

from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from gopher_node.telemetry.traces import Traces

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
CALLER_TRACE = 0x4BF92F3577B34DA6A3CE929D0E0E4736


class Spans:
    """What is made of spans in a test, by its own `traces`."""

    def __init__(self, parent_mode: Literal["link", "parent"] = "link", **options: Any) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(**options)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.traces = Traces(self.provider, node="node-1", parent_mode=parent_mode)

    @property
    def all(self) -> list[ReadableSpan]:
        """Those that have ended, in that order."""
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.all if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        (span,) = self.named(name)
        return span


def trace_of(span: ReadableSpan) -> str:
    """A span's context as W3C has it, up to its flags."""
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-"


def links_of(span: ReadableSpan) -> list[str]:
    return [f"00-{link.context.trace_id:032x}-{link.context.span_id:016x}-" for link in span.links]


def is_child(span: ReadableSpan, of: ReadableSpan) -> bool:
    parent = span.parent
    context = of.get_span_context()
    return parent is not None and (parent.trace_id, parent.span_id) == (context.trace_id, context.span_id)


def failed(span: ReadableSpan) -> bool:
    return span.status.status_code is StatusCode.ERROR
