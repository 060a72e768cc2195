"""
What verbs cost, counted in server commands and never in seconds, and in memory.

On a real server only, for fakeredis counts neither.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gopher_node.job import NewJob, Priority
from gopher_node.store import JobFilter, Once, Pool, Session, Store
from tests.store.keyspace import command, prefix
from tests.store.lanes import fill, take
from tests.store.lives import FAR

SERVED = Pool.of([f"type{n}" for n in range(3)])


async def calls(store: Store) -> Counter[str]:
    """How often the server has carried out each command, those inside scripts included."""
    text: bytes = await command(store, "INFO", "commandstats")
    found = re.findall(r"cmdstat_([^:]+):calls=(\d+)", text.decode())
    return Counter({name: int(number) for name, number in found if name != "info"})


async def cost(store: Store, act: Callable[[], Awaitable[Any]]) -> Counter[str]:
    """The commands that the server carries out for this."""
    before = await calls(store)
    await act()
    return await calls(store) - before


async def claim_costs(store: Store, session: Session, when: str) -> list[Counter[str]]:
    """Of a claim that finds nothing, and of claims that leave work behind: of one job and of ten."""
    costs = [await cost(store, lambda: take(store, session, SERVED, 10))]
    for number in (1, 10):
        for type in SERVED.types:
            await fill(store, f"{when}-{type}-{number}", number, type=type)
        costs.append(await cost(store, lambda size=number: take(store, session, SERVED, size)))
        while await take(store, session, SERVED, 100):
            pass
    return costs


async def test_a_claim_costs_the_same_beside_ten_thousand_lanes(valkey_store: Store) -> None:
    """A node that serves 3 of 1,000 types, beside 10,000 waiting lanes of the others, claims as on an empty store."""
    session = await valkey_store.open_session("node", 15.0)
    await take(valkey_store, session, SERVED, 1)
    before = await claim_costs(valkey_store, session, "before")
    jobs = [
        NewJob(type=f"type{3 + n % 997}", group=f"group{n // 997}", priority=Priority(1 + n % 4)) for n in range(10_000)
    ]
    for start in range(0, len(jobs), 1000):
        await valkey_store.submit_many(jobs[start : start + 1000])

    after = await claim_costs(valkey_store, session, "after")

    assert after == before
    assert sum(after[0].values()) <= 25


async def test_a_claim_costs_the_same_however_long_its_lanes_are(valkey_store: Store) -> None:
    """A long backlog, and many groups in it, do not make a claim dearer."""
    pool = Pool.of(["mail"])
    session = await valkey_store.open_session("node", 15.0)

    async def cost_of_ten(groups: int, each: int) -> int:
        await valkey_store.submit_many([NewJob(type="mail", group=f"g{n}") for n in range(groups) for _ in range(each)])
        await take(valkey_store, session, pool, 1)
        return sum((await cost(valkey_store, lambda: take(valkey_store, session, pool, 10))).values())

    few = await cost_of_ten(2, 20)
    many = await cost_of_ten(500, 2)

    assert many <= few + 10  # a lane that runs empty is taken out of the turns


async def test_a_jobs_life_costs_few_commands(valkey_store: Store) -> None:
    """Submit, claim and completion of a job cost the server a bounded number of commands, alone and in batches."""
    pool = Pool.of(["mail"])
    session = await valkey_store.open_session("node", 15.0)
    await take(valkey_store, session, pool, 1)

    async def life(number: int) -> None:
        await valkey_store.submit_many([NewJob(type="mail", payload=b"x" * 100) for _ in range(number)])
        leases = (await valkey_store.claim(session, pool, number)).leases
        settlements = [("complete", one.job.id, one.job.attempt, one.nonce, b"null", 0, 0) for one in leases]
        await valkey_store._send_settlements(settlements)

    await life(1)
    alone = sum((await cost(valkey_store, lambda: life(1))).values())
    together = sum((await cost(valkey_store, lambda: life(100))).values()) / 100

    assert alone <= 60
    assert together <= 7


async def test_keys_and_callbacks_cost_whoever_uses_them(valkey_store: Store) -> None:
    """A key costs a submission two commands. A callback costs an end a few, and a job without one nothing."""
    pool = Pool.of(["mail"])
    session = await valkey_store.open_session("node", 15.0)
    await take(valkey_store, session, pool, 1)

    async def submitting(once: Once | None) -> Counter[str]:
        return await cost(valkey_store, lambda: valkey_store.submit(NewJob(type="mail"), once))

    async def ending(url: str) -> Counter[str]:
        await valkey_store.submit_many([NewJob(type="mail", callback_url=url)])
        (lease,) = (await valkey_store.claim(session, pool, 1)).leases
        return await cost(valkey_store, lambda: valkey_store.complete(lease))

    await submitting(None)
    plain, keyed = await submitting(None), await submitting(Once("key", "digest"))
    assert keyed - plain == Counter({"get": 1, "set": 1})
    assert not plain - keyed
    assert plain["hset"] == 1
    assert plain["hmget"] == 0

    while await take(valkey_store, session, pool, 100):
        pass
    await ending("https://example.org")
    without, called_back = await ending(""), await ending("https://example.org")
    assert without["hmget"] == 1
    assert sum(called_back.values()) <= sum(without.values()) + 14


async def test_a_waiting_job_takes_little_memory(valkey_store: Store) -> None:
    """A waiting job with 100 bytes of payload is a listpack, and takes less than 550 bytes with its place in a lane."""
    ids = await fill(valkey_store, "warm", 1000)
    before = await _memory(valkey_store)
    jobs = [NewJob(type="mail", payload=b"x" * 100) for _ in range(5000)]
    for start in range(0, len(jobs), 1000):
        await valkey_store.submit_many(jobs[start : start + 1000])

    per_job = (await _memory(valkey_store) - before) / len(jobs)

    assert 200 < per_job < 550
    assert await command(valkey_store, "OBJECT", "ENCODING", f"{prefix(valkey_store)}job:{ids[0]}") == b"listpack"


async def _memory(store: Store) -> int:
    text: bytes = await command(store, "INFO", "memory")
    found = re.search(r"used_memory_dataset:(\d+)", text.decode())
    assert found
    return int(found[1])


@pytest.mark.parametrize("size", [0, 100, 1024, 1025, 5000])
async def test_a_job_stays_a_listpack(valkey_store: Store, size: int) -> None:
    """Whatever the size of its payload and its result, a job's hash stays compact; large ones stand beside it."""
    body = b'"' + b"x" * (size - 2) + b'"' if size else b"1"
    job = NewJob(type="mail", payload=body, group="g" * 200, tags=("red", "blue"), retention_ms=1000, delay_ms=1)
    session = await valkey_store.open_session("node", 15.0)
    await valkey_store.submit(job)
    await valkey_store.promote(now=(await valkey_store.survey()).now_ms + 10)
    (lease,) = (await valkey_store.claim(session, Pool.of(["mail"]), 1)).leases
    await valkey_store.progress(lease, b'{"fraction":0.5}')
    await valkey_store._run("watch", job.id)

    await valkey_store.complete(lease, body)

    start = prefix(valkey_store)
    assert await command(valkey_store, "OBJECT", "ENCODING", f"{start}job:{job.id}") == b"listpack"
    beside = [await command(valkey_store, "EXISTS", f"{start}{name}:{job.id}") for name in ("payload", "result")]
    assert beside == [int(size > 1024)] * 2
    found = await valkey_store.get(job.id)
    assert (lease.job.payload, found.payload, found.result) == (body, body, body)


async def test_a_list_looks_at_a_bounded_number(valkey_store: Store) -> None:
    """A page of a filter that nothing matches looks at a thousand jobs, and its cursor leads on to the rest."""
    await fill(valkey_store, "mail", 2500)
    filter = JobFilter(created_after_ms=(await valkey_store.survey()).now_ms + FAR)
    pages, cursor = 0, None
    while True:
        page_cost = sum((await cost(valkey_store, lambda at=cursor: valkey_store.list(filter, 50, at))).values())
        assert page_cost <= 1100
        page = await valkey_store.list(filter, 50, cursor)
        assert page.items == []
        pages, cursor = pages + 1, page.next_cursor
        if cursor is None:
            break

    assert pages == 3
