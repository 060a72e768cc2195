"""How long the jobs of each type took lately, in the whole cluster, and how that is told."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from gopher_node.api.answers.documents import Count, Document, Moment, Seconds
from gopher_node.api.answers.views import format_time
from gopher_node.store import Store
from gopher_node.telemetry.latency import Latency
from gopher_node.telemetry.took import MINUTE, QUANTILES, Took, TookByType

WINDOW = 10
"""So many whole minutes, and the present one."""
_KEPT = 2.0
"""Seconds for which an answer is told again: nodes report every ten."""
_SETTLED = 2 * MINUTE  # a minute that began so long ago has been reported by all


class QuantilesDocument(Document):
    """
    Seconds that half of all stayed within, that 95 and that 99 of a hundred did; null if there were none.

    They are read from buckets, eleven for each power of ten, and so are off by a tenth as a rule, and a third at most.
    """

    p50: Seconds | None
    p95: Seconds | None
    p99: Seconds | None


class LatencyDocument(QuantilesDocument):
    """How many there were, and how many seconds they took."""

    count: Count
    mean: Seconds | None


class TookDocument(Document):
    run_seconds: LatencyDocument = Field(
        description=f"How long the runs that ended in the last {WINDOW} whole minutes or since took, on all nodes."
    )
    wait_seconds: LatencyDocument = Field(
        description="How long jobs that began then for the first time had been due: since they were stored, or since "
        "the time for which they were scheduled."
    )


class WindowDocument(TookDocument):
    """The same of all types, and when that was."""

    since: Moment
    until: Moment


@dataclass(frozen=True, slots=True)
class Window:
    """What was measured from one moment to another (epoch ms)."""

    since_ms: int
    until_ms: int
    types: TookByType

    def show(self, type: str) -> dict[str, Any]:
        return show_took(self.types.get(type) or Took())

    def show_all(self) -> dict[str, Any]:
        return {
            "since": format_time(self.since_ms),
            "until": format_time(self.until_ms),
            **show_took(self.types.all()),
        }


class RecentLatencies:
    """
    The last minutes of all nodes. Those that do not change any more are not read again.

    With a hundred types on twenty nodes it still takes some time, so that everybody else gets a turn in between.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._last: tuple[float, Window] | None = None
        self._minutes: dict[int, TookByType] = {}
        self._settled = 0  # up to this minute, `_minutes` has all

    async def read(self, store: Store, *, now: int | None = None) -> Window:
        """Raises StoreError."""
        if self._last is not None and self._clock() - self._last[0] < _KEPT:
            return self._last[1]
        found = await store.latencies.recent(WINDOW, self._settled, now=now)
        if self._settled > found.now_ms - _SETTLED:  # the store's clock was set back
            self._minutes, self._settled = {}, 0
            found = await store.latencies.recent(WINDOW, 0, now=now)
        present = found.now_ms // MINUTE * MINUTE
        since, settled = present - WINDOW * MINUTE, present - _SETTLED
        minutes = dict(self._minutes)
        for minute, shares in found.minutes.items():
            merged = minutes[minute] = TookByType()
            for share in shares:
                merged.add(share)
                await asyncio.sleep(0)
        types = TookByType()
        for minute, merged in minutes.items():
            if minute >= since:
                types.merge(merged)
        self._minutes = {minute: merged for minute, merged in minutes.items() if since <= minute <= settled}
        self._settled = settled
        window = Window(since, found.now_ms, types)
        self._last = self._clock(), window
        return window


def show_took(took: Took) -> dict[str, Any]:
    return {"run_seconds": _show(took.run), "wait_seconds": _show(took.wait)}


def _show(latency: Latency) -> dict[str, Any]:
    count = latency.count
    quantiles = [latency.quantile(q) for q in QUANTILES] if count else None
    return {"count": count, "mean": round(latency.sum / count, 6) if count else None, **show_quantiles(quantiles)}


def show_quantiles(found: Sequence[float | None] | None) -> dict[str, float | None]:
    p50, p95, p99 = (None if seconds is None else round(seconds, 6) for seconds in found or (None, None, None))
    return {"p50": p50, "p95": p95, "p99": p99}
