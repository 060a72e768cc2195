"""A worker on a real store, started with the handlers and settings that a test wants and always drained at its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from gopher_node.handlers import Registry
from gopher_node.job import Job, NewJob, State
from gopher_node.settings import Settings
from gopher_node.store import Connections, Store
from gopher_node.telemetry.traces import Traces
from gopher_node.worker import Patience, Worker
from tests.recorder import Recorder
from tests.worker import warm_child

NODE = "test-node"


@dataclass
class Bench:
    """What a test of a worker needs: its store, its handlers, what it reported, and how to start and stop it."""

    store: Store
    url: str
    folder: Path
    registry: Registry = field(default_factory=Registry)
    handlers: list[str] = field(default_factory=list[str])
    events: Recorder = field(default_factory=lambda: Recorder(NODE))
    traces: Traces | None = None
    running: dict[Worker, tuple[asyncio.Task[None], asyncio.Event]] = field(
        default_factory=dict[Worker, tuple[asyncio.Task[None], asyncio.Event]]
    )

    def settings(self, **worker: Any) -> Settings:
        quick = {"retry_base": 0.0, "shutdown_timeout": 5.0, "cancel_grace": 5.0}
        options: dict[str, Any] = {"handlers": self.handlers, "worker": {**quick, **worker}}
        return Settings(data_dir=self.folder, **options)  # pyright: ignore[reportArgumentType]

    def build(self, *, store: Store | None = None, patience: Patience | None = None, **worker: Any) -> Worker:
        return Worker(
            store or self.store,
            self.registry,
            self.settings(**worker),
            self.events,
            store_url=self.url,
            node=NODE,
            patience=patience or Patience(stop=0.05, release=0.05, settle=2.0),
            traces=self.traces,
        )

    def start(self, **options: Any) -> Worker:
        worker = self.build(**options)
        stop = asyncio.Event()
        self.running[worker] = (asyncio.create_task(worker.run(stop)), stop)
        return worker

    async def stop(self, worker: Worker) -> None:
        """Drain, and raise what the worker raised."""
        task, stop = self.running.pop(worker)
        stop.set()
        await task

    async def submit(self, type: str, payload: Any = None, **options: Any) -> str:
        job = NewJob(type=type, payload=orjson.dumps(payload if payload is not None else {}), **options)
        await self.store.submit(job)
        return job.id

    async def finished(self, id: str, timeout: float = 10.0) -> Job:
        """The job once it is in a final state."""
        job = await self.store.wait(id, timeout)
        assert job.state.final, f"still {job.state} after {timeout} s"
        return job

    async def run(self, type: str, payload: Any = None, **options: Any) -> Job:
        """Submit a job and wait for its end."""
        return await self.finished(await self.submit(type, payload, **options))

    async def until_state(self, id: str, state: State) -> Job:
        """The job once a settlement has brought it into this state."""
        while (job := await self.store.get(id)).state is not state:
            seen = len(self.events.settlements)
            await self.events.until(lambda seen=seen: len(self.events.settlements) > seen)
        return job


@pytest.fixture(autouse=True)
def warm_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio, "create_subprocess_exec", warm_child.start)


@pytest.fixture
async def bench(store: Store, valkey_url: str, tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(store, valkey_url, tmp_path)
    yield bench
    for worker, (task, _) in list(bench.running.items()):
        worker.release_now()
        with contextlib.suppress(Exception):
            await task


class Gate:
    """Something for a handler in a thread to wait at, and for a test to open."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._never = threading.Event()
        self.entered = asyncio.Event()
        self.opened = threading.Event()

    def wait(self) -> None:
        self._loop.call_soon_threadsafe(self.entered.set)
        assert self.opened.wait(30)

    def pause(self) -> None:
        """Let the other threads run, for a handler that has to look again and again."""
        self._never.wait(0.001)


@pytest.fixture
async def gate() -> AsyncIterator[Gate]:
    gate = Gate()
    yield gate
    gate.opened.set()


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """A named pipe, through which another process tells its process id."""
    path = tmp_path / "pid"
    os.mkfifo(path)
    return path


async def pid_from(pipe: Path) -> int:
    # Open for writing too, so that it has no end before somebody has written.
    end = os.fdopen(os.open(pipe, os.O_RDWR | os.O_NONBLOCK), "rb")
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), end)
    try:
        async with asyncio.timeout(20):
            return int(await reader.readline())
    finally:
        transport.close()


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def until_gone(pid: int) -> None:
    """Return when the process has ended. One that is nobody's child by now counts as ended once it is a zombie."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(handle, ended.set)
    try:
        async with asyncio.timeout(10):
            await ended.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)


class Relay:
    """Stands between a client and the server, and can be cut and mended."""

    def __init__(self, target: str, path: str) -> None:
        self.url = f"unix://{path}"
        self._target = target
        self._path = path
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._pumps: set[asyncio.Task[None]] = set()

    async def mend(self) -> None:
        self._server = await asyncio.start_unix_server(self._connect, self._path)

    async def cut(self) -> None:
        """Every connection breaks, and no new one is accepted."""
        if self._server is not None:
            self._server.close()
            self._server = None
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def close(self) -> None:
        await self.cut()
        await asyncio.gather(*self._pumps, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream, downstream = await asyncio.open_unix_connection(self._target)
        self._writers |= {writer, downstream}
        for source, sink in ((reader, downstream), (upstream, writer)):
            pump = asyncio.create_task(self._pump(source, sink))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while content := await reader.read(65536):
                writer.write(content)
                await writer.drain()
        writer.close()


@pytest.fixture
async def relay(valkey_url: str, tmp_path: Path) -> AsyncIterator[Relay]:
    relay = Relay(valkey_url.removeprefix("unix://"), str(tmp_path / "relay.sock"))
    await relay.mend()
    yield relay
    await relay.close()


@pytest.fixture
async def far_store(relay: Relay, namespace: str) -> AsyncIterator[Store]:
    """The same store as `store`, through the relay, with little patience."""
    store = Store(Connections(relay.url, timeout=0.5), namespace=namespace, patience=0.1)
    await store.open()
    yield store
    await store.close()
