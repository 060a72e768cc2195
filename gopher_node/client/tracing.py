"""Passes on the trace that a call belongs to, if the program traces at all."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any


def trace_headers() -> dict[str, str]:
    """
    What says to which trace a request belongs (traceparent, tracestate); nothing outside of one.

    OpenTelemetry is no dependency: a program that has not imported it has no span either, and pays one look-up.
    """
    if "opentelemetry.trace" not in sys.modules:
        return {}
    propagate: Any = import_module("opentelemetry.propagate")
    headers: dict[str, str] = {}
    propagate.inject(headers)
    return headers
