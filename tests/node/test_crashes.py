"""Nothing accepted is lost: signals, kills and restarts of real processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import redis

from gopher_node.store.valkey_binary import find_binary
from tests.conftest import server
from tests.node.conductor import Conductor, conducting
from tests.node.node_process import NodeProcess, running

pytestmark = pytest.mark.process


@pytest.fixture
async def conductor() -> AsyncIterator[Conductor]:
    async with conducting() as conductor:
        yield conductor


class Load:
    """Submitters that keep a node busy. What it accepted is remembered; what it refuses, they try again."""

    def __init__(self, node: NodeProcess, conductor: Conductor) -> None:
        self.accepted: list[str] = []
        self._node = node
        self._body = {"type": "slow", "payload": {"port": conductor.port, "seconds": 0.05}}

    async def submit(self) -> None:
        """Until the node is gone."""
        try:
            while True:
                status, answer = await self._node.request("POST", "/api/v1/jobs", json=self._body)
                assert status in (201, 503), answer
                if status == 201:
                    self.accepted.append(answer["job_id"])
        except (aiohttp.ClientError, OSError):
            return


@asynccontextmanager
async def loading(node: NodeProcess, conductor: Conductor) -> AsyncIterator[Load]:
    load = Load(node, conductor)
    submitters = [asyncio.create_task(load.submit()) for _ in range(8)]
    try:
        yield load
    finally:
        for submitter in submitters:
            submitter.cancel()
        await asyncio.gather(*submitters, return_exceptions=True)


async def outcomes(node: NodeProcess, ids: list[str]) -> Counter[str]:
    ended = await asyncio.gather(*[node.ended(id) for id in ids])
    return Counter(job["status"] for job in ended)


async def test_sigterm_under_load_loses_nothing(tmp_path: Path, conductor: Conductor) -> None:
    """The node drains and ends with 0; its successor finishes what was accepted, and nothing runs twice."""
    async with running(f"--data-dir={tmp_path}", "--handlers=userjobs") as node, loading(node, conductor) as load:
        await conductor.heard(80)
        node.kill(signal.SIGTERM)
        code = await node.wait(20)

    async with running(f"--data-dir={tmp_path}", "--handlers=userjobs") as successor:
        ended = await outcomes(successor, load.accepted)

    assert code == 0
    assert ended == Counter(completed=len(load.accepted))
    assert set(load.accepted) <= set(conductor.runs)
    assert set(conductor.runs.values()) == {1}


async def test_sigkill_under_load_loses_nothing(tmp_path: Path, conductor: Conductor) -> None:
    """After a kill and a restart every accepted job ends well, without waiting for the dead node's lease to run out."""
    flags = (f"--data-dir={tmp_path}", "--handlers=userjobs")
    async with running(*flags, WORKER_LEASE="10m") as node, loading(node, conductor) as load:
        await conductor.heard(80)
        node.kill(signal.SIGKILL)
        await node.wait()

    async with running(*flags, WORKER_LEASE="10m") as successor:
        ended = await outcomes(successor, load.accepted)

    assert ended == Counter(completed=len(load.accepted))


async def test_store_killed_under_load_comes_back(tmp_path: Path, conductor: Conductor) -> None:
    """The embedded store is started again with all that it had acknowledged, and the work goes on."""
    async with running(f"--data-dir={tmp_path}", "--handlers=userjobs") as node:
        async with loading(node, conductor) as load:
            await conductor.heard(40)
            kill_store_of(node)
            await node.logged(lambda line: line["msg"] == "embedded.crashed")
            await conductor.heard(len(conductor.lines) + 80)
        ended = await outcomes(node, load.accepted)

    assert ended == Counter(completed=len(load.accepted))


def kill_store_of(node: NodeProcess) -> None:
    started = next(line for line in node.log if line["msg"] == "embedded.started")
    with redis.Redis(unix_socket_path=started["socket"]) as client:
        server = client.info("server")
    assert isinstance(server, dict)
    os.kill(int(server["process_id"]), signal.SIGKILL)


async def test_roles_share_the_work_and_survive_a_kill(valkey_url: str, namespace: str, conductor: Conductor) -> None:
    """An api node takes jobs, workers run them; a killed one's jobs are another's within its lease and a second."""
    lease = 2.0
    shared = {"REDIS_URL": valkey_url, "GOPHER_NAMESPACE": namespace, "WORKER_LEASE": f"{lease:g}s"}
    async with (
        running("--role=api", **shared) as api,
        running("--role=worker", "--handlers=userjobs", **shared) as victim,
    ):
        jobs = [await api.submit("gated", {"port": conductor.port}) for _ in range(20)]
        await conductor.heard(20)
        async with running("--role=worker", "--handlers=userjobs", **shared):
            victim.kill(signal.SIGKILL)
            killed = time.monotonic()
            await conductor.heard(40)
            recovered = time.monotonic() - killed
            conductor.open_gate()
            ended = [await api.ended(job["job_id"]) for job in jobs]

    assert {(job["status"], job["attempt"], job["crashes"], job["result"]) for job in ended} == {("completed", 2, 1, 2)}
    assert recovered < lease + 1.0


@pytest.mark.timeout(150)  # it starts three nodes, and a process for each of three suspects
async def test_a_pill_takes_no_innocent_along(valkey_url: str, namespace: str, conductor: Conductor) -> None:
    """
    A job that kills its node twice is run alone then, dies alone, and is a dead letter; those that were beside it, and
    those that are now, complete.
    """
    flags = ("--handlers=userjobs",)
    shared = {"REDIS_URL": valkey_url, "GOPHER_NAMESPACE": namespace, "WORKER_LEASE": "1s"}
    payload = {"port": conductor.port}
    async with running(*flags, **shared) as node:
        beside = [await node.submit("gated", payload) for _ in range(2)]
        await conductor.heard(2)
        # Its answer may go with the node.
        pill = str(uuid.uuid4())
        with contextlib.suppress(aiohttp.ClientError):
            await node.submit("pill", payload, job_id=pill)
        assert await node.wait() == -signal.SIGKILL
    async with running(*flags, **shared) as node:
        assert await node.wait() == -signal.SIGKILL
    conductor.open_gate()

    async with running(*flags, **shared) as node:
        await node.logged(lambda line: line["msg"] == "job.alone" and line["job_id"] == pill)
        later = [await node.submit("gated", payload) for _ in range(15)]
        ended = await node.ended(pill)
        innocents = [await node.ended(job["job_id"]) for job in beside + later]
        assert await node.stop() == 0

    assert (ended["status"], ended["crashes"], ended["errors"]) == ("failed", 3, 0)
    assert [entry["outcome"] for entry in ended["attempts"]] == ["crashed"] * 3
    assert ended["error"]["code"] == "process-died"
    assert conductor.runs[pill] == 3
    assert {(job["status"], job["crashes"]) for job in innocents} == {("completed", 2), ("completed", 0)}


async def test_second_signal_releases_at_once(tmp_path: Path, conductor: Conductor) -> None:
    """A run that would outlast the grace is handed back when the operator insists, and costs its job nothing. More
    signals, up to the very end of the process, do no harm."""
    flags = (f"--data-dir={tmp_path}", "--handlers=userjobs")
    async with running(*flags, WORKER_SHUTDOWN_TIMEOUT="10m") as node:
        job = await node.submit("gated", {"port": conductor.port})
        await conductor.heard(1)
        node.kill(signal.SIGTERM)
        await node.logged(lambda line: line["msg"] == "node.stopping")
        node.kill(signal.SIGTERM)
        await node.logged(lambda line: line["msg"] == "node.stopped")
        with contextlib.suppress(ProcessLookupError):
            node.kill(signal.SIGTERM)
        code = await node.wait(20)
    conductor.open_gate()
    async with running(*flags) as successor:
        ended = await successor.ended(job["job_id"])

    assert code == 0
    assert (ended["status"], ended["attempt"], ended["errors"], ended["crashes"]) == ("completed", 2, 0, 0)


async def test_session_is_renewed_on_a_server_with_a_password(conductor: Conductor, namespace: str) -> None:
    """Every process of a node can log in: a run outlasts several leases."""
    with server(str(find_binary()), "--requirepass", "s3cr:t/") as url:
        shared = {"REDIS_URL": url, "REDIS_PASSWORD": "s3cr:t/", "REDIS_DB": "2", "WORKER_LEASE": "1s"}
        async with running("--handlers=userjobs", GOPHER_NAMESPACE=namespace, **shared) as node:
            job = await node.ended((await node.submit("slow", {"port": conductor.port, "seconds": 2.5}))["job_id"])

    assert (job["status"], job["attempt"], job["crashes"]) == ("completed", 1, 0)
