"""
The processes that handlers run in, started warm, as tests/warm_start.py starts the program.

That they can be started cold is seen where a node runs them, and where tests/worker/test_processes.py kills their
parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from asyncio.subprocess import Process
from pathlib import Path
from typing import Any

from gopher_node.worker import child
from tests import warm_start

_cold = asyncio.create_subprocess_exec


class Forked:
    """What is used of an asyncio.subprocess.Process with pipes. One socket is both of them."""

    def __init__(self, process: warm_start.WarmProcess, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.pid = process.pid
        self.stdin = writer
        self.stdout = reader
        self.kill = process.kill
        self._process = process
        self._ended = asyncio.ensure_future(process.ended())

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    async def wait(self) -> int:
        return await asyncio.shield(self._ended)

    async def communicate(self) -> None:
        with contextlib.suppress(ConnectionError):
            await self.stdout.read()
        await self.wait()
        self.stdin.close()
        with contextlib.suppress(ConnectionError):
            await self.stdin.wait_closed()


async def start(*command: Any, **options: Any) -> Process | Forked:
    """In place of asyncio.create_subprocess_exec."""
    if not (len(command) > 2 and f"from {child.__name__} " in str(command[2]) and warm_start.possible(os.environ)):
        return await _cold(*command, **options)
    ours, theirs = socket.socketpair()
    with theirs:
        process = warm_start.start_child(theirs.fileno(), cwd=Path.cwd())
    return Forked(process, *await asyncio.open_unix_connection(sock=ours))
