"""What a worker does when the store goes away, forgets it, or gives its jobs to others."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import os
import signal
from typing import Any

import pytest

from gopher_node.errors import OutcomeUnknown
from gopher_node.handlers import JobContext
from gopher_node.job import NewJob, State
from gopher_node.store import Pool, Session, Store
from gopher_node.worker import Patience
from gopher_node.worker import session as session_module

from .conftest import Bench, Gate, Relay


async def lose_session(bench: Bench, session_id: str | None) -> None:
    """Do what a reaper does to a session that it holds for dead."""
    assert session_id
    while session_id in (sessions := (await bench.store.survey()).sessions):
        await bench.store.reap_session(session_id, sessions[session_id].renewals)


async def test_outcome_survives_an_outage(bench: Bench, relay: Relay, far_store: Store) -> None:
    """A job that ends while the store is away is settled when it is back, and has run once."""
    leave = asyncio.Event()
    runs: list[int] = []

    @bench.registry.handler("stay")
    async def stay(ctx: JobContext) -> str:
        runs.append(ctx.attempt)
        await leave.wait()
        return "kept"

    worker = bench.start(store=far_store)
    id = await bench.submit("stay")
    await bench.events.until_reported("started")

    await relay.cut()
    leave.set()
    down = len(bench.events.named("store_down"))
    await bench.events.until_reported("store_down", down + 3)
    assert not worker.status().store_ok
    assert worker.status().unsettled == 1
    await relay.mend()

    assert (await bench.finished(id)).result == b'"kept"'
    assert runs == [1]


async def test_worker_hears_again_after_an_outage(bench: Bench, relay: Relay, far_store: Store) -> None:
    """However often the connections break, an idle worker takes the next job."""

    @bench.registry.handler("now")
    async def now() -> None: ...

    bench.start(store=far_store, poll_interval=5)
    await bench.run("now")

    for _ in range(3):
        await relay.cut()
        await relay.mend()
        await bench.run("now")


async def test_claim_whose_answer_is_lost_is_heard_at_the_next_try(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Jobs that a claim won while its answer got lost are started when it is told again, not left to their lease."""
    claim = bench.store.claim
    lost: list[int] = []

    async def forgetful(*arguments: object, **options: object) -> object:
        claimed = await claim(*arguments, **options)  # pyright: ignore[reportArgumentType]
        if claimed.leases and not lost:
            lost.append(len(claimed.leases))
            raise OutcomeUnknown("the answer was lost")
        return claimed

    @bench.registry.handler("now")
    async def now() -> None: ...

    monkeypatch.setattr(bench.store, "claim", forgetful)
    await bench.store.submit_many([NewJob(type="now") for _ in range(5)])
    bench.start()
    settled = await bench.events.until_settled(5)

    assert lost == [5]
    assert {1} == {entry.job.attempt for entry in settled}


async def test_settlement_whose_answer_is_lost_is_repeated(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A completion that was carried out, but not answered, is told again and creates its follow-up once."""
    complete = bench.store.complete
    tries: list[State | None] = []

    async def forgetful(*arguments: object) -> State | None:
        state = await complete(*arguments)  # pyright: ignore[reportArgumentType]
        tries.append(state)
        if len(tries) == 1:
            raise OutcomeUnknown("the answer was lost")
        return state

    @bench.registry.handler("order")
    async def order(ctx: JobContext) -> None:
        ctx.enqueue("nobody")

    monkeypatch.setattr(bench.store, "complete", forgetful)
    bench.start()
    await bench.run("order")
    await bench.events.until_settled(1)

    assert tries == [State.COMPLETED] * 2
    assert (await bench.store.stats()).totals["submitted"] == 2


async def test_outcome_of_a_lost_job_is_stale(bench: Bench) -> None:
    """A run whose job was given to another may end, but its outcome is refused, counted, and no error."""
    leave = asyncio.Event()

    @bench.registry.handler("stay")
    async def stay(ctx: JobContext) -> int:
        if ctx.attempt == 1:
            await leave.wait()
        return ctx.attempt

    worker = bench.start()
    id = await bench.submit("stay")
    await bench.events.until_reported("started")

    await lose_session(bench, worker.status().session)
    job = await bench.finished(id)
    leave.set()
    await bench.events.until_reported("stale")

    assert (job.result, job.crashes) == (b"2", 1)
    assert (await bench.store.get(id)).result == b"2"


async def test_lost_session_is_replaced(bench: Bench) -> None:
    """A node that was held for dead opens another session and works on; it says so once."""

    @bench.registry.handler("now")
    async def now() -> None: ...

    worker = bench.start(lease=1.0)
    await bench.run("now")
    first = worker.status().session

    await lose_session(bench, first)
    await bench.run("now")

    assert len(bench.events.named("session_lost")) == 1
    second = worker.status().session
    assert first != second
    assert {second} == set((await bench.store.survey()).sessions)


async def test_idle_worker_notices_that_its_session_is_lost(bench: Bench) -> None:
    """The child that renews finds out by itself, before there is anything to claim."""
    bench.registry.handler("now")(lambda: None)
    worker = bench.start(lease=1.0, poll_interval=60)
    await bench.run("now")

    await lose_session(bench, worker.status().session)

    await bench.events.until_reported("session_lost")


async def test_cancels_reach_a_replaced_session(bench: Bench) -> None:
    """After a session was replaced, cancels of its jobs still arrive."""

    @bench.registry.handler("stay")
    async def stay() -> None:
        await asyncio.Event().wait()

    @bench.registry.handler("now")
    async def now() -> None: ...

    worker = bench.start()
    await bench.run("now")
    await lose_session(bench, worker.status().session)
    id = await bench.submit("stay")
    await bench.events.until_reported("started", 2)

    await bench.store.cancel(id)

    assert State.CANCELLED is (await bench.finished(id)).state


async def until_renewed(bench: Bench, session: str, times: int = 1) -> None:
    first = (await bench.store.survey()).sessions[session].renewals
    async with asyncio.timeout(10):
        while (await bench.store.survey()).sessions[session].renewals < first + times:
            await bench.store.ping()


@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP])
async def test_renewing_child_is_replaced(bench: Bench, monkeypatch: pytest.MonkeyPatch, blow: signal.Signals) -> None:
    """One that was killed, and one that hangs and says nothing any more, cost the node nothing."""
    monkeypatch.setattr(session_module, "SILENCE", 1.0)
    bench.registry.handler("now")(lambda: None)
    worker = bench.start(lease=1.0)
    await bench.run("now")
    session = worker.status().session
    assert session
    await until_renewed(bench, session)

    birth = worker._session._birth  # pyright: ignore[reportPrivateUsage]
    assert birth is not None
    child = await birth
    os.kill(child.pid, blow)
    await child.wait()
    await until_renewed(bench, session, 2)

    assert session == worker.status().session


async def test_renewing_child_that_cannot_start_is_tried_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that is out of processes for a moment does not end the node."""
    spawn = asyncio.create_subprocess_exec
    tries: list[int] = []

    async def refusing(*arguments: Any, **options: Any) -> Any:
        tries.append(1)
        if len(tries) < 3:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        return await spawn(*arguments, **options)

    bench.registry.handler("now")(lambda: None)
    monkeypatch.setattr(asyncio, "create_subprocess_exec", refusing)
    worker = bench.start(lease=1.0)
    await bench.run("now")
    session = worker.status().session
    assert session
    await until_renewed(bench, session)

    assert len(tries) == 3


@pytest.mark.parametrize("lock", [True, False])
async def test_blocked_loop_keeps_its_session_and_is_named(bench: Bench, lock: bool) -> None:
    """While a handler blocks the loop, or holds the interpreter's lock, the session is renewed; then it is named."""
    library = ctypes.PyDLL(None) if lock else ctypes.CDLL(None)

    @bench.registry.handler("block")
    async def block() -> None:
        library.poll(None, 0, 1500)

    @bench.registry.handler("now")
    async def now() -> None: ...

    worker = bench.start(lease=1.0)
    await bench.run("now")
    session = worker.status().session
    assert session
    await until_renewed(bench, session)
    before = (await bench.store.survey()).sessions[session].renewals

    await bench.run("block")
    after = (await bench.store.survey()).sessions[session].renewals

    assert after >= before + 4
    await bench.events.until_reported("loop_blocked")
    seconds, type = bench.events.named("loop_blocked")[-1]
    assert 1.2 < seconds < 5
    # With the lock held nobody can look; afterwards the one who looks may come too late.
    assert type == "block" or (lock and type is None)


async def test_progress_is_stored(bench: Bench) -> None:
    """What a handler says last is stored before its outcome, and what it says between is thinned out."""

    @bench.registry.handler("count")
    async def count(ctx: JobContext) -> None:
        for step in range(1, 101):
            ctx.progress(step / 100)
            if step == 50:
                await bench.store.ping()

    sent: list[bytes] = []
    progress = bench.store.progress

    async def counted(lease: object, value: bytes) -> bool:
        sent.append(value)
        return await progress(lease, value)  # pyright: ignore[reportArgumentType]

    bench.store.progress = counted  # pyright: ignore[reportArgumentType]
    bench.start()

    job = await bench.run("count")

    assert job.progress == b'{"fraction":1.0}'
    assert len(sent) <= 3


async def test_progress_from_a_thread_is_seen_while_it_runs(bench: Bench, gate: Gate) -> None:
    """A thread's progress can be looked up while it works."""

    @bench.registry.handler("half")
    def half(ctx: JobContext) -> None:
        ctx.progress(0.5, "half-way")
        gate.wait()

    bench.start()
    id = await bench.submit("half")
    await gate.entered.wait()
    async with asyncio.timeout(5):
        while (job := await bench.store.get(id)).progress is None:
            await bench.store.ping()
    gate.opened.set()
    await bench.finished(id)

    assert job.progress == b'{"fraction":0.5,"message":"half-way"}'


async def test_progress_of_a_lost_job_stops_its_run(bench: Bench) -> None:
    """A handler that reports progress on a job that belongs to another by now is told to stop."""
    other = await bench.store.open_session("other", 60.0)
    attempts: list[int] = []

    @bench.registry.handler("talk")
    async def talk(ctx: JobContext) -> None:
        attempts.append(ctx.attempt)
        if ctx.attempt > 1:
            return
        await lose_session(bench, worker.status().session)
        await take_over(bench.store, other, ctx.job_id)
        ctx.progress(0.1)
        await asyncio.Event().wait()

    worker = bench.start(patience=Patience(stop=5.0, release=0.05, settle=2.0), concurrency=1)
    await bench.submit("talk")
    await bench.events.until_reported("stale")

    assert attempts == [1]


async def take_over(store: Store, session: Session, id: str) -> None:
    async with asyncio.timeout(10):
        while True:
            claimed = await store.claim(session, Pool.of(["talk"]), 1)
            if [lease.job.id for lease in claimed.leases] == [id]:
                return
