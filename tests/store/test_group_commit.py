"""Calls that share a request: each with its own answer, and none with another's misfortune."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gopher_node.errors import StoreFull
from gopher_node.job import NewJob, State
from gopher_node.store import Store
from gopher_node.store.group_commit import GroupCommit
from tests.store.lives import POOL, TYPE


class Server:
    """Answers each batch when the test opens its gate; `sent` are the batches so far."""

    def __init__(self) -> None:
        self.sent: list[list[str]] = []
        self.arrived = asyncio.Semaphore(0)
        self._gates: list[asyncio.Future[None]] = []

    async def send(self, batch: list[str]) -> list[str]:
        self.sent.append(batch)
        gate = asyncio.get_running_loop().create_future()
        self._gates.append(gate)
        self.arrived.release()
        await gate
        return [item.upper() for item in batch]

    async def answer(self, error: Exception | None = None) -> None:
        """Wait for the next batch, and answer it."""
        await self.arrived.acquire()
        gate = self._gates.pop(0)
        if error is None:
            gate.set_result(None)
        else:
            gate.set_exception(error)


def commit(server: Server, **options: Any) -> GroupCommit[str, str]:
    return GroupCommit(server.send, size=len, **options)


def call(group: GroupCommit[str, str], *items: str) -> list[asyncio.Task[str]]:
    return [asyncio.ensure_future(group.call(item)) for item in items]


async def test_a_lone_caller_waits_for_nobody() -> None:
    """The first call is sent at once, alone."""
    server = Server()
    (task,) = call(commit(server), "a")

    await server.answer()

    assert await task == "A"
    assert server.sent == [["a"]]


async def test_whoever_calls_meanwhile_shares_the_next_request() -> None:
    """While a request is under way the others gather, and go together, in the order in which they came."""
    server = Server()
    group = commit(server)
    first = call(group, "a")
    await server.arrived.acquire()
    server.arrived.release()
    others = call(group, "b", "c", "d")

    await server.answer()
    await server.answer()

    assert await asyncio.gather(*first, *others) == ["A", "B", "C", "D"]
    assert server.sent == [["a"], ["b", "c", "d"]]


async def test_one_request_at_a_time() -> None:
    """There is never more than one request under way."""
    server = Server()
    group = commit(server)
    tasks = call(group, "a")
    await server.arrived.acquire()
    server.arrived.release()
    for item in "bcdef":
        tasks += call(group, item)

    assert len(server.sent) == 1
    await server.answer()
    await server.answer()
    await asyncio.gather(*tasks)
    assert server.sent == [["a"], list("bcdef")]


async def test_a_failed_request_is_the_misfortune_of_its_batch_alone() -> None:
    """All that shared a request hear why it failed; who came later is served as if nothing had happened."""
    server = Server()
    group = commit(server)
    failing = call(group, "a", "b")
    await server.arrived.acquire()
    server.arrived.release()
    later = call(group, "c")

    await server.answer(StoreFull())
    await server.answer()

    outcomes = await asyncio.gather(*failing, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [StoreFull, StoreFull]
    assert await later[0] == "C"


@pytest.mark.parametrize(
    ("items", "options", "batches"),
    [
        (["a", "b", "c", "d", "e"], {"max_items": 2}, [["a", "b"], ["c", "d"], ["e"]]),
        (["aaa", "bbb", "c", "d"], {"max_bytes": 5}, [["aaa"], ["bbb", "c", "d"]]),
        (["a", "huge" * 10, "b", "c"], {"max_bytes": 5}, [["a"], ["huge" * 10], ["b", "c"]]),
    ],
    ids=["items", "bytes", "one that is too large alone"],
)
async def test_a_request_is_bounded(items: list[str], options: dict[str, int], batches: list[list[str]]) -> None:
    """A request carries so many items and bytes; an item that is larger goes alone."""
    server = Server()
    group = commit(server, **options)
    tasks = call(group, *items)

    for _ in batches:
        await server.answer()

    assert await asyncio.gather(*tasks) == [item.upper() for item in items]
    assert server.sent == batches


async def test_a_caller_that_gives_up_while_it_waits() -> None:
    """A call that is cancelled leaves its neighbours alone, whether its request is under way or not."""
    server = Server()
    group = commit(server)
    under_way, beside = call(group, "a", "b")
    await server.arrived.acquire()
    server.arrived.release()
    waiting, behind = call(group, "c", "d")
    await asyncio.wait([waiting], timeout=0)
    for task in (under_way, waiting):
        task.cancel()
    await asyncio.wait([under_way, waiting])

    await server.answer()
    await server.answer()

    assert await asyncio.gather(beside, behind) == ["B", "D"]
    assert under_way.cancelled()
    assert waiting.cancelled()


async def test_it_begins_anew_after_a_pause() -> None:
    """When all are answered, the next call starts afresh."""
    server = Server()
    group = commit(server)
    for item in "abc":
        (task,) = call(group, item)
        await server.answer()
        assert await task == item.upper()

    assert server.sent == [["a"], ["b"], ["c"]]


def count_runs(store: Store) -> list[str]:
    told: list[str] = []
    run = store._scripts.run

    async def count_and_run(name: str, *words: Any, **options: Any) -> Any:
        told.append(name)
        return await run(name, *words, **options)

    store._scripts.run = count_and_run
    return told


async def test_concurrent_submits_and_settles_share_requests(store: Store) -> None:
    """A hundred jobs that are submitted and completed at once cost a few requests, and each caller hears of its own."""
    told = count_runs(store)
    jobs = [NewJob(type=TYPE, payload=b"%d" % n) for n in range(100)]
    submitted = await asyncio.gather(*(store.submit(job) for job in jobs))
    session = await store.open_session("node", 15.0)
    leases = (await store.claim(session, POOL, 100)).leases

    states = await asyncio.gather(
        *(store.complete(lease, lease.job.payload) if n % 2 else store.release(lease) for n, lease in enumerate(leases))
    )

    assert [one.id for one in submitted] == [job.id for job in jobs]
    assert states == [State.ENQUEUED, State.COMPLETED] * 50
    assert all([(await store.get(lease.job.id)).result == lease.job.payload for lease in leases[1::2]])
    assert told.count("submit") <= 3
    assert told.count("settle") <= 3
