"""The reaper's walk through what is past the end of its lease: nothing hides the rest, and much is taken quickly."""

from __future__ import annotations

import asyncio
import bisect
import itertools
from collections.abc import Sequence
from typing import cast

import pytest

from gopher_node.job import NewJob, State
from gopher_node.scheduler import BATCH, PAGES, Reaper, Scheduler
from gopher_node.store import Overdue, Pool, Pulse, Store, Survey
from gopher_node.telemetry.events import Events
from tests.test_scheduler import Bell, Clock

HOUR_MS = 3_600_000


class Crowd:
    """As much of a store as a reaper needs: running jobs in the order of their ends, and the looks between rests."""

    def __init__(self, clock: Clock, runs: Sequence[Overdue]) -> None:
        self.clock = clock
        self.runs = sorted(runs, key=lambda run: run.deadline_ms)
        self.looks = [0]
        self.taken: list[Overdue] = []

    async def survey(self, limit: int, ahead_ms: int, passed: int) -> Survey:
        self.looks[-1] += 1
        found = bisect.bisect_right(self.runs, self.clock.store_ms + ahead_ms, key=lambda run: run.deadline_ms)
        return Survey(self.clock.store_ms, {}, self.runs[passed : min(passed + limit, found)])

    async def reap_overdue(self, runs: Sequence[Overdue]) -> int:
        gone = {run.id for run in runs}
        self.runs = [run for run in self.runs if run.id not in gone]
        self.taken += runs
        return len(runs)

    async def rest(self, seconds: float) -> None:
        self.clock.pass_time(seconds)
        self.looks.append(0)

    def scheduler(self, monkeypatch: pytest.MonkeyPatch) -> Scheduler:
        scheduler = Scheduler(cast("Store", self), Events())
        monkeypatch.setattr(scheduler, "_reaper", Reaper(self.clock))
        monkeypatch.setattr(asyncio, "sleep", self.rest)
        return scheduler


def runs(number: int, since_ms: int, ends_ms: int, lease_ms: int = 0) -> list[Overdue]:
    return [Overdue(f"{lease_ms}-{n}", "n", since_ms, ends_ms, lease_ms) for n in range(number)]


async def test_what_is_not_over_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that a reaper leaves stand before the others, more of them than it looks at in one go."""
    clock = Clock()
    now = clock.store_ms
    left = runs(2 * PAGES * BATCH + 50, now - 2 * HOUR_MS, now - HOUR_MS, HOUR_MS)
    dead = runs(300, now - 60_000, now - 59_000, 1000)
    crowd = Crowd(clock, left + dead)
    scheduler = crowd.scheduler(monkeypatch)

    while len(crowd.looks) < 6:
        await scheduler.reap()

    assert crowd.taken == dead
    assert max(crowd.looks) == PAGES  # a walk rests, and goes on where it stood


async def test_much_is_taken_without_a_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as a look is full and brings something, the next follows at once."""
    clock = Clock()
    number = 2 * PAGES * BATCH + 50
    crowd = Crowd(clock, runs(number, clock.store_ms - 60_000, clock.store_ms))
    scheduler = crowd.scheduler(monkeypatch)

    while len(crowd.looks) == 1:
        await scheduler.reap()

    assert len(crowd.taken) == number


async def test_a_step_forward_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many runs that a jump of the clock has brought beyond their ends do not hide one that is over."""
    clock = Clock()
    crowd = Crowd(clock, runs(3 * BATCH, clock.store_ms, clock.store_ms + 600_000))
    scheduler = crowd.scheduler(monkeypatch)
    await scheduler.reap()
    clock.store_ms += HOUR_MS
    await scheduler.reap()
    crowd.runs += (late := runs(1, clock.store_ms - 1000, clock.store_ms, 1000))

    for _ in range(5):
        await scheduler.reap()

    assert crowd.taken == late


async def test_a_step_back_hides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease from before the step is over when its time has passed, although the clock is far from its end."""
    clock = Clock()
    crowd = Crowd(clock, runs(1, clock.store_ms, clock.store_ms + 30_000, 30_000))
    scheduler = crowd.scheduler(monkeypatch)
    await scheduler.reap()
    clock.store_ms -= HOUR_MS
    passed = 0
    while not crowd.taken and passed < 100:
        await scheduler.reap()
        passed = len(crowd.looks)

    assert crowd.taken
    assert clock.now < 1000.0 + 33


STEPS = [-HOUR_MS, HOUR_MS, -2 * HOUR_MS, 5000]


@pytest.mark.parametrize("steps", list(itertools.permutations(STEPS))[::4], ids=str)
def test_no_lease_ends_early_however_the_clock_steps(steps: tuple[int, ...]) -> None:
    """At whatever time between steps a lease begins, it has its whole length, and one more second at the least."""
    clock = Clock()
    reaper = Reaper(clock)
    begun: list[tuple[float, Overdue]] = []
    judged: dict[str, float] = {}
    for number in range(200):
        if number % 20 == 10 and number // 20 < len(steps):
            clock.store_ms += steps[number // 20]
        begun.append((clock.now, Overdue(str(number), "n", clock.store_ms, clock.store_ms + 30_000, 30_000)))
        clock.pass_time(1.0)
        seen = [run for _, run in begun if run.deadline_ms <= clock.store_ms + reaper.ahead_ms]
        for run in reaper.judge(Survey(clock.store_ms, {}, seen))[1]:
            judged.setdefault(run.id, clock.now)

    lasted = [judged[run.id] - at for at, run in begun if run.id in judged]

    assert min(lasted) >= 29.0
    assert len(judged) > 100


def test_a_slow_answer_looks_like_no_lasting_step() -> None:
    """What seemed two steps, for an answer came late, makes the reaper look ahead no longer."""
    clock = Clock()
    reaper = Reaper(clock)
    ahead: list[int] = []
    for late in (0.0, 3.0, 0.0):
        clock.pass_time(5.0)
        survey = Survey(clock.store_ms, {}, [])
        clock.now += late
        reaper.judge(survey)
        clock.now -= late
        ahead.append(reaper.ahead_ms)

    assert ahead == [0, 3000, 0]


async def test_old_leases_hide_no_new_one(store: Store) -> None:
    """In a store: long leases from before a node's start hide no short one that is over."""
    pool = Pool.of(["work"])
    now = (await store.survey()).now_ms
    await store.submit_many([NewJob(type="work") for _ in range(BATCH + 1)])
    await store.leases.claim(pool, BATCH, lease=3600.0, timeout=1e5, now=now - 2 * HOUR_MS)
    (lost,) = (await store.leases.claim(pool, 1, lease=0.05, now=now - 60_000)).leases
    bell = Bell()
    running = asyncio.create_task(Scheduler(store, bell).run())
    try:
        await asyncio.wait_for(bell.lost.wait(), 10)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    assert (await store.get(lost.job.id)).state is State.ENQUEUED


async def test_a_prune_goes_on_until_no_old_pool_is_left(store: Store) -> None:
    """A minute of lease calls with types of their own leaves nothing behind."""
    old = (await store.survey()).now_ms - 700_000
    for n in range(BATCH + 30):
        await store._run("open_pool", f"pool-{n}", "", f"type-{n}", now=old)  # pyright: ignore[reportPrivateUsage]

    await Scheduler(store, Events()).prune()

    assert (await store.stats()).pools == 0


@pytest.mark.parametrize("lease", [1.0, 1.5, 2.0, 15.0])
async def test_the_dead_are_found_within_their_lease_and_a_second(
    monkeypatch: pytest.MonkeyPatch, lease: float
) -> None:
    """Whenever between two looks a session's last renewal comes, and however short its lease is."""
    clock = Clock()
    crowd = Crowd(clock, [])
    scheduler = crowd.scheduler(monkeypatch)
    found: list[float] = []

    async def survey(limit: int, ahead_ms: int, passed: int) -> Survey:
        pulse = Pulse(int(min(clock.now, last_renewal) / (lease / 3)), lease, "n")
        return Survey(clock.store_ms, {"s": pulse}, [])

    async def reap_session(session: str, renewals: int) -> int:
        found.append(clock.now - last_renewal)
        return 0

    monkeypatch.setattr(crowd, "survey", survey)
    monkeypatch.setattr(crowd, "reap_session", reap_session, raising=False)
    for phase in range(10):
        last_renewal = (clock.now // lease + 3 + phase / 30) * lease
        seen = len(found)
        while len(found) == seen:
            await scheduler.reap()

    assert min(found) > lease - lease / 3
    assert max(found) < lease + 1
