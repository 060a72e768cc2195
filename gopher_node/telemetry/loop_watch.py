"""Notices when the event loop stands still, and which job type or HTTP route it stands in."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

BEAT = 0.1
"""Seconds between two signs of life of the loop, and between two looks at it."""

LATE = 0.25
"""A loop that shows itself this many seconds late was blocked."""

WEDGED = 5.0
"""A loop that is silent for this long may never speak for itself, so the onlooker reports it."""

FAR_BEHIND = 10.0
"""A loop whose signs of life each come so many seconds late serves nobody any more."""
BEATS_FAR_BEHIND = 3
"""So many of them in a row are no accident."""


@dataclass(frozen=True, slots=True)
class Stall:
    """The loop stood still for so many `seconds` until `ended`, by the monotonic clock, mostly in `name`."""

    ended: float
    seconds: float
    name: str | None


class LoopWatch:
    """
    Measures how late the loop is, and looks from a thread which task it is in while it is late.

    `name` gives the name of what a task runs, or None; `report` gets the seconds and the name that was seen most, on
    the loop once the block is over, and besides from the thread once when a block reaches `WEDGED`. `late` is told, on
    the loop, how many seconds late each sign of life is.
    """

    def __init__(
        self,
        name: Callable[[asyncio.Task[Any]], str | None],
        report: Callable[[float, str | None], None],
        late: Callable[[float], None] = lambda seconds: None,
    ) -> None:
        self._name = name
        self._report = report
        self._late = late
        self._last_beat = time.monotonic()
        self._worst = 0.0
        self._seen: list[str | None] = []
        self._stalls: deque[Stall] = deque(maxlen=100)
        self._far_behind = 0
        self._closed = threading.Event()

    async def run(self) -> None:
        """Watch until cancelled."""
        loop = asyncio.get_running_loop()
        self._last_beat = time.monotonic()
        threading.Thread(target=self._look, args=(loop,), name="gopher-loop-watch", daemon=True).start()
        try:
            while True:
                await asyncio.sleep(BEAT)
                self._beat()
        finally:
            self._closed.set()

    def take_lag(self) -> float:
        """The longest, in seconds, that the loop was late since this was last asked. Ask it on the loop."""
        worst, self._worst = max(self._worst, self._late_now()), 0.0
        return worst

    def stood_still(self, since: float) -> float:
        """For how many seconds in all, since then by the monotonic clock, the loop could serve nobody."""
        stalls = (min(stall.seconds, stall.ended - since) for stall in self._stalls if stall.ended > since)
        return sum(stalls) + self._late_now()

    def longest(self, within: float) -> Stall | None:
        """The longest stall of the last so many seconds, if there was any."""
        since = time.monotonic() - within
        return max(
            (stall for stall in self._stalls if stall.ended > since), key=lambda stall: stall.seconds, default=None
        )

    @property
    def wedged(self) -> bool:
        """Whether the loop has been far too late again and again, with nothing between that would give hope."""
        return self._far_behind >= BEATS_FAR_BEHIND

    def _late_now(self) -> float:
        # Whoever asks may come before the beat that would tell.
        return max(0.0, time.monotonic() - self._last_beat - BEAT)

    def _beat(self) -> None:
        now = time.monotonic()
        late = max(0.0, now - self._last_beat - BEAT)
        self._last_beat = now
        self._late(late)
        self._worst = max(self._worst, late)
        self._far_behind = self._far_behind + 1 if late > FAR_BEHIND else 0
        seen, self._seen = self._seen, []
        if late > LATE:
            name = _most_common(seen)
            self._stalls.append(Stall(now, late, name))
            self._report(late, name)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        reported = 0.0
        while not self._closed.wait(BEAT):
            last_beat = self._last_beat
            silent = time.monotonic() - last_beat
            if silent < 2 * BEAT:
                continue
            task = asyncio.current_task(loop)
            seen = self._seen
            seen.append(None if task is None else self._name(task))
            if silent > WEDGED and reported != last_beat:
                reported = last_beat
                self._report(silent, _most_common(seen))


def _most_common(names: list[str | None]) -> str | None:
    known = Counter(name for name in names if name is not None)
    return known.most_common(1)[0][0] if known else None
