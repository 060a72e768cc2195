"""A relay between a store and its server that loses answers, cuts connections, or goes deaf when it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path


@dataclass
class _Connection:
    hears: asyncio.Event
    losing: bool = False


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
        self._silently = self._then_down = False
        self._hears = asyncio.Event()
        self._hears.set()
        self._connections: dict[asyncio.Task[None], _Connection] = {}
        self._listening: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def lose_answers(self, number: int, *, silently: bool = False, then_down: bool = False) -> None:
        """Lose the next answers; silently leaves the connection open, and then_down lets nobody come again."""
        self._to_lose, self._silently, self._then_down = number, silently, then_down

    def go_deaf(self) -> None:
        """Take what comes, and neither forward nor answer it."""
        self._hears.clear()

    def hear(self) -> None:
        self._hears.set()

    def freeze(self) -> None:
        """Leave the connections that there are open and dead for ever, as a network does that is cut; new ones work."""
        for connection in self._connections.values():
            connection.hears = asyncio.Event()

    async def up(self) -> None:
        self._listening = await asyncio.start_unix_server(self._serve, self.path)

    async def down(self) -> None:
        """Cut all connections and refuse new ones."""
        self._refuse()
        await self.cut()

    def _refuse(self) -> None:
        if self._listening is not None:
            self._listening.close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)
            self._listening = None

    async def cut(self) -> None:
        """Cut all connections."""
        tasks = list(self._connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connection = self._connections[task] = _Connection(self._hears)
        try:
            back_reader, back_writer = await asyncio.open_unix_connection(self._server)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._ask(reader, back_writer, connection))
                    group.create_task(self._answer(back_reader, writer, connection))
            finally:
                back_writer.close()
        except* (OSError, ConnectionAbortedError):
            pass
        except* asyncio.CancelledError:
            pass
        finally:
            writer.close()
            del self._connections[task]

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: _Connection) -> None:
        while data := await reader.read(1 << 20):
            await connection.hears.wait()
            if self._loses_answer(data):
                connection.losing = True
            writer.write(data)
            await writer.drain()
        raise ConnectionAbortedError

    def _loses_answer(self, data: bytes) -> bool:
        if not self._to_lose or not (b"EVALSHA" in data or b"BLPOP" in data):
            return False
        self._to_lose -= 1
        return True

    async def _answer(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: _Connection
    ) -> None:
        while data := await reader.read(1 << 20):
            await connection.hears.wait()
            if connection.losing:
                connection.losing = False
                self.lost += 1
                if self._then_down:
                    self._refuse()
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
