"""Sends what handlers say about their progress: the latest word of each run, a few times a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gopher_node.errors import StoreError
from gopher_node.store import Store
from gopher_node.telemetry import get_logger
from gopher_node.worker.run import Run

INTERVAL = 0.2
"""Seconds between two words of one run."""


class ProgressReports:
    """
    Holds the words not yet sent. What cannot be sent is sent later, or replaced by then.

    `on_refused` is told of a run that should stop: its job is to be cancelled, or belongs to another node.
    """

    def __init__(self, store: Store, on_refused: Callable[[Run], None]) -> None:
        self._store = store
        self._on_refused = on_refused
        self._log = get_logger("gopher_node.worker")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._latest: dict[Run, bytes] = {}
        self._sending: dict[Run, asyncio.Task[None]] = {}
        self._waiting = asyncio.Event()

    def put(self, run: Run, value: bytes) -> None:
        """May be called from any thread."""
        if run.decided or self._loop is None:
            return
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
        """Whether a word of the run is on its way, or waits."""
        return run in self._latest or run in self._sending

    async def flush(self, run: Run) -> None:
        """Bring the run's last word to the store before its outcome, which ends its right to speak."""
        sending = self._sending.get(run)
        if sending is not None:
            await asyncio.wait({sending})
        value = self._latest.pop(run, None)
        if value is not None:
            await self._send(run, value)

    async def _send(self, run: Run, value: bytes) -> None:
        try:
            welcome = await self._store.progress(run.lease, value)
        except StoreError:
            if not run.decided:
                self._latest.setdefault(run, value)
                self._waiting.set()
        except Exception as error:
            # Dropped: it must take neither the other words nor the run's outcome with it.
            self._log.error("progress.lost", job_id=run.lease.job.id, exc_info=error)
        else:
            if not welcome:
                self._on_refused(run)
