"""Jobs that may not start after a time: each way in which that time may come, and that it is never passed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gopher_node.errors import InvalidState
from gopher_node.job import JobOptions, NewJob, State
from gopher_node.scheduler import Scheduler
from gopher_node.store import Store
from gopher_node.telemetry import Events
from tests.store.keyspace import differences, dump
from tests.store.lives import POOL, TYPE, claim_one
from tests.store.test_told_twice import Echo

NOW = 1_800_000_000_000


def mortal(ttl_ms: int = 1000, **options: Any) -> NewJob:
    return NewJob(type=TYPE, options=JobOptions(ttl_ms=ttl_ms), **options)


async def test_a_tick_ends_what_has_expired(store: Store) -> None:
    """Scheduled or in a lane; on time, once, and with callbacks as any other end has."""
    jobs = [
        mortal(),
        mortal(delay_ms=90_000, callback_url="https://example.org/hook"),
        mortal(ttl_ms=5000),
        NewJob(type=TYPE),
    ]
    await store.submit_many(jobs, now=NOW)
    echo = Echo(store)

    promoted = await store.promote(now=NOW)
    assert promoted.next_expiry_in == 1.0
    assert await store.expire(now=NOW + 999) == 0
    await store.expire(now=NOW + 1000)

    found = [await store.get(job.id) for job in jobs]
    assert [job.state for job in found] == [State.CANCELLED, State.CANCELLED, State.ENQUEUED, State.ENQUEUED]
    assert [(job.error or {}).get("code") for job in found] == ["expired", "expired", None, None]
    assert [job.expires_ms for job in found[:3]] == [NOW + 1000, NOW + 1000, NOW + 5000]
    assert echo.faults == ["expire: answered 2, then 0"], "nothing but the count changes when it is told twice"
    page = await store.list()
    (callback,) = [job for job in page.items if job.type == "job_callback"]
    assert b'"code":"expired"' in callback.payload


async def test_a_claim_starts_nothing_that_has_expired(store: Store) -> None:
    """Wherever it stands among those that have not; then a tick is due at once."""
    fresh = [NewJob(type=TYPE) for _ in range(3)]
    await store.submit_many([mortal(), fresh[0], mortal(), mortal(), fresh[1], mortal(), fresh[2]], now=NOW)
    session = await store.open_session("node", 15.0)

    claimed = await store.claim(session, POOL, 10, now=NOW + 1000)

    assert [lease.job.id for lease in claimed.leases] == [job.id for job in fresh]
    assert (await store.promote(now=NOW + 1000)).next_expiry_in == 0.0
    assert await store.expire(now=NOW + 1000) == 4
    assert (await store.claim(session, POOL, 10, now=NOW + 1000)).leases == []


async def test_a_claim_by_id_starts_nothing_that_has_expired(store: Store) -> None:
    (job,) = await store.submit_many([mortal()], now=NOW)
    before = await dump(store)

    with pytest.raises(InvalidState, match="cancelled"):
        await store.leases.claim_job(job.id, now=NOW + 1000)

    assert differences(before, await dump(store)) == []
    lease = await store.leases.claim_job(job.id, now=NOW + 999)
    assert lease.job.expires_ms == NOW + 1000


async def test_a_run_may_end_after_its_deadline_and_not_begin_again(store: Store) -> None:
    """What runs at its time is left alone; a retry, a release or a crash then has no other run."""
    ends = ("complete", "retry", "release", "crash")
    jobs = [mortal() for _ in ends]
    await store.submit_many(jobs, now=NOW)
    session = await store.open_session("node", 15.0)
    leases = {}
    for end in ends:
        leases[end] = await claim_one(store, session, now=NOW)
    assert await store.expire(now=NOW + 1000) == 0

    await store.complete(leases["complete"])
    await store.retry(leases["retry"], b'{"code":"x","message":""}', 0.0)
    await store.release(leases["release"])
    await store.reap_session(session.id, 0, now=NOW + 1000)
    assert await store.expire(now=NOW + 1000) == 3

    states = [(await store.get(job.id)).state for job in jobs]
    assert states == [State.COMPLETED, State.CANCELLED, State.CANCELLED, State.CANCELLED]
    with pytest.raises(InvalidState, match="deadline"):
        await store.requeue(jobs[1].id, now=NOW + 1000)
    await store.requeue(jobs[0].id, now=NOW + 999)
    assert await store.expire(now=NOW + 1000) == 1


async def test_the_scheduler_is_there_on_time(valkey_store: Store) -> None:
    """A node that stores a job sets its alarm by the deadline, and its tick ends the job."""
    alarms: list[float] = []
    valkey_store.on_scheduled = alarms.append
    job = mortal(ttl_ms=50)
    await valkey_store.submit(job)
    assert alarms == [0.05]
    ticking = asyncio.create_task(Scheduler(valkey_store, Events()).run())

    ended = await valkey_store.wait(job.id, 10.0)

    ticking.cancel()
    await asyncio.gather(ticking, return_exceptions=True)
    assert ended.state is State.CANCELLED
    assert 50 <= (ended.finished_ms or 0) - ended.created_ms < 1000, "the next look without an alarm comes later"
