"""What a worker takes from the store, how many, and how soon."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from gopher_node.errors import SettingError
from gopher_node.job import NewJob, State
from gopher_node.store import Store

from .conftest import Bench


class Meter:
    """Counts how many runs there are at once; each lasts for a round trip to the store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.now = 0
        self.most = 0

    async def pass_through(self) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        await self._store.ping()
        self.now -= 1


async def test_slots_are_never_exceeded(bench: Bench) -> None:
    """However many jobs wait, no more run at once than there are slots; and each runs once."""
    meter = Meter(bench.store)

    @bench.registry.handler("pass")
    async def enter() -> None:
        await meter.pass_through()

    await bench.store.submit_many([NewJob(type="pass") for _ in range(200)])
    bench.start(concurrency=7, poll_interval=60)
    settled = await bench.events.until_settled(200)

    assert meter.most == 7
    assert len({entry.job.id for entry in settled}) == 200
    assert {State.COMPLETED} == {entry.state for entry in settled}


async def test_cap_of_a_type_holds_and_blocks_nobody(bench: Bench) -> None:
    """A type with a `concurrency` never runs more at once on a node, and other types take the other slots."""
    capped, free = Meter(bench.store), Meter(bench.store)

    @bench.registry.handler("capped", concurrency=2)
    async def enter_capped() -> None:
        await capped.pass_through()

    @bench.registry.handler("free")
    async def enter_free() -> None:
        await free.pass_through()

    await bench.store.submit_many([NewJob(type=type) for _ in range(50) for type in ("capped", "free")])
    bench.start(concurrency=10, poll_interval=60)
    await bench.events.until_settled(100)

    assert capped.most == 2
    assert free.most > 2


async def test_free_slot_of_a_capped_type_is_used_at_once(bench: Bench) -> None:
    """The end of a capped run lets the next one start although nothing else wakes the worker."""

    @bench.registry.handler("one", concurrency=1)
    async def one() -> None: ...

    await bench.store.submit_many([NewJob(type="one") for _ in range(20)])
    bench.start(concurrency=10, poll_interval=60)

    await bench.events.until_settled(20, timeout=5)


async def test_wake_token_starts_the_job(bench: Bench) -> None:
    """An idle worker starts a job when it is submitted, and not when it would have asked again."""

    @bench.registry.handler("now")
    async def now() -> None: ...

    bench.start(poll_interval=60)
    await bench.run("now")
    latencies: list[float] = []

    for done in range(2, 22):
        began = time.perf_counter()
        await bench.submit("now")
        await bench.events.until_settled(done)
        latencies.append(time.perf_counter() - began)

    assert sorted(latencies)[len(latencies) // 2] < 0.1


async def test_job_that_falls_due_is_found_without_a_token(bench: Bench) -> None:
    """A wake-up that was lost costs one poll interval, no more."""

    @bench.registry.handler("now")
    async def now() -> None: ...

    worker = bench.start(poll_interval=0.1)
    await bench.run("now")
    # The token goes to somebody who does nothing with it.
    thief = asyncio.create_task(bench.store.wait_for_work(worker._claimer._pool, 5.0))  # pyright: ignore[reportArgumentType]
    await bench.submit("now")
    await bench.events.until_settled(2)
    thief.cancel()


async def test_only_wished_types_are_taken(bench: Bench) -> None:
    """With WORKER_TYPES, a node leaves the other types to others."""

    @bench.registry.handler("mine")
    async def mine() -> None: ...

    @bench.registry.handler("theirs")
    async def theirs() -> None: ...

    theirs_id = await bench.submit("theirs")
    bench.start(types=["mine"])
    await bench.run("mine")

    assert State.ENQUEUED is (await bench.store.get(theirs_id)).state


def test_wished_type_without_a_handler_is_refused(bench: Bench) -> None:
    """A type in WORKER_TYPES that nothing can run is a mistake, and the message says which."""
    bench.registry.handler("known")(lambda: None)

    with pytest.raises(SettingError, match="unknown, for which there is no handler; there are handlers for known"):
        bench.build(types=["unknown"])


async def test_outcomes_that_the_store_does_not_take_stop_the_claims(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that answers claims but no settlements is not asked for more than four jobs a slot."""
    answering = asyncio.Event()
    complete = bench.store.complete

    async def late(*arguments: object) -> State | None:
        await answering.wait()
        return await complete(*arguments)  # pyright: ignore[reportArgumentType]

    @bench.registry.handler("now")
    async def now() -> None: ...

    monkeypatch.setattr(bench.store, "complete", late)
    await bench.store.submit_many([NewJob(type="now") for _ in range(30)])
    worker = bench.start(concurrency=2)
    await bench.events.until(lambda: len(bench.events.named("started")) == 8)

    assert (worker.status().unsettled, worker.status().busy) == (8, 0)
    answering.set()
    await bench.events.until_settled(30)


async def test_status_tells_what_the_worker_does(bench: Bench) -> None:
    """The status has what readiness and the dashboard need to know."""
    leave = asyncio.Event()

    @bench.registry.handler("stay")
    async def stay() -> None:
        await leave.wait()

    worker = bench.start(concurrency=3)
    assert worker.status().last_claim_age is None
    await bench.submit("stay")
    await bench.events.until_reported("started")
    status = worker.status()
    leave.set()

    assert (status.slots, status.busy, status.stuck, status.unsettled) == (3, 1, 0, 0)
    assert status.last_claim_age is not None
    assert 0 <= status.last_claim_age < 5
    assert (status.draining, status.store_ok, status.deaf) == (False, True, False)
    assert status.session


async def test_unforeseen_error_of_the_wait_leaves_the_worker_hearing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the wait for a wake-up raises, the worker claims again soon."""
    wait = bench.store.wait_for_work
    broken = asyncio.Event()

    async def stumbling(*arguments: Any) -> bool:
        if not broken.is_set():
            broken.set()
            raise RuntimeError("defect")
        return await wait(*arguments)

    @bench.registry.handler("now")
    async def now() -> None: ...

    monkeypatch.setattr(bench.store, "wait_for_work", stumbling)
    bench.start(poll_interval=60)
    await broken.wait()

    await bench.run("now")


async def test_worker_with_room_that_claims_nothing_is_deaf(bench: Bench) -> None:
    """Readiness sees a claimer that nothing wakes, though it asked for nothing; a full one may be silent."""
    leave = asyncio.Event()

    @bench.registry.handler("stay")
    async def stay() -> None:
        await leave.wait()

    worker = bench.start(concurrency=1, poll_interval=60)
    await bench.submit("stay")
    await bench.events.until_reported("started")
    worker._claimer.last_answer = 0.0  # pyright: ignore[reportPrivateUsage]
    assert not worker.status().deaf
    leave.set()
    await bench.events.until_settled()
    assert not worker.status().deaf

    assert worker._began is not None  # pyright: ignore[reportPrivateUsage]
    worker._began -= 100  # pyright: ignore[reportPrivateUsage]
    worker._room_since -= 100  # pyright: ignore[reportPrivateUsage]
    worker._claimer.last_answer = worker._room_since  # pyright: ignore[reportPrivateUsage]
    assert worker.status().deaf


async def test_full_worker_takes_no_wake_up(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that has no room leaves the token of a new job to one that has."""
    leave = asyncio.Event()
    waiting, ended = asyncio.Event(), asyncio.Event()

    async def forever(*arguments: object) -> None:
        waiting.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    @bench.registry.handler("stay")
    async def stay() -> None:
        await leave.wait()

    monkeypatch.setattr(bench.store, "wait_for_work", forever)
    worker = bench.start(concurrency=1, poll_interval=60)
    await waiting.wait()
    # Found without a token, so that the wait for one is still open when the worker is full.
    await bench.submit("stay")
    worker._claimer._opened.set()  # pyright: ignore[reportPrivateUsage]
    await bench.events.until_reported("started")

    async with asyncio.timeout(5):
        await ended.wait()
    await bench.submit("stay")
    leave.set()
    await bench.events.until_settled(2)
