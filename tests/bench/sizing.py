"""
What a deployment is sized by: the store's memory for a waiting job, the jobs that one worker process runs and that one
api process takes in a second, and the memory of each kind of node, idle and after that work.

The nodes are whole processes, with the store that they have in production: every change on disk before it is
acknowledged. Beside what they reach by the clock stands what their own processor time would allow, for on a busy
machine the first says little.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from gopher_node.job import NewJob, State
from gopher_node.store import Connections, Store
from tests.bench.server import private_server

ROUNDS = 5
JOBS = 10_000
CLIENTS = 64
BULK = 500
SETTLES = 2.0
"""Seconds after which a node that has started counts as idle."""

ROOT = Path(__file__).parent.parent.parent
_OPEN = (State.ENQUEUED, State.PROCESSING)
_TICKS = os.sysconf("SC_CLK_TCK")
_PAYLOADS = {"payload of 100 bytes": 100, "payload of 1 KiB": 1000, "payload of 10 KiB": 10_000}


class Node:
    """A node's process, by the address that it answers at."""

    def __init__(self, pid: int, url: str) -> None:
        self.pid = pid
        self.url = url

    def seconds(self) -> float:
        """The processor time that it has taken, without its children's."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def megabytes(self) -> float:
        """The memory that it holds, and its heartbeat's process with it."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return sum(_resident(pid) for pid in (str(self.pid), *children))


def _resident(pid: str) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@asynccontextmanager
async def _node(role: str, store: str, data: Path, **settings: str) -> AsyncIterator[Node]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GOPHER_")}
    environment |= {"GOPHER_DATA_DIR": str(data), "LOG_FORMAT": "json", "PYTHONPATH": str(ROOT), **settings}
    environment |= {"REDIS_URL": store} if store else {}
    command = [sys.executable, "-m", "gopher_node.cli", "run", f"--role={role}", "--port=0"]
    command += ["--handlers=tests.bench.sized_handlers"]
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, cwd=data, stderr=asyncio.subprocess.PIPE, start_new_session=True
    )
    assert process.stderr is not None
    reading = None
    try:
        async for line in process.stderr:
            told = json.loads(line)
            if told["msg"] == "node.started":
                # What is not read would hold the node up.
                reading = asyncio.create_task(process.stderr.read())
                yield Node(process.pid, told["url"])
                break
        else:
            raise RuntimeError(f"The {role} node did not start.")
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        if reading is not None:
            await reading


async def run(say: Callable[[str], None], scale: float) -> dict[str, Any]:
    """The figures: bytes a job, megabytes a node, jobs a second."""
    jobs, rounds = max(BULK, round(JOBS * scale)), max(1, round(ROUNDS * min(1.0, scale)))
    say(f"{rounds} rounds of {jobs} jobs, {os.cpu_count()} processors; median (least to most)")
    found: dict[str, list[float]] = {}
    with private_server("--appendonly", "yes", "--appendfsync", "always") as url:
        folder = Path(url.removeprefix("unix://")).parent
        connections = Connections(url)
        store = Store(connections)
        await store.open()
        for _ in range(rounds):
            await _memory(connections, store, jobs, found)
            await _submits(url, folder, jobs, found)
            await store.purge("nothing")
            for type in ("nothing", "wait"):
                await _runs(url, store, connections, type, jobs, found)
        await store.close()
        await _all(folder, found)
    for name, values in found.items():
        median, least, most = statistics.median(values), min(values), max(values)
        say(f"{name:58}{median:12,.0f}  ({least:,.0f} to {most:,.0f})")
    return {"jobs": jobs, "rounds": rounds, **{name: _spread(values) for name, values in found.items()}}


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 1),
        "least": round(min(values), 1),
        "most": round(max(values), 1),
    }


def _add(found: dict[str, list[float]], name: str, value: float) -> None:
    found.setdefault(name, []).append(value)


async def _memory(connections: Connections, store: Store, jobs: int, found: dict[str, list[float]]) -> None:
    for name, length in _PAYLOADS.items():
        payload = json.dumps({"text": "x" * (length - 11)}).encode()
        before = await _used(connections)
        for start in range(0, jobs, BULK):
            await store.submit_many([NewJob(type="nothing", payload=payload) for _ in range(min(BULK, jobs - start))])
        _add(found, f"bytes a waiting job, {name}", (await _used(connections) - before) / jobs)
        await store.purge("nothing")


async def _used(connections: Connections) -> int:
    text = str(await connections.request("INFO", "memory"), "utf-8")
    return next(int(line.split(":")[1]) for line in text.splitlines() if line.startswith("used_memory:"))


async def _submits(url: str, folder: Path, jobs: int, found: dict[str, list[float]]) -> None:
    body = json.dumps({"type": "nothing", "payload": {}}).encode()
    many = json.dumps([{"type": "nothing", "payload": {}}] * BULK).encode()
    connector = aiohttp.TCPConnector(limit=0)
    async with _node("api", url, folder) as node, aiohttp.ClientSession(node.url, connector=connector) as session:
        await asyncio.sleep(SETTLES)
        _add(found, "MB of an api node, idle", node.megabytes())

        async def post(path: str, body: bytes, times: int) -> None:
            for _ in range(times):
                async with session.post(path, data=body, headers={"Content-Type": "application/json"}) as answer:
                    if answer.status != 201:
                        raise RuntimeError(await answer.text())
                    await answer.read()

        for name, path, content, clients, calls, size in (
            ("one by one", "/api/v1/jobs", body, CLIENTS, max(1, jobs // CLIENTS // 2), 1),
            (f"{BULK} a request", "/api/v1/jobs/bulk", many, 4, max(1, jobs // BULK // 2), BULK),
        ):
            wall, own = time.perf_counter(), node.seconds()
            await asyncio.gather(*(post(path, content, calls) for _ in range(clients)))
            wall, own = time.perf_counter() - wall, node.seconds() - own
            _add(found, f"submits a second of an api node, {name}", clients * calls * size / wall)
            _add(found, f"… a second of its processor time, {name}", clients * calls * size / max(own, 0.01))
        _add(found, "MB of an api node, after submits", node.megabytes())


async def _runs(
    url: str, store: Store, connections: Connections, type: str, jobs: int, found: dict[str, list[float]]
) -> None:
    folder, before = Path(url.removeprefix("unix://")).parent, await _used(connections)
    for start in range(0, jobs, BULK):
        await store.submit_many([NewJob(type=type) for _ in range(min(BULK, jobs - start))])
    await store.flow.pause(type)
    async with _node("worker", url, folder) as node:
        await asyncio.sleep(SETTLES)
        _add(found, "MB of a worker node, idle", node.megabytes())
        wall, own = time.perf_counter(), node.seconds()
        await store.flow.resume(type)
        while await _unfinished(store, type):  # noqa: ASYNC110 - another process does it
            await asyncio.sleep(0.02)
        wall, own = time.perf_counter() - wall, node.seconds() - own
        what = {"nothing": "jobs that do nothing", "wait": "jobs that wait 10 ms"}[type]
        _add(found, f"runs a second of a worker node, {what}", jobs / wall)
        _add(found, f"… a second of its processor time, {what}", jobs / max(own, 0.01))
        _add(found, "MB of a worker node, after runs", node.megabytes())
    _add(found, "bytes a completed job without a payload", (await _used(connections) - before) / jobs)


async def _unfinished(store: Store, type: str) -> int:
    return sum(state.states.get(which, 0) for state in await store.queues(type) for which in _OPEN)


async def _all(folder: Path, found: dict[str, list[float]]) -> None:
    async with _node("all", "", folder) as node:
        await asyncio.sleep(SETTLES)
        _add(found, "MB of an all node, idle, without its Valkey", node.megabytes())
