"""
Sends spans to a collector, by OTLP over HTTP.

It needs what the extra `otel` brings, and is imported only where traces are sent.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, Sampler, SamplingResult
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased as Ratio
from opentelemetry.trace import Link, SpanKind
from opentelemetry.trace.span import TraceState
from opentelemetry.util.types import Attributes

from gopher_node import __version__
from gopher_node.settings import TracingSettings
from gopher_node.settings.layers import hide_credentials
from gopher_node.telemetry.logs import get_logger

PATH = "/v1/traces"
HANDLER_DELAY_MS = 200
"""Spans of a handler in a process of its own wait no longer than this, for such a process may be killed."""

# These write lines for each try; what an operator wants to know of it, `Exporter` says once.
_LOUD = ("opentelemetry.exporter", "opentelemetry.sdk._shared_internal", "opentelemetry.sdk.trace.export", "urllib3")

_log = get_logger("gopher_node.telemetry")


def make_provider(settings: TracingSettings, node: str, *, of_handler: bool = False) -> TracerProvider:
    """What makes the spans of this process, those of handlers too. It is for the caller to shut it down."""
    for name in _LOUD:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    ours = {"service.name": "gopher-node", "service.version": __version__, "service.instance.id": node}
    # What OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say goes before.
    resource = Resource.create({**ours, **OTELResourceDetector().detect().attributes})
    sampler = ParentBased(Follow(Ratio(settings.sample_ratio)))
    provider = TracerProvider(sampler=sampler, resource=resource, shutdown_on_exit=False)
    endpoint = settings.endpoint or ""
    exporter = Exporter(OTLPSpanExporter(endpoint=_address(endpoint)), hide_credentials(endpoint))
    delay = HANDLER_DELAY_MS if of_handler else None
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=delay))
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        # Else a handler's module has set one of its own.
        trace.set_tracer_provider(provider)
    return provider


def _address(endpoint: str) -> str:
    """As OTEL_EXPORTER_OTLP_ENDPOINT has it: the collector's, to which the path of traces is added."""
    base = endpoint.rstrip("/")
    return base if base.endswith(PATH) else base + PATH


class Follow(Sampler):
    """Keeps a trace that begins with a link if what it links to is kept: so of a job all is kept, or nothing."""

    def __init__(self, otherwise: Sampler) -> None:
        self._otherwise = otherwise

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        sampler = self._otherwise
        if links:
            sampler = ALWAYS_ON if any(link.context.trace_flags.sampled for link in links) else ALWAYS_OFF
        return sampler.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        return f"Follow{{{self._otherwise.get_description()}}}"


class Exporter(SpanExporter):
    """Says once that the collector takes nothing, and once that it does again. Spans are lost between the two."""

    def __init__(self, exporter: SpanExporter, place: str) -> None:
        self._exporter = exporter
        self._place = place
        self._lost = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            if not self._lost:
                _log.warning("traces.lost", endpoint=self._place, reason="The collector does not take them.")
            self._lost += len(spans)
        elif self._lost:
            _log.info("traces.sent_again", endpoint=self._place, lost=self._lost)
            self._lost = 0
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30000) -> bool:
        return self._exporter.force_flush(timeout_millis)
