"""A real Prometheus on this machine, which scrapes once a second and is asked over its HTTP API."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import yaml

from gopher_node.store.embedded import GUARDIAN

JOB = "gopher-node"


class Prometheus:
    """What a Prometheus knows."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def get(self, path: str, **query: str) -> Any:
        """What /api/v1/… answers; what Prometheus does not understand fails the test."""
        async with self._session.get(f"/api/v1/{path}", params=query) as response:
            answer = await response.json()
        assert answer["status"] == "success", (query, answer)
        return answer["data"]

    async def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """The series that it is now, with their labels. What is no number is no data."""
        found = await self.get("query", query=expression)
        if found["resultType"] == "scalar":
            return [({}, float(found["result"][1]))]
        series = [(each["metric"], float(each["value"][1])) for each in found["result"]]
        return [(labels, value) for labels, value in series if not math.isnan(value)]


@asynccontextmanager
async def prometheus(folder: Path, *nodes: str, rules: Sequence[Path] = ()) -> AsyncIterator[Prometheus]:
    """One that scrapes these nodes, given by their URLs, as the job `gopher-node`; it ends with this process."""
    targets = [url.removeprefix("http://") for url in nodes]
    told = {
        "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(path.resolve()) for path in rules],
        "scrape_configs": [{"job_name": JOB, "static_configs": [{"targets": targets}]}],
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(told))
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = ["prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'tsdb'}"]
    # By default it waits twice for up to five seconds before it scrapes at first.
    command += [f"--web.listen-address={address}", "--log.level=warn", "--scrape.discovery-reload-interval=100ms"]
    with (folder / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *("/bin/sh", "-c", GUARDIAN, "test-prometheus", *command),
            stdin=asyncio.subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        async with aiohttp.ClientSession(f"http://{address}") as session:
            await _ready(session, process, folder / "prometheus.log")
            yield Prometheus(session)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _ready(session: aiohttp.ClientSession, process: asyncio.subprocess.Process, log: Path) -> None:
    async with asyncio.timeout(30):
        while True:
            assert process.returncode is None, f"Prometheus has ended; {log} says why."
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get("/-/ready") as response:
                    if response.ok:
                        return
            await asyncio.sleep(0.05)  # it tells nobody when it is ready
