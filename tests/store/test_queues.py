"""How each queue stands: its depth, how long its jobs have waited, its states, what became of its jobs."""

from __future__ import annotations

from typing import Any

import pytest

from gopher_node.job import NewJob, Priority, State
from gopher_node.store import Pool, Store
from gopher_node.store.values import QueueState
from tests.store.keyspace import command, prefix
from tests.store.lanes import fill
from tests.store.lives import claim_one
from tests.store.test_cost import cost

NOW = 1_700_000_040_000
ERROR = b'{"code":"broken","message":""}'
POOL = Pool.of(["mail"])


async def queue(store: Store, now: int | None = None) -> QueueState:
    (found,) = await store.queues("mail", now=now)
    return found


async def submit(store: Store, now: int, *ids: str, **options: Any) -> None:
    await store.submit_many([NewJob(type="mail", id=id, **options) for id in ids], now=now)


async def test_what_is_known_of_a_queue(store: Store) -> None:
    """A queue is told with all its jobs by state, the waiting ones by priority, and what happened to its type."""
    session = await store.open_session("n", 15.0)
    await fill(store, "urgent", 2, priority=Priority.URGENT)
    await fill(store, "low", 3, priority=Priority.LOW, group="acme")
    await store.submit(NewJob(type="mail", delay_ms=60_000))
    await store.complete(await claim_one(store, session))
    await claim_one(store, session)
    await fill(store, "other", 1, type="report")

    mail, report = await store.queues()

    assert (mail.type, report.type) == ("mail", "report")
    assert mail.depth == {Priority.URGENT: 0, Priority.HIGH: 0, Priority.NORMAL: 0, Priority.LOW: 3}
    assert {state: number for state, number in mail.states.items() if number} == {
        State.ENQUEUED: 3,
        State.SCHEDULED: 1,
        State.PROCESSING: 1,
        State.COMPLETED: 1,
    }
    assert (mail.totals, report.totals) == ({"submitted": 6, "completed": 1}, {"submitted": 1})
    assert mail.oldest_ms.keys() == {Priority.LOW}
    assert (await queue(store)).depth == mail.depth


async def test_an_unknown_queue(store: Store) -> None:
    """A type of which there never was a job is no queue."""
    assert await store.queues() == []
    assert await store.queues("mail") == []
    await fill(store, "other", 1, type="report")
    assert await store.queues("mail") == []


async def test_a_queue_that_has_run_empty_is_still_told(store: Store) -> None:
    """What a type's jobs came to is known even when all of them are forgotten."""
    await fill(store, "mail", 3)
    await store.purge("mail")

    found = await queue(store)

    assert (sum(found.states.values()), found.oldest_ms, found.totals) == (0, {}, {"submitted": 3})


async def test_the_longest_wait(store: Store) -> None:
    """By priority, the age of the job that has waited longest, in whichever group it stands."""
    await submit(store, NOW + 5, "b", group="b")
    await submit(store, NOW + 9, "a", group="a")
    await submit(store, NOW + 7, "c", priority=Priority.HIGH)

    assert (await queue(store, NOW + 100)).oldest_ms == {Priority.HIGH: 93, Priority.NORMAL: 95}


async def test_a_scheduled_job_waits_from_its_due_time(store: Store) -> None:
    """The time before it is due is no waiting."""
    await submit(store, NOW, "a", due_ms=NOW + 1000)
    await store.promote(now=NOW + 1500)

    assert (await queue(store, NOW + 2000)).oldest_ms == {Priority.NORMAL: 1000}


async def test_a_job_put_back_to_the_front_hides_no_older_one(store: Store) -> None:
    """A job that was released stands before all others, and has waited only since then."""
    session = await store.open_session("n", 15.0)
    await submit(store, NOW, "released")
    await submit(store, NOW + 10, "stays")
    lease = await claim_one(store, session, now=NOW + 20)
    settlement = ("release", lease.job.id, lease.job.attempt, lease.nonce, b"", 0, 0)
    await store._send_settlements([settlement], now=NOW + 500)

    assert (await queue(store, NOW + 1000)).oldest_ms == {Priority.NORMAL: 990}
    await store.delete("stays")
    assert (await queue(store, NOW + 1000)).oldest_ms == {Priority.NORMAL: 500}


async def test_a_requeued_job_waits_from_then_on(store: Store) -> None:
    """An operator's retry of an old job is no job that has waited since it was made."""
    session = await store.open_session("n", 15.0)
    await submit(store, NOW, "a")
    lease = await claim_one(store, session, now=NOW)
    await store._send_settlements([("fail", lease.job.id, lease.job.attempt, lease.nonce, ERROR, 0, 0)], now=NOW + 5)
    await store.requeue("a", now=NOW + 3_600_000)

    assert (await queue(store, NOW + 3_600_100)).oldest_ms == {Priority.NORMAL: 100}


async def test_rates_are_of_the_last_whole_minute(store: Store) -> None:
    """What happened in the minute that a tick wrote down last; when none did for long, nothing is known to happen."""
    await fill(store, "mail", 7)
    await store.history.tick(now=NOW)
    await fill(store, "more", 2)

    assert (await queue(store, NOW)).rates == {"submitted": 7}
    assert (await queue(store, NOW + 60_999)).rates == {"submitted": 7}
    await store.history.tick(now=NOW + 61_000)
    assert (await queue(store, NOW + 61_000)).rates == {"submitted": 2}
    await store.history.tick(now=NOW + 120_000)
    assert (await queue(store, NOW + 120_000)).rates == {}
    await fill(store, "last", 1)
    await store.history.tick(now=NOW + 180_000)
    assert (await queue(store, NOW + 300_000)).rates == {}


async def test_many_types(store: Store) -> None:
    """More types than one step looks at are all told, by name."""
    await store.submit_many([NewJob(type=f"t{n:03}") for n in range(130)])

    assert [found.type for found in await store.queues()] == [f"t{n:03}" for n in range(130)]


@pytest.mark.parametrize("types", [1, 3])
async def test_the_cost_is_bounded(valkey_store: Store, types: int) -> None:
    """Of very many groups a thousand are looked at for each type and priority, and few thousand in one step."""
    for type in range(types):
        for start in range(0, 3000, 1000):
            await valkey_store.submit_many(
                [NewJob(type=f"t{type}", group=f"g{n}") for n in range(start, start + 1000)], now=NOW
            )

    spent = sum((await cost(valkey_store, valkey_store.queues)).values())

    assert spent <= types * 1000 + 100
    assert [found.oldest_ms for found in await valkey_store.queues(now=NOW + 50)] == [{Priority.NORMAL: 50}] * types


async def test_a_job_that_is_gone_breaks_nothing(unchecked_store: Store) -> None:
    """A lane with an entry that is no job any more has a wait of no time."""
    await submit(unchecked_store, NOW, "a")
    await command(unchecked_store, "DEL", f"{prefix(unchecked_store)}job:a")

    assert (await queue(unchecked_store, NOW + 5)).oldest_ms == {Priority.NORMAL: 0}
