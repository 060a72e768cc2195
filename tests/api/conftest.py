"""An API on a real socket, in front of a real store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from gopher_node.api import ApiServer, make_app
from gopher_node.handlers import Registry
from gopher_node.job import Job, NewJob
from gopher_node.settings import ServerSettings, Settings, WorkerSettings
from gopher_node.store import Connections, Once, Store, Submitted
from gopher_node.telemetry import Events
from gopher_node.telemetry.traces import Traces


@dataclass
class Status:
    """A node that says of itself what a test wants."""

    id: str = "node-1"
    uptime: float = 12.5
    started: bool = True
    stopping: bool = False
    dead: str | None = None
    wedged: str | None = None
    slow: str | None = None
    store: str | None = None
    writes: str | None = None
    scheduler: str | None = None
    worker: str | None = None
    slots: str | None = None
    outcomes: str | None = None
    certificate: str | None = None

    def dead_part(self) -> str | None:
        return self.dead

    def wedged_loop(self) -> str | None:
        return self.wedged

    def slow_loop(self) -> str | None:
        return self.slow

    def store_failure(self) -> str | None:
        return self.store

    async def refuses_jobs(self) -> str | None:
        return self.writes

    def late_scheduler(self) -> str | None:
        return self.scheduler

    def deaf_worker(self) -> str | None:
        return self.worker

    def stuck_slots(self) -> str | None:
        return self.slots

    def unsettled_outcomes(self) -> str | None:
        return self.outcomes

    def old_certificate(self) -> str | None:
        return self.certificate

    def numbers(self) -> dict[str, float]:
        return {}


class SignallingStore(Store):
    """A real store that tells when it has been asked."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.submit_begun = asyncio.Event()
        self.wait_begun = asyncio.Event()
        self.wait_ended = asyncio.Event()

    async def submit(self, job: NewJob, once: Once | None = None) -> Submitted:
        self.submit_begun.set()
        return await super().submit(job, once)

    async def wait(self, id: str, timeout: float) -> Job:
        self.wait_begun.set()
        try:
            return await super().wait(id, timeout)
        finally:
            self.wait_ended.set()


@dataclass
class Answer:
    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def problem(self) -> str:
        """The problem's name; it is checked to be whole."""
        assert self.headers["Content-Type"] == "application/problem+json"
        content = self.json
        assert {"type", "title", "status", "detail", "instance"} <= content.keys()
        assert content["status"] == self.status
        assert content["instance"] == self.headers["X-Request-ID"]
        return content["type"].removeprefix("/problems/")


@dataclass
class Api:
    """A running API, and what stands behind it."""

    app: web.Application = field(repr=False)
    server: ApiServer
    store: Store
    status: Status
    events: Events
    session: aiohttp.ClientSession = field(repr=False)

    async def call(self, method: str, path: str, **options: Any) -> Answer:
        async with self.session.request(method, self.server.url + path, **options) as response:
            return Answer(response.status, response.headers, await response.read())

    async def get(self, path: str, **options: Any) -> Answer:
        return await self.call("GET", path, **options)

    async def post(self, path: str, content: Any = None, **options: Any) -> Answer:
        return await self.call("POST", path, json=content, **options)

    async def submit(self, **fields: Any) -> str:
        """A new job's id."""
        answer = await self.post("/api/v1/jobs", {"type": "unserved", **fields})
        assert answer.status == 201, answer.body
        return answer.json["job_id"]

    async def exchange(self, *pieces: bytes) -> Answer:
        """Send bytes as they are, and read the answer until the server closes."""
        reader, writer = await asyncio.open_connection(*self.server.address)
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            return self.read(await reader.read())
        finally:
            writer.close()

    @staticmethod
    def read(raw: bytes) -> Answer:
        head, _, body = raw.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        return Answer(int(first.split()[1]), dict(line.split(": ", 1) for line in lines), body)

    async def stored(self) -> int:
        """How many jobs have ever been stored."""
        stats = await self.store.stats()
        assert sum(stats.counts.values()) == stats.totals.get("submitted", 0)
        return stats.totals.get("submitted", 0)


@pytest.fixture
async def store(valkey_url: str, namespace: str) -> AsyncIterator[SignallingStore]:
    store = SignallingStore(Connections(valkey_url), namespace=namespace)
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def registry() -> Registry:
    registry = Registry()

    @registry.handler("greet", description="Says hello.", timeout="40s", max_retries=7, priority="high")
    def greet(name: str, times: int = 1) -> str:
        return "hello " * times + name

    @registry.handler("plain")
    def plain() -> None:
        pass

    return registry


@pytest.fixture
async def serve(store: Store, registry: Registry) -> AsyncIterator[Callable[..., Awaitable[Api]]]:
    """Starts an API; its further arguments are the server's settings."""
    started: list[Api] = []

    async def start(
        *,
        log_level: str = "info",
        role: str = "all",
        behind: Store | None = None,
        api_keys: str | None = None,
        webhook_allow: str = "",
        cancel_grace: float = 10.0,
        traces: Traces | None = None,
        metrics_anonymous: bool = False,
        **server: Any,
    ) -> Api:
        settings = Settings(
            role=role,
            api_keys=api_keys or [],
            webhook={"allow": webhook_allow},
            server=ServerSettings(**{"port": 0, **server}),
            worker=WorkerSettings(max_retries=2, cancel_grace=cancel_grace),
            log={"level": log_level},
            metrics={"anonymous": metrics_anonymous},
        )
        status, events = Status(), Events()
        app = make_app(
            store=behind or store, registry=registry, settings=settings, events=events, status=status, traces=traces
        )
        api = Api(app, ApiServer(app, grace=1.0), behind or store, status, events, aiohttp.ClientSession())
        started.append(api)
        await api.server.start()
        return api

    yield start
    for api in started:
        await api.session.close()
        await api.server.stop()


@pytest.fixture
async def api(serve: Callable[..., Awaitable[Api]]) -> Api:
    return await serve()
