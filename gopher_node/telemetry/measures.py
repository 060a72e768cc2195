"""What a node has measured since its start, in plain numbers: cheap to add to, and read only when somebody asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any

from prometheus_async import aio

from gopher_node.telemetry.latency import Latency

MAX_TYPES = 100
"""So many job types are told apart; all others are one."""
OTHER = "other"
REASONS = ("unavailable", "no-answer", "read-only", "full", "not-allowed", "refused")
"""Why requests to the store fail; each is counted from 0, so that nobody misses the first."""
MAX_NAMES = 100
"""Recurring jobs whose last fire is known."""


@dataclass(slots=True)
class TypeTotals:
    """
    What this node did with the jobs of one type.

    `created` are those it stored; `ended` counts its runs by what became of the job ("completed", "failed" for good,
    "retried", "cancelled", "released", "stale"), `failures` those that ended in an error by why. `run` is how long they
    took, `wait` how long jobs were due before their first run began.
    """

    created: int = 0
    ended: Counter[str] = field(default_factory=Counter[str])
    failures: Counter[str] = field(default_factory=Counter[str])
    run: Latency = field(default_factory=Latency)
    wait: Latency = field(default_factory=Latency)


class Types(dict[str, TypeTotals]):
    """The totals by job type. The first hundred types have their own; all that come later share `OTHER`."""

    def __missing__(self, type: str) -> TypeTotals:
        if len(self) >= MAX_TYPES and type != OTHER:
            return self[OTHER]
        found = self[type] = TypeTotals()
        return found


class Latencies(dict[str, Latency]):
    """Latencies by name: of what has few names, for nothing is left out."""

    def __missing__(self, name: str) -> Latency:
        found = self[name] = Latency()
        return found


class Measures:
    """
    `http` is by "METHOD route status class", `store_calls` by operation; `store_errors` counts these by reason.

    `http_in_progress` are the requests that are not answered yet.
    """

    def __init__(self) -> None:
        self.types = Types()
        self.http = Latencies()
        self.http_in_progress = 0
        self.store_calls = Latencies()
        self.store_errors: Counter[str] = Counter(dict.fromkeys(REASONS, 0))
        self.loop_lag = Latency()
        self.last_fires: dict[str, float] = {}

    def time(self, operation: str, request: Awaitable[Any], /) -> Awaitable[Any]:
        """A request to the store, as it is to be awaited: then it is known how long it took, however it ends."""
        return aio.time(self.store_calls[operation], request)

    def failed(self, reason: str, /) -> None:
        """A request to the store got no answer of use."""
        self.store_errors[reason] += 1

    def fired(self, name: str, at: float) -> None:
        """A recurring job of this name fired then (epoch seconds). Those that fired last are kept."""
        self.last_fires.pop(name, None)
        self.last_fires[name] = at
        if len(self.last_fires) > MAX_NAMES:
            del self.last_fires[next(iter(self.last_fires))]
