"""Recurring jobs in the store: many nodes fire each time once, and whatever meets a change gives way to it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from gopher_node.errors import OutcomeUnknown, RecurringExists, RecurringNotFound
from gopher_node.job import JobOptions, NewJob, Priority, State
from gopher_node.schedules import Schedule, Step, fire_id, plan
from gopher_node.store import Definition, JobFilter, Pool, Recurring, Store, replies
from tests.store.conftest import OpenStore
from tests.store.keyspace import differences, dump

MINUTE = 60_000
START = 1_800_000_000_000  # a whole minute
FIRST = START + MINUTE

DEFINITION = Definition(
    name="nightly",
    schedule=Schedule(cron="* * * * *"),
    job=NewJob(type="report", payload=b'{"n":1.50}', priority=Priority.HIGH, group="acme", tags=("red",)),
)


async def create(store: Store, definition: Definition = DEFINITION, **options: Any) -> Recurring:
    return (await store.recurring.create(definition, now=START, **options))[0]


async def tick(store: Store, now: int) -> list[str]:
    """What one node does whose time has come."""
    outcomes: list[str] = []
    for found in await store.recurring.due(now=now):
        assert found.next_ms is not None
        steps = plan(found.definition.schedule, found.next_ms, now, found.definition.missed)
        outcomes += [await store.recurring.fire(found, step, now=now) for step in steps]
    return outcomes


async def stored(store: Store) -> list[str]:
    return [job.id for job in (await store.list(JobFilter(type="report"))).items]


async def finish(store: Store, now: int) -> None:
    """Run what waits."""
    session = await store.open_session("node", 15.0)
    for lease in (await store.claim(session, Pool.of(["report"]), 10, now=now)).leases:
        await store.complete(lease)
    await store.close_session(session)


class Echo:
    """Tells each script twice, as after a lost answer, and notes what the second telling changed or answered else."""

    def __init__(self, store: Store) -> None:
        self.faults: list[str] = []
        self._store, self._run = store, store._scripts.run
        store._scripts.run = self.run

    async def run(self, name: str, *arguments: Any, now: int | None = None) -> Any:
        first = await self._run(name, *arguments, now=now)
        before = await dump(self._store)
        if first != await self._run(name, *arguments, now=now):
            self.faults.append(f"{name}: answered otherwise")
        self.faults += differences(before, await dump(self._store))
        return first


async def test_a_fire_is_a_job_of_its_own(store: Store) -> None:
    """All that the definition says, at its time, under the id that follows from name and time."""
    await create(store)
    assert await tick(store, FIRST - 1) == []

    assert await tick(store, FIRST + 5) == ["fired"]

    job = await store.get(fire_id("nightly", FIRST))
    assert (job.type, job.payload, job.priority, job.group, job.tags) == (
        *("report", b'{"n":1.50}', Priority.HIGH, "acme"),
        ("red",),
    )
    assert (job.state, job.due_ms, job.options.recurring) == (State.ENQUEUED, FIRST, "nightly")
    found = await store.recurring.get("nightly", now=FIRST + 5)
    assert (found.next_ms, found.last_ms, found.last_job, found.fired) == (FIRST + MINUTE, FIRST, job.id, 1)


async def test_ten_stores_fire_once(store: Store, open_store: OpenStore) -> None:
    """However many nodes wake at the same moment, each fire is one job."""
    nodes = [store, *[await open_store() for _ in range(9)]]
    await create(store)
    for minute in range(3):
        now = FIRST + minute * MINUTE + 1
        outcomes = await asyncio.gather(*(tick(node, now) for node in nodes))
        assert sum((outcome.count("fired") for outcome in outcomes), 0) == 1
    assert len(await stored(store)) == 3
    assert (await store.recurring.get("nightly", now=now)).fired == 3


async def test_every_step_may_be_told_twice(store: Store) -> None:
    """Whichever answer is lost, the repeat answers the same and changes nothing."""
    echo = Echo(store)
    once = replace(DEFINITION, overlap="skip")

    assert (await store.recurring.create(once, now=START))[1]
    assert await tick(store, FIRST) == ["fired"]
    assert await tick(store, FIRST + MINUTE) == ["overlapped"]
    await store.recurring.trigger("nightly", now=FIRST + MINUTE)
    await store.recurring.pause("nightly", now=FIRST + MINUTE)
    await store.recurring.resume("nightly", now=FIRST + MINUTE)
    await store.recurring.edit("nightly", lambda had: replace(had, missed="all"), now=FIRST + MINUTE)
    await store.recurring.delete("nightly", now=FIRST + MINUTE)

    assert echo.faults == []
    assert len(await stored(store)) == 2


async def test_a_node_killed_between_leaves_a_whole_fire_or_none(store: Store, open_store: OpenStore) -> None:
    """The answer never comes, for the node is gone before or after the step: another one's look settles it."""
    other = await open_store()
    await create(store)
    run = store._scripts.run
    (found,) = await store.recurring.due(now=FIRST)
    for done in (False, True):

        async def dies(name: str, *arguments: Any, now: int | None = None, done: bool = done) -> Any:
            if done:
                await run(name, *arguments, now=now)
            raise OutcomeUnknown

        store.patience, store._scripts.run = 0.0, dies
        with pytest.raises(OutcomeUnknown):
            await store.recurring.fire(found, Step(FIRST, FIRST, FIRST + MINUTE), now=FIRST)
        store._scripts.run = run
        assert len(await stored(other)) == int(done)

    assert await tick(other, FIRST) == []
    assert await other.recurring.fire(found, Step(FIRST, FIRST, FIRST + MINUTE), now=FIRST) == "late"


@pytest.mark.parametrize("change", ["edit", "pause", "delete", "nothing"])
async def test_what_changed_under_the_tick_is_not_fired(store: Store, change: str) -> None:
    """A node that looked before the change must not fire what the definition was then; nor any before its time."""
    await create(store)
    (found,) = await store.recurring.due(now=FIRST)
    match change:
        case "edit":
            await store.recurring.edit("nightly", lambda had: replace(had, job=NewJob(type="report")), now=FIRST)
        case "pause":
            await store.recurring.pause("nightly", now=FIRST)
        case "delete":
            await store.recurring.delete("nightly", now=FIRST)
        case _:
            pass
    step = Step(FIRST, FIRST, FIRST + MINUTE)
    before = await dump(store)

    now = FIRST if change != "nothing" else FIRST - 1
    outcome = await store.recurring.fire(found, step, now=now)

    told = {"edit": "changed", "pause": "changed", "delete": "gone", "nothing": "early"}
    assert outcome == told[change]
    assert differences(before, await dump(store)) == []
    # Its time is not lost: an edit that leaves the schedule leaves the fire that is due.
    assert await tick(store, FIRST) == (["fired"] if change in ("edit", "nothing") else [])


async def test_two_changes_at_once_are_both_made(store: Store) -> None:
    """Each is made to what the other left."""
    await create(store)

    await asyncio.gather(
        store.recurring.edit("nightly", lambda had: replace(had, missed="all")),
        store.recurring.edit("nightly", lambda had: replace(had, overlap="skip")),
        store.recurring.pause("nightly"),
    )

    found = await store.recurring.get("nightly")
    assert (found.definition.missed, found.definition.overlap, found.paused) == ("all", "skip", True)


@pytest.mark.parametrize(("missed", "fires"), [("skip", []), ("once", [3]), ("all", [0, 1, 2, 3])])
async def test_fires_that_nobody_saw(store: Store, missed: Any, fires: list[int]) -> None:
    """After an outage over four fires, and a minute more than that of a five-minute schedule."""
    schedule = Schedule(cron="*/5 * * * *")
    await create(store, replace(DEFINITION, schedule=schedule, missed=missed))
    first = schedule.next_after(START)
    assert first is not None
    now = first + 3 * 5 * MINUTE + MINUTE + 1

    await tick(store, now)

    assert set(await stored(store)) == {fire_id("nightly", first + n * 5 * MINUTE) for n in fires}
    found = await store.recurring.get("nightly", now=now)
    assert (found.fired, found.missed) == (len(fires), 4 - len(fires))
    assert found.next_ms == first + 4 * 5 * MINUTE


async def test_overlap_is_skipped_while_a_job_runs(store: Store) -> None:
    """Its last job, fired or triggered, has not ended: the fire is counted and told, and no job comes."""
    await create(store, replace(DEFINITION, overlap="skip"))
    assert await tick(store, FIRST) == ["fired"]
    assert await tick(store, FIRST + MINUTE) == ["overlapped"]
    await finish(store, FIRST + MINUTE)
    assert await tick(store, FIRST + 2 * MINUTE) == ["fired"]
    await finish(store, FIRST + 2 * MINUTE)
    await store.recurring.trigger("nightly", now=FIRST + 2 * MINUTE)
    assert await tick(store, FIRST + 3 * MINUTE) == ["overlapped"]

    found = await store.recurring.get("nightly")
    assert (found.fired, found.overlapped, found.triggered) == (2, 2, 1)
    assert (found.skipped_ms, found.why) == (FIRST + 3 * MINUTE, "overlapped")


async def test_a_job_that_has_expired_overlaps_nothing(store: Store) -> None:
    """Jobs that live no longer than the interval: each fire takes the place of the last one, which nobody ran."""
    job = replace(DEFINITION.job, options=JobOptions(ttl_ms=MINUTE))
    await create(store, replace(DEFINITION, overlap="skip", job=job))

    assert await tick(store, FIRST) == ["fired"]
    assert await tick(store, FIRST + MINUTE) == ["fired"]
    assert await store.expire(now=FIRST + MINUTE) == 1


async def test_a_trigger_moves_nothing(store: Store) -> None:
    """A job with an id of its own, even while paused."""
    had = await create(store)
    await store.recurring.pause("nightly", now=START)

    ids = {await store.recurring.trigger("nightly", now=START) for _ in range(2)}

    assert set(await stored(store)) == ids
    assert (await store.get(ids.pop())).due_ms is None
    found = await store.recurring.resume("nightly", now=START)
    assert (found.next_ms, found.triggered, found.fired) == (had.next_ms, 2, 0)


async def test_a_pause_is_not_made_up_for(store: Store) -> None:
    await create(store, replace(DEFINITION, missed="all"))
    assert (await store.recurring.pause("nightly", now=START)).next_ms is None
    assert await tick(store, FIRST + 10 * MINUTE) == []

    found = await store.recurring.resume("nightly", now=FIRST + 10 * MINUTE)

    assert (found.next_ms, found.missed) == (FIRST + 11 * MINUTE, 0)


async def test_an_interval_counts_from_its_making(store: Store) -> None:
    """And anew from a change of it, but not from one of anything else."""
    had = await create(store, replace(DEFINITION, schedule=Schedule(every_ms=90_000)))
    assert had.next_ms == START + 90_000
    found = await store.recurring.edit("nightly", lambda had: replace(had, missed="all"), now=START + 1000)
    assert found.next_ms == START + 90_000
    found = await store.recurring.edit(
        "nightly", lambda had: replace(had, schedule=Schedule(every_ms=5000)), now=START + 1000
    )
    assert found.next_ms == START + 6000


async def test_the_first_job_may_stand_ahead(store: Store) -> None:
    """It is seen from the beginning, runs at its time, and the second comes at its own."""
    found = await create(store, ahead=True)
    id = fire_id("nightly", FIRST)
    assert ((await store.get(id)).state, found.next_ms, found.last_ms, found.fired) == (State.SCHEDULED, FIRST, None, 0)
    assert (await store.promote(now=FIRST)).next_fire_in == 60.0
    assert await tick(store, FIRST) == []
    assert await tick(store, FIRST + MINUTE) == ["fired"]

    found = await store.recurring.get("nightly", now=FIRST + MINUTE)
    assert ((await store.get(id)).state, found.fired, len(await stored(store))) == (State.ENQUEUED, 2, 2)


@pytest.mark.parametrize("change", ["edit", "pause", "delete"])
async def test_the_job_ahead_goes_with_what_it_stands_for(store: Store, change: str) -> None:
    """It has not begun, so a change holds for it too; and no fire is lost by that."""
    await create(store, ahead=True)
    if change == "edit":
        job = replace(DEFINITION.job, payload=b"2")
        await store.recurring.edit("nightly", lambda had: replace(had, job=job), now=START)
    elif change == "pause":
        await store.recurring.pause("nightly", now=START)
    else:
        await store.recurring.delete("nightly", now=START)

    assert await stored(store) == []
    assert await tick(store, FIRST) == (["fired"] if change == "edit" else [])
    if change == "edit":
        assert (await store.get(fire_id("nightly", FIRST))).payload == b"2"


async def test_a_job_ahead_that_has_begun_stays(store: Store) -> None:
    await create(store, ahead=True)
    await store.promote(now=FIRST)

    await store.recurring.pause("nightly", now=FIRST)
    await store.recurring.delete("nightly", now=FIRST)

    assert await stored(store) == [fire_id("nightly", FIRST)]


async def test_names_are_had_once(store: Store) -> None:
    """The same definition again is the one there is, paused or not; another of the name is refused."""
    await create(store)
    await store.recurring.pause("nightly", now=START)

    again, new = await store.recurring.create(DEFINITION, now=START + 5 * MINUTE)
    assert (again.paused, again.created_ms, new) == (True, START, False)
    for other in (replace(DEFINITION, missed="all"), replace(DEFINITION, job=replace(DEFINITION.job, payload=b"2"))):
        with pytest.raises(RecurringExists):
            await store.recurring.create(other, now=START)
    made = await asyncio.gather(*(store.recurring.create(replace(DEFINITION, name="b")) for _ in range(5)))
    assert sum(new for _, new in made) == 1


async def test_unknown_names(store: Store) -> None:
    for act in (store.recurring.get, store.recurring.pause, store.recurring.trigger, store.recurring.delete):
        with pytest.raises(RecurringNotFound):
            await act("nobody")


async def test_they_are_listed_by_name(store: Store) -> None:
    for name in ("b", "a", "C"):
        await create(store, replace(DEFINITION, name=name))

    assert [found.name for found in await store.recurring.all(2)] == ["C", "a"]
    assert [found.name for found in await store.recurring.all(2, "a")] == ["b"]


async def test_the_scheduler_is_told_of_the_next_fire(store: Store) -> None:
    """Whoever stores one that fires earlier wakes the scheduler of its node; others hear of it as they promote."""
    told: list[float] = []
    store.on_scheduled = told.append
    await create(store)
    await store.recurring.edit("nightly", lambda had: replace(had, schedule=Schedule(every_ms=5000)), now=START + 1000)

    assert told == [60.0, 5.0]
    assert (await store.promote(now=START + 2000)).next_fire_in == 4.0
    assert (await store.promote(now=START + 9000)).next_fire_in == 0.0


async def test_a_trigger_told_again_when_others_came_between(store: Store) -> None:
    """It is answered as it was, even if the recurring job is another one by now."""
    await create(store)
    (found,) = await store.recurring.all(now=START)
    job = found.definition.job_now()
    told = ("recurring_fire", "a", found.name, found.revision, "", "", "", 0, *replies.new_job_fields(job))
    answer = await store._run(*told, now=START)
    await store.recurring.trigger(found.name, now=START)
    await store.recurring.pause(found.name, now=START)

    assert await store._run(*told, now=START) == answer
    assert (await store.recurring.get(found.name, now=START)).triggered == 2
