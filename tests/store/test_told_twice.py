"""Every transition told a second time, as after a lost answer: the same answer, and nothing changes any more."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gopher_node.job import Job, NewJob, State
from gopher_node.store import Pool, Store
from tests.store.conftest import OpenStore
from tests.store.consistency import find_problems
from tests.store.keyspace import differences, dump
from tests.store.lives import FAR, POOL, TYPE, Life, claim_one, relive
from tests.store.test_transitions import ERROR, OPERATING, SETTLING, TIMEKEEPING, Act

# Scripts that answer what they found at this telling: how many, the state before, the time.
TELLS_WHAT_IT_FOUND = {"submit", "promote", "prune", "reap", "survey"}

# The verbs whose caller learns of that. A count is then too low by what the lost answer counted.
COUNTS = {"promote", "prune", "reap the overdue", "reap the holder's session", "submit the same id"}

# What a repeat may touch all the same: the time of a pool's last use, the pulse, and the count of stale settlements.
TOUCHED = {
    "claim": ("pools", "turn", "waiting"),
    "open_pool": ("pools",),
    "renew": ("sessions",),
    "settle": ("totals",),
}


class Echo:
    """Tells each script to the server twice, as after a lost answer, and remembers where that made a difference."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.told: list[str] = []
        self.faults: list[str] = []
        self._run = store._scripts.run
        store._scripts.run = self.run

    async def run(self, name: str, *arguments: Any, now: int | None = None) -> Any:
        self.told.append(name)
        first = await self._run(name, *arguments, now=now)
        before = await dump(self.store)
        second = await self._run(name, *arguments, now=now)
        changed = differences(before, await dump(self.store))
        self.faults += [
            f"{name}: {line}"
            for line in changed
            if not line.startswith(TOUCHED.get(name, ("no key",)))
            # A token that nobody comes for ends by itself, at this moment too.
            and not (line.startswith("wake:") and line.endswith("-> None"))
        ]
        if first != second and name not in TELLS_WHAT_IT_FOUND:
            self.faults.append(f"{name}: answered {first}, then {second}")
        return second


VERBS = {**OPERATING, **TIMEKEEPING, **SETTLING}


async def try_act(act: Act, store: Store, life: Life) -> Any:
    try:
        return await act(store, life)
    except Exception as error:
        return type(error)


@pytest.mark.parametrize("verb", VERBS)
async def test_every_verb_told_twice(open_store: OpenStore, namespace: str, verb: str) -> None:
    """In each state that the verb changes, telling it twice has the effect and the answer of telling it once."""
    row = VERBS[verb]
    for state in row.changes:
        once = await open_store(namespace=f"{namespace}-{state}-once")
        life, _ = await relive(once, state)
        answer = await try_act(row.act, once, life)
        store = await open_store(namespace=f"{namespace}-{state}")
        await relive(store, state)
        echo = Echo(store)

        answer_told_twice = await try_act(row.act, store, life)

        assert echo.told
        assert echo.faults == []
        if not isinstance(answer, Job) and verb not in COUNTS:
            assert answer_told_twice == answer
        assert find_problems(await dump(store)) == []


async def test_a_repeated_claim_gets_its_jobs_again(store: Store) -> None:
    """A claim with the id of the session's last one is answered with the same leases, and takes no more jobs."""
    session = await store.open_session("node", 15.0)
    await store.submit_many([NewJob(type=TYPE, payload=b"%d" % n, group="acme", tags=("red",)) for n in range(5)])
    first = await store.claim(session, POOL, 3, claim_id="one")
    before = await dump(store)

    again = await store.claim(session, POOL, 3, claim_id="one")

    assert again.leases == first.leases
    assert len(first.leases) == 3
    assert differences(before, await dump(store)) == []


async def test_a_repeated_claim_keeps_quiet_about_what_it_no_longer_holds(store: Store) -> None:
    """Of a claim's jobs, those that were reaped or settled since are not given out again."""
    session = await store.open_session("node", 15.0)
    await store.submit_many([NewJob(type=TYPE) for _ in range(3)])
    first = await store.claim(session, POOL, 3, claim_id="one")
    settled, taken, kept = first.leases
    await store.complete(settled)
    overdue = (await store.survey(now=(await store.survey()).now_ms + FAR)).overdue
    await store.reap_overdue([run for run in overdue if run.id == taken.job.id])

    again = await store.claim(session, POOL, 3, claim_id="one")

    assert [lease.token for lease in again.leases] == [kept.token]


async def test_another_claim_id_is_another_claim(store: Store) -> None:
    """Only the session's last claim can be repeated; a new id takes new jobs."""
    session = await store.open_session("node", 15.0)
    await store.submit_many([NewJob(type=TYPE) for _ in range(4)])

    first = await store.claim(session, POOL, 2, claim_id="one")
    second = await store.claim(session, POOL, 2, claim_id="two")

    assert len({lease.job.id for lease in first.leases + second.leases}) == 4


async def test_follow_ups_are_created_once(store: Store) -> None:
    """A completion told twice creates its follow-up jobs once, and one that is stale creates none."""
    await store.submit(NewJob(type=TYPE))
    session = await store.open_session("node", 15.0)
    lease = await claim_one(store, session)
    children = [NewJob(type="child", group="acme"), NewJob(type="child", delay_ms=60_000)]
    echo = Echo(store)

    assert await store.complete(lease, b"1", children) is State.COMPLETED

    assert [(await store.get(child.id)).state for child in children] == [State.ENQUEUED, State.SCHEDULED]
    assert (await store.stats()).totals["submitted"] == 3
    assert echo.faults == []
    await store.delete(children[0].id)
    assert await store.complete(lease, b"1", children) is State.COMPLETED
    assert (await store.stats()).totals["submitted"] == 3


@pytest.mark.parametrize("outcome", ["retry", "fail", "crash", "release", "cancelled"])
async def test_only_a_completion_creates_follow_ups(store: Store, outcome: str) -> None:
    """A run that was reaped, or that ends in anything but completion, leaves no follow-ups."""
    child = NewJob(type="child")
    await store.submit(NewJob(type=TYPE))
    dead, session = await store.open_session("dead", 15.0), await store.open_session("node", 15.0)
    late = await claim_one(store, dead)
    await store.reap_session(dead.id, 0)
    lease = await claim_one(store, session)

    assert await store.complete(late, b"1", [child]) is None
    assert await store._settle(outcome, lease, b"", follow_ups=[child]) is not None
    assert await store.complete(lease, b"1", [child]) is not State.COMPLETED

    assert (await store.stats()).totals["submitted"] == 1


async def test_an_operators_retry_is_carried_out_once(store: Store) -> None:
    """A requeue told again after the job has already ended once more does not run it a third time."""
    session = await store.open_session("node", 15.0)
    job = NewJob(type=TYPE)
    await store.submit(job)
    await store.fail(await claim_one(store, session), ERROR)
    first = await store._run("requeue", "operation", "failed", job.id)
    await store.fail(await claim_one(store, session), ERROR)
    before = await dump(store)

    again = await store._run("requeue", "operation", "failed", job.id)

    assert again == first
    assert differences(before, await dump(store)) == []
    assert await store.requeue_failed() == 1


Opening = Callable[[Store], Awaitable[Any]]

OPENINGS: dict[str, Opening] = {
    "open": lambda store: store.open(),
    "open a session": lambda store: store.open_session("node", 15.0),
    "open a pool": lambda store: store._run("open_pool", "pool", 64, "a", "b"),
}


@pytest.mark.parametrize("opening", OPENINGS)
async def test_opening_twice(store: Store, opening: str) -> None:
    """What is open is left as it is."""
    await store.submit(NewJob(type="a"))
    echo = Echo(store)

    await OPENINGS[opening](store)

    assert echo.faults == []


async def test_a_session_is_closed_and_reaped_once(store: Store) -> None:
    """Whoever closes or reaps a session that has gone finds nothing to do."""
    await store.submit_many([NewJob(type=TYPE) for _ in range(3)])
    session = await store.open_session("node", 15.0)
    await store.claim(session, POOL, 3)
    await store.close_session(session)
    before = await dump(store)

    await store.close_session(session)

    assert await store.reap_session(session.id, 0) == 0
    assert differences(before, await dump(store)) == []


async def test_a_batch_with_the_same_settlement_twice(store: Store) -> None:
    """Two settlements of one lease in one request are answered alike, and the first counts."""
    await store.submit(NewJob(type=TYPE))
    session = await store.open_session("node", 15.0)
    lease = await claim_one(store, session)
    words = (lease.job.id, lease.job.attempt, lease.nonce)

    answers = await store._send_settlements([("complete", *words, b"1", 0, 0), ("fail", *words, b"{}", 0, 0)])

    assert answers == [b"completed", b"completed"]
    assert (await store.get(lease.job.id)).result == b"1"


async def test_a_batch_with_the_same_job_twice(store: Store) -> None:
    """Of two new jobs with one id in one step, the first is stored and the second finds it."""
    job = NewJob(type=TYPE, payload=b"1")

    answers = await store.submit_many([job, NewJob(type="other", id=job.id)])

    assert [answer.created for answer in answers] == [True, False]
    claimed = await store.claim(await store.open_session("node", 15.0), Pool.of([TYPE, "other"]), 10)
    assert [lease.job.payload for lease in claimed.leases] == [b"1"]
