"""A store's server with its data on disk, which can be killed at any moment and started again with what it had."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

from gopher_node.store.embedded import GUARDIAN, find_binary

# The file is never rewritten: it is the record of all that happened, see history.py.
OPTIONS = (
    *("--port", "0", "--unixsocketperm", "700", "--save", "", "--appendonly", "yes", "--appendfsync", "always"),
    *("--auto-aof-rewrite-percentage", "0", "--aof-load-truncated", "yes", "--maxmemory-policy", "noeviction"),
    *("--hash-max-listpack-value", "1024"),
)


class Server:
    """
    A private Valkey on a unix socket, set up as the embedded one is. It ends with this process, even if that is killed.

    `outages` are the times, in seconds since the epoch, from each kill until it answered again.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        self.folder = folder / "store"
        self.folder.mkdir(parents=True)
        self.path = self.folder / "store.sock"
        self.outages: list[tuple[float, float]] = []
        self._environment = {**os.environ, "LC_ALL": "C", **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    async def start(self) -> None:
        """Return when it answers and has its data loaded."""
        command = [str(find_binary()), "--dir", str(self.folder), "--unixsocket", str(self.path), *OPTIONS]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - it takes no time
                ["/bin/sh", "-c", GUARDIAN, "chaos-store", *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=self._environment,
            )
        async with asyncio.timeout(60):
            while not await self._answers():  # noqa: ASYNC110 - another process does it
                await asyncio.sleep(0.005)

    async def _answers(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise RuntimeError(f"The store's server ended:\n{(self.folder / 'log').read_text()[-2000:]}")
        try:
            reader, writer = await asyncio.open_unix_connection(str(self.path))
        except OSError:
            return False
        try:
            writer.write(b"PING\r\n")
            return (await reader.readline()).startswith(b"+PONG")
        except OSError:
            return False
        finally:
            writer.close()

    def kill(self) -> None:
        """End it as a power switch ends a process: nothing is written any more, nobody is told."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process = None

    async def bounce(self, pause: float = 0.0) -> float:
        """Kill it, and start it again after a pause. Returns when it answered again."""
        went = time.time()
        self.kill()
        await asyncio.sleep(pause)
        await self.start()
        self.outages.append((went, time.time()))
        return self.outages[-1][1]
