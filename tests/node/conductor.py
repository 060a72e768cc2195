"""What handlers under test report to, and wait at: a socket in the test's own process."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Conductor:
    """
    Hears a line from each run of a handler, and lets it go on: at once, or when the gate is opened if the run asks so.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.port = 0
        self._news = asyncio.Condition()
        self._gate = asyncio.Event()

    @property
    def runs(self) -> Counter[str]:
        """How often each job ran."""
        return Counter(line.split()[0] for line in self.lines)

    def open_gate(self) -> None:
        self._gate.set()

    async def heard(self, count: int, timeout: float = 40) -> None:
        """Wait until so many lines have been heard since the start."""
        async with asyncio.timeout(timeout), self._news:
            await self._news.wait_for(lambda: len(self.lines) >= count)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            word, _, line = (await reader.readline()).decode().strip().partition(" ")
            async with self._news:
                self.lines.append(line)
                self._news.notify_all()
            if word == "gated":
                await self._gate.wait()
        finally:
            writer.close()


@asynccontextmanager
async def conducting() -> AsyncIterator[Conductor]:
    conductor = Conductor()
    server = await asyncio.start_server(conductor.answer, "127.0.0.1", 0, backlog=1000)
    conductor.port = server.sockets[0].getsockname()[1]
    try:
        yield conductor
    finally:
        conductor.open_gate()
        server.close()
