"""Handlers as a user of gopher-node writes them."""

import asyncio
import os
import signal

from pydantic import BaseModel

from gopher_node import Fail, JobContext, Retry, handler


class Line(BaseModel):
    """What a run tells the conductor, and where that listens."""

    port: int
    text: str = ""


async def tell(port: int, line: str, *, gated: bool = False) -> None:
    """Report a line, and go on when the conductor lets go."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{'gated' if gated else 'free'} {line}\n".encode())
    await reader.read()
    writer.close()


@handler("trace", description="Reports that its job runs.")
async def trace(ctx: JobContext, payload: Line) -> str:
    await tell(payload.port, ctx.job_id)
    return payload.text


@handler("slow", timeout="60s")
async def slow(ctx: JobContext, port: int, seconds: float) -> str:
    """Report, then take some time."""
    await tell(port, ctx.job_id)
    await asyncio.sleep(seconds)
    return "done"


@handler("gated", timeout="60s")
async def gated(ctx: JobContext, port: int) -> int:
    """Report, and run on until the gate is opened."""
    await tell(port, ctx.job_id, gated=True)
    return ctx.attempt


@handler("pill")
async def pill(ctx: JobContext, port: int) -> None:
    """Report, and take the process along."""
    await tell(port, ctx.job_id)
    os.kill(os.getpid(), signal.SIGKILL)


@handler("flaky", max_retries=5)
async def flaky(ctx: JobContext, fails: int) -> int:
    """Fail as often as told, then succeed."""
    if ctx.attempt <= fails:
        raise Retry(f"not yet: {ctx.attempt}", after=0.02)
    return ctx.attempt


@handler("fixable", max_retries=2)
def fixable(cure: str) -> str:
    """Fail until the file `cure` exists."""
    if not os.path.exists(cure):
        raise Retry("there is no cure yet", after=0.02)
    return "cured"


@handler("hopeless")
def hopeless() -> None:
    raise Fail("nothing can help", code="hopeless")


@handler("order")
async def order(ctx: JobContext, port: int, items: int) -> int:
    """Create one follow-up job for each item."""
    for item in range(items):
        ctx.enqueue("trace", {"port": port, "text": f"item {item}"})
    return items


@handler("traced", timeout="60s")
async def traced(ctx: JobContext, port: int, seconds: float | None = None, text: str = "") -> str:
    """Report who runs the job, and take some time."""
    name = os.environ["LEDGER_NAME"]
    await tell(port, f"{ctx.job_id} {name}")
    await asyncio.sleep(float(os.environ["LEDGER_SECONDS"]) if seconds is None else seconds)
    return name
