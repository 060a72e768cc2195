"""Runs that are to end early: their time is up, or somebody wants their job cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Any

import pytest

from gopher_node.errors import Fail
from gopher_node.handlers import JobContext
from gopher_node.job import Job, State

from . import in_process
from .conftest import Bench, Gate, lives, pid_from, until_gone


def code_of(job: Job) -> str:
    assert job.error is not None
    return job.error["code"]


async def forever() -> None:
    await asyncio.Event().wait()


async def test_async_handler_is_timed_out(bench: Bench) -> None:
    """A coroutine that takes longer than its timeout is cancelled, and its job gets the error "timeout"."""
    ended = asyncio.Event()

    @bench.registry.handler("slow", timeout=0.05)
    async def slow() -> None:
        try:
            await forever()
        finally:
            ended.set()

    worker = bench.start()

    job = await bench.run("slow", max_retries=0)

    assert (job.state, code_of(job)) == (State.FAILED, "timeout")
    assert job.error is not None
    assert "50ms" in job.error["message"]
    assert ended.is_set()
    assert worker.status().busy == 0


@pytest.mark.parametrize(
    ("of_job", "of_handler", "of_node"), [(50, 60.0, 60.0), (None, 0.05, 60.0), (None, None, 0.05)]
)
async def test_nearest_timeout_holds(
    bench: Bench, of_job: int | None, of_handler: float | None, of_node: float
) -> None:
    """The job's own timeout stands before its handler's, and that before the node's."""

    @bench.registry.handler("slow", timeout=of_handler)
    async def slow() -> None:
        await forever()

    bench.start(job_timeout=of_node)

    assert code_of(await bench.run("slow", max_retries=0, timeout_ms=of_job)) == "timeout"


async def test_handler_that_finishes_on_its_cancel_completes(bench: Bench) -> None:
    """What a handler returns in answer to its timeout counts."""

    @bench.registry.handler("tidy", timeout=0.05)
    async def tidy() -> str:
        try:
            await forever()
        except asyncio.CancelledError:
            return "as far as I got"
        return "never"

    bench.start()

    assert (await bench.run("tidy")).result == b'"as far as I got"'


@pytest.mark.parametrize(("raised", "code"), [(ValueError("broken pipe"), "timeout"), (Fail("no use"), "failed")])
async def test_error_of_a_timed_out_handler(bench: Bench, raised: Exception, code: str) -> None:
    """An error that follows from the timeout is the timeout; what the handler says on purpose stands."""

    @bench.registry.handler("slow", timeout=0.05)
    async def slow() -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            raise raised from None

    bench.start()

    assert code == code_of(await bench.run("slow", max_retries=0))


async def test_handler_that_swallows_its_cancel_is_settled_without_it(bench: Bench) -> None:
    """A coroutine that goes on is settled after a short grace; its slot stays taken, and named, until it returns."""
    release = asyncio.Event()
    stopped = asyncio.Event()

    @bench.registry.handler("deaf", timeout=0.05)
    async def deaf() -> str:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                stopped.set()
        return "late"

    worker = bench.start(concurrency=1)

    job = await bench.run("deaf", max_retries=0)

    assert code_of(job) == "timeout"
    assert stopped.is_set()
    assert bench.events.named("slot_stuck") == [("deaf",)]
    assert (worker.status().busy, worker.status().stuck) == (1, 1)

    release.set()
    await bench.events.until_reported("handler_returned_late")

    assert (worker.status().busy, worker.status().stuck) == (0, 0)
    assert State.FAILED is (await bench.store.get(job.id)).state
    assert len(bench.events.settlements) == 1


async def test_timed_out_thread_is_settled_at_once(bench: Bench, gate: Gate) -> None:
    """A thread cannot be killed: its run is settled at its timeout, and its slot is taken until it returns."""
    seen: list[bool] = []

    @bench.registry.handler("slow", timeout=0.05)
    def slow(ctx: JobContext) -> None:
        gate.wait()
        seen.append(ctx.cancel_requested)

    worker = bench.start(concurrency=1)

    job = await bench.run("slow", max_retries=0)

    assert (job.state, code_of(job)) == (State.FAILED, "timeout")
    assert (worker.status().busy, worker.status().stuck) == (1, 1)
    assert bench.events.named("slot_stuck") == [("slow",)]

    gate.opened.set()
    await bench.events.until_reported("handler_returned_late")

    assert seen == [True]
    assert (worker.status().busy, worker.status().stuck) == (0, 0)


@pytest.mark.parametrize("function", [in_process.spin, in_process.hold_interpreter])
async def test_timed_out_process_is_killed(bench: Bench, pipe: Path, function: Any) -> None:
    """A handler in a process is killed at its timeout, busy or stuck in C; the next job gets a new process."""
    bench.registry.handler("spin", run="process")(function)
    bench.registry.handler("double", run="process")(in_process.double)
    bench.start()
    await bench.run("double", {"n": 1})

    id = await bench.submit("spin", {"path": str(pipe)}, max_retries=0, timeout_ms=300)
    pid = await pid_from(pipe)
    job = await bench.finished(id)

    assert code_of(job) == "timeout"
    await until_gone(pid)
    assert State.COMPLETED is (await bench.run("double", {"n": 2})).state
    assert bench.events.named("slot_stuck") == []


async def test_timed_out_process_takes_no_other_with_it(bench: Bench, pipe: Path, tmp_path: Path) -> None:
    """A run that is killed leaves the other processes' runs alone."""
    os.mkfifo(tmp_path / "other")
    bench.registry.handler("spin", run="process")(in_process.spin)
    worker = bench.build()
    if worker._processes.limit < 2:  # pyright: ignore[reportPrivateUsage]
        pytest.skip("needs two processors")
    bench.start()

    lasting = await bench.submit("spin", {"path": str(tmp_path / "other")})
    other = await pid_from(tmp_path / "other")
    killed = await bench.submit("spin", {"path": str(pipe)}, max_retries=0, timeout_ms=300)
    await pid_from(pipe)
    await bench.finished(killed)

    assert lives(other)
    assert State.PROCESSING is (await bench.store.get(lasting)).state
    await bench.store.cancel(lasting)
    await bench.finished(lasting)


async def test_running_coroutine_is_cancelled(bench: Bench) -> None:
    """A cancel reaches the coroutine as CancelledError at once, and its job ends cancelled."""
    started = asyncio.Event()

    @bench.registry.handler("slow")
    async def slow() -> None:
        started.set()
        await forever()

    bench.start()
    id = await bench.submit("slow")
    await started.wait()

    assert (await bench.store.cancel(id)).cancel_requested
    job = await bench.finished(id)

    assert (job.state, code_of(job), job.attempt) == (State.CANCELLED, "cancelled", 1)


async def test_cancelled_coroutine_may_still_complete(bench: Bench) -> None:
    """A completion beats a cancel that the handler did not heed."""
    started = asyncio.Event()

    @bench.registry.handler("nearly")
    async def nearly() -> str:
        started.set()
        try:
            await forever()
        except asyncio.CancelledError:
            return "was done already"
        return "never"

    bench.start()
    id = await bench.submit("nearly")
    await started.wait()

    await bench.store.cancel(id)

    assert ((job := await bench.finished(id)).state, job.result) == (State.COMPLETED, b'"was done already"')


@pytest.mark.parametrize(("heeds", "state"), [(True, State.CANCELLED), (False, State.COMPLETED)])
async def test_running_thread_is_told_of_its_cancel(bench: Bench, gate: Gate, heeds: bool, state: State) -> None:
    """A thread finds its cancel in the context: it gives way, or completes all the same."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()

    @bench.registry.handler("slow")
    def slow(ctx: JobContext) -> None:
        gate.wait()
        while not ctx.cancel_requested:
            gate.pause()
        loop.call_soon_threadsafe(asked.set)
        if heeds:
            ctx.raise_if_cancelled()

    bench.start()
    id = await bench.submit("slow")
    await gate.entered.wait()
    gate.opened.set()

    await bench.store.cancel(id)
    await asked.wait()

    assert state is (await bench.finished(id)).state


async def test_coroutine_that_ignores_its_cancel_loses_its_job(bench: Bench) -> None:
    """Past the grace the job ends cancelled without its coroutine, whose slot is stuck until that returns."""
    started, finish = asyncio.Event(), asyncio.Event()

    @bench.registry.handler("deaf")
    async def deaf() -> None:
        started.set()
        while not finish.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await finish.wait()

    worker = bench.start(concurrency=1, cancel_grace=0.05)
    id = await bench.submit("deaf")
    await started.wait()
    await bench.store.cancel(id)
    job = await bench.finished(id)

    assert (job.state, code_of(job), worker.status().stuck) == (State.CANCELLED, "cancelled", 1)
    finish.set()
    await bench.events.until_reported("handler_returned_late")
    assert (worker.status().busy, worker.status().stuck) == (0, 0)


async def test_thread_that_ignores_its_cancel_loses_its_job(bench: Bench, gate: Gate) -> None:
    """Past the grace the job ends cancelled without its thread, whose slot is stuck until that returns."""

    @bench.registry.handler("deaf")
    def deaf(ctx: JobContext) -> str:
        gate.wait()
        return "too late"

    worker = bench.start(concurrency=1, cancel_grace=0.05)
    id = await bench.submit("deaf")
    await gate.entered.wait()
    await bench.store.cancel(id)
    job = await bench.finished(id)
    await bench.events.until_reported("slot_stuck")

    assert (job.state, code_of(job)) == (State.CANCELLED, "cancelled")
    assert (worker.status().busy, worker.status().stuck) == (1, 1)
    gate.opened.set()
    await bench.events.until_reported("handler_returned_late")
    assert (worker.status().busy, worker.status().stuck) == (0, 0)
    assert (await bench.store.get(id)).state is State.CANCELLED


async def test_running_process_is_killed_when_its_job_is_cancelled(bench: Bench, pipe: Path) -> None:
    """A handler in a process is killed by a cancel, and its job ends cancelled."""
    bench.registry.handler("spin", run="process")(in_process.spin)
    bench.start()
    id = await bench.submit("spin", {"path": str(pipe)})
    pid = await pid_from(pipe)

    await bench.store.cancel(id)

    assert State.CANCELLED is (await bench.finished(id)).state
    await until_gone(pid)


async def test_run_that_gets_no_process_is_handed_back(
    bench: Bench, pipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that waits too long for a process has not had its chance: it goes back, at no cost."""
    bench.registry.handler("spin", run="process")(in_process.spin)
    bench.registry.handler("double", run="process")(in_process.double)
    worker = bench.build()
    worker._processes._free = asyncio.Semaphore(1)  # pyright: ignore[reportPrivateUsage]
    stop = asyncio.Event()
    bench.running[worker] = (asyncio.create_task(worker.run(stop)), stop)

    spinning = await bench.submit("spin", {"path": str(pipe)})
    await pid_from(pipe)
    monkeypatch.setattr("gopher_node.worker.worker.PROCESS_PATIENCE", 0.05)
    waiting = await bench.submit("double", {"n": 1})
    await bench.events.until(lambda: bench.events.settlements)
    # From here on the job may wait: on a busy machine it would be handed back over and over.
    monkeypatch.setattr("gopher_node.worker.worker.PROCESS_PATIENCE", 30.0)
    await bench.store.cancel(spinning)
    job = await bench.finished(waiting)

    assert ("released", waiting) == (bench.events.settlements[0].outcome, bench.events.settlements[0].job.id)
    assert (job.state, job.errors) == (State.COMPLETED, 0)


async def test_second_stop_changes_nothing(bench: Bench) -> None:
    """A coroutine that is being cancelled is not cancelled again by its timeout: its clean-up is left in peace."""
    cancels: list[str] = []
    started = asyncio.Event()
    finish = asyncio.Event()

    @bench.registry.handler("slow", timeout=0.2)
    async def slow() -> None:
        started.set()
        try:
            await forever()
        except asyncio.CancelledError:
            cancels.append("first")
            try:
                await finish.wait()
            except asyncio.CancelledError:
                cancels.append("second")
            raise

    bench.start(cancel_grace=0.5)
    id = await bench.submit("slow")
    await started.wait()
    await bench.store.cancel(id)
    job = await bench.finished(id)
    finish.set()

    assert State.CANCELLED is job.state
    assert cancels == ["first"]
