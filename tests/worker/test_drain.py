"""How a worker begins and ends."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gopher_node.errors import GopherError
from gopher_node.handlers import JobContext
from gopher_node.job import NewJob, State
from gopher_node.store import Store
from gopher_node.worker import Patience

from . import in_process
from .conftest import Bench, Gate, Relay, pid_from, until_gone


async def test_drain_lets_running_jobs_finish(bench: Bench) -> None:
    """What runs when the drain begins completes and is recorded; nothing new is started."""
    leave = asyncio.Event()

    @bench.registry.handler("stay")
    async def stay() -> str:
        await leave.wait()
        return "finished"

    worker = bench.start(concurrency=2)
    ids = [await bench.submit("stay") for _ in range(2)]
    await bench.events.until_reported("started", 2)

    stopping = asyncio.create_task(bench.stop(worker))
    while not worker.status().draining:
        await bench.store.ping()
    later = await bench.submit("stay")
    leave.set()
    await stopping

    jobs = [await bench.store.get(id) for id in ids]
    assert [job.state for job in jobs] == [State.COMPLETED] * 2
    assert ((job := await bench.store.get(later)).state, job.attempt) == (State.ENQUEUED, 0)
    assert (await bench.store.stats()).sessions == 0


async def test_drain_hands_back_what_does_not_finish(bench: Bench) -> None:
    """After the grace a coroutine is cancelled and its job handed back; no budget is charged."""
    cancelled = asyncio.Event()

    @bench.registry.handler("stay")
    async def stay() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    worker = bench.start(shutdown_timeout=0.05)
    id = await bench.submit("stay")
    await bench.events.until_reported("started")
    await bench.stop(worker)
    job = await bench.store.get(id)

    assert cancelled.is_set()
    assert (job.state, job.attempt, job.errors, job.crashes) == (State.ENQUEUED, 1, 0, 0)
    assert [entry.outcome for entry in bench.events.settlements] == ["released"]


async def test_coroutine_that_ignores_the_drain_is_broken(bench: Bench) -> None:
    """A coroutine that swallows its cancels is ended nevertheless, its job handed back, and the loop can be closed."""
    tasks: list[asyncio.Task[Any] | None] = []

    @bench.registry.handler("deaf")
    async def deaf() -> None:
        tasks.append(asyncio.current_task())
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                continue

    worker = bench.start(shutdown_timeout=0.0)
    id = await bench.submit("deaf")
    await bench.events.until_reported("started")
    await bench.stop(worker)

    assert State.ENQUEUED is (await bench.store.get(id)).state
    (task,) = tasks
    assert task is not None
    await asyncio.wait({task}, timeout=5)
    assert task.done()
    assert len(bench.events.settlements) == 1


async def test_drain_does_not_wait_for_a_thread(bench: Bench, gate: Gate) -> None:
    """A thread cannot be stopped: its job is handed back after the grace, and its late return is ignored."""

    @bench.registry.handler("stay")
    def stay() -> str:
        gate.wait()
        return "late"

    worker = bench.start(shutdown_timeout=0.05)
    id = await bench.submit("stay")
    await gate.entered.wait()
    await bench.stop(worker)

    assert State.ENQUEUED is (await bench.store.get(id)).state
    gate.opened.set()
    await bench.events.until_reported("handler_returned_late")
    assert State.ENQUEUED is (await bench.store.get(id)).state
    assert len(bench.events.settlements) == 1


async def test_drain_kills_processes(bench: Bench, pipe: Path) -> None:
    """A handler in a process is killed after the grace, and its job handed back."""
    bench.registry.handler("spin", run="process")(in_process.spin)
    worker = bench.start(shutdown_timeout=0.05)
    id = await bench.submit("spin", {"path": str(pipe)})
    pid = await pid_from(pipe)
    await bench.stop(worker)

    await until_gone(pid)
    assert State.ENQUEUED is (await bench.store.get(id)).state


async def test_second_signal_releases_at_once(bench: Bench) -> None:
    """release_now() cuts the grace short, before a drain or within one."""

    @bench.registry.handler("stay")
    async def stay() -> None:
        await asyncio.Event().wait()

    worker = bench.start(shutdown_timeout=3600.0)
    id = await bench.submit("stay")
    await bench.events.until_reported("started")
    draining = asyncio.create_task(worker.drain())
    while not worker.status().draining:
        await bench.store.ping()

    worker.release_now()
    await draining

    assert State.ENQUEUED is (await bench.store.get(id)).state


async def test_session_is_renewed_while_draining(bench: Bench) -> None:
    """A drain longer than the lease loses no job: the session lives until the last handler is out."""
    leave = asyncio.Event()

    @bench.registry.handler("stay")
    async def stay() -> None:
        await leave.wait()

    worker = bench.start(lease=1.0)
    await bench.submit("stay")
    await bench.events.until_reported("started")
    stopping = asyncio.create_task(bench.stop(worker))
    session = worker.status().session
    assert session
    first = (await bench.store.survey()).sessions[session].renewals
    async with asyncio.timeout(10):
        while (await bench.store.survey()).sessions[session].renewals < first + 4:
            await bench.store.ping()
    leave.set()
    await stopping

    assert State.COMPLETED is bench.events.settlements[0].state


async def test_claim_under_way_is_handed_back(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs that a claim brings after the drain began are released, not started and not lost."""
    claiming, answer = asyncio.Event(), asyncio.Event()
    claim = bench.store.claim

    async def slow_claim(*arguments: object, **options: object) -> object:
        claimed = await claim(*arguments, **options)  # pyright: ignore[reportArgumentType]
        claiming.set()
        await answer.wait()
        return claimed

    @bench.registry.handler("now")
    async def now() -> None: ...

    monkeypatch.setattr(bench.store, "claim", slow_claim)
    id = await bench.submit("now")
    worker = bench.start()
    await claiming.wait()
    stopping = asyncio.create_task(bench.stop(worker))
    while not worker.status().draining:
        await bench.store.ping()
    answer.set()
    await stopping
    job = await bench.store.get(id)

    assert (job.state, job.attempt, job.errors) == (State.ENQUEUED, 1, 0)
    assert bench.events.named("started") == []


async def test_hooks_run_around_the_jobs(bench: Bench) -> None:
    """Start-up hooks run before the first job and shutdown hooks after the last, all with the handlers' state."""
    order: list[str] = []

    @bench.registry.startup
    async def connect(state: SimpleNamespace) -> None:
        state.name = "pool"
        order.append("connect")

    @bench.registry.startup
    def warm_up(state: SimpleNamespace) -> None:
        order.append(f"warm up {state.name}")

    @bench.registry.shutdown
    async def close(state: SimpleNamespace) -> None:
        order.append(f"close {state.name}")

    @bench.registry.handler("use")
    async def use(ctx: JobContext) -> None:
        order.append(f"use {ctx.state.name}")

    worker = bench.start()
    await bench.run("use")
    await bench.stop(worker)

    assert order == ["connect", "warm up pool", "use pool", "close pool"]


async def test_failing_startup_hook_stops_the_start(bench: Bench) -> None:
    """A worker whose handlers could not be prepared takes no job, and says why."""

    @bench.registry.startup
    async def connect(state: SimpleNamespace) -> None:
        raise ConnectionRefusedError("no database at db:5432")

    with pytest.raises(GopherError, match=r"start-up hook failed.*ConnectionRefusedError: no database at db:5432"):
        await bench.build().run(asyncio.Event())

    assert (await bench.store.stats()).sessions == 0


async def test_failing_shutdown_hook_does_not_stop_the_end(bench: Bench) -> None:
    """An error in a shutdown hook is logged, and the session closed all the same."""

    @bench.registry.shutdown
    async def close(state: SimpleNamespace) -> None:
        raise RuntimeError("cannot close")

    bench.registry.handler("now")(lambda: None)
    worker = bench.start()
    await bench.run("now")
    await bench.stop(worker)

    assert (await bench.store.stats()).sessions == 0


async def test_worker_that_is_cancelled_hands_back_its_jobs(bench: Bench) -> None:
    """Cancelling run() is no crash: handlers are cancelled, and the closed session frees what it held."""

    @bench.registry.handler("stay")
    async def stay() -> None:
        await asyncio.Event().wait()

    worker = bench.build()
    running = asyncio.create_task(worker.run(asyncio.Event()))
    id = await bench.submit("stay")
    await bench.events.until_reported("started")

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    job = await bench.store.get(id)

    assert (job.state, job.errors, job.crashes) == (State.ENQUEUED, 0, 0)
    assert bench.events.settlements == []


async def test_worker_waits_for_a_store_that_is_away(bench: Bench, relay: Relay, far_store: Store) -> None:
    """A worker that starts in an outage begins when it ends; one that is stopped meanwhile just ends."""
    await relay.cut()
    bench.registry.handler("now")(lambda: None)
    worker = bench.start(store=far_store)
    await bench.events.until_reported("store_down")
    assert not worker.status().store_ok
    await bench.stop(worker)

    worker = bench.start(store=far_store)
    await bench.events.until_reported("store_down", 2)
    await relay.mend()
    await bench.run("now")

    assert worker.status().store_ok


async def test_drain_in_an_outage_ends(bench: Bench, relay: Relay, far_store: Store) -> None:
    """With the store away, the drain gives up in the end; what it could not settle is left to the reaper."""
    leave = asyncio.Event()

    @bench.registry.handler("stay")
    async def stay() -> None:
        await leave.wait()

    worker = bench.start(store=far_store, patience=Patience(stop=0.05, release=0.05, settle=0.2), shutdown_timeout=0.2)
    id = await bench.submit("stay")
    await bench.events.until_reported("started")
    await relay.cut()
    leave.set()
    await bench.stop(worker)

    assert State.PROCESSING is (await bench.store.get(id)).state


async def test_many_jobs_survive_a_drain_under_load(bench: Bench) -> None:
    """Stopped in the middle of 500 jobs, a worker leaves each of them completed once or waiting untouched."""

    @bench.registry.handler("now")
    async def now() -> None: ...

    await bench.store.submit_many([NewJob(type="now") for _ in range(500)])
    worker = bench.start(concurrency=5)
    await bench.events.until_settled(50)
    await bench.stop(worker)
    counts = (await bench.store.stats()).counts
    states = {state: sum(n for (s, _, _), n in counts.items() if s is state) for state in State}

    assert states[State.COMPLETED] + states[State.ENQUEUED] == 500
    assert states[State.ENQUEUED] > 0
    assert len(bench.events.settlements) == states[State.COMPLETED] + sum(
        1 for entry in bench.events.settlements if entry.outcome == "released"
    )
