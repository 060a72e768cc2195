"""Notices when the event loop stands still, and whose handler it stands in."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

BEAT = 0.1
"""Seconds between two signs of life of the loop, and between two looks at it."""

LATE = 0.25
"""A loop that shows itself this many seconds late was blocked."""

WEDGED = 5.0
"""A loop that is silent for this long may never speak for itself, so the onlooker reports it."""


class LoopWatch:
    """
    Measures how late the loop is, and looks from a thread which task it is in while it is late.

    `name` gives the name of what a task runs, or None; `report` gets the seconds and the name that was seen most, on
    the loop once the block is over, and besides from the thread once when a block reaches `WEDGED`.
    """

    def __init__(
        self,
        name: Callable[[asyncio.Task[Any]], str | None],
        report: Callable[[float, str | None], None],
    ) -> None:
        self._name = name
        self._report = report
        self._last_beat = time.monotonic()
        self._worst = 0.0
        self._seen: list[str | None] = []
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
        # What is late right now counts, too: whoever asks may come before the beat that would tell.
        worst, self._worst = max(self._worst, time.monotonic() - self._last_beat - BEAT), 0.0
        return worst

    def _beat(self) -> None:
        now = time.monotonic()
        late = now - self._last_beat - BEAT
        self._last_beat = now
        self._worst = max(self._worst, late)
        seen, self._seen = self._seen, []
        if late > LATE:
            self._report(late, _most_common(seen))

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
