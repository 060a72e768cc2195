"""Which job of a level is served: types take turns, then groups, and within a lane the oldest comes first."""

from __future__ import annotations

import itertools

import pytest

from gopher_node.job import Lease, NewJob, Priority
from gopher_node.store import Pool, Store
from tests.store.lanes import fill, names, take
from tests.store.lives import FAR

POOL = Pool.of(["mail"])


async def test_a_lane_is_served_in_order(store: Store) -> None:
    """The oldest job first, whether it was stored alone or with others."""
    ids = await fill(store, "a", 5)
    for n in range(5):
        ids += await fill(store, f"b{n}", 1)
    session = await store.open_session("node", 15.0)

    taken = [id for size in (1, 3, 2, 4) for id in await take(store, session, POOL, size)]

    assert taken == ids


async def test_due_jobs_join_in_the_order_of_their_due_times(store: Store) -> None:
    """Scheduled jobs enter the lane as they become due, behind what waits there."""
    now = (await store.survey()).now_ms
    await store.submit_many([NewJob(id=f"due-{n}", type="mail", due_ms=now + 60_000 - n) for n in range(3)])
    ids = await fill(store, "a", 2)

    await store.promote(now=now + 60_000)

    assert await take(store, await store.open_session("node", 15.0), POOL, 10) == [*ids, "due-2", "due-1", "due-0"]


@pytest.mark.parametrize("way", ["release", "close the session", "reap the session", "reap the overdue"])
async def test_what_is_handed_back_comes_first(store: Store, way: str) -> None:
    """A job that was taken and not run to its end goes before all that wait in its lane."""
    ids = await fill(store, "a", 4)
    gone, session = await store.open_session("gone", 15.0), await store.open_session("node", 15.0)
    (lease,) = (await store.claim(gone, POOL, 1)).leases
    match way:
        case "release":
            await store.release(lease)
        case "close the session":
            await store.close_session(gone)
        case "reap the session":
            await store.reap_session(gone.id, 0)
        case _:
            await store.reap_overdue((await store.survey(now=(await store.survey()).now_ms + FAR)).overdue)

    assert await take(store, session, POOL, 10) == ids


async def test_released_jobs_keep_the_order_of_their_release(store: Store) -> None:
    """Among jobs that were handed back, the first to come back is the first to go."""
    ids = await fill(store, "a", 6)
    session = await store.open_session("node", 15.0)
    leases: list[Lease] = (await store.claim(session, POOL, 4)).leases
    for lease in leases:
        await store.release(lease)

    assert await take(store, session, POOL, 10) == ids


async def test_a_retried_job_waits_its_turn(store: Store) -> None:
    """A job that failed goes to the end of its lane, also without a delay."""
    ids = await fill(store, "a", 3)
    session = await store.open_session("node", 15.0)
    (lease,) = (await store.claim(session, POOL, 1)).leases
    await store.retry(lease, b"{}", 0.0)

    assert await take(store, session, POOL, 10) == [*ids[1:], ids[0]]


@pytest.mark.parametrize("size", [1, 5])
async def test_groups_take_turns(store: Store, size: int) -> None:
    """While several groups wait, each gets one job a round, however many jobs it has and however many are claimed."""
    await fill(store, "big", 30, group="big")
    await fill(store, "mid", 6, group="mid")
    await fill(store, "small", 3, group="small")
    session = await store.open_session("node", 15.0)
    taken: list[str] = []

    while len(taken) < 20:
        taken += names(await take(store, session, POOL, size))

    assert taken[:9] == ["big", "mid", "small"] * 3
    assert taken[9:15] == ["big", "mid"] * 3
    assert set(taken[15:]) == {"big"}


async def test_one_job_behind_a_tenant_with_thousands(store: Store) -> None:
    """A tenant's first job waits for at most one job of each other tenant."""
    await fill(store, "big", 2000, group="big")
    session = await store.open_session("node", 15.0)
    await take(store, session, POOL, 10)
    await fill(store, "small", 1, group="small")

    taken = names(await take(store, session, POOL, 2))

    assert "small" in taken


async def test_no_group_is_a_group_like_any_other(store: Store) -> None:
    """Jobs without a group take turns with the groups of their type."""
    await fill(store, "none", 3)
    await fill(store, "some", 3, group="some")

    taken = names(await take(store, await store.open_session("node", 15.0), POOL, 6))

    assert taken == ["none", "some"] * 3


async def test_the_groups_of_one_request_come_in_its_order(store: Store) -> None:
    """Groups whose first jobs are stored in one step are served in the order in which they stand there."""
    groups = [f"g{n}" for n in (7, 3, 9, 1, 5, 8, 2)]
    await store.submit_many([NewJob(id=f"{group}-1", type="mail", group=group) for group in groups])

    assert names(await take(store, await store.open_session("node", 15.0), POOL, 10)) == groups


async def test_types_take_turns_of_sixteen(store: Store) -> None:
    """A type is served up to sixteen jobs in a row; then the one that has waited longest is next."""
    pool = Pool.of(["a", "b", "c"])
    for type in pool.types:
        await fill(store, type, 50, type=type)

    taken = names(await take(store, await store.open_session("node", 15.0), pool, 96))

    assert [(name, len(list(run))) for name, run in itertools.groupby(taken)] == [("a", 16), ("b", 16), ("c", 16)] * 2


async def test_types_take_turns_between_claims(store: Store) -> None:
    """Small claims serve one type each, in turn."""
    pool = Pool.of(["a", "b", "c"])
    for type in pool.types:
        await fill(store, type, 5, type=type)
    session = await store.open_session("node", 15.0)

    taken = [name for _ in range(9) for name in names(await take(store, session, pool, 1))]

    assert taken == ["a", "b", "c"] * 3


async def test_the_types_of_other_pools_take_their_own_turns(store: Store) -> None:
    """What one pool was served does not set back a type's turn in another."""
    narrow, wide = Pool.of(["a", "b"]), Pool.of(["a", "b", "c"])
    session = await store.open_session("node", 15.0)
    await take(store, session, narrow, 1)
    await take(store, session, wide, 1)
    for type in wide.types:
        await fill(store, type, 10, type=type)

    for _ in range(3):
        await take(store, session, narrow, 1)

    assert [name for _ in range(3) for name in names(await take(store, session, wide, 1))] == ["a", "b", "c"]


async def test_a_limit_hides_no_other_type(store: Store) -> None:
    """A type for which the node has no room is passed over, and what it has room for is taken; never more."""
    pool = Pool.of(["a", "b", "c"])
    for type in pool.types:
        await fill(store, type, 10, type=type)
    session = await store.open_session("node", 15.0)

    taken = names(await take(store, session, pool, 20, limits={"a": 0, "b": 3}))

    assert sorted(taken) == ["b"] * 3 + ["c"] * 10


async def test_a_limit_on_every_type_but_those_behind(store: Store) -> None:
    """Twenty types without room hide nothing behind them."""
    full = [f"full{n}" for n in range(20)]
    pool = Pool.of([*full, "open"])
    for type in full:
        await fill(store, type, 2, type=type)
    await fill(store, "open", 2, type="open")

    taken = await take(store, await store.open_session("node", 15.0), pool, 5, limits=dict.fromkeys(full, 0))

    assert names(taken) == ["open"] * 2


async def test_a_limit_counts_over_the_levels(store: Store) -> None:
    """A limit is for all jobs of the type in the claim, of whatever level and group."""
    for level in Priority:
        for group in ("x", "y"):
            await fill(store, f"{level.label}-{group}", 3, priority=level, group=group)

    taken = await take(store, await store.open_session("node", 15.0), POOL, 100, limits={"mail": 7})

    assert len(taken) == 7
