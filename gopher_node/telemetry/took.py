"""How long the jobs of each type took in a minute: a node's share, as the store is told it, and all shares merged."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from gopher_node.telemetry.latency import Latency
from gopher_node.telemetry.measures import MAX_TYPES, OTHER, TypeTotals

MINUTE = 60_000
QUANTILES = (0.5, 0.95, 0.99)
_UNTOLD_KEPT = 15
"""So many past minutes are kept for a store that is away: it does not take older ones."""


@dataclass(slots=True)
class Took:
    """How long runs took, and how long jobs were due before their first one."""

    run: Latency = field(default_factory=Latency)
    wait: Latency = field(default_factory=Latency)

    @property
    def count(self) -> int:
        return self.run.count + self.wait.count

    def merge(self, other: Took) -> None:
        self.run.merge(other.run)
        self.wait.merge(other.wait)


class TookByType(dict[str, Took]):
    def __missing__(self, type: str) -> Took:
        found = self[type] = Took()
        return found

    def add(self, share: bytes) -> None:
        """Add what a node tells of itself."""
        for type, (runs, run_sum, waits, wait_sum, *_) in orjson.loads(share).items():
            took = self[type]
            took.run.add(runs, run_sum)
            took.wait.add(waits, wait_sum)

    def merge(self, other: TookByType) -> None:
        for type, took in other.items():
            self[type].merge(took)

    def all(self) -> Took:
        """Of all types together."""
        merged = Took()
        for took in self.values():
            merged.merge(took)
        return merged

    def summary(self) -> dict[str, list[float | None]]:
        """
        p50, p95 and p99 in ms of runs, then those of waits; by type, and under "" of all together.

        The hundred types with most jobs are told apart, as in the history; all others are `OTHER`.
        """
        busiest = sorted(self, key=lambda type: (-self[type].count, type))
        told = TookByType({type: self[type] for type in busiest[:MAX_TYPES]})
        for type in busiest[MAX_TYPES:]:
            told[OTHER].merge(self[type])
        return {"": _quantiles(self.all()), **{type: _quantiles(took) for type, took in told.items()}}


def merged(shares: Iterable[bytes]) -> TookByType:
    all_nodes = TookByType()
    for share in shares:
        all_nodes.add(share)
    return all_nodes


def _quantiles(took: Took) -> list[float | None]:
    # Three digits are more than a bucket tells, and two days of them are to be kept.
    found = (latency.quantile(q) for latency in (took.run, took.wait) for q in QUANTILES)
    return [None if seconds is None else _short(seconds * 1000) for seconds in found]


def _short(number: float) -> float:
    short = float(f"{number:.3g}")
    return int(short) if short.is_integer() else short


class Shares:
    """
    A node's share of each minute, until the store knows it: JSON by type, of the buckets that are not empty.

    Minutes are those of the store's clock, which `set_clock` tells, for then all nodes mean the same; what was measured
    before that belongs to the first of them. `look` at least once a second, or a minute gets what came after it.
    """

    def __init__(self, types: Mapping[str, TypeTotals], clock: Callable[[], float] = time.monotonic) -> None:
        self._types = types
        self._clock = clock
        self._ahead_ms: float | None = None  # of the store's clock
        self._minute = 0
        self._before: dict[str, Took] = {}  # how each type stood when that minute began
        self._counted = 0  # of that minute, as it was told last
        self._untold: dict[int, tuple[int, bytes]] = {}  # minutes that are over

    def set_clock(self, store_ms: int) -> None:
        self._ahead_ms = store_ms - self._clock() * 1000

    def look(self) -> None:
        if self._ahead_ms is None:
            return
        minute = int((self._clock() * 1000 + self._ahead_ms) // MINUTE) * MINUTE
        if minute == self._minute or self._minute - 2 * MINUTE < minute < self._minute:
            return  # a clock that was set back a little does not begin a minute again
        if self._minute:
            count, share = self._share()
            if count > self._counted:
                self._untold[self._minute] = count, share
                for old in list(self._untold)[:-_UNTOLD_KEPT]:
                    del self._untold[old]
            self._before = {type: Took(of.run.copy(), of.wait.copy()) for type, of in self._types.items()}
        self._minute, self._counted = minute, 0

    def due(self) -> dict[int, tuple[int, bytes]]:
        """What the store does not know yet, by minute: how much it counts, and JSON."""
        self.look()
        due = dict(self._untold)
        if self._minute:
            count, share = self._share()
            if count > self._counted:
                due[self._minute] = count, share
        return due

    def told(self, due: Mapping[int, tuple[int, bytes]]) -> None:
        """The store knows this."""
        for minute, (count, share) in due.items():
            if minute == self._minute:
                self._counted = count
            elif self._untold.get(minute) == (count, share):
                del self._untold[minute]

    def _share(self) -> tuple[int, bytes]:
        """How much came since this minute began, and what."""
        count, share = 0, dict[str, Any]()
        nothing = Took()
        for type, of in self._types.items():
            before = self._before.get(type, nothing)
            new = of.run.count + of.wait.count - before.count
            if new > 0:
                run, wait = of.run.since(before.run), of.wait.since(before.wait)
                share[type] = run.sparse(), round(run.sum, 6), wait.sparse(), round(wait.sum, 6)
                count += new
        return count, orjson.dumps(share)
