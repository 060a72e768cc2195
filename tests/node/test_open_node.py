"""A node that other machines reach does not start without a key, unless it is told to."""

from __future__ import annotations

import asyncio
import os
import sys

import pytest

from tests.node.node_process import HANDLERS, running

pytestmark = pytest.mark.process


async def test_refusal_to_be_open(valkey_url: str, namespace: str) -> None:
    """It ends with 78, and says what to do; and no job has been taken in the meantime."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GOPHER_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gopher_node.cli", "run", "--host=0.0.0.0", "--port=0"),
        env={**environment, "REDIS_URL": valkey_url, "GOPHER_NAMESPACE": namespace},
        stderr=asyncio.subprocess.PIPE,
        cwd=HANDLERS,
    )
    _, said = await asyncio.wait_for(process.communicate(), 50)

    assert process.returncode == 78
    assert b"SERVER_HOST=0.0.0.0 lets other machines in, and there is no API key" in said
    assert b"export GOPHER_API_KEYS=" in said


@pytest.mark.parametrize("way", [{"GOPHER_API_KEYS": "k" * 32}, {"SERVER_ANONYMOUS": "true"}])
async def test_ways_to_start(valkey_url: str, namespace: str, way: dict[str, str]) -> None:
    """With a key, or with everybody let in."""
    async with running("--host=0.0.0.0", REDIS_URL=valkey_url, GOPHER_NAMESPACE=namespace, **way) as node:
        status, _ = await node.request("GET", "/api/v1/jobs")
        assert status == (401 if "GOPHER_API_KEYS" in way else 200)
