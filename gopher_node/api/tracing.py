"""The span of each request, made by OpenTelemetry's instrumentation of aiohttp, without what is secret."""

from __future__ import annotations

import os
import warnings
from collections.abc import Awaitable, Callable, Collection
from contextlib import AbstractContextManager
from typing import Any, cast

from aiohttp import web
from opentelemetry.instrumentation.aiohttp_server import AioHttpServerInstrumentor, create_aiohttp_middleware
from opentelemetry.trace import Span, TracerProvider

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

HIDDEN = frozenset(("url.path", "url.query", "url.full", "http.target", "http.url"))
"""Paths hold the tokens of leases and what clients made up; the route says which address it was."""

# How the library is told what it does; what an operator sets of it goes before. The names of HTTP's stable conventions
# are not its default yet, and headers that somebody has it record may hold keys.
_ENVIRONMENT = {
    "OTEL_SEMCONV_STABILITY_OPT_IN": "http",
    "OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SANITIZE_FIELDS": ".*auth.*,.*cookie.*,.*key.*,.*token.*,gopher-lease",
}


def trace_requests(provider: TracerProvider, quiet: Collection[str]) -> Callable[..., Any]:
    """
    A middleware that gives each request a span, named after its method and route, in the trace that it belongs to.

    The routes in `quiet` have none: probes and scrapes come all day.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # Its middleware works only after this, which also replaces aiohttp's application: that is put back.
    instrumentor = AioHttpServerInstrumentor()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # aiohttp's, of what that replacement derives from
        instrumentor.instrument()
        instrumentor.uninstrument()
    traced = cast("Callable[..., Any]", create_aiohttp_middleware(cast("Any", _Provider(provider))))

    @web.middleware
    async def trace_request(request: web.Request, handler: Handler) -> web.StreamResponse:
        resource = request.match_info.route.resource
        if resource is not None and resource.canonical in quiet:
            return await handler(request)
        return await traced(request, handler)

    return trace_request


class _Provider:
    """What the library asks for a tracer."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider

    def get_tracer(self, name: str, version: str) -> _Tracer:
        return _Tracer(self._provider, name, version)


class _Tracer:
    """Makes the library's spans, and leaves out what must not be known."""

    def __init__(self, provider: TracerProvider, name: str, version: str) -> None:
        self._tracer = provider.get_tracer(name, version)

    def start_as_current_span(
        self, name: str, *, attributes: dict[str, Any], **options: Any
    ) -> AbstractContextManager[Span]:
        shown = {key: value for key, value in attributes.items() if key not in HIDDEN}
        return self._tracer.start_as_current_span(name, attributes=shown, **options)
