"""A node that has nothing to do costs next to nothing."""

from __future__ import annotations

import asyncio
import time

import pytest
import redis.asyncio

from gopher_node.store.valkey_binary import find_binary
from tests.conftest import server
from tests.node.node_process import running

pytestmark = pytest.mark.process


async def test_idle_node_sends_few_commands() -> None:
    """All its parts and its heartbeat together send fewer than five commands a second."""
    sent = 60  # so many that what comes once in ten seconds weighs what it costs
    with server(str(find_binary())) as url:
        client = redis.asyncio.Redis.from_url(url)
        async with running("--role=all", REDIS_URL=url), client.monitor() as monitor, asyncio.timeout(40):
            for _ in range(4):  # by then all its parts have begun, the process of its heartbeat too
                while not (await _next_command(monitor)).startswith("BLPOP"):
                    pass
            began = time.monotonic()
            for _ in range(sent):
                await _next_command(monitor)
            seconds = time.monotonic() - began
        await client.aclose()

    assert sent / seconds < 5


async def _next_command(monitor: redis.asyncio.client.Monitor) -> str:
    """The next one that came over a connection, not from within a script."""
    while (seen := await monitor.next_command())["client_type"] == "lua":
        pass
    return seen["command"]
