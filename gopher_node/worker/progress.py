"""Sends what handlers say while they run: the latest progress of each, and its log lines, a few times a second."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Callable

from gopher_node.errors import StoreError
from gopher_node.handlers.log_lines import LogLine
from gopher_node.store import Store
from gopher_node.store.logs import MAX_LINES_A_STEP
from gopher_node.telemetry import get_logger
from gopher_node.worker.run import Run

INTERVAL = 0.2
"""Seconds between two words of one run."""

MAX_LINES = 1000
"""Lines of a run that wait to be sent; a log keeps no more either, so older ones go."""


class Lines:
    """What a run has written and the store has not got yet. Lines are added by any thread, and sent by one task."""

    __slots__ = ("batch", "sent", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[LogLine] = deque(maxlen=MAX_LINES)
        self.batch: list[LogLine] = []
        self.sent = ""

    def next_batch(self) -> list[LogLine]:
        """The lines of a try that had no answer, under the same id, else those that wait."""
        if not self.batch:
            self.sent = uuid.uuid4().hex
            while self.waiting and len(self.batch) < MAX_LINES_A_STEP:
                self.batch.append(self.waiting.popleft())
        return self.batch


class ProgressReports:
    """
    Holds the words not yet sent. What cannot be sent is sent later; progress may be replaced by then.

    `on_refused` is told of a run that should stop: its job is to be cancelled, or belongs to another node.
    """

    def __init__(self, store: Store, on_refused: Callable[[Run], None]) -> None:
        self._store = store
        self._on_refused = on_refused
        self._log = get_logger("gopher_node.worker")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._latest: dict[Run, bytes | None] = {}
        self._lines: dict[Run, Lines] = {}
        self._sending: dict[Run, asyncio.Task[None]] = {}
        self._waiting = asyncio.Event()

    def put(self, run: Run, value: bytes) -> None:
        """May be called from any thread."""
        if run.decided or self._loop is None:
            return
        if isinstance(value, LogLine):
            self._lines.setdefault(run, Lines()).waiting.append(value)
            self._latest.setdefault(run, None)
        else:
            self._latest[run] = value
        if not self._waiting.is_set():
            self._loop.call_soon_threadsafe(self._waiting.set)

    async def run(self) -> None:
        """Send until cancelled."""
        self._loop = asyncio.get_running_loop()
        while True:
            await self._waiting.wait()
            self._waiting.clear()
            # Taken one by one, for threads put more meanwhile.
            while self._latest:
                run, value = self._latest.popitem()
                self._sending[run] = self._loop.create_task(self._send(run, value))
            await asyncio.gather(*self._sending.values())
            self._sending.clear()
            await asyncio.sleep(INTERVAL)

    def spoke(self, run: Run) -> bool:
        """Whether the run has said something, or a word of it is on its way."""
        return run in self._latest or run in self._sending or run in self._lines

    async def flush(self, run: Run) -> None:
        """Bring the run's last words to the store before its outcome, which ends its right to speak."""
        sending = self._sending.get(run)
        if sending is not None:
            await asyncio.wait({sending})
        await self._send(run, self._latest.pop(run, None))
        self._lines.pop(run, None)

    async def _send(self, run: Run, value: bytes | None) -> None:
        try:
            welcome = await self._store.progress(run.lease, value) if value is not None else True
            value = None
            lines = self._lines.get(run)
            while lines and welcome and (batch := lines.next_batch()):
                welcome = await self._store.logs.append(run.lease, batch, lines.sent)
                lines.batch = []
        except StoreError:
            if not run.decided:
                self._say_again(run, value)
        except Exception as error:
            # Dropped: it must take neither the other words nor the run's outcome with it.
            self._log.error("progress.lost", job_id=run.lease.job.id, exc_info=error)
        else:
            if not welcome:
                self._on_refused(run)

    def _say_again(self, run: Run, value: bytes | None) -> None:
        if self._latest.setdefault(run, value) is None:
            self._latest[run] = value  # only a line was said since
        self._waiting.set()
