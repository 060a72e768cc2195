"""What must not happen again: transitions left half done, walks without an end, batches without a bound."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.exceptions import ClusterDownError, MasterDownError, ResponseError, TryAgainError

from gopher_node.errors import StoreUnavailable, UnusableStore
from gopher_node.job import NewJob, State
from gopher_node.store import Pool, Store
from gopher_node.store.connections import _refusal
from gopher_node.store.group_commit import GroupCommit
from tests.store.conftest import OpenStore
from tests.store.keyspace import command, prefix
from tests.store.lives import FAR, POOL, TYPE, claim_one


@pytest.mark.parametrize("missing", ["publish", "subscribe"])
async def test_a_user_without_channels(valkey_store: Store, missing: str) -> None:
    """A store whose user may not publish or subscribe is refused at once; running ones leave nothing half done."""
    lease = (await run_one(valkey_store))[0]
    await command(valkey_store, "HSET", prefix(valkey_store) + f"job:{lease.job.id}", "watched", "1")
    await command(valkey_store, "ACL", "SETUSER", "default", f"-{missing}")
    try:
        with pytest.raises(UnusableStore, match=f"may not {missing}"):
            await valkey_store.open()
        assert (await valkey_store.cancel(lease.job.id)).cancel_requested
        assert await valkey_store.complete(lease) is State.COMPLETED
    finally:
        await command(valkey_store, "ACL", "SETUSER", "default", f"+{missing}")


async def run_one(store: Store) -> tuple[Any, Any]:
    await store.submit(NewJob(type=TYPE))
    session = await store.open_session("node", 15.0)
    return await claim_one(store, session), session


@pytest.mark.parametrize("way", ["reap", "close"])
async def test_a_held_id_that_does_not_match(unchecked_store: Store, way: str) -> None:
    """What a session holds without running it is struck off, not enqueued, and the session still ends."""
    store = unchecked_store
    lease, session = await run_one(store)
    await store.complete(lease)
    await command(store, "SADD", prefix(store) + f"held:{session.id}", lease.job.id, "gone")
    async with asyncio.timeout(10):
        if way == "reap":
            assert await store.reap_session(session.id, 0) == 0
        else:
            await store.close_session(session)

    assert (await store.get(lease.job.id)).state is State.COMPLETED
    assert session.id not in (await store.survey()).sessions


async def test_a_reap_without_headway_ends(unchecked_store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session whose jobs cannot be taken does not keep its reaper for ever."""

    async def no_headway(*_: Any, **__: Any) -> list[int]:
        await asyncio.sleep(0)
        return [0, 3]

    monkeypatch.setattr(unchecked_store, "_run", no_headway)
    async with asyncio.timeout(5):
        assert await unchecked_store.reap_session("s", 0) == 0


async def test_a_running_id_without_a_job(store: Store) -> None:
    """A survey tells an id that has no job beside the others, and reaping strikes it off."""
    await command(store, "ZADD", prefix(store) + "processing", 1, "gone")
    lease, _ = await run_one(store)
    overdue = (await store.survey(now=FAR * 1000)).overdue
    assert [run.id for run in overdue] == ["gone", lease.job.id]

    assert await store.reap_overdue(overdue[:1]) == 0
    assert await command(store, "ZSCORE", prefix(store) + "processing", "gone") is None


async def test_a_claim_that_comes_late(store: Store) -> None:
    """A numbered claim below the session's last one takes nothing, nor does the last one again if it was empty."""
    session = await store.open_session("node", 15.0)
    await store.claim(session, POOL, 1, claim_id="9")
    assert (await store.claim(session, POOL, 1, claim_id="10")).leases == []
    await store.submit_many([NewJob(type=TYPE) for _ in range(2)])

    assert (await store.claim(session, POOL, 1, claim_id="9")).leases == []
    assert (await store.claim(session, POOL, 1, claim_id="10")).leases == []
    assert len((await store.claim(session, POOL, 1, claim_id="11")).leases) == 1
    assert len((await store.claim(session, POOL, 1)).leases) == 1


async def test_a_batch_is_bounded_by_weight() -> None:
    """A request carries only so many jobs, follow-ups among them."""
    sent: list[list[int]] = []

    async def send(items: list[int]) -> list[int]:
        sent.append(items)
        return items

    group = GroupCommit[int, int](send, size=lambda item: 1, weight=lambda item: item)
    await asyncio.gather(*(group.call(weight) for weight in (300, 200, 1, 900, 5)))

    assert sent == [[300, 200], [1], [900], [5]]


async def test_a_full_claim_wakes_for_a_type_it_passed_over(store: Store) -> None:
    """A claim that is full and left a type that it has no room for wakes another, which may have."""
    pool = Pool.of([TYPE, "other"])
    first, second = [await store.open_session("node", 15.0) for _ in range(2)]
    await store.claim(first, pool, 1)
    await store.claim(second, pool, 1)
    await store.submit_many([NewJob(type=TYPE), NewJob(type="other")])
    assert await store.wait_for_work(pool, 0.01)
    while await store.wait_for_work(pool, 0.01):
        pass
    await command(store, "ZADD", prefix(store) + f"waiting:{pool.key}", 1, second.id)

    assert len((await store.claim(first, pool, 1, limits={"other": 0})).leases) == 1
    assert await store.wait_for_work(pool, 0.01)


@pytest.mark.parametrize(
    "error", [ClusterDownError("x"), MasterDownError("x"), TryAgainError("x"), ResponseError("UNBLOCKED x")]
)
def test_passing_troubles(error: ResponseError) -> None:
    """What ends by itself is told as an outage."""
    assert isinstance(_refusal(error), StoreUnavailable)


async def test_prune_drops_an_entry_without_a_job(store: Store) -> None:
    """An index entry whose job is gone does not stand in the way of pruning for ever."""
    for index in ("expiring", "final:completed"):
        await command(store, "ZADD", prefix(store) + index, 1, "gone")
    while await store.prune():
        pass
    assert await command(store, "EXISTS", prefix(store) + "expiring", prefix(store) + "final:completed") == 0


async def test_a_count_that_reaches_nothing_goes(store: Store) -> None:
    """Types that have no jobs leave no counters behind."""
    await store.submit(NewJob(type=TYPE))
    await store.purge(TYPE)
    assert await command(store, "EXISTS", prefix(store) + "counts") == 0


async def test_purge_while_due_shifts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs that come due while a purge walks make it pass nothing over."""
    others = [NewJob(type="other", delay_ms=1000) for _ in range(1000)]
    await store.submit_many(others)
    await store.submit_many([NewJob(type=TYPE, delay_ms=100_000) for _ in range(30)])
    run = store._operating._run
    calls = 0

    async def run_and_shift(name: str, *words: Any, **options: Any) -> Any:
        nonlocal calls
        answer = await run(name, *words, **options)
        if name == "purge" and not (calls := calls + 1) > 1:
            for job in others[:40]:
                await store.delete(job.id)
        return answer

    monkeypatch.setattr(store._operating, "_run", run_and_shift)
    assert await store.purge(TYPE) == 30


async def test_the_listener_outlives_what_nobody_foresaw(open_store: OpenStore) -> None:
    """An error of a channel's owner is reported, and the listener goes on."""
    store = await open_store()
    troubles: list[Exception] = []
    store.on_trouble = troubles.append
    caught_up = asyncio.Event()

    async def catch_up() -> None:
        if not troubles:
            raise KeyError("unforeseen")
        caught_up.set()

    store._listener.subscribe("x", lambda said: None, catch_up)
    async with asyncio.timeout(10):
        await caught_up.wait()
    assert len(troubles) == 1
