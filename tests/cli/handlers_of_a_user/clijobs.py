"""Handlers for the jobs that the command line's tests submit."""

import asyncio
from pathlib import Path
from typing import Any

from gopher_node import Fail, handler


@handler("echo")
async def echo(payload: dict[str, Any]) -> dict[str, Any]:
    return payload


@handler("broken")
async def broken(reason: str = "The part is broken.") -> None:
    raise Fail(reason, code="broken-part")


@handler("buggy", max_retries=0)
async def buggy() -> None:
    raise RuntimeError("a mistake")


@handler("endless")
async def endless(pipe: str) -> None:
    """Never ends by itself; who reads the named pipe learns that it has begun."""
    await asyncio.to_thread(Path(pipe).write_text, "begun")
    await asyncio.Event().wait()
