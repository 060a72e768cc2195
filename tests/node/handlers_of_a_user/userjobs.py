"""Handlers as a user of gopher-node writes them."""

import asyncio
import os
from pathlib import Path

from pydantic import BaseModel

from gopher_node import Fail, JobContext, Retry, handler


class Line(BaseModel):
    """Where a run leaves its trace."""

    path: str
    text: str = ""


def leave_trace(path: str, text: str) -> None:
    """Append a line in one write, so that lines of several processes never mix."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(handle, f"{text}\n".encode())
    os.close(handle)


@handler("trace", description="Writes its job's id to a file.")
async def trace(ctx: JobContext, payload: Line) -> str:
    leave_trace(payload.path, ctx.job_id)
    return payload.text


@handler("slow", timeout="60s")
async def slow(ctx: JobContext, path: str, seconds: float) -> str:
    """Leave a trace, then take some time."""
    leave_trace(path, f"{ctx.job_id} {ctx.attempt}")
    await asyncio.sleep(seconds)
    return "done"


@handler("gated", timeout="60s")
async def gated(ctx: JobContext, path: str, gate: str) -> int:
    """Run on until the file `gate` exists."""
    leave_trace(path, f"{ctx.job_id} {ctx.attempt}")
    while not Path(gate).exists():
        await asyncio.sleep(0.01)
    return ctx.attempt


@handler("flaky", max_retries=5)
async def flaky(ctx: JobContext, fails: int) -> int:
    """Fail as often as told, then succeed."""
    if ctx.attempt <= fails:
        raise Retry(f"not yet: {ctx.attempt}", after=0.02)
    return ctx.attempt


@handler("fixable", max_retries=2)
def fixable(ctx: JobContext, cure: str) -> str:
    """Fail until the file `cure` exists."""
    if not Path(cure).exists():
        raise Retry("there is no cure yet", after=0.02)
    return "cured"


@handler("hopeless")
def hopeless() -> None:
    raise Fail("nothing can help", code="hopeless")


@handler("order")
async def order(ctx: JobContext, path: str, items: int) -> int:
    """Create one follow-up job for each item."""
    for item in range(items):
        ctx.enqueue("trace", {"path": path, "text": f"item {item}"})
    return items
