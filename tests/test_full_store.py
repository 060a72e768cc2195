"""The clockwork of a store that has reached its maxmemory: it takes no new jobs, and frees what it can."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gopher_node.errors import StoreFull
from gopher_node.job import JobOptions, NewJob, State
from gopher_node.scheduler import Scheduler
from gopher_node.schedules import Schedule
from gopher_node.store import Definition, NewWorkflow, Store
from gopher_node.telemetry.events import Events


async def test_a_fire_that_does_not_fit_holds_nothing_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs expire, and workflows are cancelled, while a recurring job is due and cannot be stored."""
    schedule = Schedule(every_ms=1000)
    await store.recurring.create(Definition(name="due", schedule=schedule, job=NewJob(type="a")), now=1_000)
    mortal = NewJob(type="b", options=JobOptions(expires_ms=1_000))
    await store.submit(mortal)
    submitted = await store.workflows.submit(NewWorkflow(jobs=[NewJob(type="c")]))
    await store._run("cancel_workflow", submitted.id, "", 200)

    async def full(*_: Any, **__: Any) -> Any:
        raise StoreFull("full")

    monkeypatch.setattr(store.recurring, "fire", full)
    events = Events()
    scheduler = Scheduler(store, events)
    ticks = asyncio.create_task(scheduler._forever(scheduler.promote))
    async with asyncio.timeout(10):
        while (await store.get(mortal.id)).state is not State.CANCELLED:
            assert not ticks.done()
    ticks.cancel()

    assert (await store.workflows.get(submitted.id)).state == "cancelled"
    assert events.counts["store_errors"] > 0
