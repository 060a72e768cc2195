"""What the workers that are sized run: nothing, and ten milliseconds of waiting."""

from __future__ import annotations

import asyncio

from gopher_node import handler


@handler("nothing")
async def nothing() -> None:
    pass


@handler("wait")
async def wait() -> None:
    await asyncio.sleep(0.01)
