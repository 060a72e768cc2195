"""Brings each outcome to the store, and repeats it until the store has answered."""

from __future__ import annotations

import asyncio
import random

from gopher_node.errors import StoreError
from gopher_node.job import JobError, Lease, State
from gopher_node.store import Store
from gopher_node.telemetry import Events, get_logger
from gopher_node.worker.outcome import Cancelled, Completed, Crashed, Failed, Outcome, Released, Retried
from gopher_node.worker.verdict import error_text

PAUSE = 0.05
PAUSE_CAP = 2.0

UNFORESEEN = 3
"""An outcome that has met so many errors which are not the store's cannot be told, and a failure is told instead."""


class Settler:
    """
    Owns the outcomes that the store has not yet answered; `unsettled` counts them, and `oldest` is since when, on the
    loop's clock, the first of them waits.

    Repeating is safe: the store answers a settlement that it knows as it did the first time. Nothing but `close` makes
    it give up, for a finished job whose outcome is lost runs again.
    """

    def __init__(self, store: Store, events: Events) -> None:
        self._store = store
        self._events = events
        self._closed = False
        self._log = get_logger("gopher_node.worker")
        self._waiting: dict[object, float] = {}

    @property
    def unsettled(self) -> int:
        return len(self._waiting)

    @property
    def oldest(self) -> float | None:
        return next(iter(self._waiting.values()), None)

    async def settle(self, lease: Lease, outcome: Outcome) -> State | None:
        """The state the job has from now on, or None: the lease is stale, and the newer run decides."""
        mark = object()
        self._waiting[mark] = asyncio.get_running_loop().time()
        pause, unforeseen = PAUSE, 0
        try:
            while True:
                try:
                    return await self._tell(lease, outcome)
                except StoreError as error:
                    self._events.store_down(error)
                    await self._rest(random.uniform(0, pause))
                    pause = min(2 * pause, PAUSE_CAP)
                except asyncio.CancelledError:
                    self._shrug()
                except Exception as error:
                    # Repeated first, for what looks like a bad outcome may have been a bad connection.
                    unforeseen += 1
                    if unforeseen == UNFORESEEN and not isinstance(outcome, Released):
                        outcome = Failed(
                            JobError("unencodable-outcome", f"The outcome cannot be stored: {error_text(error)}")
                        )
                        self._log.error("outcome.unencodable", job_id=lease.job.id, exc_info=error)
                    else:
                        self._events.store_down(error)
                    await self._rest(random.uniform(0, pause))
                    pause = min(2 * pause, PAUSE_CAP)
                if self._closed:
                    raise asyncio.CancelledError
        finally:
            del self._waiting[mark]

    def close(self) -> None:
        """Give up what cannot be settled at the next try."""
        self._closed = True

    def _shrug(self) -> None:
        # A handler may have its own task cancelled later, or at its last step, and then the next await is hit.
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()

    async def _rest(self, seconds: float) -> None:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self._shrug()

    async def _tell(self, lease: Lease, outcome: Outcome) -> State | None:
        match outcome:
            case Completed(result, follow_ups):
                return await self._store.complete(lease, result, follow_ups)
            case Retried(error, delay):
                return await self._store.retry(lease, error.encode(), delay)
            case Failed(error):
                return await self._store.fail(lease, error.encode())
            case Crashed(error, delay):
                return await self._store.crash(lease, error.encode(), delay)
            case Cancelled(error):
                return await self._store.cancelled(lease, error.encode())
            case Released():
                return await self._store.release(lease)
