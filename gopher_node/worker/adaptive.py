"""How many slots a node should have while nobody says: more as long as all are busy and it copes, fewer when not."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from gopher_node.telemetry.loop_watch import LoopWatch
from gopher_node.worker.load import Load
from gopher_node.worker.slots import Slots

EVERY = 1.0
"""Seconds from one look to the next."""

REST = 3.0
"""Seconds after the slots have shrunk, before the next change: what runs has to end before it shows."""

SHRINK_TO = 0.75
GROWTHS = 20
"""So many steps lead from the fewest slots to the most."""


@dataclass(frozen=True, slots=True)
class Reading:
    """
    What one look finds. `busy` is how many slots were taken at once, at most, since the last one, and `lag` the longest
    that the loop was late, in seconds. `cpu` and `memory` are parts of what the process may use.
    """

    busy: int
    lag: float
    cpu: float
    memory: float


COPES = Reading(busy=0, lag=0.05, cpu=0.8, memory=0.8)
"""A node that is below all of these may have more slots."""

STRAINED = Reading(busy=0, lag=0.25, cpu=0.95, memory=0.9)
"""One that is above any of these is to have fewer."""


class Adaptive:
    """
    Decides from a series of readings how many slots there are: additive increase, multiplicative decrease.

    `limit` stays from `low` to `high`. It shrinks from what was busy, for what was never used relieves nobody.
    """

    def __init__(self, low: int, high: int) -> None:
        self.low = low
        self.high = high
        self.limit = low
        self._step = max(1, round((high - low) / GROWTHS))
        self._rests_until = 0.0

    def look(self, now: float, found: Reading) -> int:
        """The slots from now on. `now` is in seconds, on any clock that does not go back."""
        if now < self._rests_until:
            return self.limit
        if found.lag > STRAINED.lag or found.cpu > STRAINED.cpu or found.memory > STRAINED.memory:
            shrunk = max(self.low, int(min(found.busy, self.limit) * SHRINK_TO))
            if shrunk < self.limit:
                self.limit = shrunk
                self._rests_until = now + REST
        elif (
            found.busy >= self.limit and found.lag < COPES.lag and found.cpu < COPES.cpu and found.memory < COPES.memory
        ):
            self.limit = min(self.high, self.limit + self._step)
        return self.limit


class SlotKeeper:
    """Looks once a second, and has the slots follow what `Adaptive` decides. `grown` is called when there are more."""

    def __init__(self, adaptive: Adaptive, slots: Slots, watch: LoopWatch, grown: Callable[[], None]) -> None:
        self._adaptive = adaptive
        self._slots = slots
        self._watch = watch
        self._grown = grown

    async def run(self) -> None:
        """Until cancelled."""
        load = Load()
        while True:
            await asyncio.sleep(EVERY)
            self.look(time.monotonic(), load)

    def look(self, now: float, load: Load) -> None:
        cpu, memory = load.read(now)
        reading = Reading(self._slots.take_peak(), self._watch.take_lag(), cpu, memory)
        before = self._slots.free
        self._slots.resize(self._adaptive.look(now, reading))
        if before <= 0 < self._slots.free:
            self._grown()
