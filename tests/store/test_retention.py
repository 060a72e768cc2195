"""How long finished jobs stay: by age, by number, by their own retention; and failed ones until an operator acts."""

from __future__ import annotations

import pytest

from gopher_node.job import JobOptions, NewJob, State
from gopher_node.store import JobFilter, Pool, Retention, Session, Store
from tests.store.conftest import OpenStore
from tests.store.consistency import check
from tests.store.keyspace import dump
from tests.store.lives import FAR, POOL, TYPE, claim_one

HOUR = 3600
HOUR_MS = HOUR * 1000


async def finish(store: Store, session: Session, outcome: str, **options: object) -> str:
    """The id of a job that has just ended so."""
    job = NewJob(type=TYPE, **options)  # type: ignore[arg-type]
    await store.submit(job)
    lease = await claim_one(store, session)
    await {"completed": store.complete, "failed": store.fail, "cancelled": store.cancelled}[outcome](lease, b"{}")
    return job.id


async def left(store: Store) -> dict[State, int]:
    return {state: number for (state, _, _), number in (await store.stats()).counts.items()}


async def ids(store: Store) -> set[str]:
    return {job.id for job in (await store.list()).items}


async def finished_at(store: Store, id: str) -> int:
    finished = (await store.get(id)).finished_ms
    assert finished is not None
    return finished


async def test_age(open_store: OpenStore) -> None:
    """Completed and cancelled jobs go when they have been finished for as long as their states are kept."""
    store = await open_store(retention=Retention(completed=HOUR, cancelled=2 * HOUR))
    session = await store.open_session("node", 15.0)
    completed = await finish(store, session, "completed")
    cancelled = await finish(store, session, "cancelled")

    at = await finished_at(store, completed) + HOUR_MS
    await store.prune(now=at - 1)
    assert await left(store) == {State.COMPLETED: 1, State.CANCELLED: 1}
    await store.prune(now=at)
    assert await left(store) == {State.CANCELLED: 1}
    await store.prune(now=await finished_at(store, cancelled) + 2 * HOUR_MS)
    assert await left(store) == {}
    await check(store)


async def test_number(open_store: OpenStore) -> None:
    """Of each state the newest so many are kept, and the oldest go first; each settle sees to it."""
    store = await open_store(retention=Retention(max_jobs=3))
    session = await store.open_session("node", 15.0)
    finished: dict[str, int] = {}
    for _ in range(6):
        id = await finish(store, session, "completed")
        # Of jobs that finish in one millisecond none is the older, so this one may be gone at once.
        finished[id] = await finished_at(store, id) if id in await ids(store) else max(finished.values())
    cancelled = {await finish(store, session, "cancelled") for _ in range(2)}

    assert await left(store) == {State.COMPLETED: 3, State.CANCELLED: 2}
    kept = await ids(store)
    assert cancelled < kept
    assert min(finished[id] for id in kept - cancelled) >= max(finished[id] for id in finished.keys() - kept)
    await check(store)


async def test_a_retention_of_its_own(store: Store) -> None:
    """A job may be given a retention that ends before that of its state."""
    session = await store.open_session("node", 15.0)
    short = await finish(store, session, "completed", retention_ms=60_000)
    usual = await finish(store, session, "completed")
    cancelled = await finish(store, session, "cancelled", retention_ms=60_000)
    last = await finished_at(store, cancelled)

    assert await store.prune(now=await finished_at(store, short) + 59_999) == 0
    assert await store.prune(now=last + 60_000) == 2

    assert [job.id for job in (await store.list()).items] == [usual]


@pytest.mark.parametrize("retention_ms", [None, 1000])
async def test_failed_jobs_stay(open_store: OpenStore, retention_ms: int | None) -> None:
    """No age, number or retention takes a dead letter away; an operator does."""
    store = await open_store(retention=Retention(max_jobs=1))
    session = await store.open_session("node", 15.0)
    ids = [await finish(store, session, "failed", retention_ms=retention_ms) for _ in range(5)]

    await store.prune(now=(await store.survey()).now_ms + FAR)
    assert await left(store) == {State.FAILED: 5}
    await store.delete(ids[0])

    assert await left(store) == {State.FAILED: 4}
    await check(store)


async def test_a_settle_prunes_at_most_twice_what_it_adds(open_store: OpenStore) -> None:
    """When a smaller retention is set, the surplus goes step by step with the settles that follow, or with a tick."""
    store = await open_store()
    session = await store.open_session("node", 15.0)
    await store.submit_many([NewJob(type=TYPE) for _ in range(20)])
    leases = (await store.claim(session, POOL, 20)).leases
    for lease in leases:
        await store.complete(lease)
    store.retention = Retention(max_jobs=2)

    numbers = []
    for _ in range(4):
        await finish(store, session, "completed")
        numbers.append((await left(store))[State.COMPLETED])

    assert numbers == [19, 18, 17, 16]
    assert await store.prune(limit=5) == 5
    assert await store.prune() == 9
    assert await store.prune() == 0
    await check(store)


async def test_a_step_prunes_no_more_than_its_limit(open_store: OpenStore) -> None:
    """All reasons to go share one limit."""
    store = await open_store(retention=Retention(completed=HOUR, cancelled=HOUR, max_jobs=2))
    session = await store.open_session("node", 15.0)
    for outcome in ("completed", "cancelled"):
        for n in range(6):
            store.retention = Retention(max_jobs=100)
            await finish(store, session, outcome, retention_ms=1000 if n % 2 else None)
    store.retention = Retention(completed=HOUR, cancelled=HOUR, max_jobs=2)
    now = (await store.survey()).now_ms + 2000

    gone = [await store.prune(limit=4, now=now) for _ in range(3)]

    assert gone == [4, 4, 0]
    assert await left(store) == {State.COMPLETED: 2, State.CANCELLED: 2}
    await check(store)


async def test_running_and_waiting_jobs_stay(store: Store) -> None:
    """Retention is for jobs that have ended; others stay however old they are."""
    session = await store.open_session("node", 15.0)
    await store.submit_many([NewJob(type=TYPE, retention_ms=1) for _ in range(2)])
    await store.submit(NewJob(type=TYPE, delay_ms=1000, retention_ms=1))
    await claim_one(store, session)

    await store.prune(now=(await store.survey()).now_ms + FAR)

    assert await left(store) == {State.ENQUEUED: 1, State.PROCESSING: 1, State.SCHEDULED: 1}


async def test_a_requeued_job_is_no_longer_about_to_go(store: Store) -> None:
    """A job that is run again leaves its retention behind, and gets it anew at its next end."""
    session = await store.open_session("node", 15.0)
    id = await finish(store, session, "completed", retention_ms=1000)
    await store.requeue(id)

    await store.prune(now=(await store.survey()).now_ms + FAR)
    assert await left(store) == {State.ENQUEUED: 1}
    await store.complete(await claim_one(store, session))

    await store.prune(now=(await store.survey()).now_ms + 2000)
    assert await left(store) == {}


async def test_what_goes_leaves_nothing_behind(store: Store) -> None:
    """With a job go its bodies, its attempts, its tags and its places in all indexes."""
    session = await store.open_session("node", 15.0)
    job = NewJob(type=TYPE, payload=b'"' + b"x" * 2000 + b'"', tags=("red", "blue"), retention_ms=1000)
    await store.submit(job)
    await store.release(await claim_one(store, session))
    await store.complete(await claim_one(store, session), b'"' + b"y" * 2000 + b'"')
    assert f"attempts:{job.id}" in await dump(store)

    await store.prune(now=(await store.survey()).now_ms + 2000)

    found = await dump(store)
    assert [name for name, key in found.items() if job.id in name or (key.kind != "hash" and job.id in key.value)] == []


async def test_parents_that_are_kept_take_nobodys_place(open_store: OpenStore) -> None:
    """However many jobs others still need, those that end now are kept as long as ever."""
    store = await open_store(retention=Retention(max_jobs=5))
    parents = [NewJob(type="parent") for _ in range(12)]
    gate = NewJob(type="gate")
    needs = (gate.id, *(parent.id for parent in parents))
    child = NewJob(type="child", options=JobOptions(depends_on=needs))
    others = [NewJob(type="other") for _ in range(6)]
    await store.submit_many([gate, *parents, child, *others])
    session = await store.open_session("node", 15.0)

    for type, number in (("parent", 12), ("other", 6)):
        for lease in (await store.claim(session, Pool.of([type]), number)).leases:
            await store.complete(lease)
    while await store.prune() > 0:
        pass

    assert len((await store.list(JobFilter(type="parent"))).items) == 12
    assert len((await store.list(JobFilter(type="other"))).items) == 5
    await check(store)
