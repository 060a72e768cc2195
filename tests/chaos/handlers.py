"""What the jobs of the scenarios do: say that they begin, take a while, say that it is done, and end as planned."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

from gopher_node import Fail, JobContext, Retry, handler

NODE = "CHAOS_NODE"
EXECUTIONS = "CHAOS_EXECUTIONS"
UNNAMED = "-"
"""Where a whole node runs something, which names itself."""

_ledger: dict[str, int] = {}


def _write(what: str, ctx: JobContext) -> None:
    path = os.environ[EXECUTIONS]
    if path not in _ledger:
        _ledger[path] = os.open(path, os.O_WRONLY | os.O_APPEND)
    node = os.environ.get(NODE, UNNAMED)
    os.write(_ledger[path], f"{what} {ctx.job_id} {ctx.attempt} {node} {os.getpid()} {time.time():.6f}\n".encode())


@handler("effect", max_retries=2)
async def effect(
    ctx: JobContext, seconds: float, errors: int = 0, hopeless: bool = False, follow: bool = False
) -> dict[str, Any]:
    """Fail in as many of the first attempts as planned, then succeed, perhaps with a follow-up."""
    _write("start", ctx)
    await asyncio.sleep(seconds)
    _write("end", ctx)
    if hopeless:
        raise Fail("as planned", code="planned")
    if ctx.attempt <= errors:
        raise Retry("as planned", after=0.05)
    if follow:
        ctx.enqueue("follow_up", {"of": ctx.job_id})
    return {"attempt": ctx.attempt}


@handler("follow_up")
async def follow_up(ctx: JobContext, of: str) -> str:
    """What a completed job has left to be done."""
    _write("start", ctx)
    _write("end", ctx)
    return of


@handler("pill", max_retries=2)
async def pill(ctx: JobContext, seconds: float) -> None:
    """Take the process along."""
    _write("start", ctx)
    await asyncio.sleep(seconds)
    os.kill(os.getpid(), signal.SIGKILL)
