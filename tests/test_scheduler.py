"""The clockwork: the reaper's judgement with time as an argument, and the ticks against a real store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import aiocron
import pytest
from structlog.testing import capture_logs

from gopher_node.errors import StoreUnavailable
from gopher_node.job import JobOptions, NewJob, State
from gopher_node.scheduler import Reaper, Scheduler
from gopher_node.schedules import Schedule
from gopher_node.store import Beat, Definition, JobFilter, NewWorkflow, Overdue, Pool, Pulse, Store, Survey
from gopher_node.telemetry.events import Events

LEASE = 15.0


class Clock:
    """A monotonic clock that moves when told, and with it the store's, unless that is told to step."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.store_ms = 1_700_000_000_000

    def __call__(self) -> float:
        return self.now

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.store_ms += round(seconds * 1000)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def watch(reaper: Reaper, clock: Clock, seconds: float, pulse: int, overdue: tuple[Overdue, ...] = ()) -> set[str]:
    """Survey one session every second for so long; return what was declared dead."""
    dead: set[str] = set()
    for _ in range(round(seconds)):
        clock.pass_time(1.0)
        found, _ = reaper.judge(Survey(clock.store_ms, {"s": Pulse(pulse, LEASE, "n")}, list(overdue)))
        dead |= set(found)
    return dead


def test_session_is_dead_after_a_lease_without_change(clock: Clock) -> None:
    """A pulse that stands still for a whole lease is a dead session, and not a second earlier."""
    reaper = Reaper(clock)
    watch(reaper, clock, 1, pulse=7)

    assert set() == watch(reaper, clock, LEASE - 1, pulse=7)
    assert {"s"} == watch(reaper, clock, 1, pulse=7)


def test_renewed_session_lives(clock: Clock) -> None:
    """Each change of the pulse begins the lease anew."""
    reaper = Reaper(clock)

    for pulse in range(10):
        assert set() == watch(reaper, clock, LEASE - 1, pulse=pulse)


@pytest.mark.parametrize("step_ms", [3_600_000, -3_600_000])
def test_step_of_the_stores_clock_kills_nobody(clock: Clock, step_ms: int) -> None:
    """Liveness is judged by the reaper's own clock alone."""
    reaper = Reaper(clock)
    watch(reaper, clock, 5, pulse=1)
    clock.store_ms += step_ms

    assert set() == watch(reaper, clock, 5, pulse=1)


@pytest.mark.parametrize("lease", [1.0, 2.0, 15.0])
def test_time_without_a_look_does_not_count(clock: Clock, lease: float) -> None:
    """After an outage of the store, in which nobody could renew, no session is dead at the first look."""
    reaper = Reaper(clock)
    pulse = {"s": Pulse(1, lease, "n")}
    reaper.judge(Survey(clock.store_ms, pulse, []))
    clock.pass_time(600)

    at_once, _ = reaper.judge(Survey(clock.store_ms, pulse, []))
    clock.pass_time(lease)
    later = (
        watch(reaper, clock, lease, pulse=1)
        if lease == LEASE
        else set(reaper.judge(Survey(clock.store_ms, pulse, []))[0])
    )

    assert at_once == {}
    assert later == {"s"}


def test_overdue_run_is_taken_back(clock: Clock) -> None:
    """A run past its hard deadline is reaped even from a live session."""
    reaper = Reaper(clock)
    run = Overdue("j", "n", clock.store_ms - 60_000, clock.store_ms)

    _, overdue = reaper.judge(Survey(clock.store_ms, {}, [run]))

    assert [run] == overdue


def test_forward_step_makes_no_run_overdue_that_began_before(clock: Clock) -> None:
    """An hour's jump of the store's clock moves the deadlines of the runs that it caught."""
    reaper = Reaper(clock)
    run = Overdue("j", "n", clock.store_ms, clock.store_ms + 300_000)
    reaper.judge(Survey(clock.store_ms, {}, []))
    clock.store_ms += 3_600_000
    clock.pass_time(1)

    _, at_once = reaper.judge(Survey(clock.store_ms, {}, [run]))
    clock.pass_time(300)
    _, in_time = reaper.judge(Survey(clock.store_ms, {}, [run]))

    assert at_once == []
    assert [run] == in_time


@pytest.mark.parametrize("step_ms", [3_600_000, -3_600_000])
def test_step_of_the_stores_clock_ends_no_lease(clock: Clock, step_ms: int) -> None:
    """A lease that was renewed before the step moves with it; one renewed since is judged as it stands."""
    reaper = Reaper(clock)
    reaper.judge(Survey(clock.store_ms, {}, []))
    clock.pass_time(1)
    before = Overdue("j", "n", clock.store_ms, clock.store_ms + 30_000, 30_000)
    reaper.judge(Survey(clock.store_ms, {}, []))
    clock.store_ms += step_ms
    clock.pass_time(1)
    since = Overdue("k", "n", clock.store_ms + 1, clock.store_ms + 30_001, 30_000)

    judged = [judge(reaper, clock, seconds, before, since) for seconds in (0, 28, 1, 2)]

    assert judged == [[], [], [before], [before, since]]


def judge(reaper: Reaper, clock: Clock, seconds: int, *overdue: Overdue) -> list[Overdue]:
    """What is to be taken back after so many seconds, with a look at each. The store tells only of what has ended."""
    found: list[Overdue] = []
    for _ in range(max(seconds, 1)):
        clock.pass_time(min(seconds, 1))
        ended = [run for run in overdue if run.deadline_ms <= clock.store_ms + reaper.ahead_ms]
        _, found = reaper.judge(Survey(clock.store_ms, {}, ended))
    return found


def test_a_lease_loses_no_time_without_a_look(clock: Clock) -> None:
    """What ended during an outage of the store has the rest of its time after it; a hard deadline has not."""
    reaper = Reaper(clock)
    reaper.judge(Survey(clock.store_ms, {}, []))
    clock.pass_time(1)
    lease = Overdue("j", "n", clock.store_ms, clock.store_ms + 30_000, 30_000)
    deadline = Overdue("k", "n", clock.store_ms, clock.store_ms + 30_000)
    judge(reaper, clock, 10, lease, deadline)
    clock.pass_time(600)

    assert judge(reaper, clock, 0, lease, deadline) == [deadline]
    assert judge(reaper, clock, 17, lease, deadline) == [deadline]
    assert judge(reaper, clock, 1, lease, deadline) == [lease, deadline]
    later = Overdue("j", "n", clock.store_ms - 30_000, clock.store_ms, 30_000)
    assert judge(reaper, clock, 0, later) == [later]


def test_a_lease_has_a_whole_length_after_the_first_look(clock: Clock) -> None:
    """A node that has just started cannot know whether workers could renew: each lease from before gets one more."""
    reaper = Reaper(clock)
    lease = Overdue("j", "n", clock.store_ms - 60_000, clock.store_ms - 30_000, 30_000)
    begun_since = Overdue("k", "n", clock.store_ms, clock.store_ms + 1000, 1000)

    assert judge(reaper, clock, 0, lease, begun_since) == []
    assert judge(reaper, clock, 1, lease, begun_since) == [begun_since]
    assert judge(reaper, clock, 28, lease) == []
    assert judge(reaper, clock, 1, lease) == [lease]


class Bell(Events):
    """Rings when jobs have been promoted."""

    def __init__(self) -> None:
        super().__init__()
        self.rung = asyncio.Event()
        self.lost = asyncio.Event()
        self.looked = asyncio.Event()
        self.fired = asyncio.Event()

    def promoted(self, count: int) -> None:
        self.rung.set()

    def recurred(self, name: str, type: str, outcome: str, missed: int) -> None:
        self.fired.set()

    def reaped(self, count: int, node: str | None = None) -> None:
        self.lost.set()

    def store_up(self) -> None:
        self.looked.set()


async def test_job_is_promoted_when_it_is_due(store: Store) -> None:
    """The scheduler sleeps until the due time and is on the spot then, not at the next poll."""
    bell = Bell()
    running = asyncio.create_task(Scheduler(store, bell).run())
    lateness: list[float] = []
    try:
        for _ in range(10):
            bell.rung.clear()
            due_at = time.monotonic() + 0.15
            await store.submit(NewJob(type="later", delay_ms=150))
            await asyncio.wait_for(bell.rung.wait(), 5)
            lateness.append(time.monotonic() - due_at)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    # Polling would be half a second late; the bound leaves room for a busy machine.
    assert sorted(lateness)[len(lateness) // 2] < 0.1


async def test_earlier_job_sets_the_alarm_forward(store: Store) -> None:
    """A job stored while the scheduler sleeps towards a later one is promoted in its own time."""
    bell = Bell()
    running = asyncio.create_task(Scheduler(store, bell).run())
    try:
        await store.submit(NewJob(type="later", delay_ms=60_000))
        soon = await store.submit(NewJob(type="later", delay_ms=20))
        await asyncio.wait_for(bell.rung.wait(), 5)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    assert (await store.get(soon.id)).state == State.ENQUEUED


async def test_recurring_jobs_fire_on_time(store: Store) -> None:
    """One that is stored while the scheduler sleeps sets its alarm, and so does each fire for the next."""
    bell = Bell()
    running = asyncio.create_task(Scheduler(store, bell).run())
    each_second = Definition(name="often", schedule=Schedule(cron="* * * * * *"), job=NewJob(type="work"))
    try:
        await asyncio.wait_for(bell.looked.wait(), 5)
        await store.recurring.create(each_second)
        for _ in range(2):
            await asyncio.wait_for(bell.fired.wait(), 5)
            bell.fired.clear()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    jobs = (await store.list(JobFilter(type="work"))).items
    assert {job.due_ms % 1000 for job in jobs if job.due_ms} == {0}
    # Polling would be up to two seconds late; the bound leaves room for a busy machine.
    assert min(job.created_ms - (job.due_ms or 0) for job in jobs) < 300


async def test_a_zone_that_this_node_lacks_holds_up_no_other(store: Store) -> None:
    """Such a recurring job is left for a node that has it, and told of once."""
    prefix = f"{{{store.namespace}}}:"
    told: list[str] = []
    events = Events()
    events.recurring_unknown = lambda name, error: told.append(name)
    scheduler = Scheduler(store, events)
    for name in ("a", "b"):
        schedule = Schedule(cron="@daily", timezone="Europe/Berlin")
        await store.recurring.create(Definition(name=name, schedule=schedule, job=NewJob(type="work")))
        await store._connections.request("HSET", f"{prefix}recurring:{name}", "next", 1000)
        await store._connections.request("ZADD", f"{prefix}recurring-due", 1000, name)
    content = await store._connections.request("HGET", f"{prefix}recurring:a", "content")
    content = content.replace(b"Europe/Berlin", b"Moon/Base")
    await store._connections.request("HSET", f"{prefix}recurring:a", "content", content)

    assert await scheduler.fire()
    assert not await scheduler.fire()

    (job,) = (await store.list(JobFilter(type="work"))).items
    assert (job.options.recurring, set(told)) == ("b", {"a"})


async def test_ten_schedulers_promote_each_job_once(store: Store) -> None:
    """None leads: each promotes what it finds, and no job is promoted twice or left behind."""
    await store.submit_many([NewJob(type="later", delay_ms=1) for _ in range(1000)])
    schedulers = [Scheduler(store, Events()) for _ in range(10)]
    running = [asyncio.create_task(scheduler.run()) for scheduler in schedulers]
    session = await store.open_session("n", 60)
    pool = Pool.of(["later"])
    seen: list[str] = []
    try:
        async with asyncio.timeout(20):
            while len(seen) < 1000:
                claimed = await store.claim(session, pool, 100)
                seen += [lease.job.id for lease in claimed.leases]
                if not claimed.leases:
                    await store.wait_for_work(pool, 1)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    assert len(set(seen)) == 1000


async def test_dependents_that_a_step_could_not_release(store: Store) -> None:
    """Ticks release what waits for a job that more than two hundred waited for, and cancel what is left to cancel."""
    parent = NewJob(type="parent")
    children = [NewJob(type="child", options=JobOptions(depends_on=(parent.id,))) for _ in range(600)]
    submitted = await store.workflows.submit(NewWorkflow(jobs=[parent, *children]))
    scheduler = Scheduler(store, Events())
    session = await store.open_session("n", 60)
    (lease,) = (await store.claim(session, Pool.of(["parent"]), 1)).leases
    await store.complete(lease)
    assert (await store.workflows.get(submitted.id)).counts[State.BLOCKED] == 400

    while (await store.promote()).fans:
        await scheduler.promote()
    assert (await store.workflows.get(submitted.id)).counts[State.ENQUEUED] == 600

    await store._run("cancel_workflow", submitted.id, "", 200)
    while (await store.promote()).fans:
        await scheduler.promote()
    assert (await store.workflows.get(submitted.id)).state == "cancelled"


async def test_dead_sessions_jobs_run_again(store: Store) -> None:
    """What a silent session held goes back to the front within its lease and a second."""
    session = await store.open_session("n", 1.0)
    job = await store.submit(NewJob(type="work"))
    await store.claim(session, Pool.of(["work"]), 1)
    bell = Bell()
    running = asyncio.create_task(Scheduler(store, bell).run())
    started = time.monotonic()
    try:
        await asyncio.wait_for(bell.lost.wait(), 10)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    assert time.monotonic() - started < 1.0 + 1.5
    found = await store.get(job.id)
    assert (found.state, found.crashes, found.errors) == (State.ENQUEUED, 1, 0)


async def test_a_silent_http_workers_job_runs_again(store: Store) -> None:
    """A lease without heartbeats goes back to its lane when it ends, and one that is renewed does not."""
    await store.submit_many([NewJob(type="work", id=id) for id in ("kept", "lost")])
    bell = Bell()
    running = asyncio.create_task(Scheduler(store, bell).run())
    try:
        await asyncio.wait_for(bell.looked.wait(), 5)
        kept, lost = (await store.leases.claim(Pool.of(["work"]), 2, lease=1.0)).leases
        await store.leases.heartbeat([Beat(kept, lease=60.0)])
        await asyncio.wait_for(bell.lost.wait(), 10)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    found = await store.get(lost.job.id)
    assert (found.state, found.crashes) == (State.ENQUEUED, 0)
    assert (await store.get(kept.job.id)).state is State.PROCESSING


async def test_orphans_are_reaped_at_once(store: Store) -> None:
    """After a restart the sessions of nodes that are known to be gone need not run out; the log names these."""
    session = await store.open_session("gone", 3600)
    other = await store.open_session("alive", 3600)
    jobs = [await store.submit(NewJob(type=type)) for type in ("a", "b")]
    await store.claim(session, Pool.of(["a"]), 1)
    await store.claim(other, Pool.of(["b"]), 1)

    with capture_logs() as lines:
        await Scheduler(store, Events()).reap_orphans(lambda node: node == "alive")

    assert [(line["event"], line["count"], line["node"]) for line in lines] == [("jobs.reaped", 1, "gone")]
    assert [(await store.get(job.id)).state for job in jobs] == [State.ENQUEUED, State.PROCESSING]


async def test_a_tick_writes_the_minute_down(store: Store) -> None:
    """What has happened is told to history by whichever scheduler ticks first in a minute, and by no other."""
    await store.submit(NewJob(type="work"))
    schedulers = [Scheduler(store, Events()) for _ in range(3)]

    for scheduler in schedulers:
        await scheduler.tick()

    (minute, *_) = await store.history.read(2)
    assert minute.totals == {"submitted": 1}


async def test_a_tick_without_a_store(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """An outage is reported, and ends nothing."""
    events = Events()

    async def fail(**_: object) -> bool:
        raise StoreUnavailable

    monkeypatch.setattr(store.history, "tick", fail)

    await Scheduler(store, events).tick()

    assert events.store_is_down


async def test_a_running_scheduler_ticks_each_minute(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its clockwork asks at every minute's first second."""
    made: dict[str, str] = {}
    ticks = asyncio.Event()
    original = aiocron.Cron.__init__

    def init(cron: aiocron.Cron, spec: str, func: Callable[[], object], **options: object) -> None:
        made[func.__name__] = spec
        if func.__name__ == "tick":
            ticks.set()
        original(cron, spec, func, **options)

    monkeypatch.setattr(aiocron.Cron, "__init__", init)
    running = asyncio.create_task(Scheduler(store, Events()).run())
    await asyncio.wait_for(ticks.wait(), 10)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert made["tick"] == "1 * * * * *"
