"""Asks the store for as many jobs as there are free slots, and waits for work when there is none."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Callable, Mapping

from gopher_node.errors import SessionLost, StoreError
from gopher_node.job import Lease
from gopher_node.settings import WorkerSettings
from gopher_node.store import Claimed, Pool, Store
from gopher_node.telemetry import Events
from gopher_node.worker.session import NodeSession
from gopher_node.worker.slots import Slots

MAX_CLAIM = 200

PAUSE = 0.05
PAUSE_CAP = 2.0

# A claim that finds nothing is repeated no sooner than this, doubled for each before it that found nothing either:
# a node whose clock is ahead of the store's would otherwise take every "later" for "now".
FRUITLESS_PAUSE = 0.002

FULL = 0.02
"""A node that has had no room for so many seconds waits for no wake-up either."""


class Claimer:
    """
    Keeps one claim in flight while there is room, and one wait for a wake-up while there is no work.

    Any error leads to a new try after a short pause, so a claimer is never deaf for longer than the store is. It is
    woken when a slot has become free, and gives each lease to `start`; `suspects` tells how many crash suspects may be
    among them. On the loop's clock, `last_answer` is when the store last answered a claim, and `asking_since` when the
    first of those that it has not answered was made.
    """

    def __init__(
        self,
        store: Store,
        session: NodeSession,
        pool: Pool,
        slots: Slots,
        settings: WorkerSettings,
        timeouts: Mapping[str, float],
        events: Events,
        room: Callable[[], int],
        suspects: Callable[[], int],
        start: Callable[[Lease], None],
    ) -> None:
        self._store = store
        self._session = session
        self._pool = pool
        self._slots = slots
        self._settings = settings
        self._timeouts = timeouts
        self._events = events
        self._room = room
        self._suspects = suspects
        self._start = start
        self._opened = slots.opened
        self._stopped = False
        self._ids = itertools.count(1)
        self._id = "0"
        self._pause = PAUSE
        self._fruitless = 0
        self._waiting: asyncio.Task[None] | None = None
        self._waiting_until = 0.0
        self.last_answer: float | None = None
        self.asking_since: float | None = None

    async def run(self) -> None:
        """Claim until `stop` is called; what a claim under way then brings is still given to `start`."""
        try:
            while not self._stopped:
                self._opened.clear()
                limit = min(self._room(), MAX_CLAIM)
                if limit <= 0:
                    await self._wait_for_room()
                    continue
                claimed = await self._claim(limit)
                if claimed is None:
                    continue
                for lease in claimed.leases:
                    self._start(lease)
                if len(claimed.leases) < limit:
                    await self._wait_for_work(claimed)
        finally:
            if self._waiting is not None:
                self._waiting.cancel()

    def stop(self) -> None:
        self._stopped = True
        self._opened.set()

    async def _claim(self, limit: int) -> Claimed | None:
        """None after an error, when it is time to try again."""
        session = self._session.current
        loop = asyncio.get_running_loop()
        if self.asking_since is None:
            self.asking_since = loop.time()
        try:
            claimed = await self._store.claim(
                session,
                self._pool,
                limit,
                timeout=self._settings.job_timeout,
                limits=self._slots.limits(),
                timeouts=self._timeouts,
                weights=self._settings.weights,
                suspects=self._suspects(),
                claim_id=self._id,
            )
        except SessionLost:
            await self._session.replace(session)
            return None
        except StoreError as error:
            # The id stays: if the store carried this claim out, the next one is told what it won.
            await self._rest(error)
            return None
        self._id = str(next(self._ids))
        self._pause = PAUSE
        self._events.store_up()
        self.last_answer = loop.time()
        self.asking_since = None
        if claimed.leases:
            self._events.claimed(len(claimed.leases))
        return claimed

    async def _wait_for_room(self) -> None:
        timer = None
        if self._waiting is not None:
            # It would take a wake-up that an idle node could use.
            timer = asyncio.get_running_loop().call_later(FULL, self._waiting.cancel)
        await self._opened.wait()
        if timer is not None:
            timer.cancel()

    async def _wait_for_work(self, claimed: Claimed) -> None:
        """Wait for a wake-up, for what is servable later, for a slot of a type that had none, or for a while."""
        self._fruitless = 0 if claimed.leases else self._fruitless + 1
        if self._opened.is_set():
            return
        patience = self._settings.poll_interval * random.uniform(0.75, 1.0)
        loop = asyncio.get_running_loop()
        if self._waiting is None or self._waiting.done():
            self._waiting = loop.create_task(self._listen(patience))
            self._waiting_until = loop.time() + patience
        timer = None
        if claimed.next_ms is not None:
            least = FRUITLESS_PAUSE * 2 ** min(self._fruitless, 10)
            pause = max(claimed.next_ms / 1000 - time.time(), least)
            if loop.time() + pause < self._waiting_until:
                timer = loop.call_later(pause, self._opened.set)
        await self._opened.wait()
        if timer is not None:
            timer.cancel()

    async def _listen(self, patience: float) -> None:
        # Not cancelled when something else wakes the claimer first, or it has no room for a moment: that would cost
        # the connection.
        try:
            await self._store.wait_for_work(self._pool, patience)
        except Exception as error:
            await self._rest(error)
        finally:
            # Whatever ended the wait: a claimer that nothing wakes would be deaf for ever.
            self._opened.set()

    async def _rest(self, error: Exception) -> None:
        self._events.store_down(error)
        await asyncio.sleep(random.uniform(0, self._pause))
        self._pause = min(2 * self._pause, PAUSE_CAP)
