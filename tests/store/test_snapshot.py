"""What a scrape reads of the store: queues, limits, breakers, the server, and what it costs with many types."""

from __future__ import annotations

from gopher_node.flow import BreakerPolicy, Rate
from gopher_node.job import NewJob, Priority, State
from gopher_node.store import Pool, Store
from tests.store.lanes import fill, take
from tests.store.test_cost import cost

NOW = 1_700_000_040_000


async def test_queues(store: Store) -> None:
    """Of each queue its jobs by state and priority, its age and its limits; of a type with only a policy the latter."""
    await store.flow.set("mail", {"rate": Rate(0.001, burst=1), "max_running": 5}, now=NOW)
    await store.flow.set("fragile", {"breaker": BreakerPolicy()}, now=NOW)
    await store.breakers.force("fragile", "open", now=NOW)
    await store.submit_many([NewJob(type="mail", priority=Priority.HIGH)], now=NOW - 4000)
    await store.submit_many([NewJob(type="mail"), NewJob(type="mail", due_ms=NOW - 2500)], now=NOW - 3000)

    found = await store.snapshots.take(10, now=NOW)

    assert found.others is None
    mail, fragile = found.queues
    assert (mail.type, mail.states[State.ENQUEUED], mail.depth[Priority.HIGH]) == ("mail", 2, 1)
    assert (mail.oldest, mail.policy.max_running, mail.limited, mail.breaker) == (4.0, 5, False, None)
    assert (fragile.type, fragile.oldest, fragile.breaker, fragile.limited) == ("fragile", None, "forced-open", False)
    assert found.server is not None
    assert found.server.clients > 0
    session = await store.open_session("n", 15.0)
    await take(store, session, Pool.of(["mail"]), 1, now=NOW)
    assert (await store.snapshots.take(10, now=NOW)).queues[0].limited


async def test_what_is_overdue(store: Store) -> None:
    """For how long the first scheduled job is due and not promoted; nothing while the first is still to come."""
    await store.submit_many([NewJob(type="mail", due_ms=NOW), NewJob(type="mail", due_ms=NOW + 9000)], now=NOW - 9000)
    assert (await store.snapshots.take(10, now=NOW - 1000)).overdue == 0
    assert (await store.snapshots.take(10, now=NOW + 2500)).overdue == 2.5
    await store.promote(now=NOW + 2500)
    assert (await store.snapshots.take(10, now=NOW + 2500)).overdue == 0


async def test_the_types_with_most_jobs(store: Store) -> None:
    """Those with most jobs are told of one by one, unfinished and failed ones before all; the others are added up."""
    session = await store.open_session("n", 15.0)
    await fill(store, "done", 5, type="done")
    for lease in (await store.claim(session, Pool.of(["done"]), 5)).leases:
        await store.complete(lease)
    await fill(store, "most", 3, type="most")
    for n in range(4):
        await fill(store, f"some{n}", 2, type=f"some{n}", priority=Priority.LOW)

    found = await store.snapshots.take(3)

    assert [queue.type for queue in found.queues] == ["most", "some0", "some1"]
    assert found.others is not None
    assert found.others.depth == {Priority.LOW: 4}
    assert found.others.states == {State.ENQUEUED: 4, State.COMPLETED: 5}
    assert found.others.oldest is not None


async def test_many_types_cost_few_steps(valkey_store: Store) -> None:
    """Beside two thousand types it takes some steps more to count their jobs, and no closer look at any of them."""
    for start in range(0, 2000, 1000):
        await valkey_store.submit_many([NewJob(type=f"type{n}") for n in range(start, start + 1000)])
    await fill(valkey_store, "most", 2, type="most")

    spent = await cost(valkey_store, lambda: valkey_store.snapshots.take(10))

    assert spent["hscan"] <= 5
    assert spent["evalsha"] <= 12
    assert spent["hkeys"] == 1
    # Of the types that are told of, and of a hundred others, the lanes are looked at.
    assert spent["zrange"] <= 1 + 110 * 4 * 2


async def test_the_connections(valkey_store: Store) -> None:
    """Each connection that is open is either busy or idle."""
    await valkey_store.ping()
    requests = valkey_store.snapshots.connections["requests"]
    assert (requests.busy, requests.idle) == (0, 1)
    assert requests.most == 16
