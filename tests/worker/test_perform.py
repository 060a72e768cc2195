"""What does not need a store: a run that is stopped before it began, and what a run leaves behind."""

from __future__ import annotations

import asyncio
import gc

import pytest

from gopher_node.handlers import JobContext, Registry
from gopher_node.job import Job, Lease, NewJob, Priority, RetryPolicy, State
from gopher_node.settings import Settings
from gopher_node.worker.outcome import Cancelled, Outcome, Released
from gopher_node.worker.perform import perform
from gopher_node.worker.processes import Processes
from gopher_node.worker.run import Run, Stop
from gopher_node.worker.threads import Threads

from .conftest import Bench


@pytest.mark.parametrize(("why", "outcome"), [(Stop.CANCEL, Cancelled), (Stop.RELEASE, Released)])
async def test_run_that_is_stopped_before_its_first_step_never_starts(why: Stop, outcome: type[Outcome]) -> None:
    """A cancel or a drain between the claim and the handler's first step keeps the handler from starting."""
    registry, settings = Registry(), Settings()
    started: list[bool] = []

    @registry.handler("now")
    async def now() -> None:
        started.append(True)

    job = Job(id="id", type="now", state=State.PROCESSING, payload=b"{}", priority=Priority.NORMAL, created_ms=0)
    handler = registry.get("now")
    assert handler is not None
    run = Run(Lease(job, "nonce"), handler, 60.0, RetryPolicy(), 0.0)
    run.context = JobContext(job_id="id", type="now", settings=settings)
    processes = Processes(settings, "node", lambda run: None, lambda run, value: None)
    performing = asyncio.create_task(perform(run, Threads(), processes))
    run.task = performing  # pyright: ignore[reportAttributeAccessIssue]

    run.stop(why)

    assert isinstance(await performing, outcome)
    assert started == []


async def test_jobs_leave_no_cycles_behind(bench: Bench) -> None:
    """What a job needed is free when it is settled: collecting it later took a third of the time per job."""

    @bench.registry.handler("now")
    async def now(ctx: JobContext) -> None: ...

    bench.start()
    await bench.run("now")
    await bench.store.submit_many([NewJob(type="now") for _ in range(200)])
    gc.collect()
    gc.disable()
    try:
        await bench.events.until_settled(201)
        found = gc.collect()
    finally:
        gc.enable()

    assert found < 200
