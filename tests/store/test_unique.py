"""Unique jobs: a name that one job bears at a time, when it is free again, and what its twins are told."""

from __future__ import annotations

from typing import Any

import pytest

from gopher_node.errors import DuplicateJob
from gopher_node.job import JobOptions, NewJob, State, Unique
from gopher_node.store import Once, Pool, Store, Submitted
from tests.store.keyspace import differences, dump
from tests.store.lives import POOL, TYPE, claim_one
from tests.store.test_told_twice import Echo

NOW = 1_800_000_000_000


def unique(key: str = "order-17", payload: bytes = b'{"n":1}', type: str = TYPE, **options: Any) -> NewJob:
    timing = {name: options.pop(name) for name in ("due_ms", "delay_ms", "client_id", "id") if name in options}
    ttl_ms = options.pop("ttl_ms", None)
    return NewJob(
        type=type, payload=payload, options=JobOptions(unique=Unique(key=key, **options), ttl_ms=ttl_ms), **timing
    )


async def names(store: Store) -> dict[str, str]:
    return {name: key.value for name, key in (await dump(store)).items() if name.startswith("unique:")}


async def test_a_name_is_free_when_its_job_has_ended(store: Store) -> None:
    """Until then, in each state, a twin is answered with the job that bears it; retries included."""
    first = await store.submit(unique())
    session = await store.open_session("node", 15.0)

    waiting = await store.submit(unique())
    lease = await claim_one(store, session)
    running = await store.submit(unique())
    await store.retry(lease, b'{"code":"x","message":""}', 60.0)
    retried = await store.submit(unique())

    for twin, state in ((waiting, State.ENQUEUED), (running, State.PROCESSING), (retried, State.SCHEDULED)):
        assert (twin.id, twin.state, twin.created, twin.twin) == (first.id, state, False, True)
    await store.promote(now=NOW)
    await store.complete(await claim_one(store, session))
    assert await names(store) == {}
    second = await store.submit(unique())
    assert (second.created, second.twin) == (True, False)
    assert (await store.submit(unique(type="other"))).created, "names are per type"


async def test_a_name_is_free_when_its_job_starts(store: Store) -> None:
    """The second bears it then, and keeps it when the first, given back, starts and ends once more."""
    session = await store.open_session("node", 15.0)
    first = await store.submit(unique(until="started"))
    assert (await store.submit(unique(until="started"))).id == first.id
    lease = await claim_one(store, session)

    second = await store.submit(unique(until="started"))
    await store.release(lease)
    again = await claim_one(store, session)
    await store.complete(again)

    assert (again.job.id, second.created) == (first.id, True)
    assert await names(store) == {f"unique:{TYPE}:order-17": second.id}
    await store.cancel(second.id)
    assert await names(store) == {}


async def test_a_claim_by_id_starts_a_job_too(store: Store) -> None:
    first = await store.submit(unique(until="started"))

    await store.leases.claim_job(first.id)

    assert (await store.submit(unique(until="started"))).created


async def test_a_name_for_a_time(store: Store) -> None:
    """It is borne for so long from the submit on, whatever becomes of the job; and no longer than there is a job."""
    (first,) = await store.submit_many([unique(until="time", period_ms=60_000)], now=NOW)
    await store.cancel(first.id)

    (twin,) = await store.submit_many([unique(until="time", period_ms=60_000)], now=NOW + 59_999)
    (second,) = await store.submit_many([unique(until="time", period_ms=60_000)], now=NOW + 60_000)

    assert (twin.id, twin.state) == (first.id, State.CANCELLED)
    assert second.created
    await store.delete(second.id)
    assert await names(store) == {}


async def test_a_twin_replaces_what_waits(store: Store) -> None:
    """A debounce: the job that waits gets the payload, large or small, and the due time, and starts once."""
    large = b'"' + b"x" * 2000 + b'"'
    (first,) = await store.submit_many([unique(duplicates="replace", due_ms=NOW + 1000)], now=NOW)

    (later,) = await store.submit_many([unique(payload=large, duplicates="replace", delay_ms=5000)], now=NOW + 500)
    assert (later.id, later.state, later.due_ms) == (first.id, State.SCHEDULED, NOW + 5500)
    assert (await store.get(first.id)).payload == large
    (at_once,) = await store.submit_many([unique(payload=b"3", duplicates="replace")], now=NOW + 600)
    (in_lane,) = await store.submit_many([unique(payload=b"4", duplicates="replace", delay_ms=9000)], now=NOW + 700)

    assert (at_once.state, in_lane.state) == (State.ENQUEUED, State.ENQUEUED)
    lease = await claim_one(store, await store.open_session("node", 15.0))
    assert (lease.job.id, lease.job.payload) == (first.id, b"4")
    with pytest.raises(DuplicateJob) as refused:
        await store.submit(unique(duplicates="replace"))
    assert (refused.value.id, refused.value.state) == (first.id, State.PROCESSING)


async def test_a_refused_twin_takes_its_call_with_it(store: Store) -> None:
    """All of a call or nothing; other calls that share its request are not touched by it."""
    first = await store.submit(unique())
    before = await dump(store)

    with pytest.raises(DuplicateJob) as refused:
        await store.submit_many([NewJob(type=TYPE), unique("new"), unique(duplicates="reject")])

    assert (refused.value.id, refused.value.state, refused.value.index) == (first.id, State.ENQUEUED, 2)
    assert differences(before, await dump(store)) == []


async def test_twins_in_one_call(store: Store) -> None:
    first, twin, other, third = await store.submit_many(
        [unique(), unique(), NewJob(type=TYPE), unique(payload=b'"last"', duplicates="replace")]
    )

    assert (twin.id, twin.twin, third.id, third.twin, other.twin) == (first.id, True, first.id, True, False)
    assert (await store.get(first.id)).payload == b'"last"'
    assert sum((await store.stats()).counts.values()) == 2
    with pytest.raises(DuplicateJob) as refused:
        await store.submit_many([unique("b"), unique("b", duplicates="reject")])
    assert refused.value.index == 1
    assert sum((await store.stats()).counts.values()) == 2


async def test_a_lost_answer(store: Store) -> None:
    """Each way of meeting a twin, told twice: the same answer, and nothing changes any more."""
    first = await store.submit(unique(due_ms=NOW + 1000))
    echo = Echo(store)

    once = Once("caller:key", "digest")
    answers: list[Submitted] = [
        await store.submit(unique()),
        await store.submit(unique(duplicates="replace", payload=b"5", delay_ms=60_000)),
        *await store.submit_many([unique("new"), unique(), unique("own", client_id=True, id="own")], once=once),
        *await store.submit_many([unique("b"), unique(), unique("c", client_id=True, id="c")]),
    ]

    assert echo.faults == []
    assert [answer.twin for answer in answers] == [True, True, False, True, False, False, True, False]
    assert {answer.id for answer in answers if answer.twin} == {first.id}
    await store.delete(first.id)
    again = await store.submit_many([unique("new"), unique(), unique("own", client_id=True, id="own")], once=once)
    assert [(a.id, a.state, a.twin, a.due_ms) for a in again] == [
        (a.id, a.state, a.twin, a.due_ms) for a in answers[2:5]
    ]
    assert all(answer.replayed for answer in again)


async def test_a_requeued_job_needs_its_name(store: Store) -> None:
    first = await store.submit(unique())
    await store.cancel(first.id)
    second = await store.submit(unique())

    with pytest.raises(DuplicateJob) as refused:
        await store.requeue(first.id)

    assert (refused.value.id, (await store.get(first.id)).state) == (second.id, State.CANCELLED)
    await store.cancel(second.id)
    await store.requeue(first.id)
    assert await names(store) == {f"unique:{TYPE}:order-17": first.id}
    await store.purge(TYPE)
    assert await names(store) == {}


async def test_follow_ups_that_have_a_twin_are_not_stored(store: Store) -> None:
    """The completion that brings them is never refused."""
    session = await store.open_session("node", 15.0)
    await store.submit(NewJob(type="parent"))
    lease = await claim_one(store, session, Pool.of(["parent"]))
    first = await store.submit(unique())

    state = await store.complete(lease, follow_ups=[unique(duplicates="reject"), unique("new")])

    assert state is State.COMPLETED
    taken = (await store.claim(session, POOL, 10)).leases
    assert [each.job.id == first.id for each in taken] == [True, False]


async def test_a_job_that_waits_for_a_twin(store: Store) -> None:
    """What waits for jobs of its call that met a twin waits for that one, once, and told twice changes nothing."""
    first = await store.submit(unique())
    session = await store.open_session("node", 15.0)
    twin, again = unique(), unique()
    child = NewJob(type="child", options=JobOptions(depends_on=(twin.id, again.id)))

    answers = await store.submit_many([twin, again, child])
    assert [answer.id for answer in answers] == [first.id, first.id, child.id]
    assert await store.submit_many([twin, again, child])
    assert (await store.get(child.id)).options.depends_on == (first.id,)
    assert (await store.get(child.id)).state is State.BLOCKED

    await store.complete(await claim_one(store, session))
    assert (await store.get(child.id)).state is State.ENQUEUED


async def test_a_follow_up_that_waits_for_a_twin(store: Store) -> None:
    await store.submit(NewJob(type=TYPE))
    session = await store.open_session("node", 15.0)
    lease = await claim_one(store, session)
    first = await store.submit(unique())
    twin = unique()
    child = NewJob(type="child", options=JobOptions(depends_on=(twin.id,)))

    await store.complete(lease, b"1", [twin, child])

    found = await store.get(child.id)
    assert (found.state, found.options.depends_on) == (State.BLOCKED, (first.id,))


async def test_what_has_expired_is_no_twin(store: Store) -> None:
    """A job that will never run does not stand for a new one; a tick then ends it, and the name stays the new one's."""
    (first,) = await store.submit_many([unique(ttl_ms=1000)], now=NOW)
    (twin,) = await store.submit_many([unique()], now=NOW + 999)
    assert (twin.id, twin.twin) == (first.id, True)

    (second,) = await store.submit_many([unique()], now=NOW + 1000)

    assert second.created
    assert set((await names(store)).values()) == {second.id}
    assert await store.expire(now=NOW + 1000) == 1
    assert set((await names(store)).values()) == {second.id}


async def test_a_requeued_job_takes_the_name_of_what_has_expired(store: Store) -> None:
    (first,) = await store.submit_many([unique()], now=NOW)
    await store.cancel(first.id, now=NOW)
    (mortal,) = await store.submit_many([unique(ttl_ms=1000)], now=NOW)
    with pytest.raises(DuplicateJob):
        await store.requeue(first.id, now=NOW + 999)

    assert (await store.requeue(first.id, now=NOW + 1000)).state is State.ENQUEUED
    assert set((await names(store)).values()) == {first.id}
    assert (mortal.created, mortal.twin) == (True, False)
