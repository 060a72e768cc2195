"""Which types a node is shown, and whom new work wakes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from gopher_node.job import NewJob
from gopher_node.store import Pool, Session, Store
from tests.store.keyspace import dump
from tests.store.lanes import fill, names, take
from tests.store.lives import FAR, claim_one

A, B, BOTH = Pool.of(["a"]), Pool.of(["b"]), Pool.of(["a", "b"])


async def tokens(store: Store, pool: Pool) -> int:
    """How many wake-ups lie ready for the nodes of a pool."""
    found = await dump(store)
    return len(found[f"wake:{pool.key}"].value) if f"wake:{pool.key}" in found else 0


async def drain(store: Store, pool: Pool) -> None:
    while await tokens(store, pool):
        assert await store.wait_for_work(pool, 1.0)


async def waiting(store: Store, pool: Pool, **options: object) -> Session:
    """A session whose last claim had room left."""
    session = await store.open_session("node", 15.0)
    await take(store, session, pool, 5, **options)
    return session


# Which types


def test_equal_sets_are_one_pool() -> None:
    """A pool is known by its types, in whatever order and however often they are named."""
    assert Pool.of(["b", "a", "b"]) == BOTH
    assert Pool.of(["a"]) != Pool.of(["b"])


async def test_unserved_types_hide_nothing(store: Store) -> None:
    """Seventeen types that nobody serves wait, visibly, in front of others and behind them, and block nobody."""
    session = await store.open_session("node", 15.0)
    for n in range(17):
        await fill(store, f"unserved{n}", 3, type=f"unserved{n}")
    ids = await fill(store, "a", 3, type="a")

    assert await take(store, session, A, 100) == ids

    counts = (await store.stats()).counts
    assert sorted(number for (_, _, type), number in counts.items() if type != "a") == [3] * 17


async def test_a_node_gets_only_types_that_it_can_run(store: Store) -> None:
    """Each pool is served its own types, and what nobody asks for stays."""
    for type in ("a", "b", "c"):
        await fill(store, type, 2, type=type)
    session = await store.open_session("node", 15.0)

    assert names(await take(store, session, A, 10)) == ["a"] * 2
    assert names(await take(store, session, BOTH, 10)) == ["b"] * 2
    assert names(await take(store, session, Pool.of([]), 10)) == []


async def test_a_pool_opened_later_sees_what_waits(store: Store) -> None:
    """Work that was stored before anybody could run it is found by the first who can."""
    ids = await fill(store, "a", 3, type="a")

    assert await take(store, await store.open_session("node", 15.0), A, 10) == ids


async def test_a_pool_opened_by_a_clock_that_is_fast(store: Store) -> None:
    """A server's clock that was ahead when the pool was opened, and then set back, hides nothing."""
    await fill(store, "a", 1, type="a")
    session = await store.open_session("node", 15.0)
    now = (await store.survey()).now_ms
    await store._run("open_pool", A.key, "", *A.types, now=now + 3_600_000)

    assert len(await take(store, session, A, 10, now=now)) == 1


async def test_two_pools_share_a_type(store: Store) -> None:
    """A type that several pools can run is shown to each of them, until its last job is gone."""
    session = await waiting(store, A)
    await take(store, session, BOTH, 1)
    await fill(store, "a", 3, type="a")

    assert len(await take(store, session, BOTH, 1)) == 1
    assert len(await take(store, session, A, 1)) == 1
    assert len(await take(store, session, BOTH, 5)) == 1
    assert len(await take(store, session, A, 5)) == 0


async def test_only_pools_that_nobody_uses_are_forgotten(store: Store) -> None:
    """A pool is kept while it is asked for; one that is not goes after ten minutes, with all that is known of it."""
    session = await waiting(store, A)
    await take(store, session, BOTH, 1)
    ids = await fill(store, "a", 2, type="a")
    now = (await store.survey()).now_ms
    await take(store, session, BOTH, 1, now=now + 400_000)

    assert await store.prune(now=now + 700_000) == 1

    found = await dump(store)
    assert set(found["pools"].value) == {BOTH.key}
    assert [name for name in found if name.endswith(A.key)] == []
    assert await take(store, session, A, 5, now=now + 700_001) == ids[1:]


async def test_all_pools_that_nobody_uses_are_forgotten(store: Store) -> None:
    """However many lease calls there are for types of their own, a step takes as many pools as jobs."""
    now = (await store.survey()).now_ms
    for n in range(25):
        await store.leases.claim(Pool.of([f"type-{n}"]), 1, waits=False, now=now)

    assert [await store.prune(20, now=now + 601_000) for _ in range(3)] == [20, 5, 0]
    assert (await store.stats()).pools == 0


# Wake-ups


async def a_submit(store: Store) -> None:
    await store.submit(NewJob(type="a"))


async def a_due_job(store: Store) -> None:
    await store.submit(NewJob(type="a", delay_ms=1000))
    assert await tokens(store, A) == 0
    await store.promote(now=(await store.survey()).now_ms + 2000)


async def a_lost_session(store: Store) -> None:
    session = await hold(store)
    await store.reap_session(session.id, 0)


async def a_session_that_ends(store: Store) -> None:
    session = await hold(store)
    await store.close_session(session)


async def an_overdue_run(store: Store) -> None:
    await hold(store)
    await store.reap_overdue((await store.survey(now=(await store.survey()).now_ms + FAR)).overdue)


async def a_release(store: Store) -> None:
    session = await hold(store)
    await store.release((await store.claim(session, A, 1, claim_id="held")).leases[0])


async def a_retry(store: Store) -> None:
    session = await hold(store)
    await store.retry((await store.claim(session, A, 1, claim_id="held")).leases[0], b"{}", 0.0)


async def a_requeue(store: Store) -> None:
    session = await hold(store)
    (lease,) = (await store.claim(session, A, 1, claim_id="held")).leases
    await store.fail(lease, b"{}")
    await store.requeue(lease.job.id)


async def a_follow_up(store: Store) -> None:
    await store.submit(NewJob(type="b"))
    lease = await claim_one(store, await store.open_session("node", 15.0), B)
    await store.complete(lease, b"1", [NewJob(type="a")])


async def hold(store: Store) -> Session:
    """A session that holds a job, with nobody woken by how it got it."""
    await store.submit(NewJob(type="a"))
    session = await store.open_session("node", 15.0)
    await store.claim(session, A, 1, claim_id="held")
    await drain(store, A)
    await waiting(store, A)
    return session


ARRIVALS: list[Callable[[Store], Awaitable[None]]] = [
    a_submit,
    a_due_job,
    a_lost_session,
    a_session_that_ends,
    an_overdue_run,
    a_release,
    a_retry,
    a_requeue,
    a_follow_up,
]


@pytest.mark.parametrize("arrival", ARRIVALS, ids=lambda arrival: arrival.__name__)
async def test_whatever_makes_work_wakes_a_waiter(store: Store, arrival: Callable[[Store], Awaitable[None]]) -> None:
    """A node that found nothing is woken, once, by whatever puts a job of its types into a lane."""
    await waiting(store, A)

    await arrival(store)

    assert await tokens(store, A) == 1
    assert await store.wait_for_work(A, 1.0)
    assert await tokens(store, A) == 0


async def test_nobody_is_woken_who_did_not_ask(store: Store) -> None:
    """Work for which nobody waits leaves no wake-up behind: the next claim finds it."""
    session = await store.open_session("node", 15.0)
    await take(store, session, A, 5)
    await a_submit(store)
    await drain(store, A)

    await a_submit(store)

    assert await tokens(store, A) == 0
    assert not await store.wait_for_work(A, 0.0)
    assert len(await take(store, session, A, 5)) == 2


async def test_a_claim_that_is_full_waits_for_nothing(store: Store) -> None:
    """Only a claim that had room left makes its session a waiter."""
    await fill(store, "a", 2, type="a")
    session = await store.open_session("node", 15.0)
    await take(store, session, A, 2)

    await a_submit(store)

    assert await tokens(store, A) == 0


async def test_a_claim_that_leaves_work_wakes_the_next(store: Store) -> None:
    """One arrival wakes one node; if that cannot take all, it wakes another, and so on until all is taken."""
    nodes = [await waiting(store, A) for _ in range(4)]
    await fill(store, "a", 5, type="a")
    woken = 0

    while await tokens(store, A):
        await store.wait_for_work(A, 1.0)
        await take(store, nodes[woken], A, 2)
        woken += 1

    assert woken == 3
    assert len((await store.stats()).counts) == 1


async def test_one_node_never_swallows_the_wake_up_of_another(store: Store) -> None:
    """A node that serves only A does not hear of B's work, and B's node does."""
    await waiting(store, A)
    await waiting(store, B)

    await store.submit(NewJob(type="b"))

    assert (await tokens(store, A), await tokens(store, B)) == (0, 1)


async def test_two_pools_with_the_type_are_both_woken(store: Store) -> None:
    """Work of a type that two pools can run wakes one node of each."""
    for pool in (A, BOTH, BOTH):
        await waiting(store, pool)

    await fill(store, "a", 3, type="a")

    assert (await tokens(store, A), await tokens(store, BOTH)) == (1, 1)


async def test_one_wake_up_for_a_whole_batch(store: Store) -> None:
    """Many jobs of many types in one step wake one node of a pool, not one for each job."""
    for _ in range(3):
        await waiting(store, BOTH)

    await store.submit_many([NewJob(type=type, group=str(n)) for n in range(10) for type in ("a", "b")])

    assert await tokens(store, BOTH) == 1


async def test_a_node_without_room_passes_the_wake_up_on(store: Store) -> None:
    """A node that has no room for the type it was woken for wakes the next, which may have."""
    full = await waiting(store, BOTH, limits={"a": 0})
    free = await waiting(store, BOTH)
    await store.submit(NewJob(type="a"))
    await store.wait_for_work(BOTH, 1.0)

    assert await take(store, full, BOTH, 5, limits={"a": 0}) == []

    assert await tokens(store, BOTH) == 1
    assert len(await take(store, free, BOTH, 5)) == 1


async def test_nodes_without_room_do_not_wake_each_other_for_ever(store: Store) -> None:
    """When no node has room for the work, each is woken once for it, and then all sleep."""
    limits = {"a": 0}
    nodes = [await waiting(store, BOTH, limits=limits) for _ in range(3)]
    await fill(store, "a", 3, type="a")
    claims = 0

    while await tokens(store, BOTH):
        await store.wait_for_work(BOTH, 1.0)
        await take(store, nodes[claims % 3], BOTH, 5, limits=limits)
        claims += 1
        assert claims <= 10

    assert claims == 3
    for node in nodes * 2:
        await take(store, node, BOTH, 5, limits=limits)
    assert await tokens(store, BOTH) == 0


async def test_the_longest_waiting_node_is_woken(store: Store) -> None:
    """A node that asks again in vain goes to the end of the waiters, as its blocking call does at the server."""
    first, second = await waiting(store, A), await waiting(store, A)
    await take(store, first, A, 5)

    await a_submit(store)

    assert list((await dump(store))[f"waiting:{A.key}"].value) == [first.id]
    assert second.id != first.id


async def test_a_node_that_has_gone_is_not_woken(store: Store) -> None:
    """Wake-ups are for nodes that are there: one that ended or died while it waited uses none up."""
    ended, died, stays = [await waiting(store, A) for _ in range(3)]
    await store.close_session(ended)
    await store.reap_session(died.id, 0)

    assert list((await dump(store))[f"waiting:{A.key}"].value) == [stays.id]


async def test_a_claim_says_nothing_of_later_when_nothing_is_later(store: Store) -> None:
    """Without types that have to wait, only a wake-up can bring work."""
    await a_submit(store)
    session = await store.open_session("node", 15.0)

    assert (await store.claim(session, A, 1)).next_ms is None
    assert (await store.claim(session, A, 1)).next_ms is None
