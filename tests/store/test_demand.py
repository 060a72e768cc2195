"""How much there is to do for workers: exact where that is cheap, bounded everywhere."""

from __future__ import annotations

from typing import Any

import pytest

from gopher_node.job import NewJob, Priority
from gopher_node.store import Demand, Pool, Store
from tests.store.test_cost import cost

NOW = 1_700_000_000_000


async def submit(store: Store, type: str, number: int, due_in: int | None = None, **more: Any) -> None:
    due_ms = None if due_in is None else NOW + due_in * 1000
    jobs = [NewJob(type=type, due_ms=due_ms, **more) for _ in range(number)]
    await store.submit_many(jobs, now=NOW)


async def test_what_counts(store: Store) -> None:
    """Jobs that wait, that are due within the time, and that run; of a type or of all. None of an unknown one."""
    session = await store.open_session("n", 15.0)
    await submit(store, "mail", 4)
    await submit(store, "math", 1)
    await store.claim(session, Pool.of(["mail"]), 1, now=NOW)
    for due_in in (1, 30, 31, 3600):
        await submit(store, "mail", 2, due_in)
    await submit(store, "math", 5, 10)

    assert await store.history.demand("mail", 30, now=NOW) == Demand(3, 4, 1, True)
    assert await store.history.demand("mail", 3600, now=NOW) == Demand(3, 8, 1, True)
    assert await store.history.demand(None, 30, now=NOW) == Demand(4, 9, 1, True)
    assert await store.history.demand("nothing", 30, now=NOW) == Demand(0, 0, 0, True)


async def test_what_is_paused_waits_for_no_worker(store: Store) -> None:
    """A type, or one of its priorities; what runs of it still does. A type that drains is worked off."""
    session = await store.open_session("n", 15.0)
    await submit(store, "mail", 3)
    await submit(store, "mail", 2, priority=Priority.LOW)
    await submit(store, "mail", 2, 10, priority=Priority.LOW)
    await submit(store, "mail", 3, 10)
    await submit(store, "math", 1)
    await submit(store, "math", 1, 10)
    await store.claim(session, Pool.of(["mail"]), 1, now=NOW)
    await store.flow.drain("math", now=NOW)

    await store.flow.pause("mail", Priority.LOW, now=NOW)
    assert await store.history.demand("mail", 30, now=NOW) == Demand(2, 3, 1, True)
    assert await store.history.demand(None, 30, now=NOW) == Demand(3, 4, 1, True)

    await store.flow.pause("mail", now=NOW)
    assert await store.history.demand("mail", 30, now=NOW) == Demand(0, 0, 1, True)
    assert await store.history.demand(None, 30, now=NOW) == Demand(1, 1, 1, True)


@pytest.mark.parametrize("due", ["soon", "later"])
async def test_what_it_costs_beside_many_scheduled_jobs(valkey_store: Store, due: str) -> None:
    """No more than a thousand jobs are looked at, none for all types, and none that is due later."""
    store = valkey_store
    for _ in range(3):
        await submit(store, "bulk", 1000, 5 if due == "soon" else 600)
    await submit(store, "mail", 2, 10)
    found: dict[str | None, Demand] = {}

    async def ask(type: str | None) -> None:
        found[type] = await store.history.demand(type, 30, now=NOW)

    costs = {type: sum((await cost(store, lambda type=type: ask(type))).values()) for type in (None, "mail", "bulk")}

    if due == "soon":
        assert found == {
            None: Demand(0, 3002, 0, True),
            "mail": Demand(0, 0, 0, False),
            "bulk": Demand(0, 1000, 0, False),
        }
        assert costs[None] < 20
        assert costs["mail"] < 1050
    else:
        assert found == {None: Demand(0, 2, 0, True), "mail": Demand(0, 2, 0, True), "bulk": Demand(0, 0, 0, True)}
        assert max(costs.values()) < 30
