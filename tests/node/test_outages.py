"""A node whose store is away: requests are told so at once, and what runs is settled when the store is back."""

from __future__ import annotations

import os
import signal
import time

import pytest
import redis

from gopher_node.store.valkey_binary import find_binary
from tests.conftest import server
from tests.node.conductor import conducting
from tests.node.node_process import running

pytestmark = pytest.mark.process


async def test_frozen_store_refuses_in_milliseconds_and_loses_nothing() -> None:
    """While the store is frozen a node refuses jobs at once; a run that ends meanwhile is settled afterwards."""
    with server(str(find_binary())) as url, redis.Redis.from_url(url) as client:
        info = client.info("server")
        assert isinstance(info, dict)
        pid = int(info["process_id"])
        async with conducting() as conductor, running("--handlers=userjobs", REDIS_URL=url, REDIS_TIMEOUT="1s") as node:
            job = await node.submit("gated", {"port": conductor.port})
            await conductor.heard(1)
            os.kill(pid, signal.SIGSTOP)
            try:
                conductor.open_gate()
                assert (await node.request("GET", "/api/v1/stats"))[0] == 503
                took: list[float] = []
                for _ in range(20):
                    began = time.perf_counter()
                    assert (await node.request("POST", "/api/v1/jobs", json={"type": "unserved"}))[0] == 503
                    took.append(time.perf_counter() - began)
            finally:
                os.kill(pid, signal.SIGCONT)
            thawed = time.perf_counter()
            while (await node.request("GET", "/api/v1/stats"))[0] == 503:
                assert time.perf_counter() - thawed < 5
            ended = await node.ended(job["job_id"])

    assert sorted(took)[10] < 0.05
    assert (ended["status"], ended["attempt"]) == ("completed", 1)
