"""The clockwork that every node runs: promotes what is due, takes back what the dead held, forgets what is over."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections import deque
from collections.abc import Callable, Coroutine
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import aiocron

from gopher_node.errors import StoreError, StoreFull
from gopher_node.schedules import ScheduleError, fire_id, plan
from gopher_node.store import Overdue, Store, Survey
from gopher_node.telemetry.events import Events
from gopher_node.telemetry.took import merged

if TYPE_CHECKING:
    from gopher_node.telemetry.traces import Traces

SURVEY_EVERY = 1.0  # seconds
PROMOTE_AT_LEAST_EVERY = 2.0  # seconds; each node sets its alarm by the jobs it stores, so this is for nodes that died
BATCH = 200
PAGES = 10  # batches of running jobs that are looked at, one after the other, before the reaper rests
CLOCK_STEP_MS = 1000  # how far the store's clock may stray between two surveys before that counts as a step


class Reaper:
    """
    Judges from a series of surveys which sessions are dead and which runs are overdue.

    It trusts no wall clock. A session is dead when its pulse has stood still for a whole lease, by the reaper's own
    monotonic clock, counting only time in which it was watching: nobody can renew while the store cannot be reached.
    When the store's clock steps, the deadlines of the runs that began before move with it.

    So it is with an HTTP lease, which each heartbeat begins anew. It too loses only time in which the reaper watched:
    what keeps that from the store keeps a worker from it as well.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._still: dict[str, tuple[int, float]] = {}  # session -> renewals, seconds for which they stood still
        # Seconds until a session would be dead that stands still from now on, or time would pass that does not count.
        self.next_look = math.inf
        self._last: tuple[float, int] | None = None  # own clock, store's clock in ms
        self._steps: deque[tuple[int, int]] = deque(maxlen=100)  # store's clock in ms before the step, its size in ms
        self._gaps: deque[tuple[int, int]] = deque(maxlen=100)  # store's clock in ms before the gap, its size in ms
        self._first = (0.0, 0)  # look: own clock, store's clock in ms

    @property
    def ahead_ms(self) -> int:
        """By how much, at most, a run is over sooner than its lease says, for the store's clock was set back since."""
        return -min(accumulate((size for _, size in reversed(self._steps)), initial=0))

    def judge(self, survey: Survey) -> tuple[dict[str, int], list[Overdue]]:
        """The dead sessions with the renewals at which they stand, and the runs to take back."""
        now = self._clock()
        elapsed = 0.0
        if self._last is not None:
            elapsed = now - self._last[0]
            step = survey.now_ms - self._last[1] - round(elapsed * 1000)
            if abs(step) > CLOCK_STEP_MS:
                self._steps.append((self._last[1], step))
            if elapsed > 2 * SURVEY_EVERY:
                self._gaps.append((self._last[1], round((elapsed - 2 * SURVEY_EVERY) * 1000)))
        else:
            self._first = (now, survey.now_ms)
        self._last = (now, survey.now_ms)

        still: dict[str, tuple[int, float]] = {}
        dead: dict[str, int] = {}
        self.next_look = math.inf
        for session, pulse in survey.sessions.items():
            renewals, seconds = self._still.get(session, (-1, 0.0))
            # Two looks far apart saw nothing of what lay between; never does one gap alone make a lease.
            watched = min(elapsed, 2 * SURVEY_EVERY, pulse.lease / 2)
            seconds = seconds + watched if renewals == pulse.renewals else 0.0
            still[session] = (pulse.renewals, seconds)
            if seconds >= pulse.lease:
                dead[session] = pulse.renewals
            else:
                self.next_look = min(self.next_look, pulse.lease - seconds, pulse.lease / 2)
        self._still = still
        return dead, [run for run in survey.overdue if self._is_over(run, now, survey.now_ms)]

    def _is_over(self, run: Overdue, now: float, now_ms: int) -> bool:
        end = run.deadline_ms + self._moved(run.since_ms, now_ms)
        if run.lease_ms:
            end += sum(size for before, size in self._gaps if run.since_ms <= before)
            began, began_ms = self._first
            if run.since_ms < began_ms and (now - began) * 1000 < run.lease_ms:
                return False
        return now_ms >= end

    def _moved(self, since_ms: int, now_ms: int) -> int:
        """
        By how many ms the steps of the store's clock have moved an end that was set when it showed `since_ms`.

        A clock that was set back shows the same times twice. Where that leaves it open between which steps the end was
        set, it is the latest that may be.
        """
        moved, until = 0, now_ms
        possible: list[int] = []
        for before, size in reversed(self._steps):
            if before + size - CLOCK_STEP_MS < since_ms <= until + CLOCK_STEP_MS:
                possible.append(moved)
            moved, until = moved + size, before
        if since_ms <= until:
            possible.append(moved)
        return max(possible, default=max(0, moved))


class Scheduler:
    """
    Promotes each job at its due time, fires recurring ones, reaps, and prunes. Every node runs one; none leads, for
    each step is atomic and repeating it changes nothing.

    It sleeps until the next due time. A job that is stored on this node and due earlier sets the alarm forward.
    """

    def __init__(self, store: Store, events: Events, traces: Traces | None = None) -> None:
        self._store = store
        self._events = events
        self._traces = traces
        self._reaper = Reaper()
        self._passed = 0  # running jobs from the first on that this walk has looked at, and left
        self._pages = 0  # looks since the reaper rested
        self._alarm = asyncio.Event()
        self._wakes_at = math.inf  # by the loop's clock
        self.last_tick = time.monotonic()

    async def run(self) -> None:
        """Until cancelled."""
        self._store.on_scheduled = self._set_alarm
        # Once a minute is often enough: each settle prunes too. Node for node at another second, to spread the work.
        prune = aiocron.Cron(f"{random.randrange(60)} * * * * *", self.prune, loop=asyncio.get_running_loop())
        prune.start()
        # A second late, for no two clocks are the same; of all nodes that then ask, the first writes the minute down.
        minute = aiocron.Cron("1 * * * * *", self.tick, loop=asyncio.get_running_loop())
        minute.start()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._forever(self.promote), name="promote")
                group.create_task(self._forever(self.reap), name="reap")
        finally:
            prune.stop()
            minute.stop()

    def _set_alarm(self, due_in: float) -> None:
        due_at = asyncio.get_running_loop().time() + due_in
        if due_at < self._wakes_at:
            self._wakes_at = due_at
            self._alarm.set()

    async def _forever(self, step: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            try:
                await step()
                self._events.store_up()
            except StoreError as error:
                self._events.store_down(error)
                await asyncio.sleep(random.uniform(0.2, 1.0))

    async def promote(self) -> None:
        """Promote what is due, then sleep until the next job is."""
        loop = asyncio.get_running_loop()
        self._wakes_at = math.inf
        self._alarm.clear()
        promoted = await self._store.promote(BATCH)
        self.last_tick = time.monotonic()
        if promoted.count:
            self._events.promoted(promoted.count)
        fire_in = promoted.next_fire_in
        if fire_in == 0 and not await self.fire():
            fire_in = None
        if promoted.fans and await self._store.workflows.fan_out(BATCH):
            return
        if promoted.next_expiry_in == 0 and await self._store.expire(BATCH) == BATCH:
            return
        if promoted.count == BATCH:
            return
        pause = PROMOTE_AT_LEAST_EVERY * random.uniform(0.8, 1.0)
        for due_in in (promoted.next_due_in, promoted.next_expiry_in, fire_in):
            if due_in is not None:
                # The store's clock counts whole milliseconds: a touch later, and one call finds the job due.
                pause = min(pause, due_in + 0.001)
        wakes_at = min(self._wakes_at, loop.time() + pause)
        while (pause := wakes_at - loop.time()) > 0:
            self._wakes_at = wakes_at
            self._alarm.clear()
            try:
                async with asyncio.timeout(pause):
                    await self._alarm.wait()
            except TimeoutError:
                return
            wakes_at = self._wakes_at

    async def fire(self) -> bool:
        """Fire the recurring jobs that are due. False: none is, or of none this node knows when it fires."""
        moved = False
        for found in await self._store.recurring.due():
            due_ms, definition = found.next_ms, found.definition
            try:
                steps = [] if due_ms is None else plan(definition.schedule, due_ms, found.seen_ms, definition.missed)
            except ScheduleError as error:
                # A node that has its time zone fires it.
                self._events.recurring_unknown(found.name, error)
                continue
            moved = True
            for step in steps:
                sends = self._traces and self._traces.send((definition.job,), recurring=found.name, root=True)
                try:
                    outcome = await self._store.recurring.fire(found, step, trace=sends.trace if sends else "")
                except StoreFull as error:
                    # It fires later. What frees room, releasing and ending jobs, must not wait for it.
                    self._events.store_down(error)
                    return False
                if outcome not in ("fired", "overlapped", "missed"):
                    break  # another node was here first
                self._events.recurred(found.name, definition.job.type, outcome, step.missed)
                if sends and outcome == "fired" and step.fire_ms is not None:
                    sends.sent((fire_id(found.name, step.fire_ms),))
        return moved

    async def reap(self) -> None:
        """
        Look once, take back what is to be taken back, and rest if there was no more to see.

        What is past the end of its lease, and not over by the reaper's judgement, is passed over: it must not hide the
        rest. A walk that is long goes on after a rest where it stood.
        """
        survey = await self._store.survey(BATCH, self._reaper.ahead_ms, self._passed)
        dead, overdue = self._reaper.judge(survey)
        for session, renewals in dead.items():
            await self._take_back(session, renewals, survey.sessions[session].node)
        taken = await self._store.reap_overdue(overdue) if overdue else 0
        if taken:
            self._events.reaped(taken)
        full = len(survey.overdue) == BATCH
        self._passed = self._passed + BATCH - taken if full else 0
        self._pages += 1
        if full and (taken or self._pages < PAGES):
            return
        self._pages = 0
        # A touch beyond the moment, for then one look decides.
        await asyncio.sleep(min(SURVEY_EVERY * random.uniform(0.9, 1.0), self._reaper.next_look + 0.01))

    async def reap_orphans(self, is_alive: Callable[[str], bool]) -> None:
        """Take back at once what the sessions of nodes hold that are known to be gone, without waiting for a lease."""
        survey = await self._store.survey(BATCH)
        for session, pulse in survey.sessions.items():
            if not is_alive(pulse.node):
                await self._take_back(session, pulse.renewals, pulse.node)

    async def _take_back(self, session: str, renewals: int, node: str) -> None:
        taken = await self._store.reap_session(session, renewals)
        self._events.reaped(taken, node)

    async def tick(self, *, now: int | None = None) -> None:
        """
        Have the last minute written down, if no other node has; and how long jobs took in the one before that.

        By now all nodes have told that. Where the node that should have summed it up died, the next tick does so.
        """
        try:
            if await self._store.history.tick(now=now):
                while (due := await self._store.latencies.due(now=now)) is not None:
                    minute, shares = due
                    await self._store.latencies.summarise(minute, merged(shares).summary(), now=now)
        except StoreError as error:
            self._events.store_down(error)

    async def prune(self) -> None:
        """Forget finished jobs whose retention is over."""
        try:
            while await self._store.prune(BATCH) >= BATCH:
                pass
        except StoreError as error:
            self._events.store_down(error)
