"""A node that other machines reach does not start without a key, unless it is told to; nor one without a port."""

from __future__ import annotations

import asyncio
import os
import socket

import pytest

from tests import warm_start
from tests.node.node_process import HANDLERS, running

pytestmark = pytest.mark.process


async def refusal(valkey_url: str, namespace: str, *flags: str) -> bytes:
    """What a node says that ends with 78."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GOPHER_")}
    environment |= {"REDIS_URL": valkey_url, "GOPHER_NAMESPACE": namespace}
    if warm_start.possible(environment):
        process, lines = await warm_start.start_async(["run", *flags], env=environment, cwd=HANDLERS)
        said = await asyncio.wait_for(lines.read(), 50)
        code = await process.ended()
    else:
        cold = await asyncio.create_subprocess_exec(
            *warm_start.COLD, "run", *flags, env=environment, stderr=asyncio.subprocess.PIPE, cwd=HANDLERS
        )
        _, said = await asyncio.wait_for(cold.communicate(), 50)
        code = cold.returncode
    assert code == 78
    return said


async def test_refusal_to_be_open(valkey_url: str, namespace: str) -> None:
    """It says what to do; and no job has been taken in the meantime."""
    said = await refusal(valkey_url, namespace, "--host=0.0.0.0", "--port=0")

    assert b"SERVER_HOST=0.0.0.0 lets other machines in, and there is no API key" in said
    assert b"export GOPHER_API_KEYS=" in said


async def test_a_port_that_is_taken(valkey_url: str, namespace: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = await refusal(valkey_url, namespace, f"--port={port}")

    assert f"SERVER_PORT={port} cannot be used: Address already in use. Name an address".encode() in said


@pytest.mark.parametrize("way", [{"GOPHER_API_KEYS": "k" * 32}, {"SERVER_ANONYMOUS": "true"}])
async def test_ways_to_start(valkey_url: str, namespace: str, way: dict[str, str]) -> None:
    """With a key, or with everybody let in."""
    shared = {"REDIS_URL": valkey_url, "GOPHER_NAMESPACE": namespace}
    async with running("--host=0.0.0.0", cold="GOPHER_API_KEYS" in way, **shared, **way) as node:
        status, _ = await node.request("GET", "/api/v1/jobs")
        assert status == (401 if "GOPHER_API_KEYS" in way else 200)
