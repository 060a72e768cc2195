"""A node whose store is away: requests are told so at once, and what runs is settled when the store is back."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest
import redis

from gopher_node.store.valkey_binary import find_binary
from tests.conftest import server
from tests.node.conductor import conducting
from tests.node.node_process import running

pytestmark = pytest.mark.process


async def test_readiness_follows_the_store_within_five_seconds() -> None:
    """A worker is unready and says why, an api node stays ready, and both are well again when the store is back."""
    with server(str(find_binary())) as url, redis.Redis.from_url(url) as client:
        info: Any = client.info("server")
        async with running("--role=worker", REDIS_URL=url) as worker, running("--role=api", REDIS_URL=url) as api:
            while (await worker.request("GET", "/readyz"))[0] != 200:
                pass
            os.kill(info["process_id"], signal.SIGSTOP)
            began = time.perf_counter()
            try:
                while (answer := await worker.request("GET", "/readyz"))[0] == 200:
                    assert time.perf_counter() - began < 5
                while (told := await api.request("GET", "/health"))[0] == 200:
                    assert time.perf_counter() - began < 6
                others = [(await node.request("GET", "/livez"))[0] for node in (worker, api)]
                others.append((await api.request("GET", "/readyz"))[0])
            finally:
                os.kill(info["process_id"], signal.SIGCONT)
            thawed = time.perf_counter()
            for node in (worker, api):
                while (await node.request("GET", "/health"))[1]["status"] != "healthy":
                    assert time.perf_counter() - thawed < 5
            again = (await worker.request("GET", "/readyz"))[0]

    assert answer[0] == 503
    assert "has not answered for" in answer[1]["checks"]["store"]
    assert told[1]["status"] == "unhealthy"
    assert "has not answered for" in told[1]["checks"]["store"]
    assert others == [200, 200, 200]
    assert again == 200


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
