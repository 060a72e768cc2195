"""A server that answers as it is told, and both clients behind one face."""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, cast

import orjson
import pytest
from aiohttp import web

from gopher_node.client import AsyncClient, Client
from tests.cli.processes import running_node

Act = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    query: dict[str, str]
    body: Any


class Stage:
    """A web server whose answers are set beforehand, one for each request; the last one is given again and again."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[Asked] = []
        self.headers: list[dict[str, str]] = []
        self._acts: deque[Act] = deque()

    def answer(self, content: Any = None, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = b"" if content is None else orjson.dumps(content)

        async def act(_request: web.Request) -> web.Response:
            return web.Response(
                body=body, status=status, headers={"Content-Type": "application/json", **(headers or {})}
            )

        self._acts.append(act)

    def refuse(self, status: int, name: str, headers: dict[str, str] | None = None, **more: Any) -> None:
        problem = {"type": f"/problems/{name}", "title": f"Title of {name}.", "status": status, **more}
        self.answer(problem, status, {"Content-Type": "application/problem+json", **(headers or {})})

    def act(self, act: Act) -> None:
        self._acts.append(act)

    async def respond(self, request: web.Request) -> web.StreamResponse:
        content = await request.read()
        self.asked.append(
            Asked(
                request.method,
                request.raw_path.partition("?")[0],
                dict(request.query),
                orjson.loads(content) if content else None,
            )
        )
        self.headers.append(dict(request.headers))
        act = self._acts.popleft() if len(self._acts) > 1 else self._acts[0]
        return await act(request)


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    stage = Stage()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", stage.respond)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    stage.url = f"http://{host}:{port}"
    yield stage
    await runner.cleanup()


@pytest.fixture(autouse=True)
def no_address_or_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment names is not what the tests ask."""
    for name in ("GOPHER_URL", "GOPHER_API_KEY"):
        monkeypatch.delenv(name, raising=False)


class Either:
    """One of the two clients; its methods are awaited, and its lists read to their end, alike."""

    def __init__(self, client: Client | AsyncClient) -> None:
        self.client = client

    async def close(self) -> None:
        await self._call("close")

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        return lambda *args, **options: self._call(name, *args, **options)

    async def _call(self, name: str, /, *args: Any, **options: Any) -> Any:
        method = getattr(self.client, name)
        if isinstance(self.client, AsyncClient):
            answer = method(*args, **options)
            return await answer if isinstance(answer, Awaitable) else [job async for job in answer]

        def call() -> Any:
            answer = method(*args, **options)
            return list(cast("Iterator[Any]", answer)) if isinstance(answer, Iterator) else answer

        return await asyncio.to_thread(call)


Connect = Callable[..., Either]


@pytest.fixture(params=[Client, AsyncClient], ids=["blocking", "async"])
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Connect]:
    """Makes a client of either kind, and closes it after the test."""
    made: list[Either] = []

    def connect(url: str, **options: Any) -> Either:
        made.append(Either(request.param(url, **options)))
        return made[-1]

    yield connect
    for either in made:
        await either.close()


@pytest.fixture(scope="session")
def node_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_node(tmp_path_factory.mktemp("node")) as url:
        yield url


@pytest.fixture
def free_port() -> Iterator[int]:
    """A port that is taken, and at which nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield unused.getsockname()[1]
