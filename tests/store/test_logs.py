"""The log of a job: bounded, readable while it runs, written by nobody but the holder, and gone with the job."""

from __future__ import annotations

import orjson
import pytest

from gopher_node.errors import JobNotFound
from gopher_node.job import NewJob
from gopher_node.store import Store
from tests.store.keyspace import dump
from tests.store.lives import TYPE, claim_one
from tests.store.test_told_twice import Echo


def lines(*numbers: int, size: int = 0) -> list[bytes]:
    return [orjson.dumps({"at": 1, "level": "info", "attempt": 1, "message": f"{n}" + "x" * size}) for n in numbers]


async def test_a_log_is_read_on_from_where_it_was(store: Store) -> None:
    job = NewJob(type=TYPE)
    await store.submit(job)
    session = await store.open_session("node", 15.0)
    lease = await claim_one(store, session)
    echo = Echo(store)

    assert await store.logs.append(lease, lines(1, 2))
    first = await store.logs.read(job.id)
    await store.logs.append(lease, lines(3))
    second = await store.logs.read(job.id, first.next)
    await store.complete(lease)
    third = await store.logs.read(job.id, second.next)

    assert [first.lines, second.lines, third.lines] == [lines(1, 2), lines(3), []]
    assert (first.ended, second.ended, third.ended) == (False, False, True)
    assert not await store.logs.append(lease, lines(4)), "the run is over"
    assert echo.faults == []
    await store.delete(job.id)
    assert not [name for name in await dump(store) if name.startswith("log:")]
    with pytest.raises(JobNotFound):
        await store.logs.read(job.id)


async def test_the_latest_lines_stay(store: Store) -> None:
    """At most a thousand, and 64 KiB; whoever reads on misses what went meanwhile, and nothing else."""
    job = NewJob(type=TYPE)
    await store.submit(job)
    lease = await claim_one(store, await store.open_session("node", 15.0))
    for start in range(0, 1100, 100):
        await store.logs.append(lease, lines(*range(start, start + 100)))

    full = await store.logs.read(job.id)
    assert (full.lines, full.next) == (lines(*range(100, 1100)), 1100)
    assert (await store.logs.read(job.id, 50)).lines == full.lines
    assert (await store.logs.read(job.id, 1098)).lines == lines(1098, 1099)
    await store.logs.append(lease, lines(*range(20), size=4000))

    large = await store.logs.read(job.id, 1100)
    assert large.lines == lines(*range(4, 20), size=4000)
    with pytest.raises(ValueError, match="200"):
        await store.logs.append(lease, lines(*range(201)))


async def test_a_cancel_is_told_with_the_lines(store: Store) -> None:
    job = NewJob(type=TYPE)
    await store.submit(job)
    lease = await claim_one(store, await store.open_session("node", 15.0))
    await store.cancel(job.id)

    assert not await store.logs.append(lease, lines(1))
    assert (await store.logs.read(job.id)).lines == lines(1)
