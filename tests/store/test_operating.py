"""What operators do to waiting jobs and to many at once: edits, run-now, and walks that miss and repeat nothing."""

from __future__ import annotations

from typing import Any

import pytest

from gopher_node.errors import JobNotFound
from gopher_node.job import NewJob, Priority, State
from gopher_node.store import JobFilter, Pool, Store
from gopher_node.store.operating import Verb
from tests.store.keyspace import differences, dump
from tests.store.lanes import fill, take
from tests.store.lives import POOL, TYPE, claim_one
from tests.store.test_lost_answers import OpenFar, load_all_scripts, open_far, relay
from tests.store.test_told_twice import Echo

__all__ = ["open_far", "relay"]


async def act(store: Store, verb: Verb, filter: JobFilter, limit: int = 200) -> tuple[int, int]:
    """To the last step: how many jobs were changed, and how many met."""
    count = met = 0
    cursor = None
    while True:
        acted = await store.act(verb, filter, cursor, limit)
        assert acted.looked_at <= limit
        count, met, cursor = count + acted.count, met + acted.looked_at, acted.next_cursor
        if cursor is None:
            return count, met


async def states(store: Store) -> dict[State, int]:
    found: dict[State, int] = {}
    for (state, _, _), number in (await store.stats()).counts.items():
        found[state] = found.get(state, 0) + number
    return found


# One job


async def test_a_new_priority_moves_the_lane(store: Store) -> None:
    """An enqueued job goes to the end of the other lane, and is served there."""
    await fill(store, "low", 2, priority=Priority.LOW, group="acme")
    await fill(store, "urgent", 2, priority=Priority.URGENT, group="acme")

    job = await store.edit("low-2", priority=Priority.URGENT)

    assert (job.priority, job.state, job.group) == (Priority.URGENT, State.ENQUEUED, "acme")
    served = await take(store, await store.open_session("node", 15.0), POOL, 4)
    assert [id for id in served if id != "low-1"] == ["urgent-1", "urgent-2", "low-2"]


async def test_the_same_priority_keeps_the_place(store: Store) -> None:
    """An edit that says what is so already costs no job its turn."""
    await fill(store, "job", 3)
    await store.edit("job-1", priority=Priority.NORMAL)
    await store.edit("job-1", due_ms=1)
    await store.run_now("job-1")

    assert await take(store, await store.open_session("node", 15.0), POOL, 3) == ["job-1", "job-2", "job-3"]
    assert (await store.get("job-1")).due_ms == 1


async def test_due_times(store: Store) -> None:
    """A job is scheduled anew, pushed back, drawn forward, and due at the right time."""
    told: list[float] = []
    store.on_scheduled = told.append
    now = (await store.survey()).now_ms
    (new,) = await store.submit_many([NewJob(type=TYPE, tags=("red",))], now=now)

    job = await store.edit(new.id, delay_ms=5000, now=now)
    assert (job.state, job.due_ms) == (State.SCHEDULED, now + 5000)
    job = await store.edit(new.id, due_ms=now + 9000, priority=Priority.HIGH, now=now)
    assert (job.state, job.due_ms, job.priority) == (State.SCHEDULED, now + 9000, Priority.HIGH)
    assert (await store.promote(now=now + 8999)).next_due_in == 0.001
    assert (await store.promote(now=now + 9000)).count == 1
    await store.edit(new.id, due_ms=now + 20_000, now=now + 9000)
    job = await store.run_now(new.id, now=now + 9001)

    assert (job.state, job.due_ms, job.priority) == (State.ENQUEUED, now + 9001, Priority.HIGH)
    assert told == [5.0, 0.0, 0.0]


async def test_a_job_that_is_run_now_wakes_a_node(store: Store) -> None:
    """A node that waits hears of a job that is drawn forward, by an edit or by run-now."""
    session = await store.open_session("node", 15.0)
    for draw in (store.run_now, lambda id: store.edit(id, delay_ms=0)):
        job = await store.submit(NewJob(type=TYPE, delay_ms=60_000))
        assert (await store.claim(session, POOL, 1)).leases == []
        await draw(job.id)
        assert await store.wait_for_work(POOL, 0.1)
        assert (await claim_one(store, session)).job.id == job.id


async def test_an_edit_whose_answer_is_lost(open_far: OpenFar, relay: Any) -> None:
    """An edit that is told again when a node runs the job already is no error, and pushes nothing back."""
    store = await open_far()
    await load_all_scripts(store)
    new = await store.submit(NewJob(type=TYPE))
    relay.lose_answers(1)

    job = await store.edit(new.id, delay_ms=60_000)

    assert relay.lost == 1
    assert job.due_ms is not None
    assert (await store.stats()).counts == {(State.SCHEDULED, Priority.NORMAL, TYPE): 1}


async def test_told_again_after_the_job_went_on(store: Store) -> None:
    """The repeat of an edit or a run-now finds its job claimed, and is answered as the first was."""
    (new,) = await store.submit_many([NewJob(type=TYPE, delay_ms=60_000)])
    first = await store._run("run_now", "operation", "scheduled", new.id)
    await claim_one(store, await store.open_session("node", 15.0))
    before = await dump(store)

    assert await store._run("run_now", "operation", "scheduled", new.id) == first
    assert differences(before, await dump(store)) == []


async def test_what_is_refused(store: Store) -> None:
    """Two due times, and jobs that are not there."""
    with pytest.raises(ValueError, match="not both"):
        await store.edit("nobody", due_ms=1, delay_ms=1)
    for verb in (store.edit, store.run_now, store.delete, store.cancel, store.requeue):
        with pytest.raises(JobNotFound):
            await verb("nobody")
    assert await dump(store) == {"layout": (await dump(store))["layout"]}


# Many jobs


async def crowd(store: Store) -> None:
    """600 jobs in every state but blocked, of four levels and three groups, of which a third have a tag."""
    jobs = [
        NewJob(
            type=TYPE,
            id=f"job-{n}",
            priority=Priority(1 + n % 4),
            group=("", "x", "y")[n % 3],
            tags=("red",) if n % 3 == 0 else (),
            delay_ms=60_000 + n if n < 150 else None,
        )
        for n in range(600)
    ]
    now = (await store.survey()).now_ms
    await store.submit_many(jobs, now=now)
    session = await store.open_session("node", 15.0)
    leases = (await store.claim(session, POOL, 250, now=now)).leases
    outcomes = ("complete", "fail", "cancelled", "", "")
    settlements = [
        (outcomes[n % 5], one.job.id, 1, one.nonce, b"{}", 0, 0) for n, one in enumerate(leases) if outcomes[n % 5]
    ]
    await store._send_settlements(settlements, now=now)
    await fill(store, "other", 10, type="other")


WALKS: dict[str, tuple[Verb, JobFilter, dict[State, int]]] = {
    "cancel": ("cancel", JobFilter(type=TYPE), {State.CANCELLED: 400, State.ENQUEUED: 10}),
    "cancel by tag": ("cancel", JobFilter(tag="red"), {}),
    "cancel the scheduled": (
        "cancel",
        JobFilter(type=TYPE, states=(State.SCHEDULED, State.FAILED)),
        {State.CANCELLED: 200, State.FAILED: 50, State.ENQUEUED: 210},
    ),
    "retry": ("retry", JobFilter(type=TYPE), {State.ENQUEUED: 260}),
    "retry all that ended": (
        "retry",
        JobFilter(states=(State.CANCELLED, State.FAILED, State.COMPLETED)),
        {State.ENQUEUED: 360},
    ),
    "retry by tag": ("retry", JobFilter(tag="red", states=(State.COMPLETED, State.FAILED)), {}),
    "delete": ("delete", JobFilter(type=TYPE), {State.PROCESSING: 100, State.ENQUEUED: 10}),
    "delete by tag": ("delete", JobFilter(tag="red"), {}),
    "delete a level": ("delete", JobFilter(priority=Priority.HIGH), {}),
    "run now": ("run_now", JobFilter(), {State.ENQUEUED: 360}),
    "run the running now": ("run_now", JobFilter(states=(State.PROCESSING,)), {State.SCHEDULED: 150}),
}

ALLOWED: dict[str, tuple[State, ...]] = {
    "cancel": (State.SCHEDULED, State.ENQUEUED, State.PROCESSING),
    "retry": (State.FAILED,),
    "delete": (State.SCHEDULED, State.ENQUEUED, State.COMPLETED, State.FAILED, State.CANCELLED),
    "run_now": (State.SCHEDULED,),
}


@pytest.mark.parametrize("walk", WALKS)
async def test_a_walk_meets_each_job_once(store: Store, walk: str) -> None:
    """Step by step, however small and told twice, a verb is done to each job that matches, once, and counted once."""
    verb, filter, expected = WALKS[walk]
    await crowd(store)
    ended = {State.COMPLETED, State.FAILED, State.CANCELLED}
    wanted = filter.states or ALLOWED[verb]
    if verb == "run_now":
        wanted = tuple(state for state in wanted if state is State.SCHEDULED)
    elif verb == "cancel":
        wanted = tuple(state for state in wanted if state not in ended)
    jobs = [job for job in (await store.list(limit=1000)).items if job.state in wanted]
    jobs = [job for job in jobs if filter.type in (None, job.type) and (filter.tag is None or filter.tag in job.tags)]
    jobs = [job for job in jobs if filter.priority in (None, job.priority)]
    echo = Echo(store) if walk == "cancel" else None

    count, met = await act(store, verb, filter, limit=200 if echo else 17)

    assert (count, met) == (len(jobs), len(jobs))
    after = await states(store)
    assert {state: after.get(state, 0) for state in expected} == expected
    assert echo is None or echo.faults == []
    again, _ = await act(store, verb, filter)
    assert again == (0 if verb != "retry" or filter.tag is None else again)


async def test_retried_jobs_that_fail_again_are_not_met_again(store: Store) -> None:
    """A walk of retries ends, though the jobs fail again as fast as it goes."""
    await fill(store, "job", 30)
    session = await store.open_session("node", 15.0)

    async def fail_all() -> None:
        for lease in (await store.claim(session, POOL, 100)).leases:
            await store.fail(lease, b"{}")

    await fail_all()
    count, cursor = 0, None
    while True:
        acted = await store.act("retry", JobFilter(), cursor, 7)
        await fail_all()
        count, cursor = count + acted.count, acted.next_cursor
        if cursor is None:
            break

    assert 30 <= count <= 60  # those of one millisecond may be met again


async def test_a_walk_meets_what_moves_on(store: Store) -> None:
    """Jobs that come due, and are claimed, while a walk of cancels goes on are met where they are by then."""
    now = (await store.survey()).now_ms
    await store.submit_many([NewJob(type=TYPE, delay_ms=1000 + n) for n in range(30)], now=now)
    session = await store.open_session("node", 15.0)

    first = await store.act("cancel", JobFilter(type=TYPE), None, 5, now=now)
    await store.promote(now=now + 10_000)
    second = await store.act("cancel", JobFilter(type=TYPE), first.next_cursor, 5, now=now)
    await store.claim(session, POOL, 10, now=now + 10_000)
    count, cursor = first.count + second.count, second.next_cursor
    while cursor is not None:
        acted = await store.act("cancel", JobFilter(type=TYPE), cursor, 5, now=now)
        count, cursor = count + acted.count, acted.next_cursor

    assert count == 30
    assert await states(store) == {State.CANCELLED: 20, State.PROCESSING: 10}
    assert len(await store._run("cancellations", session.id)) == 10


@pytest.mark.parametrize("verb", ["cancel", "retry", "delete", "run_now"])
async def test_the_count_survives_a_lost_answer(open_far: OpenFar, relay: Any, verb: Verb) -> None:
    """A step whose answer was lost counts what it changed, once."""
    store = await open_far()
    await load_all_scripts(store)
    await store.submit_many([NewJob(type=TYPE, delay_ms=60_000) for _ in range(5)])
    filter = JobFilter(states=(State.SCHEDULED,))
    if verb == "retry":
        await store.act("cancel", filter)
        filter = JobFilter(states=(State.CANCELLED,))
    relay.lost = 0
    relay.lose_answers(2)

    assert (await act(store, verb, filter))[0] == 5

    assert relay.lost == 2


async def test_a_purge_counts_what_a_lost_answer_told(open_far: OpenFar, relay: Any) -> None:
    """A purge whose answer was lost counts what it deleted."""
    store = await open_far()
    await load_all_scripts(store)
    await fill(store, "job", 5)
    relay.lose_answers(1)

    assert await store.purge(TYPE) == 5


async def test_cancelling_a_running_job_again(store: Store) -> None:
    """A running job counts as changed by the first cancel only."""
    await fill(store, "job", 1)
    await store.claim(await store.open_session("node", 15.0), Pool.of([TYPE]), 1)

    assert [(await store.act("cancel", JobFilter())).count for _ in range(2)] == [1, 0]
    assert (await store.cancel("job-1")).cancel_requested


async def test_cursors(store: Store) -> None:
    """A cursor of another walk, and what is none, is refused; no states in common are no work."""
    for cursor in ("", "x", "failed.", "enqueued.***", "enqueued"):
        with pytest.raises(ValueError, match="cursor"):
            await store.act("cancel", JobFilter(), cursor)
    acted = await store.act("cancel", JobFilter(states=(State.FAILED,)))
    assert (acted.count, acted.looked_at, acted.next_cursor) == (0, 0, None)


async def test_ids_that_are_named_twice(store: Store) -> None:
    """A job that is named twice is changed once, and counted once."""
    await fill(store, "job", 2)
    ids = ["job-1", "job-2", "job-1"]

    assert await store.act_on("cancel", ids, (State.ENQUEUED,)) == 2
    assert await store.act_on("delete", ids, (State.CANCELLED,)) == 2
