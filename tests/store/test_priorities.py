"""Which level is served: by weight, exactly over a long backlog, and never one alone."""

from __future__ import annotations

import itertools

import pytest

from gopher_node.job import Priority
from gopher_node.store import Pool, Store
from tests.store.lanes import fill, names, take, tally

POOL = Pool.of(["mail"])


async def backlog(store: Store, number: int, levels: tuple[Priority, ...] = tuple(Priority)) -> None:
    for level in levels:
        await fill(store, level.label, number, priority=level)


@pytest.mark.parametrize(
    "sizes",
    [(1,), (10,), (1, 5, 9), (50,)],
    ids=["one by one", "by tens", "mixed", "large"],
)
async def test_shares_by_weight(store: Store, sizes: tuple[int, ...]) -> None:
    """While all levels have jobs, urgent, high, normal and low get exactly 8, 4, 2 and 1 of fifteen, in any batches."""
    await backlog(store, 90)
    session = await store.open_session("node", 15.0)
    taken: list[str] = []
    batches = itertools.cycle(sizes)

    while len(taken) < 150:
        taken += await take(store, session, POOL, min(next(batches), 150 - len(taken)))

    assert tally(taken) == {"urgent": 80, "high": 40, "normal": 20, "low": 10}


async def test_other_weights(store: Store) -> None:
    """With weights 3:2:1 and six jobs on each level, the first six jobs are three, two and one."""
    weights = {Priority.URGENT: 6, Priority.HIGH: 3, Priority.NORMAL: 2, Priority.LOW: 1}
    await backlog(store, 6, (Priority.HIGH, Priority.NORMAL, Priority.LOW))
    session = await store.open_session("node", 15.0)

    first = [id for _ in range(6) for id in await take(store, session, POOL, 1, weights=weights)]
    rest = await take(store, session, POOL, 100, weights=weights)

    assert tally(first) == {"high": 3, "normal": 2, "low": 1}
    assert tally(rest) == {"high": 3, "normal": 4, "low": 5}


async def test_other_weights_in_one_batch(store: Store) -> None:
    """The same six in one claim, the highest level first."""
    weights = {Priority.URGENT: 6, Priority.HIGH: 3, Priority.NORMAL: 2, Priority.LOW: 1}
    await backlog(store, 6, (Priority.HIGH, Priority.NORMAL, Priority.LOW))

    taken = await take(store, await store.open_session("node", 15.0), POOL, 6, weights=weights)

    assert names(taken) == ["high"] * 3 + ["normal"] * 2 + ["low"]


@pytest.mark.parametrize("size", [1, 7])
async def test_an_idle_levels_share_goes_to_the_others(store: Store, size: int) -> None:
    """Levels without jobs are left out, and the others share by their own weights."""
    await backlog(store, 60, (Priority.HIGH, Priority.LOW))
    session = await store.open_session("node", 15.0)
    taken: list[str] = []

    while len(taken) < 50:
        taken += await take(store, session, POOL, min(size, 50 - len(taken)))

    assert tally(taken) == {"high": 40, "low": 10}


async def test_a_level_that_runs_dry_leaves_its_share(store: Store) -> None:
    """A claim is filled from what there is, whatever the shares."""
    await fill(store, "urgent", 2, priority=Priority.URGENT)
    await fill(store, "low", 30, priority=Priority.LOW)

    taken = await take(store, await store.open_session("node", 15.0), POOL, 20)

    assert tally(taken) == {"urgent": 2, "low": 18}


async def test_an_idle_level_saves_nothing_up(store: Store) -> None:
    """A level that was idle for long gets its share from then on, and not what it did not use."""
    await fill(store, "urgent", 200, priority=Priority.URGENT)
    session = await store.open_session("node", 15.0)
    for _ in range(10):
        await take(store, session, POOL, 8)
    await fill(store, "low", 200, priority=Priority.LOW)

    taken = [id for _ in range(18) for id in await take(store, session, POOL, 1)]

    assert tally(taken) == {"urgent": 16, "low": 2}


async def test_low_never_starves(store: Store) -> None:
    """However many urgent jobs keep coming, a low one waits for at most fifteen others."""
    await fill(store, "low", 5, priority=Priority.LOW)
    session = await store.open_session("node", 15.0)
    taken: list[str] = []

    for n in range(75):
        await fill(store, f"urgent{n}", 1, priority=Priority.URGENT)
        taken += await take(store, session, POOL, 1)

    low = [place for place, id in enumerate(taken) if id.startswith("low")]
    assert len(low) == 5
    assert all(later - earlier <= 15 for earlier, later in itertools.pairwise([-1, *low]))


async def test_each_pool_keeps_its_own_shares(store: Store) -> None:
    """Nodes of different pools do not spend each other's credit; those of one pool share it."""
    await backlog(store, 60)
    wide = Pool.of(["mail", "other"])
    sessions = [await store.open_session("node", 15.0) for _ in range(2)]

    taken = [await take(store, session, POOL, 1) for session in sessions * 15]
    taken_by_another = [await take(store, sessions[0], wide, 1) for _ in range(15)]

    assert tally([id for ids in taken for id in ids]) == {"urgent": 16, "high": 8, "normal": 4, "low": 2}
    assert tally([id for ids in taken_by_another for id in ids]) == {"urgent": 8, "high": 4, "normal": 2, "low": 1}
