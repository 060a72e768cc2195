"""Following a job: as it is now, after each change, up to its end; over reconnections, and at no cost to other jobs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from gopher_node.errors import JobNotFound
from gopher_node.job import Job, NewJob, Priority, State
from gopher_node.store import Beat, Pool, Session, Store
from tests.store.conftest import OpenStore
from tests.store.keyspace import command, dump
from tests.store.lives import FAR, POOL, TYPE, claim_one
from tests.store.test_cost import cost

ERROR = b'{"code":"broken","message":""}'


class Following:
    """What a follower has been told so far."""

    def __init__(self) -> None:
        self.told: list[Job] = []
        self.error: Exception | None = None
        self.news: asyncio.Queue[Job | None] = asyncio.Queue()

    async def run(self, store: Store, id: str) -> None:
        try:
            async for job in store.follow(id):
                self.told.append(job)
                self.news.put_nowait(job)
        except JobNotFound as error:
            self.error = error
        self.news.put_nowait(None)

    async def next(self) -> Job | None:
        return await asyncio.wait_for(self.news.get(), 20)


@asynccontextmanager
async def following(store: Store, id: str) -> AsyncIterator[Following]:
    """Somebody who follows the job, has been told how it is, and hears of every change."""
    found = Following()
    task = asyncio.create_task(found.run(store, id))
    await found.next()
    await listening(store, id)
    try:
        yield found
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def listening(store: Store, id: str) -> None:
    """Until the job is marked as followed, and the server knows that somebody hears."""
    channel = f"{{{store.namespace}}}:changed"
    async with asyncio.timeout(20):
        while (await dump(store))[f"job:{id}"].value.get("watched") != "2":
            pass
        while not (await command(store, "PUBSUB", "NUMSUB", channel))[1]:
            pass


async def claimed(store: Store) -> tuple[Any, Session]:
    session = await store.open_session("node", 15.0)
    return await claim_one(store, session), session


async def test_a_whole_life(store: Store) -> None:
    """Each step that changes a job is told, in order, and the last thing told is its final state."""
    job = NewJob(type=TYPE, delay_ms=3_600_000)
    await store.submit(job)
    async with following(store, job.id) as found:
        steps: list[tuple[Any, str]] = []

        async def step(act: Awaitable[Any]) -> Any:
            answer = await act
            told = await found.next()
            assert told is not None
            steps.append((told.state, (told.progress or b"").decode()))
            return answer

        await step(store.edit(job.id, priority=Priority.HIGH))
        await step(store.promote(now=(await store.survey()).now_ms + FAR))
        session = await store.open_session("node", 15.0)
        lease = await step(claim_one(store, session))
        await step(store.progress(lease, b"1"))
        await step(store.progress(lease, b"2"))
        await step(store.release(lease))
        lease = await step(claim_one(store, session))
        await step(store.retry(lease, ERROR, 3600.0))
        await step(store.run_now(job.id))
        dead = await store.open_session("dead", 15.0)
        await step(claim_one(store, dead))
        await step(store.reap_session(dead.id, 0))
        lease = await step(claim_one(store, session))
        await step(store.cancel(job.id))
        await step(store.close_session(session))
        assert await found.next() is None

    states = "scheduled enqueued processing processing processing enqueued processing scheduled enqueued processing"
    states += " enqueued processing processing cancelled"
    assert [str(state) for state, _ in steps] == states.split()
    assert [progress for _, progress in steps[3:5]] == ["1", "2"]
    assert found.told[-2].cancel_requested


async def test_an_http_lease(store: Store) -> None:
    """A claim over HTTP, a heartbeat that brings progress, the claim of one job by its id: all are told."""
    job = NewJob(type=TYPE)
    await store.submit(job)
    async with following(store, job.id) as found:
        (lease,) = (await store.leases.claim(POOL, 1)).leases
        first = await found.next()
        await store.leases.heartbeat([Beat(lease, None, b"7")])
        second = await found.next()
        await store.release(lease)
        third = await found.next()
        lease = await store.leases.claim_job(job.id, lease=30.0, worker="w")
        fourth = await found.next()
        await store.complete(lease)
        last = await found.next()

    assert first is not None
    assert second is not None
    assert second.progress == b"7"
    states = [told and told.state.value for told in (first, second, third, fourth, last)]
    assert states == ["processing", "processing", "enqueued", "processing", "completed"]


async def test_an_ended_job(store: Store) -> None:
    """It is told once, and that is all; nobody starts to listen for it."""
    await store.submit(NewJob(type=TYPE))
    lease, _ = await claimed(store)
    await store.complete(lease)
    found = Following()

    await found.run(store, lease.job.id)

    assert [job.state for job in found.told] == [State.COMPLETED]
    assert "watched" not in (await dump(store))[f"job:{lease.job.id}"].value


async def test_no_such_job(store: Store) -> None:
    """To follow a job that nobody knows is an error at once."""
    with pytest.raises(JobNotFound):
        await anext(store.follow("nobody"))


@pytest.mark.parametrize("way", ["delete", "purge"])
async def test_a_job_that_vanishes(store: Store, way: str) -> None:
    """A job that is deleted while somebody follows it ends in the error that says so."""
    job = NewJob(type=TYPE)
    await store.submit(job)
    async with following(store, job.id) as found:
        await (store.delete(job.id) if way == "delete" else store.purge(TYPE))

        assert await found.next() is None

    assert isinstance(found.error, JobNotFound)


async def test_fast_changes_are_told_as_one(store: Store) -> None:
    """A follower that is slow finds the job as it is by then, and not each step that it has missed."""
    await store.submit(NewJob(type=TYPE))
    lease, _ = await claimed(store)
    changes = store.follow(lease.job.id)
    told = [await anext(changes)]
    await store.progress(lease, b"0")
    told.append(await anext(changes))
    for n in range(100):
        await store.progress(lease, b"%d" % n)
    await store.complete(lease, b"42")

    told += [job async for job in changes]

    assert len(told) <= 4
    assert (told[-1].state, told[-1].result) == (State.COMPLETED, b"42")


async def test_nothing_is_told_twice(store: Store) -> None:
    """What leaves the job as it is, such as the first look after the subscription, is no change."""
    await store.submit(NewJob(type=TYPE))
    lease, _ = await claimed(store)
    async with following(store, lease.job.id) as found:
        await store.progress(lease, b"1")
        await found.next()
        await store.progress(lease, b"1")
        await store.complete(lease)
        while await found.next() is not None:
            pass

    assert [job.state.value for job in found.told] == ["processing", "processing", "completed"]


async def test_many_follow(store: Store, open_store: OpenStore) -> None:
    """Followers on several nodes, and waiters beside them, each hear of their own jobs."""
    other = await open_store()
    await store.submit_many([NewJob(type=TYPE) for _ in range(3)])
    session = await store.open_session("node", 15.0)
    leases = (await store.claim(session, POOL, 3)).leases
    found = [Following() for _ in range(6)]
    tasks = [
        asyncio.create_task(found[n].run(node, leases[n % 3].job.id))
        for n, node in enumerate((store, store, store, other, other, other))
    ]
    waiter = asyncio.create_task(other.wait(leases[1].job.id, 60.0))
    for one in found:
        await one.next()

    await store.complete(leases[1])
    assert (await waiter).state is State.COMPLETED
    for n in (1, 4):
        await asyncio.wait_for(tasks[n], 20)
    assert not any(tasks[n].done() for n in (0, 2, 3, 5))
    await store.complete(leases[0])
    await store.fail(leases[2], ERROR)
    await asyncio.wait_for(asyncio.gather(*tasks), 20)

    ends = [one.told[-1].state.value for one in found]
    assert ends == ["completed", "completed", "failed"] * 2
    assert store._watching._following == {}


async def test_a_follower_that_leaves(store: Store) -> None:
    """One that stops early leaves nothing behind, and others who follow the job alone."""
    await store.submit(NewJob(type=TYPE))
    lease, _ = await claimed(store)
    async with following(store, lease.job.id) as stays:
        leaves = store.follow(lease.job.id)
        await anext(leaves)
        await leaves.aclose()

        await store.complete(lease)

        told = await stays.next()
        assert told is not None
        assert told.state is State.COMPLETED
    assert store._watching._following == {}


async def test_a_subscription_that_breaks(valkey_store: Store) -> None:
    """What happens while the node does not hear is found by the look after it has reconnected."""
    await valkey_store.submit(NewJob(type=TYPE))
    lease, _ = await claimed(valkey_store)
    async with following(valkey_store, lease.job.id) as found:
        for number in range(3):
            await command(valkey_store, "CLIENT", "KILL", "TYPE", "pubsub")
            await valkey_store.progress(lease, b"%d" % number)
            told = await found.next()
            assert told is not None
            assert told.progress == b"%d" % number
        await command(valkey_store, "CLIENT", "KILL", "TYPE", "pubsub")
        await valkey_store.complete(lease)

        while (told := await found.next()) is not None:
            last = told.state

    assert last is State.COMPLETED


async def test_others_pay_nothing(valkey_store: Store) -> None:
    """A job that nobody follows publishes nothing, and costs no command more than it did."""
    session = await valkey_store.open_session("node", 15.0)

    async def life() -> None:
        await valkey_store.submit(NewJob(type=TYPE))
        lease = await claim_one(valkey_store, session)
        await valkey_store.progress(lease, b"1")
        await valkey_store.complete(lease)

    await life()
    spent = await cost(valkey_store, life)

    assert (spent["publish"], spent["hmget"]) == (0, 5)


async def test_only_waited_for(valkey_store: Store) -> None:
    """A job whose end alone is waited for publishes that, and none of its changes before."""
    await valkey_store.submit(NewJob(type=TYPE))
    session = await valkey_store.open_session("node", 15.0)
    lease = (await valkey_store.claim(session, Pool.of([TYPE]), 1)).leases[0]
    await valkey_store.wait(lease.job.id, 0.05)

    spent = await cost(valkey_store, lambda: valkey_store.progress(lease, b"1"))
    at_end = await cost(valkey_store, lambda: valkey_store.complete(lease))

    assert (spent["publish"], at_end["publish"]) == (0, 1)


async def test_a_counted_error_is_told(store: Store) -> None:
    """An error that is counted while its run goes on is a change; that it is told again is none."""
    await store.submit(NewJob(type=TYPE))
    (lease,) = (await store.leases.claim(POOL, 1)).leases
    async with following(store, lease.job.id) as found:
        await store.progress(lease, b"1")
        await found.next()
        await store.leases.count_error(lease)
        told = await found.next()
        await store.leases.count_error(lease)
        await store.complete(lease)
        last = await found.next()

    assert told is not None
    assert last is not None
    assert (told.state, told.errors, last.state) == (State.PROCESSING, 1, State.COMPLETED)
