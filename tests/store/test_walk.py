"""Thousands of verbs at random, against a model that keeps the same jobs in a dict."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence

import orjson
import pytest

from gopher_node.errors import InvalidState, JobNotFound, SessionLost
from gopher_node.job import SUSPECT, Job, Lease, NewJob, Priority, State, Token
from gopher_node.store import Beat, Beaten, JobFilter, Overdue, Pool, Retention, Session, Store
from tests.store.conftest import OpenStore
from tests.store.consistency import find_problems
from tests.store.keyspace import dump
from tests.store.model import CANCEL_GRACE_MS, Life, Model
from tests.store.operator_steps import TYPES, OperatorSteps
from tests.store.test_told_twice import Echo

POOLS = [Pool.of(types) for types in (["a"], ["a", "b"], ["b", "c"], ["a", "b", "c"], [])]
RETENTION = Retention(completed=900, cancelled=600, max_jobs=12)
OUTCOMES = ("complete", "complete", "retry", "retry", "fail", "crash", "crash", "release", "cancelled")
TIMEOUT_S, GRACE_S, LEASE_S = 60.0, 5.0, 15.0


class Walk(OperatorSteps):
    """Takes steps in the store and in the model alike, and compares what each says."""

    def __init__(self, store: Store, rng: random.Random, now_ms: int, crowd: int) -> None:
        self.store = store
        self.crowd = crowd
        self.rng = rng
        self.model = Model(RETENTION, now_ms)
        self.sessions: dict[str, tuple[Session, int]] = {}
        self.leases: list[tuple[str, int, str]] = []
        self.steps: list[tuple[Callable[[], Awaitable[None]], int]] = [
            (self.submit, 8),
            (self.claim, 10),
            (self.lease, 5),
            (self.claim_job, 2),
            (self.heartbeat, 4),
            (self.count_error, 1),
            (self.settle, 12),
            (self.settle_late, 2),
            (self.open_session, 1),
            (self.renew, 2),
            (self.close_session, 1),
            (self.reap_session, 1),
            (self.reap_overdue, 1),
            (self.promote, 3),
            (self.cancel, 3),
            (self.requeue, 2),
            (self.requeue_failed, 1),
            (self.delete, 2),
            (self.edit, 3),
            (self.run_now, 2),
            (self.cancel_many, 1),
            (self.purge, 1),
            (self.prune, 1),
            (self.look, 3),
        ]

    async def step(self) -> None:
        steps, weights = zip(*self.steps, strict=True)
        self.model.now_ms += self.rng.choice((0, 1, 50, 3000))
        await self.rng.choices(steps, weights)[0]()

    def any_session(self) -> tuple[Session, int] | None:
        return self.rng.choice([*self.sessions.values(), None])

    async def submit(self) -> None:
        room = max(0, self.crowd - len(self.model.lives))
        jobs = [self.new_job() for _ in range(min(room, self.rng.choice((1, 1, 2, 5))))]
        if (life := self.any_life()) is not None and await self.is_there(life):
            jobs.append(life.job)
        known = set(self.model.lives)

        answers = await self.store.submit_many(jobs, now=self.now)

        self.model.submit(jobs)
        assert [answer.state for answer in answers] == [self.model.lives[job.id].state for job in jobs]
        # Told twice, all are known by then.
        assert [answer.created for answer in answers] in ([job.id not in known for job in jobs], [False] * len(jobs))

    def new_job(self) -> NewJob:
        rng = self.rng
        return NewJob(
            type=rng.choice(TYPES),
            payload=b'"' + b"x" * rng.choice((1, 50, 1500)) + b'"',
            priority=rng.choice(list(Priority)),
            group=rng.choice(("", "x", "y:z")),
            due_ms=rng.choice((None, None, None, self.now - 5, self.now + 2000)),
            timeout_ms=rng.choice((None, 5000)),
            max_retries=rng.choice((0, 1, 3)),
            max_crashes=rng.choice((0, 1, 3, 9)),
            retention_ms=rng.choice((None, None, 10_000)),
            tags=rng.choice(((), ("red",), ("red", "blue"))),
            callback_url=rng.choice(("", "", "", "https://example.org")),
        )

    async def open_session(self) -> None:
        if len(self.sessions) < 5:
            session = await self.store.open_session("node", 15.0)
            self.sessions[session.id] = (session, 0)

    async def claim(self) -> None:
        if (chosen := self.any_session()) is None:
            return
        session, _ = chosen
        pool, limit = self.rng.choice(POOLS), self.rng.choice((1, 2, 8))
        limits = {type: self.rng.choice((0, 1, 2)) for type in TYPES if self.rng.random() < 0.2}
        suspects = self.rng.choice((None, 0, 1))

        claimed = await self.store.claim(
            session, pool, limit, timeout=TIMEOUT_S, grace=GRACE_S, limits=limits, suspects=suspects, now=self.now
        )

        got = sum(lease.job.is_suspect for lease in claimed.leases)
        for life in await self.put_off(pool.types):
            assert got == suspects
            self.model.put_off(life)
        assert suspects is None or got <= suspects
        assert len(claimed.leases) == self.model.servable(pool.types, limits, limit)
        for lease in claimed.leases:
            default_ms, grace_ms = round((TIMEOUT_S + GRACE_S) * 1000), round(GRACE_S * 1000)
            life = self.model.claim(lease.job.id, session.id, lease.nonce, default_ms, grace_ms)
            assert life.job.type in pool.types
            assert (lease.job.attempt, lease.job.payload) == (life.attempt, life.job.payload)
            assert (lease.job.group, lease.job.priority, lease.job.tags) == (
                life.job.group,
                life.priority,
                life.job.tags,
            )
            assert (lease.job.errors, lease.job.crashes) == (life.errors, life.crashes)
            self.leases.append((lease.job.id, lease.job.attempt, lease.nonce))

    async def put_off(self, types: Sequence[str]) -> list[Life]:
        """The suspects that a claim has just found too many."""
        waiting = [life for life in self.model.in_state(State.ENQUEUED) if life.crashes >= SUSPECT]
        states = [(await self.store.get(life.job.id)).state for life in waiting]
        found = [life for life, state in zip(waiting, states, strict=True) if state is State.SCHEDULED]
        assert all(life.job.type in types for life in found)
        return found

    async def lease(self) -> None:
        pool, limit = self.rng.choice(POOLS), self.rng.choice((1, 2, 8))
        expected = self.model.servable(pool.types, {}, limit)

        claimed = await self.store.leases.claim(
            pool, limit, lease=LEASE_S, timeout=TIMEOUT_S, grace=GRACE_S, waits=self.rng.random() < 0.5, now=self.now
        )

        assert len(claimed.leases) == expected
        for lease in claimed.leases:
            self.leased(lease)
            assert lease.job.type in pool.types

    async def claim_job(self) -> None:
        if (life := self.any_life()) is not None and await self.is_there(life):
            free = life.state is State.ENQUEUED
            with contextlib.nullcontext() if free else pytest.raises(InvalidState):
                lease = await self.store.leases.claim_job(
                    life.job.id, lease=LEASE_S, timeout=TIMEOUT_S, grace=GRACE_S, now=self.now
                )
                self.leased(lease)
                assert await self.store.leases.open_token(life.job.id) == lease.token

    def leased(self, lease: Lease) -> None:
        default_ms, grace_ms = round((TIMEOUT_S + GRACE_S) * 1000), round(GRACE_S * 1000)
        life = self.model.claim(lease.job.id, "", lease.nonce, default_ms, grace_ms, round(LEASE_S * 1000))
        assert (lease.job.attempt, lease.job.payload, lease.expires_ms) == (
            life.attempt,
            life.job.payload,
            life.deadline_ms,
        )
        assert (lease.job.errors, lease.job.crashes) == (life.errors, life.crashes)
        self.leases.append((lease.job.id, lease.job.attempt, lease.nonce))

    async def heartbeat(self) -> None:
        held = self.model.in_state(State.PROCESSING)
        lives = self.rng.sample(held, min(3, len(held)))
        length = self.rng.choice((None, 2 * LEASE_S))
        beats = [Beat(Token(life.job.id, life.attempt, life.nonce), length) for life in lives]
        running = {life.nonce for life in held}
        stale = [Beat(Token(*lease)) for lease in self.leases if lease[2] not in running][-1:]

        told = [*beats, *stale]
        beaten = await self.store.leases.heartbeat(told, cancel_grace=CANCEL_GRACE_MS / 1000, now=self.now)

        length_ms = None if length is None else round(length * 1000)
        ends = [self.model.heartbeat(life, length_ms) for life in lives]
        renewed = [None if end is None else Beaten(end, life.cancel) for end, life in zip(ends, lives, strict=True)]
        assert beaten == renewed + [None] * len(stale)

    async def count_error(self) -> None:
        for life in self.model.in_state(State.PROCESSING)[:1]:
            token = Token(life.job.id, life.attempt, life.nonce)
            assert await self.store.leases.count_error(token) == self.model.count_error(life)

    async def settle(self) -> None:
        held = self.model.in_state(State.PROCESSING)
        await self.say([(life.job.id, life.attempt, life.nonce) for life in self.rng.sample(held, min(3, len(held)))])

    async def settle_late(self) -> None:
        running = {life.nonce for life in self.model.in_state(State.PROCESSING)}
        late = [lease for lease in self.leases if lease[2] not in running]
        if late:
            lease = self.rng.choice(late)
            before = await dump(self.store)
            (answer,) = await self.store._send_settlements([("complete", *lease, b"late", 0, 0)], now=self.now)
            after = await dump(self.store)
            settled = before.get(f"job:{lease[0]}")
            told = settled.value.get("settled", "") if settled else ""
            state, _, mark = told.partition(":")[2].partition(":") if told.startswith(lease[2]) else ("stale", "", "")
            assert answer.decode() == ("other" if mark not in ("", "0") else state)
            assert {name: key for name, key in before.items() if name != "totals" and key.ttl < 0} == {
                name: key for name, key in after.items() if name != "totals" and key.ttl < 0
            }

    async def say(self, leases: list[tuple[str, int, str]]) -> None:
        told = [(self.rng.choice(OUTCOMES), lease, self.rng.choice((0, 5000))) for lease in leases]
        bodies = [b"%d" % n if outcome == "complete" else b'{"code":"x"}' for n, (outcome, _, _) in enumerate(told)]

        answers = await self.store._send_settlements(
            [(outcome, *lease, body, delay, 0) for (outcome, lease, delay), body in zip(told, bodies, strict=True)],
            now=self.now,
        )

        for (outcome, lease, delay), body, answer in zip(told, bodies, answers, strict=True):
            assert answer.decode() == self.model.settle(lease[0], lease[2], outcome, body, delay)
        self.model.prune()

    async def renew(self) -> None:
        if (chosen := self.any_session()) is not None:
            session, renewals = chosen
            await self.store.renew(session)
            self.sessions[session.id] = (session, renewals + 1)

    async def close_session(self) -> None:
        if (chosen := self.any_session()) is not None:
            session, _ = chosen
            await self.store.close_session(session, now=self.now)
            self.model.close(session.id)
            del self.sessions[session.id]
            with pytest.raises(SessionLost):
                await self.store.renew(session)

    async def reap_session(self) -> None:
        if (chosen := self.any_session()) is not None:
            session, _ = chosen
            renewals = (await self.store.survey()).sessions[session.id].renewals
            assert await self.store.reap_session(session.id, renewals + 1, now=self.now) == 0
            await self.store.reap_session(session.id, renewals, now=self.now)
            self.model.node_dies(session.id)
            del self.sessions[session.id]

    async def reap_overdue(self) -> None:
        survey = await self.store.survey(now=self.now)
        running = self.model.in_state(State.PROCESSING)
        overdue = [life for life in running if life.deadline_ms <= self.now]
        assert {run.id for run in survey.overdue} == {life.job.id for life in overdue}
        false = [Overdue(life.job.id, "0" * 16, 0, 0) for life in running[:2]]
        await self.store.reap_overdue([*survey.overdue, *false], now=self.now)
        self.model.lapse(overdue)

    async def promote(self) -> None:
        await self.store.promote(now=self.now)
        self.model.promote()

    async def prune(self) -> None:
        await self.store.prune(now=self.now)
        self.model.prune()
        await self.compare()
        assert len(self.model.in_state(State.COMPLETED)) <= RETENTION.max_jobs

    async def is_there(self, life: Life) -> bool:
        """Whether the store still has the job; if not, it must have been pruned."""
        try:
            self.model.assert_same(await self.store.get(life.job.id))
        except JobNotFound:
            self.forget_pruned(life)
            return False
        return True

    def forget_pruned(self, life: Life) -> None:
        assert life.may_be_gone
        self.model.drop(life)

    async def look(self) -> None:
        state = self.rng.choice(list(State))
        found = {job.id for job in await self.jobs(JobFilter(states=(state,)))}
        known = {life.job.id: life for life in self.model.in_state(state)}
        assert found <= set(known)
        for life in [known[id] for id in set(known) - found]:
            self.forget_pruned(life)

    async def jobs(self, filter: JobFilter, *, callbacks: bool = False) -> list[Job]:
        found: list[Job] = []
        cursor = None
        while True:
            page = await self.store.list(filter, 1000, cursor)
            found += [job for job in page.items if callbacks or job.type != "job_callback"]
            cursor = page.next_cursor
            if cursor is None:
                return found

    async def compare(self) -> None:
        """The whole store with the whole model, and the store with itself."""
        assert find_problems(await dump(self.store)) == []
        jobs = await self.jobs(JobFilter())
        callbacks = [
            orjson.loads(job.payload) for job in await self.jobs(JobFilter(type="job_callback"), callbacks=True)
        ]
        told = [(said["job_id"], said["status"], said["attempt"], said["finished"]) for said in callbacks]
        assert sorted(told) == sorted(self.model.ends)
        for life in [life for id, life in self.model.lives.items() if id not in {job.id for job in jobs}]:
            self.forget_pruned(life)
        assert {job.id for job in jobs} == set(self.model.lives)
        for job in jobs:
            self.model.assert_same(job)


async def walk(store: Store, seed: int, steps: int, crowd: int) -> None:
    """So many steps among at most so many jobs; with fakeredis, which is ten times as slow as a server, fewer."""
    if not store._connections.url.startswith("unix:"):
        steps //= 4
    walk = Walk(store, random.Random(seed), (await store.survey()).now_ms, crowd)
    for n in range(steps):
        await walk.step()
        if n % 40 == 39:
            await walk.compare()
    await walk.compare()


@pytest.mark.parametrize("seed", [1, 2])
async def test_random_walk(open_store: OpenStore, seed: int) -> None:
    """Whatever the order of verbs, the store agrees with the model and with itself, and each thing happens."""
    store = await open_store(retention=RETENTION)

    await walk(store, seed, steps=1000, crowd=60)

    totals = (await store.stats()).totals
    assert totals.keys() >= {"submitted", "completed", "failed", "cancelled", "retried", "released"}


async def test_random_walk_told_twice(open_store: OpenStore) -> None:
    """The same when every script is told twice: the second time changes nothing, wherever the first was told."""
    store = await open_store(retention=RETENTION)
    echo = Echo(store)

    await walk(store, 4, steps=160, crowd=20)

    assert echo.faults == []


def test_the_model_is_independent() -> None:
    """The model disagrees when a rule is broken, so that its agreement means something."""
    model = Model(RETENTION, 1000)
    job = NewJob(type="a", max_retries=0)
    model.submit([job])
    model.claim(job.id, "session", "nonce", 1, 1)

    assert model.settle(job.id, "another", "complete", b"1", 0) is None
    assert model.settle(job.id, "nonce", "retry", b"{}", 0) is State.FAILED
    assert model.settle(job.id, "nonce", "complete", b"1", 0) is None
    model.now_ms += 10**9
    model.prune()
    assert not model.lives[job.id].may_be_gone
