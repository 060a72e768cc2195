"""What happened is counted for each type, and written down once a minute, however many nodes tick."""

from __future__ import annotations

import asyncio

import pytest

from gopher_node.job import NewJob, State
from gopher_node.store import Minute, Pool, Store
from tests.store.conftest import OpenStore
from tests.store.keyspace import command, differences, dump, prefix
from tests.store.lives import claim_one
from tests.store.test_told_twice import Echo

NOW = 1_700_000_040_000  # a whole minute
MINUTE = 60_000
ERROR = b'{"code":"broken","message":""}'


async def submit(store: Store, type: str, number: int = 1) -> None:
    await store.submit_many([NewJob(type=type) for _ in range(number)])


async def typed(store: Store) -> dict[str, int]:
    """What stands in the totals by type."""
    return {field: int(number) for field, number in (await dump(store))["totals-by-type"].value.items()}


async def test_each_type_is_counted(store: Store) -> None:
    """Every way in which a job of a type goes on counts for that type, and the sums over all types for the totals."""
    pool = Pool.of(["a"])
    session = await store.open_session("n", 15.0)
    dead = await store.open_session("dead", 15.0)
    await submit(store, "a", 6)
    await submit(store, "b", 2)
    await store.complete(await claim_one(store, session, pool), b"1", [NewJob(type="c")])
    await store.fail(await claim_one(store, session, pool), ERROR)
    await store.retry(await claim_one(store, session, pool), ERROR, 0.0)
    await store.retry(await claim_one(store, session, pool), ERROR, 60.0)
    await store.cancelled(await claim_one(store, session, pool), ERROR)
    await claim_one(store, dead, pool)
    await store.reap_session(dead.id, 0)

    assert await typed(store) == {
        "": 3,
        "submitted:a": 6,
        "submitted:b": 2,
        "submitted:c": 1,
        "completed:a": 1,
        "failed:a": 1,
        "retried:a": 2,
        "cancelled:a": 1,
        "crashed:a": 1,
    }
    totals = (await store.stats()).totals
    assert totals == {"submitted": 9, "completed": 1, "failed": 1, "retried": 2, "cancelled": 1, "crashed": 1}


async def test_types_beyond_a_thousand_are_one(store: Store) -> None:
    """The first thousand types are counted apart, all later ones together; and the sums stay right."""
    jobs = [NewJob(type=f"t{n}") for n in range(1003)]
    await store.submit_many(jobs[:1000])
    await store.submit_many([*jobs[1000:], *jobs[1000:], jobs[0], NewJob(type="t0")])
    session = await store.open_session("n", 15.0)
    await store.complete(await claim_one(store, session, Pool.of(["t1001"])))
    await store.complete(await claim_one(store, session, Pool.of(["t5"])))

    found = await typed(store)

    assert len(found) == 1000 + 4
    assert (found[""], found["submitted:(other)"], found["completed:(other)"]) == (1000, 3, 1)
    assert (found["submitted:t0"], found["completed:t5"]) == (2, 1)
    assert (await store.stats()).totals["submitted"] == 1004


async def test_a_minute_is_what_happened_in_it(store: Store) -> None:
    """Each tick writes down what has happened since the last one, in all and by type."""
    await submit(store, "a", 3)
    assert await store.history.tick(now=NOW + 200)
    await submit(store, "a")
    await submit(store, "b", 2)
    await store.purge("b")
    assert await store.history.tick(now=NOW + MINUTE + 200)
    assert await store.history.tick(now=NOW + 2 * MINUTE)

    assert await store.history.read(60, now=NOW + 2 * MINUTE + 999) == [
        Minute(NOW - MINUTE, {"submitted": 3}, {"a": {"submitted": 3}}),
        Minute(NOW, {"submitted": 3, "purged": 2}, {"a": {"submitted": 1}, "b": {"submitted": 2}}),
        Minute(NOW + MINUTE, {}, {}),
    ]
    assert len(await store.history.read(2, now=NOW + 2 * MINUTE)) == 2
    assert await store.history.read(0, now=NOW + 2 * MINUTE) == []


async def test_ten_nodes_write_it_once(store: Store, open_store: OpenStore) -> None:
    """Of ten nodes that tick in one minute the first writes it down; nothing is counted twice, and nothing left out."""
    nodes = [await open_store() for _ in range(10)]
    written = 0
    for minute in range(5):
        await submit(store, "a", minute + 1)
        ticks = (node.history.tick(now=NOW + minute * MINUTE + 100 * n) for n, node in enumerate(nodes))
        written += sum(await asyncio.gather(*ticks))

    told = await store.history.read(60, now=NOW + 5 * MINUTE)

    assert written == 5
    assert [minute.totals for minute in told] == [{"submitted": n} for n in range(1, 6)]


async def test_told_twice(store: Store) -> None:
    """A tick whose answer was lost is told again, and changes nothing."""
    await submit(store, "a", 3)
    echo = Echo(store)
    run = store._run

    await store.history.tick(now=NOW)

    assert run is not None
    assert [fault for fault in echo.faults if not fault.startswith("minute: answered 1, then 0")] == []
    assert [minute.totals for minute in await store.history.read(9, now=NOW)] == [{"submitted": 3}]


async def test_a_missed_tick_loses_nothing(store: Store) -> None:
    """When no node ticked for a while, what happened since then stands under the last whole minute."""
    await store.history.tick(now=NOW)
    await submit(store, "a", 4)
    await store.history.tick(now=NOW + 10 * MINUTE)

    told = await store.history.read(60, now=NOW + 10 * MINUTE)

    assert [(minute.at_ms - NOW, minute.totals) for minute in told] == [
        (-MINUTE, {}),
        (9 * MINUTE, {"submitted": 4}),
    ]


async def test_two_days_are_kept(store: Store) -> None:
    """What is older goes with the next tick; a long history is read in pages."""
    for minute in range(0, 2900, 5):
        await store.history.tick(now=NOW + minute * MINUTE)

    told = await store.history.read(10_000, now=NOW + 2900 * MINUTE)

    assert [minute.at_ms for minute in told] == [NOW + (n - 1) * MINUTE for n in range(25, 2900, 5)]
    assert len((await dump(store))["history"].value) == 576


async def test_a_busy_minute_is_bounded(store: Store) -> None:
    """Of a minute with very many types the hundred busiest are told, and all others as one; the sums stay right."""
    await store.submit_many([NewJob(type=f"t{n:03}") for n in range(300) for _ in range(2 if n < 40 else 1)])
    await store.history.tick(now=NOW)

    (minute,) = await store.history.read(1, now=NOW)

    assert len(minute.types) == 101
    assert minute.types["t000"] == {"submitted": 2}
    assert minute.types["(other)"] == {"submitted": 200}
    assert sum(of_type["submitted"] for of_type in minute.types.values()) == minute.totals["submitted"] == 340


async def test_a_clock_that_is_set_back(store: Store) -> None:
    """A clock that went back a little makes history wait for it; one that went back far begins anew there."""
    await store.history.tick(now=NOW + 3600 * MINUTE)
    await submit(store, "a")

    assert not await store.history.tick(now=NOW + 3599 * MINUTE)
    assert await store.history.tick(now=NOW)

    assert [minute.at_ms for minute in await store.history.read(9, now=NOW)] == [NOW - MINUTE]
    assert list((await dump(store))["history"].value.values()) == [NOW - MINUTE]


async def test_totals_that_a_failover_lost(store: Store) -> None:
    """Totals that are lower than at the last tick count as nothing, not as less than nothing."""
    await submit(store, "a", 5)
    await store.history.tick(now=NOW)
    await command(store, "HSET", f"{prefix(store)}totals-by-type", "submitted:a", "3")
    await store.history.tick(now=NOW + MINUTE)
    await command(store, "HSET", f"{prefix(store)}totals-by-type", "submitted:a", "6")
    await store.history.tick(now=NOW + 2 * MINUTE)

    assert [minute.totals for minute in await store.history.read(9, now=NOW + 2 * MINUTE)] == [
        {"submitted": 5},
        {},
        {"submitted": 3},
    ]


@pytest.mark.parametrize("times", [1, 3])
async def test_a_refused_step_counts_nothing(store: Store, times: int) -> None:
    """What changes nothing, such as a job whose id is known, is no event of its type."""
    job = NewJob(type="a")
    for _ in range(times):
        await store.submit(job)
    session = await store.open_session("n", 15.0)
    lease = await claim_one(store, session, Pool.of(["a"]))
    for _ in range(times):
        assert await store.complete(lease) is State.COMPLETED
    before = await dump(store)

    await store.fail(lease, ERROR)

    assert await typed(store) == {"": 1, "submitted:a": 1, "completed:a": 1}
    assert [line for line in differences(before, await dump(store)) if not line.startswith("totals:")] == []
