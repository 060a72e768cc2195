"""Claims that wait: on a node, all who wait for the same types stand in one line, and one task asks for all of them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
import uuid
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

from gopher_node.api.answers.problems import Problem
from gopher_node.errors import OutcomeUnknown, StoreError, StoreUnavailable
from gopher_node.handlers import Registry
from gopher_node.job import Lease
from gopher_node.settings import WorkerSettings
from gopher_node.store import Claimed, Pool, Store

MAX_POOLS = 100
"""So many different sets of types may be waited for on a node: each costs a connection to the store."""
AT_ONCE = 8
"""So many claims of one line are under way at the same time while there is work for all of them."""
LINGER = 0.02
"""Seconds for which a line in which nobody waits keeps its connection, for whoever comes back at once."""
FRUITLESS_PAUSE = 0.002
"""As in a node's own claims: a clock ahead of the store's would otherwise take every "later" for "now"."""
LISTEN_AT_MOST = 10.0
"""Seconds after which a line asks again although nothing was heard: the store forgets those that do not."""
LAST_STEPS = 2.0
"""Seconds that what is under way may take when the node stops."""


@dataclass(eq=False, slots=True, kw_only=True)
class Order:
    """
    A claim that stands in a line. `lease` is in seconds.

    One that is `hasty` is answered with nothing as soon as the store has nothing; the others wait. `repeatable` says
    that its caller may send it again, by its id. What that won is never released here: it may have been repeated, at
    another node too, and its jobs run. If it was not, the leases end by themselves.
    """

    pool: Pool
    limit: int
    lease: float
    worker: str = ""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    repeatable: bool = False
    hasty: bool = False
    asked: bool = False
    number: int = 0
    answer: asyncio.Future[list[Lease]] = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class LongPoll:
    """
    All claims over HTTP on this node.

    Whoever comes first is served first. What is won for a caller who has gone and cannot ask again is released at once.
    When the node drains, everybody is answered, with nothing unless the store was just being asked for them.
    """

    def __init__(self, store: Store, registry: Registry, settings: WorkerSettings) -> None:
        self._store = store
        self._registry = registry
        self._settings = settings
        self._lines: dict[str, _Line] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False

    @property
    def waiting(self) -> int:
        """How many claims stand in line."""
        return sum(len(line.orders) for line in self._lines.values())

    async def claim(self, order: Order, wait: float) -> list[Lease]:
        """
        What the store has for this order, after at most `wait` seconds and the time that it takes to answer.

        Raises StoreError and TooManyPools, and Problem when too many sets of types are waited for.
        """
        if self._draining:
            return []
        order.hasty = not wait
        line = self._line(order)
        line.enter(order)
        timer = asyncio.get_running_loop().call_later(wait, line.expire, order) if wait else None
        try:
            return await order.answer
        except asyncio.CancelledError:
            if order.answer.done() and not order.answer.cancelled() and order.answer.exception() is None:
                self.abandon(order, order.answer.result())
            raise
        finally:
            line.leave(order)
            if timer is not None:
                timer.cancel()

    def abandon(self, order: Order, leases: list[Lease]) -> None:
        """Take note that the caller has gone without an answer."""
        if leases and not order.repeatable:
            self._release(leases)

    def drain(self) -> None:
        self._draining = True
        for line in self._lines.values():
            line.drain()

    async def close(self) -> None:
        """Drain, and end what is left."""
        self.drain()
        tasks = {*self._tasks, *(line.task for line in self._lines.values())}
        if tasks:
            await asyncio.wait(tasks, timeout=LAST_STEPS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def ask(self, order: Order, *, waits: bool) -> Claimed:
        timeouts = {type: handler.timeout for type in order.pool.types if (handler := self._registry.get(type))}
        return await self._store.leases.claim(
            order.pool,
            order.limit,
            lease=order.lease,
            worker=order.worker,
            timeout=self._settings.job_timeout,
            timeouts={type: timeout for type, timeout in timeouts.items() if timeout is not None},
            weights=self._settings.weights,
            claim_id=order.id if order.repeatable else None,
            waiter=order.id,
            waits=waits,
        )

    async def listen(self, pool: Pool) -> bool:
        """Return when there may be work: True, a wake-up was taken for it; or when it is time to look: False."""
        patience = min(self._settings.poll_interval, LISTEN_AT_MOST)
        return await self._store.wait_for_work(pool, patience * random.uniform(0.75, 1.0))

    async def pass_on(self, pool: Pool) -> None:
        """Leave to others a wake-up that came for nobody."""
        # If the store does not hear of it, they look before long.
        with contextlib.suppress(StoreError):
            await self._store.leases.pass_on(pool)

    def forget(self, line: _Line) -> None:
        self._lines.pop(line.pool.key, None)

    def _line(self, order: Order) -> _Line:
        line = self._lines.get(order.pool.key)
        if line is None:
            if not order.hasty and len(self._lines) >= MAX_POOLS:
                raise Problem(
                    "too-many-pools",
                    f"Workers wait here for {MAX_POOLS} different sets of types already. Ask for the same types as "
                    "others do, or do not wait.",
                )
            line = self._lines[order.pool.key] = _Line(order.pool, self)
        return line

    def _release(self, leases: Sequence[Lease]) -> None:
        async def release() -> None:
            # If the store does not hear of it, the leases end by themselves.
            await asyncio.gather(*(self._store.release(lease) for lease in leases), return_exceptions=True)

        task = asyncio.create_task(release())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Line:
    """
    Those who wait for one pool, in the order in which they came.

    While there is work, the first few ask for themselves. Once one of them finds nothing, so would all others: then
    there is one wait for a wake-up, and only the first asks again. A wake-up that comes for nobody is passed on.
    """

    def __init__(self, pool: Pool, house: LongPoll) -> None:
        self.pool = pool
        self.orders: OrderedDict[Order, None] = OrderedDict()
        self._house = house
        self._count = 0
        self._news = asyncio.Event()
        self._fruitless = 0
        self._listening: asyncio.Task[None] | None = None
        self._woken = False
        self.task = asyncio.create_task(self._serve())

    def enter(self, order: Order) -> None:
        # Whoever can wait need not ask: those before have found nothing, and will be woken.
        if order.hasty or not self.orders:
            self._news.set()
        self._count += 1
        order.number = self._count
        self.orders[order] = None

    def leave(self, order: Order) -> None:
        self.orders.pop(order, None)
        if not self.orders:
            self._news.set()

    def expire(self, order: Order) -> None:
        """The order has waited long enough. What the store is just being asked for it is still given to it."""
        order.hasty = True
        if not order.asked:
            self._give(order, [])

    def drain(self) -> None:
        for order in list(self.orders):
            self.expire(order)
        self._news.set()

    def _give(self, order: Order, leases: list[Lease]) -> None:
        self.orders.pop(order, None)
        if not order.answer.done():
            order.answer.set_result(leases)
        else:
            self._house.abandon(order, leases)

    async def _serve(self) -> None:
        try:
            while True:
                self._news.clear()
                next_ms = await self._ask_in_turn()
                if self.orders:
                    await self._rest(next_ms)
                    continue
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LINGER):
                        await self._news.wait()
                if not self.orders:
                    return
        except Exception as error:
            self._fail(list(self.orders), error)
        finally:
            self._house.forget(self)
            self.drain()
            if self._listening is not None:
                self._listening.cancel()
                await asyncio.gather(self._listening, return_exceptions=True)
            if self._woken:
                await self._house.pass_on(self.pool)

    async def _ask_in_turn(self) -> int | None:
        """Ask until somebody gets nothing; returns when a type that had to wait may next be served (epoch ms)."""
        width = 1
        while self.orders:
            latest = self._count
            asking = [order for order in islice(self.orders, width) if not order.answer.done()]
            # The store wakes only for whoever told it that it would wait.
            will_be_woken = not all(order.hasty for order in asking)
            claims = await self._ask(asking)
            if all(claimed.leases or claimed.spent for claimed in claims):
                self._fruitless = 0
                width = min(2 * width, AT_ONCE)
                continue
            self._fruitless += 1
            for order in list(self.orders):
                if order.number > latest:
                    break
                if order.hasty:
                    self._give(order, [])
            if will_be_woken:
                return min((claimed.next_ms for claimed in claims if claimed.next_ms is not None), default=None)
            width = 1
        return None

    async def _ask(self, asking: list[Order]) -> list[Claimed]:
        """What the store answered to these. Who got leases, or an error, has left the line."""
        for order in asking:
            order.asked = True
            self._woken = False
        asked = [self._house.ask(order, waits=not order.hasty) for order in asking]
        results = await asyncio.gather(*asked, return_exceptions=True)
        claims: list[Claimed] = []
        failed: list[tuple[Order, BaseException]] = []
        for order, result in zip(asking, results, strict=True):
            order.asked = False
            if isinstance(result, BaseException):
                failed.append((order, result))
                continue
            claims.append(result)
            if result.leases or result.spent:
                self._give(order, result.leases)
        for order, error in failed:
            self._fail([order], error)
        if failed:
            # There is no point in all others finding it out for themselves, each after some seconds.
            error = failed[0][1]
            self._fail(list(self.orders), StoreUnavailable() if isinstance(error, OutcomeUnknown) else error)
        if not asking:
            # Those in front have gone, and leave as soon as it is their turn on the loop.
            await asyncio.sleep(0)
        return claims

    def _fail(self, orders: list[Order], error: BaseException) -> None:
        for order in orders:
            self.orders.pop(order, None)
            if not order.answer.done():
                order.answer.set_exception(error)

    async def _rest(self, next_ms: int | None) -> None:
        """Wait for a wake-up, for what is servable later, for somebody who cannot wait, or for a while."""
        loop = asyncio.get_running_loop()
        if self._listening is None or self._listening.done():
            self._listening = loop.create_task(self._listen())
        timer = None
        if next_ms is not None:
            least = FRUITLESS_PAUSE * 2 ** min(self._fruitless, 10)
            timer = loop.call_later(max(next_ms / 1000 - time.time(), least), self._news.set)
        await self._news.wait()
        if timer is not None:
            timer.cancel()

    async def _listen(self) -> None:
        try:
            if await self._house.listen(self.pool):
                self._woken = True
        except StoreError:
            # Whether the store is really away, the next claim finds out.
            await asyncio.sleep(random.uniform(0.05, 0.5))
        except asyncio.CancelledError:
            self._woken = True  # perhaps: the answer may have been on its way
            raise
        finally:
            self._news.set()
