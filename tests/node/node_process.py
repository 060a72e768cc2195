"""A real node in a process of its own, with what a user gives it, and spoken to over HTTP."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from tests import warm_start
from tests.warm_start import WarmProcess

HANDLERS = Path(__file__).parent / "handlers_of_a_user"


class NodeProcess:
    """
    Started by `start`, warm unless told otherwise; `url` is known then. Each line of its log is kept and can be waited
    for.
    """

    def __init__(self, *flags: str, cold: bool = False, **environment: str) -> None:
        self.flags = flags
        self.cold = cold
        self.environment = environment
        self.log: list[dict[str, Any]] = []
        self._news = asyncio.Condition()
        self._process: asyncio.subprocess.Process | WarmProcess | None = None
        self._reader: asyncio.Task[None] | None = None
        self._session: aiohttp.ClientSession | None = None
        self.url = ""

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def start(self) -> NodeProcess:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("GOPHER_")}
        environment |= {"PYTHONPATH": str(HANDLERS), **self.environment}
        arguments = ["run", "--port=0", "--log-format=json", *self.flags]
        if self.cold or not warm_start.possible(environment):
            self._process = await asyncio.create_subprocess_exec(
                *warm_start.COLD,
                *arguments,
                env=environment,
                stderr=asyncio.subprocess.PIPE,
                cwd=HANDLERS,
                start_new_session=True,
            )
            assert self._process.stderr is not None
            lines = self._process.stderr
        else:
            self._process, lines = await warm_start.start_async(arguments, env=environment, cwd=HANDLERS)
        self._reader = asyncio.create_task(self._read(lines))
        started = await self.logged(lambda line: line.get("msg") == "node.started")
        self.url = started["url"]
        self._session = aiohttp.ClientSession(self.url, timeout=aiohttp.ClientTimeout(total=60))
        return self

    async def _read(self, lines: asyncio.StreamReader) -> None:
        async for raw in lines:
            try:
                line = orjson.loads(raw)
            except orjson.JSONDecodeError:
                line = {"msg": raw.decode()}
            async with self._news:
                self.log.append(line)
                self._news.notify_all()
        async with self._news:
            self.log.append({"msg": "eof"})
            self._news.notify_all()

    async def logged(self, wanted: Callable[[dict[str, Any]], bool], timeout: float = 30) -> dict[str, Any]:
        """The first line, from the start on, that is wanted."""
        seen = 0
        async with asyncio.timeout(timeout), self._news:
            while True:
                for line in self.log[seen:]:
                    if wanted(line):
                        return line
                    assert line["msg"] != "eof", f"The node ended: {self.log}"
                seen = len(self.log)
                await self._news.wait()

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to the node alone: its children have to see for themselves."""
        os.kill(self.pid, number)

    async def wait(self, timeout: float = 60) -> int:
        assert self._process is not None
        assert self._reader is not None
        async with asyncio.timeout(timeout):
            process = self._process
            code = await (process.ended() if isinstance(process, WarmProcess) else process.wait())
            await self._reader
        if self._session is not None:
            await self._session.close()
        return code

    async def stop(self) -> int:
        self.kill(signal.SIGTERM)
        return await self.wait()

    async def request(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        assert self._session is not None
        async with self._session.request(method, path, **options) as response:
            return response.status, await response.json(content_type=None)

    async def submit(self, type: str, payload: Any = None, **options: Any) -> dict[str, Any]:
        status, job = await self.request(
            "POST", "/api/v1/jobs", json={"type": type, "payload": {} if payload is None else payload, **options}
        )
        assert status == 201, job
        return job

    async def ended(self, job_id: str, timeout: float = 50) -> dict[str, Any]:
        """The job when it has ended."""
        async with asyncio.timeout(timeout):
            while True:
                status, job = await self.request("GET", f"/api/v1/jobs/{job_id}", params={"wait": "20s"})
                assert status == 200, job
                if job["status"] in ("completed", "failed", "cancelled"):
                    return job

    async def jobs(self, **filters: str) -> list[dict[str, Any]]:
        """All jobs that match, over as many pages as it takes."""
        found: list[dict[str, Any]] = []
        cursor: dict[str, str] = {}
        while True:
            _, page = await self.request("GET", "/api/v1/jobs", params={"limit": "200", **filters, **cursor})
            found += page["items"]
            if not page["next_cursor"]:
                return found
            cursor = {"cursor": page["next_cursor"]}


@asynccontextmanager
async def running(*flags: str, cold: bool = False, **environment: str) -> AsyncIterator[NodeProcess]:
    """A node that is stopped at the end, by force if it must be."""
    node = NodeProcess(*flags, cold=cold, **environment)
    try:
        yield await node.start()
    finally:
        if node._process is not None and node._process.returncode is None:
            node.kill(signal.SIGTERM)
            try:
                await node.wait(20)
            except TimeoutError:
                node.kill()
                await node.wait()
        elif node._process is not None:
            await node.wait()
