"""Waiting for the first of several things, and ending a task that does not want to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable
from typing import Any


def break_task(task: asyncio.Task[Any]) -> None:
    """End a task that swallows every cancel, for a loop that is closed waits for all of its tasks."""
    task.add_done_callback(lambda task: task.cancelled() or task.exception())
    coroutine = task.get_coro()
    assert coroutine is not None
    with contextlib.suppress(Exception):
        coroutine.close()


async def first(*awaitables: Awaitable[object], timeout: float | None = None) -> None:
    """Wait until one of them is done, or for `timeout` seconds. Coroutines among them are cancelled then."""
    futures = [asyncio.ensure_future(awaitable) for awaitable in awaitables]
    await asyncio.wait(futures, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
    for future, awaitable in zip(futures, awaitables, strict=True):
        if future is not awaitable:
            future.cancel()
