"""Nodes report themselves, are forgotten when they stop, and vanish when they fall silent."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from gopher_node.errors import StoreUnavailable
from gopher_node.reporting import Rates, Reporter
from gopher_node.store import Store
from gopher_node.telemetry import Events
from gopher_node.worker.status import WorkerStatus
from tests.store.keyspace import dump
from tests.store.test_told_twice import Echo

NOW = 1_700_000_000_000


async def test_a_node_is_what_it_said_last(store: Store) -> None:
    """All nodes are told by id, each as it reported itself last, with the seconds since."""
    await store.nodes.report("b", b'{"role":"all"}', now=NOW)
    await store.nodes.report("a", b'{"role":"api"}', now=NOW + 1000)
    await store.nodes.report("b", b'{"role":"worker"}', now=NOW + 3000)

    assert await store.nodes.all(now=NOW + 5000) == [
        {"id": "a", "role": "api", "silent": 4.0},
        {"id": "b", "role": "worker", "silent": 2.0},
    ]


async def test_a_silent_node_vanishes(store: Store) -> None:
    """After a minute without a report a node is not told any more, and the next tick takes it away."""
    await store.nodes.report("dead", b"{}", now=NOW)
    await store.nodes.report("alive", b"{}", now=NOW + 30_000)

    assert [node["id"] for node in await store.nodes.all(now=NOW + 60_000)] == ["alive", "dead"]
    assert [node["id"] for node in await store.nodes.all(now=NOW + 60_001)] == ["alive"]
    await store.history.tick(now=NOW + 60_001)

    assert (await dump(store))["nodes"].value.keys() == {"alive"}


async def test_a_clock_that_is_set_back(store: Store) -> None:
    """A node that reported itself in what is now the future counts as silent until it reports itself again."""
    await store.nodes.report("a", b"{}", now=NOW + 3_600_000)
    await store.nodes.report("b", b"{}", now=NOW)

    assert [node["id"] for node in await store.nodes.all(now=NOW)] == ["b"]


async def test_told_twice(store: Store) -> None:
    """A report or a farewell told again changes nothing."""
    echo = Echo(store)

    await store.nodes.report("a", b"{}", now=NOW)
    await store.nodes.forget("a")

    assert echo.faults == []
    assert await store.nodes.all(now=NOW) == []


def status(busy: int = 0, *, draining: bool = False) -> WorkerStatus:
    return WorkerStatus(10, busy, 1, 0, 0.1, 0.0, draining, True, "session")


class Heard:
    """The store's nodes, telling the test of every report."""

    def __init__(self, store: Store) -> None:
        self.reports: asyncio.Queue[None] = asyncio.Queue()
        self._report = store.nodes.report
        store.nodes.report = self.report

    async def report(self, node_id: str, record: bytes, *, now: int | None = None) -> int:
        at = await self._report(node_id, record, now=now)
        self.reports.put_nowait(None)
        return at


async def test_a_reporter_tells_at_once_and_takes_it_back(store: Store) -> None:
    """A node is there as soon as it has begun, says when it begins to drain, and is gone once it has stopped."""
    heard, state = Heard(store), [status(3)]
    events = Events()
    events.counts.update(completed=5, failed=1)
    reporter = Reporter(store, events, {"id": "n1", "role": "all"}, lambda: state[0], every=0.01)
    running = asyncio.create_task(reporter.run())
    await asyncio.wait_for(heard.reports.get(), 10)
    (node,) = await store.nodes.all()
    state[0] = status(draining=True)
    while not (await store.nodes.all())[0]["draining"]:
        await asyncio.wait_for(heard.reports.get(), 10)

    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert [node[name] for name in ("id", "role", "slots", "running", "stuck", "draining", "session")] == [
        *("n1", "all", 10, 3, 1, False, "session")
    ]
    told = [node[name] for name in ("completed", "failed", "cancelled", "crashed", "utilisation")]
    assert told == [5, 1, 0, 0, 0.3]
    assert await store.nodes.all() == []


async def test_a_node_without_a_worker(store: Store) -> None:
    """It is told with no slots, and nothing divides by them."""
    record = Reporter(store, Events(), {"id": "n1"}, None).record(None)

    assert (record["slots"], record["running"], record["utilisation"]) == (0, 0, 0.0)


async def test_a_reporter_outlives_an_outage(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the store is away the node goes on, and reports itself when it is back."""
    heard, faults = Heard(store), [StoreUnavailable(), StoreUnavailable()]
    tell = store.nodes.report

    async def report(node_id: str, record: bytes) -> int:
        if faults:
            raise faults.pop()
        return await tell(node_id, record)

    monkeypatch.setattr(store.nodes, "report", report)
    running = asyncio.create_task(Reporter(store, Events(), {"id": "n1"}, None, every=0.01).run())

    await asyncio.wait_for(heard.reports.get(), 10)

    assert [node["id"] for node in await store.nodes.all()] == ["n1"]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_rates_are_of_the_last_minute() -> None:
    """What was done in the last sixty seconds, and how busy the slots were in them; nothing older."""
    now, counts = [0.0], Counter[str]()
    rates = Rates(lambda: now[0])
    assert (rates.per_minute()["completed"], rates.utilisation) == (0.0, 0.0)
    for second in range(200):
        now[0] = float(second)
        counts["completed"] = 1000 if second < 100 else 1000 + 2 * (second - 100)
        rates.look(counts, 1.0 if second < 100 else 0.5)

    assert rates.per_minute() == {"completed": 120.0, "failed": 0.0, "cancelled": 0.0, "crashed": 0.0}
    assert rates.utilisation == 0.5


def test_rates_of_a_young_node() -> None:
    """A node that completed ten jobs in its first second has not shown that it completes 600 a minute."""
    now = [0.0]
    rates = Rates(lambda: now[0])
    rates.look(Counter(), 0.0)
    now[0] = 1.0
    rates.look(Counter(completed=10), 1.0)

    assert rates.per_minute()["completed"] == 10.0
