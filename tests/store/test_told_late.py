"""What comes too late is refused: a token that is no longer the job's, a session that is gone, an old judgement."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from gopher_node.errors import SessionLost
from gopher_node.job import Lease, NewJob, State
from gopher_node.store import Beat, Pool, Store
from tests.store.keyspace import command, differences, dump, prefix
from tests.store.lives import FAR, POOL, TYPE, claim_one, relive

ERROR = b'{"code":"broken","message":""}'

Settling = Callable[[Store, Lease], Awaitable[Any]]

SETTLINGS: dict[str, Settling] = {
    "complete": lambda store, lease: store.complete(lease, b"1"),
    "retry": lambda store, lease: store.retry(lease, ERROR, 1.0),
    "fail": lambda store, lease: store.fail(lease, ERROR),
    "crash": lambda store, lease: store.crash(lease, ERROR),
    "release": lambda store, lease: store.release(lease),
    "cancelled": lambda store, lease: store.cancelled(lease),
    "progress": lambda store, lease: store.progress(lease, b"1"),
}


async def leased(store: Store) -> Lease:
    await store.submit(NewJob(type=TYPE))
    return await claim_one(store, await store.open_session("node", 15.0))


async def assert_refused(store: Store, lease: Lease) -> None:
    """Whatever it says with this lease, it is told that it is not the job's, and nothing is changed."""
    before = await dump(store)
    answers = [await settling(store, lease) for settling in SETTLINGS.values()]
    assert answers == [None] * 6 + [False]
    assert await store.leases.heartbeat([Beat(lease, progress=b"1")]) == [None]
    assert await store.leases.count_error(lease) is None
    assert [line for line in differences(before, await dump(store)) if not line.startswith("totals")] == []


@pytest.mark.parametrize("forged", ["nonce", "attempt", "id"])
async def test_another_token_is_refused(store: Store, forged: str) -> None:
    """A token counts only whole: the job's id, its attempt and the nonce of that attempt's claim."""
    lease = await leased(store)
    tokens = {
        "nonce": replace(lease, nonce="0123456789abcdef"),
        "attempt": replace(lease, job=replace(lease.job, attempt=2)),
        "id": replace(lease, job=replace(lease.job, id="another")),
    }

    await assert_refused(store, tokens[forged])


async def test_a_claim_that_a_failover_forgot_is_refused(store: Store) -> None:
    """When a failover undid a claim and another node made the same attempt, the first is told apart by its nonce."""
    lease = await leased(store)
    await store.release(lease)
    await command(store, "HDEL", f"{prefix(store)}job:{lease.job.id}", "settled", "attempt")
    await command(store, "DEL", f"{prefix(store)}attempts:{lease.job.id}")
    second = await claim_one(store, await store.open_session("other", 15.0))

    assert (second.job.id, second.job.attempt) == (lease.job.id, lease.job.attempt)
    await assert_refused(store, lease)


async def test_after_its_session_was_closed(store: Store) -> None:
    """A run that is heard of after its node has left settles nothing."""
    life, _ = await relive(store, "processing")
    await store.close_session(life.session)

    await assert_refused(store, life.lease)


async def test_after_its_deadline_was_enforced(store: Store) -> None:
    """A run that outlived its hard deadline and was taken away settles nothing, though its session lives."""
    life, _ = await relive(store, "processing")
    await store.reap_overdue((await store.survey(now=(await store.survey()).now_ms + FAR)).overdue)

    await assert_refused(store, life.lease)
    await store.renew(life.session)


async def test_after_cancel_and_release(store: Store) -> None:
    """A released run is told how that ended; when the job has been cancelled and run again since, nothing."""
    life, _ = await relive(store, "processing")
    await store.release(life.lease)
    await store.cancel(life.id)
    before = await dump(store)

    answers = [await settling(store, life.lease) for settling in SETTLINGS.values()]

    assert answers == [State.ENQUEUED] * 6 + [False]
    assert differences(before, await dump(store)) == []
    await store.requeue(life.id)
    second = await claim_one(store, life.session)
    await store.complete(second)
    await assert_refused(store, life.lease)


async def test_a_settled_run_cannot_be_settled_otherwise(store: Store) -> None:
    """The first outcome stands; whoever says another hears the first."""
    lease = await leased(store)
    await store.fail(lease, ERROR)
    before = await dump(store)

    answers = [await settling(store, lease) for settling in SETTLINGS.values()]

    assert answers == [State.FAILED] * 6 + [False]
    assert differences(before, await dump(store)) == []


async def test_a_session_that_is_gone_may_do_nothing(store: Store) -> None:
    """A reaped session, a closed one and one that never was can neither renew nor claim."""
    reaped, closed = await store.open_session("a", 15.0), await store.open_session("b", 15.0)
    never = replace(reaped, id="never")
    await store.reap_session(reaped.id, 0)
    await store.close_session(closed)
    await store.submit(NewJob(type=TYPE))

    for session in (reaped, closed, never):
        with pytest.raises(SessionLost):
            await store.renew(session)
        with pytest.raises(SessionLost):
            await store.claim(session, POOL, 1)


async def test_a_session_that_was_renewed_is_not_reaped(store: Store) -> None:
    """A judgement is compared with the pulse: whoever renewed since it was made keeps all."""
    life, _ = await relive(store, "processing")
    await store.renew(life.session)
    before = await dump(store)

    assert await store.reap_session(life.session.id, 0) == 0
    assert differences(before, await dump(store)) == []
    assert await store.reap_session(life.session.id, 1) == 1


async def test_a_run_that_has_ended_is_not_overdue(store: Store) -> None:
    """A run that was found overdue, and was settled and claimed again since, is left alone."""
    life, _ = await relive(store, "processing")
    overdue = (await store.survey(now=(await store.survey()).now_ms + FAR)).overdue
    await store.release(life.lease)
    await claim_one(store, life.session)
    before = await dump(store)

    assert await store.reap_overdue(overdue) == 0
    assert differences(before, await dump(store)) == []


async def test_a_session_holds_on_to_what_the_reaper_has_not_reached(store: Store) -> None:
    """A session with more jobs than one step takes loses its right to claim at once, and its jobs step by step."""
    await store.submit_many([NewJob(type=TYPE) for _ in range(5)])
    session = await store.open_session("node", 15.0)
    leases = (await store.claim(session, POOL, 5)).leases
    taken, left = await store._run("reap", "session", session.id, 0, 2)
    assert (taken, left) == (2, 3)

    with pytest.raises(SessionLost):
        await store.renew(session)
    answers = [await store.complete(lease) for lease in leases]
    assert sorted(map(str, answers)) == ["None", "None", "completed", "completed", "completed"]

    assert await store.reap_session(session.id, 0) == 0
    assert (await store.survey()).sessions == {}


async def test_a_node_may_have_any_name(store: Store) -> None:
    """A node's name may hold what separates the parts of a record, and what JSON has to escape."""
    name = 'host:1 "quoted" \\ end'
    session = await store.open_session(name, 15.0)
    await store.submit(NewJob(type=TYPE))
    await store.release(await claim_one(store, session))

    assert (await store.survey()).sessions[session.id].node == name
    (job,) = (await store.list()).items
    assert job.attempts[0]["node"] == name


async def test_a_forgotten_pool_is_opened_again(store: Store) -> None:
    """A pool that nobody asked for in ten minutes is forgotten, and comes back with the next claim."""
    session = await store.open_session("node", 15.0)
    pool = Pool.of([TYPE, "other"])
    await store.claim(session, pool, 1)
    now = (await store.survey()).now_ms
    await store.submit(NewJob(type=TYPE))

    assert await store.prune(now=now + 599_000) == 0
    assert await store.prune(now=now + 601_000) == 1

    assert (await store.stats()).pools == 0
    assert len((await store.claim(session, pool, 1)).leases) == 1
