"""Nothing accepted is lost: signals, kills and restarts of real processes."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from tests.node.node_process import NodeProcess, running

pytestmark = pytest.mark.process


async def submit_until_refused(node: NodeProcess, path: Path, seconds: float, accepted: list[str]) -> None:
    """Keep submitting until the node no longer answers; remember what it accepted."""
    try:
        while True:
            status, job = await node.request(
                "POST", "/api/v1/jobs", json={"type": "slow", "payload": {"path": str(path), "seconds": seconds}}
            )
            if status == 503:
                return
            assert status == 201, job
            accepted.append(job["job_id"])
    except (aiohttp.ClientError, TimeoutError, OSError):
        return


async def load(node: NodeProcess, path: Path, accepted: list[str], at_least: int) -> list[asyncio.Task[None]]:
    """Eight submitters at work; returns when so many jobs have been accepted."""
    tasks = [asyncio.create_task(submit_until_refused(node, path, 0.05, accepted)) for _ in range(8)]
    async with asyncio.timeout(30):
        while len(accepted) < at_least:
            await asyncio.wait(tasks, timeout=0.01)
    return tasks


async def all_completed(node: NodeProcess, ids: list[str]) -> Counter[str]:
    ended = await asyncio.gather(*[node.ended(id) for id in ids])
    return Counter(job["status"] for job in ended)


async def test_sigterm_under_load_loses_nothing(tmp_path: Path) -> None:
    """The node drains and ends with 0; its successor on the same directory finishes what was accepted, none run twice."""
    accepted: list[str] = []
    trace = tmp_path / "trace"
    async with running(f"--data-dir={tmp_path}", "--handlers=userjobs") as node:
        tasks = await load(node, trace, accepted, 200)
        began = time.monotonic()
        node.kill(signal.SIGTERM)
        code = await node.wait()
        took = time.monotonic() - began
        await asyncio.gather(*tasks)

    async with running(f"--data-dir={tmp_path}", "--handlers=userjobs") as successor:
        ended = await all_completed(successor, accepted)

    assert 0 == code
    assert took < 20
    assert Counter(completed=len(accepted)) == ended
    runs = Counter(line.split()[0] for line in trace.read_text().splitlines())
    assert set(accepted) <= set(runs)
    assert {1} == set(runs.values())


async def test_sigkill_under_load_loses_nothing(tmp_path: Path) -> None:
    """After a kill and a restart every accepted job reaches a final state, without waiting for a lease to run out."""
    accepted: list[str] = []
    trace = tmp_path / "trace"
    async with running(f"--data-dir={tmp_path}", "--handlers=userjobs", WORKER_LEASE="60s") as node:
        tasks = await load(node, trace, accepted, 200)
        node.kill(signal.SIGKILL)
        await node.wait()
        await asyncio.gather(*tasks)

    async with running(f"--data-dir={tmp_path}", "--handlers=userjobs", WORKER_LEASE="60s") as successor:
        ended = await asyncio.wait_for(all_completed(successor, accepted), 40)

    assert Counter(completed=len(accepted)) == ended


async def test_store_killed_under_load_comes_back(tmp_path: Path) -> None:
    """The embedded store is started again with all that it had acknowledged, and the work goes on."""
    accepted: list[str] = []
    trace = tmp_path / "trace"
    async with running(f"--data-dir={tmp_path}", "--handlers=userjobs") as node:
        tasks = [asyncio.create_task(keep_submitting(node, trace, accepted)) for _ in range(4)]
        await traced(trace, 50)
        _kill_store_of(node)
        await node.logged(lambda line: line["msg"] == "embedded.crashed")
        await traced(trace, len(trace.read_text().splitlines()) + 50)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        ended = await all_completed(node, accepted)

    assert Counter(completed=len(accepted)) == ended


async def keep_submitting(node: NodeProcess, path: Path, accepted: list[str]) -> None:
    while True:
        status, job = await node.request(
            "POST", "/api/v1/jobs", json={"type": "slow", "payload": {"path": str(path), "seconds": 0.01}}
        )
        if status == 201:
            accepted.append(job["job_id"])
        else:
            assert status == 503, job
            await asyncio.sleep(0)


async def traced(path: Path, lines: int) -> None:
    """Wait until handlers have left so many lines."""
    async with asyncio.timeout(40):
        while not path.exists() or path.read_text().count("\n") < lines:
            await asyncio.wait([asyncio.ensure_future(asyncio.to_thread(path.exists))], timeout=0.02)
            await asyncio.to_thread(time.sleep, 0.01)


def _kill_store_of(node: NodeProcess) -> None:
    started = next(line for line in node.log if line["msg"] == "embedded.started")
    import redis

    client = redis.Redis(unix_socket_path=started["socket"])
    pid = int(client.info("server")["process_id"])  # type: ignore[index]
    client.close()
    import os

    os.kill(pid, signal.SIGKILL)


async def test_roles_share_the_work_and_survive_a_kill(valkey_url: str, namespace: str, tmp_path: Path) -> None:
    """An api node takes jobs, a worker runs them; a killed worker's jobs are another's within its lease and a second."""
    lease = 2.0
    shared = {"REDIS_URL": valkey_url, "GOPHER_NAMESPACE": namespace, "WORKER_LEASE": f"{lease:g}s"}
    trace, gate = tmp_path / "trace", tmp_path / "gate"
    async with (
        running("--role=api", **shared) as api,
        running("--role=worker", "--handlers=userjobs", **shared) as victim,
    ):
        jobs = [await api.submit("gated", {"path": str(trace), "gate": str(gate)}) for _ in range(20)]
        await traced(trace, 20)
        async with running("--role=worker", "--handlers=userjobs", **shared):
            victim.kill(signal.SIGKILL)
            killed = time.monotonic()
            await traced(trace, 40)
            recovered = time.monotonic() - killed
            gate.touch()
            ended = [await api.ended(job["job_id"]) for job in jobs]

    assert {("completed", 2, 1, 2)} == {(job["status"], job["attempt"], job["crashes"], job["result"]) for job in ended}
    assert recovered < lease + 1.0


async def test_second_signal_releases_at_once(tmp_path: Path) -> None:
    """A run that would outlast the grace is handed back when the operator insists, and costs its job nothing."""
    trace, gate = tmp_path / "trace", tmp_path / "gate"
    async with running(f"--data-dir={tmp_path}", "--handlers=userjobs", WORKER_SHUTDOWN_TIMEOUT="50s") as node:
        job = await node.submit("gated", {"path": str(trace), "gate": str(gate)})
        await traced(trace, 1)
        node.kill(signal.SIGTERM)
        await node.logged(lambda line: line["msg"] == "node.stopping")
        began = time.monotonic()
        node.kill(signal.SIGTERM)
        assert 0 == await node.wait()
        took = time.monotonic() - began
    gate.touch()
    async with running(f"--data-dir={tmp_path}", "--handlers=userjobs") as successor:
        ended = await successor.ended(job["job_id"])

    assert took < 10
    assert ("completed", 2, 0, 0) == (ended["status"], ended["attempt"], ended["errors"], ended["crashes"])
