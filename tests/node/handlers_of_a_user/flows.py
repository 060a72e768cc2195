"""Handlers of jobs that wait for each other: one of each kind."""

from gopher_node import JobContext, handler


@handler("number")
async def number(n: int) -> int:
    return n


@handler("sum")
async def add(ctx: JobContext) -> int:
    """The sum of what the job has waited for."""
    return sum(parent.result for parent in (await ctx.parents()).values())


@handler("sum-in-thread")
def add_in_thread(ctx: JobContext) -> int:
    return sum(parent.result for parent in ctx.parents_sync().values())


@handler("sum-in-process", run="process")
def add_in_process(ctx: JobContext) -> int:
    return sum(parent.result for parent in ctx.parents_sync().values())


@handler("split")
async def split(ctx: JobContext, parts: int) -> None:
    """Add parts to the workflow, and a job that adds them up."""
    numbers = [ctx.enqueue("number", {"n": n}, workflow=True) for n in range(parts)]
    ctx.enqueue("sum", workflow=True, depends_on=numbers, name="total")
