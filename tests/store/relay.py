"""A relay between a store and its server that loses answers, cuts connections, or goes deaf when it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path


class Relay:
    """
    Forwards between a unix socket of its own and the server's.

    A lost answer is that of a script or a blocking pop, never of the commands that open a connection: the server has
    carried the request out, and the caller finds the connection closed, or silent.
    """

    def __init__(self, server: str, path: str) -> None:
        self.path = path
        self.lost = 0
        self._server = server
        self._to_lose = 0
        self._silently = False
        self._hears = asyncio.Event()
        self._hears.set()
        self._connections: set[tuple[asyncio.Task[None], asyncio.StreamWriter]] = set()
        self._listening: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def lose_answers(self, number: int, *, silently: bool = False) -> None:
        """Lose the next answers; silently leaves the connection open."""
        self._to_lose, self._silently = number, silently

    def go_deaf(self) -> None:
        """Take what comes, and neither forward nor answer it."""
        self._hears.clear()

    def hear(self) -> None:
        self._hears.set()

    async def up(self) -> None:
        self._listening = await asyncio.start_unix_server(self._serve, self.path)

    async def down(self) -> None:
        """Cut all connections and refuse new ones."""
        if self._listening is not None:
            self._listening.close()
            Path(self.path).unlink(missing_ok=True)
            self._listening = None
        await self.cut()

    async def cut(self) -> None:
        """Cut all connections."""
        for task, _ in list(self._connections):
            task.cancel()
        await asyncio.gather(*(task for task, _ in list(self._connections)), return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add((task, writer))
        losing = asyncio.Event()
        try:
            back_reader, back_writer = await asyncio.open_unix_connection(self._server)
            try:
                async with asyncio.TaskGroup() as group:
                    ways = (self._ask(reader, back_writer, losing), self._answer(back_reader, writer, losing))
                    for way in ways:
                        group.create_task(way)
            finally:
                back_writer.close()
        except* (OSError, ConnectionAbortedError):
            pass
        except* asyncio.CancelledError:
            pass
        finally:
            writer.close()
            self._connections.discard((task, writer))

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, losing: asyncio.Event) -> None:
        while data := await reader.read(1 << 20):
            await self._hears.wait()
            if self._to_lose and (b"EVALSHA" in data or b"BLPOP" in data):
                self._to_lose -= 1
                losing.set()
            writer.write(data)
            await writer.drain()
        raise ConnectionAbortedError

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, losing: asyncio.Event) -> None:
        while data := await reader.read(1 << 20):
            await self._hears.wait()
            if losing.is_set():
                losing.clear()
                self.lost += 1
                if self._silently:
                    continue
                break
            writer.write(data)
            await writer.drain()
        raise ConnectionAbortedError


@contextlib.asynccontextmanager
async def relay_to(url: str) -> AsyncIterator[Relay]:
    """A relay to the server at this unix:// address."""
    with tempfile.TemporaryDirectory(prefix="gopher-relay-") as folder:
        relay = Relay(url.removeprefix("unix://"), str(Path(folder) / "relay.sock"))
        await relay.up()
        try:
            yield relay
        finally:
            await relay.down()
