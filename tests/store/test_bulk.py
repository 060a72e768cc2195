"""What is done to more jobs than one step takes: step by step, to the last, and counted right."""

from __future__ import annotations

import pytest

from gopher_node.errors import InvalidState, JobNotFound
from gopher_node.job import NewJob, Priority, State
from gopher_node.store import Pool, Session, Store
from tests.store.lanes import fill, take
from tests.store.lives import FAR

POOL = Pool.of(["mail"])
MANY = 250


async def hold(store: Store, number: int) -> Session:
    """A session that holds so many jobs."""
    await fill(store, "job", number)
    session = await store.open_session("node", 15.0)
    assert len(await take(store, session, POOL, number)) == number
    return session


async def left(store: Store) -> dict[State, int]:
    found: dict[State, int] = {}
    for (state, _, _), number in (await store.stats()).counts.items():
        found[state] = found.get(state, 0) + number
    return found


async def test_closing_a_session(store: Store) -> None:
    """A session that ends hands all of its jobs back."""
    session = await hold(store, MANY)

    await store.close_session(session)

    assert await left(store) == {State.ENQUEUED: MANY}
    assert (await store.stats()).sessions == 0


async def test_reaping_a_session(store: Store) -> None:
    """A dead session loses all of its jobs."""
    session = await hold(store, MANY)

    assert await store.reap_session(session.id, 0) == MANY

    assert await left(store) == {State.ENQUEUED: MANY}
    assert (await store.stats()).totals["crashed"] == MANY


async def test_reaping_overdue_runs(store: Store) -> None:
    """Runs past their deadline are taken back, as many as a survey found."""
    await hold(store, MANY)
    overdue = (await store.survey(limit=MANY, now=(await store.survey()).now_ms + FAR)).overdue

    assert await store.reap_overdue(overdue) == MANY

    assert await left(store) == {State.ENQUEUED: MANY}


async def test_promoting(store: Store) -> None:
    """A tick promotes so many, and tells that more are due at once."""
    await store.submit_many([NewJob(type="mail", delay_ms=1000) for _ in range(MANY)])
    now = (await store.survey()).now_ms + 2000

    ticks = [await store.promote(now=now) for _ in range(3)]

    assert [(tick.count, tick.next_due_in) for tick in ticks] == [(200, 0.0), (50, None), (0, None)]


async def test_purging(store: Store) -> None:
    """All waiting jobs of a type go: of every level and group, enqueued and scheduled; nothing else does."""
    await fill(store, "other", 5, type="other")
    for level in (Priority.LOW, Priority.URGENT):
        for group in ("x", "y"):
            await fill(store, f"{level}{group}", 120, priority=level, group=group)
    await store.submit_many([NewJob(type=("mail", "other")[n % 2], delay_ms=1000 + n) for n in range(1000)])
    await take(store, await store.open_session("node", 15.0), POOL, 3)

    assert await store.purge("mail") == 480 - 3 + 500

    assert await left(store) == {State.ENQUEUED: 5, State.SCHEDULED: 500, State.PROCESSING: 3}
    assert (await store.stats()).totals["purged"] == 977


async def test_purging_a_level(store: Store) -> None:
    """A purge of one level leaves the others, waiting and scheduled."""
    for level in Priority:
        await fill(store, level.label, 60, priority=level)
        await store.submit_many([NewJob(type="mail", priority=level, delay_ms=1000) for _ in range(300)])

    assert await store.purge("mail", Priority.HIGH) == 360

    assert await left(store) == {State.ENQUEUED: 180, State.SCHEDULED: 900}
    assert not [key for key in (await store.stats()).counts if key[1] is Priority.HIGH]


async def test_requeueing_all_dead_letters(store: Store) -> None:
    """Every dead letter is run again, once, however many there are."""
    session = await hold(store, MANY)
    overdue = (await store.survey(limit=MANY, now=(await store.survey()).now_ms + FAR)).overdue
    await store._send_settlements([("fail", run.id, 1, run.nonce, b"{}", 0, 0) for run in overdue])
    await fill(store, "other", 1, type="other")
    await store.fail((await store.claim(session, Pool.of(["other"]), 1)).leases[0], b"{}")

    assert await store.requeue_failed("mail") == MANY
    assert await left(store) == {State.ENQUEUED: MANY, State.FAILED: 1}
    assert await store.requeue_failed() == 1
    assert (await store.stats()).totals["requeued"] == MANY + 1


async def test_storing_a_thousand(store: Store) -> None:
    """A thousand jobs are stored in one step, with one time; one more is refused, and then none is."""
    jobs = [NewJob(type="mail", group=str(n % 7), tags=(f"t{n % 3}",)) for n in range(1000)]

    submitted = await store.submit_many(jobs)

    assert [(one.id, one.created) for one in submitted] == [(job.id, True) for job in jobs]
    assert len({one.created_ms for one in submitted}) == 1
    with pytest.raises(ValueError, match="1000"):
        await store.submit_many([NewJob(type="mail") for _ in range(1001)])
    assert await left(store) == {State.ENQUEUED: 1000}
    assert await store.submit_many([]) == []


async def test_a_hundred_follow_ups(store: Store) -> None:
    """A completion creates up to a hundred follow-ups, into lanes, groups and the future, in the same step."""
    await fill(store, "job", 1)
    session = await store.open_session("node", 15.0)
    (lease,) = (await store.claim(session, POOL, 1)).leases
    children = [NewJob(type="child", group=str(n % 9), delay_ms=1000 * (n % 2) or None) for n in range(100)]

    assert await store.complete(lease, b"1", children) is State.COMPLETED

    assert await left(store) == {State.COMPLETED: 1, State.ENQUEUED: 50, State.SCHEDULED: 50}


async def test_what_cannot_be_done_says_why(store: Store) -> None:
    """Refusals name the job and the state that is in the way."""
    await hold(store, 1)

    with pytest.raises(JobNotFound, match="nobody"):
        await store.get("nobody")
    with pytest.raises(InvalidState, match="job-1 is running") as caught:
        await store.delete("job-1")
    assert caught.value.state == State.PROCESSING
    with pytest.raises(InvalidState, match="only a job that has ended"):
        await store.requeue("job-1")
