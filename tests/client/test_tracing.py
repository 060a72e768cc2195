"""Requests carry the trace they belong to, if the program traces."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from gopher_node.client import calls
from gopher_node.client.tracing import trace_headers
from gopher_node.client.wire import Wire

SPAN = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture
def tracing(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The two modules of opentelemetry-api that count, and what its propagator would say."""
    said: dict[str, str] = {}
    package, trace, propagate = (ModuleType(f"opentelemetry{end}") for end in ("", ".trace", ".propagate"))
    propagate.__dict__["inject"] = lambda carrier: carrier.update(said)
    for module in (package, trace, propagate):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return said


def test_an_active_span_goes_along(tracing: dict[str, str]) -> None:
    """With each request, as it is at that moment."""
    wire, call = Wire("http://node.example", 10, 0), calls.jobs.get("i")
    tracing.update(traceparent=SPAN, tracestate="vendor=1")

    first = wire.request_options(call)["headers"]
    tracing.update(traceparent=SPAN.replace("00f0", "11f1"))
    second = wire.request_options(call)["headers"]

    assert first == {"traceparent": SPAN, "tracestate": "vendor=1"}
    assert second["traceparent"] != SPAN


async def test_it_reaches_the_node(tracing: dict[str, str], stage: Any, connect: Any) -> None:
    """Both clients send it, beside the headers of their own."""
    tracing.update(traceparent=SPAN)
    stage.answer({"job_id": "i", "type": "a", "status": "enqueued"})

    await connect(stage.url).submit("a")

    assert stage.headers[0]["traceparent"] == SPAN
    assert stage.headers[0]["Content-Type"] == "application/json"


def test_without_a_span_there_is_nothing(tracing: dict[str, str]) -> None:
    """A program that traces is not always inside a span."""
    assert trace_headers() == {}
    assert "headers" not in Wire("http://node.example", 10, 0).request_options(calls.jobs.get("i"))


def test_a_program_that_does_not_trace_is_not_made_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of OpenTelemetry is loaded for it, also where it is installed."""
    monkeypatch.delitem(sys.modules, "opentelemetry.trace", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.propagate", None)

    assert trace_headers() == {}
