"""What handlers are told of the jobs that theirs have waited for, and how they add jobs to their own workflow."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from gopher_node.handlers import JobContext
from gopher_node.job import JobOptions, NewJob, State
from gopher_node.store import NewWorkflow, Store

from . import in_process
from .conftest import Bench


def chain(*types: str) -> NewWorkflow:
    jobs: list[NewJob] = []
    for number, type in enumerate(types):
        parents = (jobs[-1].id,) if jobs else ()
        jobs.append(NewJob(type=type, options=JobOptions(name=f"step{number}", depends_on=parents)))
    return NewWorkflow(jobs=jobs, on_complete=NewJob(type="told"))


async def ended(bench: Bench, id: str) -> Any:
    job = await bench.finished(id)
    assert job.state is State.COMPLETED, job.error
    return orjson.loads(job.result or b"null")


async def test_handlers_of_all_kinds_are_told_of_parents(bench: Bench) -> None:
    """A coroutine awaits them, a thread and a process wait for them; only there would the other way hold up all."""

    @bench.registry.handler("first")
    async def first(ctx: JobContext) -> dict[str, int]:
        assert await ctx.parents() == {}
        with pytest.raises(RuntimeError, match=r"await ctx\.parents"):
            ctx.parents_sync()
        return {"sum": 1}

    @bench.registry.handler("async")
    async def coroutine(ctx: JobContext) -> dict[str, int]:
        return {"sum": 2 + (await ctx.parents())["step0"].result["sum"]}

    @bench.registry.handler("thread")
    def thread(ctx: JobContext) -> dict[str, int]:
        return {"sum": 4 + ctx.parents_sync()["step1"].result["sum"]}

    bench.registry.handler("process", run="process")(in_process.add_up)

    stored = await bench.store.workflows.submit(chain("first", "async", "thread", "process"))
    bench.start()

    assert await ended(bench, stored.jobs[-1]) == {"sum": 15, "workflow": stored.id}


async def test_a_parent_that_failed_says_why(bench: Bench) -> None:
    @bench.registry.handler("fails", max_retries=0)
    async def fails() -> None:
        raise ValueError("no")

    @bench.registry.handler("looks")
    async def looks(ctx: JobContext) -> list[Any]:
        (parent,) = (await ctx.parents()).values()
        return [parent.status, parent.result, (parent.error or {}).get("message")]

    parent = NewJob(type="fails", max_retries=0)
    child = NewJob(type="looks", options=JobOptions(depends_on=(parent.id,), on_parent_failure="run"))
    await bench.store.submit_many([parent, child])
    bench.start()

    assert await ended(bench, child.id) == ["failed", None, "no"]


async def test_what_a_handler_adds_belongs_to_its_workflow(bench: Bench, store: Store) -> None:
    """It is stored with the completion, so the workflow cannot end in between; the callback comes after all of it."""
    order: list[str] = []

    @bench.registry.handler("split")
    async def split(ctx: JobContext) -> str:
        parts = [ctx.enqueue("part", {"n": n}, workflow=True, name=f"part-{n}") for n in range(3)]
        ctx.enqueue("join", workflow=True, depends_on=parts)
        return ctx.workflow_id

    @bench.registry.handler("part")
    async def part(n: int) -> int:
        order.append("part")
        return n * n

    @bench.registry.handler("join")
    async def join(ctx: JobContext) -> int:
        order.append("join")
        return sum(parent.result for parent in (await ctx.parents()).values())

    told = asyncio.Event()

    @bench.registry.handler("told")
    async def tell(ctx: JobContext) -> None:
        order.append("told")
        told.set()

    stored = await store.workflows.submit(chain("split"))
    bench.start()
    async with asyncio.timeout(20):
        await told.wait()

    workflow = await store.workflows.get(stored.id)
    assert order == ["part"] * 3 + ["join", "told"]
    assert (workflow.state, workflow.total) == ("completed", 5)
    members = (await store.workflows.members(stored.id)).items
    (joined,) = [job for job in members if job.type == "join"]
    assert orjson.loads(joined.result or b"") == 5
    assert await ended(bench, stored.jobs[0]) == stored.id
