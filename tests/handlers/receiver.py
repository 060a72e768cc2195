"""The other end of the requests that handlers send: a server, and a resolver that can change its mind."""

from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult


class Receiver:
    """A server that keeps what it is sent and answers what the test has chosen."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.respond: Callable[[web.Request], Awaitable[web.StreamResponse]] = self.thank
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def messages(self) -> list[Any]:
        """The bodies, which are JSON."""
        return [orjson.loads(content) for _, _, _, content in self.requests]

    async def thank(self, request: web.Request) -> web.StreamResponse:
        return web.Response(text="thanks")

    async def receive(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append((request.method, request.path_qs, headers, await request.read()))
        return await self.respond(request)

    def answer(self, status: int, **options: Any) -> None:
        async def respond(request: web.Request) -> web.StreamResponse:
            return web.Response(status=status, **options)

        self.respond = respond


class Names(AbstractResolver):
    """Answers each look-up with the next of the addresses it was given."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        self.asked.append(host)
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=0,
            )
            for address in self.answers.pop(0)
        ]

    async def close(self) -> None: ...
