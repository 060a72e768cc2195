"""Workers in bash and in JavaScript, as the README shows them, beside one in Python: real processes, some killed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.node.conductor import Conductor, conducting
from tests.node.node_process import NodeProcess, running

WORKERS = Path(__file__).parent / "workers"
COMMANDS = {
    "bash": ["bash", str(WORKERS / "worker.sh"), "traced", "bash", str(WORKERS / "ledger.sh")],
    "javascript": ["node", str(WORKERS / "worker.mjs"), "traced", str(WORKERS / "ledger.mjs")],
}

pytestmark = [
    pytest.mark.process,
    pytest.mark.tool("curl"),
    pytest.mark.tool("jq"),
    pytest.mark.tool("node"),
    pytest.mark.timeout(180),
]


@pytest.fixture
async def conductor() -> AsyncIterator[Conductor]:
    async with conducting() as conductor:
        yield conductor


@asynccontextmanager
async def worker(
    language: str, url: str, *, name: str, seconds: float = 0.02, **more: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    environment = {**os.environ, "GOPHER_URL": url, "LEDGER_NAME": name, "LEDGER_SECONDS": str(seconds), **more}
    process = await asyncio.create_subprocess_exec(
        *COMMANDS[language],
        env=environment,
        stdout=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def heard_from(conductor: Conductor, name: str, times: int = 1) -> None:
    while sum(line.endswith(f" {name}") for line in conductor.lines) < times:
        await conductor.heard(len(conductor.lines) + 1)


def test_workers_are_short() -> None:
    """Thirty lines each: the README shows them as they are."""
    for file in ("worker.sh", "worker.mjs"):
        assert len((WORKERS / file).read_text().splitlines()) <= 30


@pytest.mark.parametrize("language", COMMANDS)
async def test_jobs_end_as_they_should(language: str, conductor: Conductor, tmp_path: Path) -> None:
    """Completed with its result, failed with its error and tried again, and cancelled while it runs."""
    async with running("--role=all", f"--data-dir={tmp_path}") as node, worker(language, node.url, name="w"):
        good = await node.submit("traced", {"port": conductor.port})
        bad = await node.submit("traced", {"port": conductor.port, "text": "bad"}, max_retries=0)
        ended = [await node.ended(job["job_id"]) for job in (good, bad)]
        long = await node.submit("traced", {"port": conductor.port, "seconds": 60})
        await conductor.heard(3)
        await node.request("POST", f"/api/v1/jobs/{long['job_id']}/cancel")
        cancelled = await node.ended(long["job_id"], timeout=20)

    assert [(job["status"], job["result"], job["node"]) for job in ended] == [
        ("completed", "w", f"http:{language}"),
        ("failed", None, f"http:{language}"),
    ]
    assert "no luck" in ended[1]["error"]["message"]
    assert (cancelled["status"], cancelled["attempt"]) == ("cancelled", 1)


class Door:
    """An address that stays the same while the node behind it changes, or is away."""

    def __init__(self) -> None:
        self.url = ""
        self.behind: NodeProcess | None = None

    async def pass_through(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self.behind is None:
                await reader.read(65536)  # as a proxy does, which has to be asked before it can say no
            else:
                port = int(self.behind.url.rpartition(":")[2])
                inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
                await asyncio.gather(self._copy(reader, inner_writer), self._copy(inner_reader, writer))
        except OSError:
            pass
        finally:
            writer.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while piece := await reader.read(65536):
            writer.write(piece)
        writer.close()


@asynccontextmanager
async def door() -> AsyncIterator[Door]:
    door = Door()
    server = await asyncio.start_server(door.pass_through, "127.0.0.1", 0)
    door.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield door
    finally:
        server.close()


@pytest.mark.parametrize("language", COMMANDS)
async def test_key_is_shown_and_kept_to_itself(language: str, conductor: Conductor, tmp_path: Path) -> None:
    """Workers take it from the environment, and nobody who looks at the processes sees it."""
    key = "k" * 40
    headers = {"X-API-Key": key}
    async with (
        running(f"--data-dir={tmp_path}", GOPHER_API_KEYS=key) as node,
        worker(language, node.url, name="w", GOPHER_API_KEY=key) as process,
    ):
        body = {"type": "traced", "payload": {"port": conductor.port, "seconds": 1}}
        _, job = await node.request("POST", "/api/v1/jobs", json=body, headers=headers)
        await conductor.heard(1)
        seen = await asyncio.to_thread(command_lines, process.pid)
        _, ended = await node.request("GET", f"/api/v1/jobs/{job['job_id']}?wait=20s", headers=headers)

    assert ended["status"] == "completed"
    assert Path(COMMANDS[language][1]).name in seen
    assert key not in seen


def command_lines(session: int) -> str:
    """Of all processes of a session."""
    lines: list[str] = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.getsid(int(folder.name)) == session:
                lines.append((folder / "cmdline").read_text())
    return "\n".join(lines)


@pytest.mark.parametrize("language", COMMANDS)
async def test_restart_of_the_node_is_survived(language: str, conductor: Conductor, tmp_path: Path) -> None:
    """A run that outlasts it is completed at the next node, and the worker goes on."""
    async with door() as front, worker(language, front.url, name="w"):
        async with running(f"--data-dir={tmp_path}") as front.behind:
            outlasting = await front.behind.submit("traced", {"port": conductor.port, "seconds": 4})
            await conductor.heard(1)
        front.behind = None
        async with running(f"--data-dir={tmp_path}") as front.behind:
            later = await front.behind.submit("traced", {"port": conductor.port})
            ended = [await front.behind.ended(job["job_id"]) for job in (outlasting, later)]

    assert [(job["status"], job["attempt"], job["result"]) for job in ended] == [("completed", 1, "w")] * 2


async def test_javascript_worker_finishes_before_it_stops(conductor: Conductor, tmp_path: Path) -> None:
    async with (
        running(f"--data-dir={tmp_path}") as node,
        worker("javascript", node.url, name="w", seconds=1) as process,
    ):
        jobs = [await node.submit("traced", {"port": conductor.port}) for _ in range(3)]
        await conductor.heard(3)
        process.send_signal(signal.SIGTERM)
        code = await asyncio.wait_for(process.wait(), 20)
        states = [(await node.request("GET", f"/api/v1/jobs/{job['job_id']}"))[1]["status"] for job in jobs]

    assert code == 0
    assert states == ["completed"] * 3


async def test_many_jobs_and_a_kill_of_each_kind(valkey_url: str, namespace: str, conductor: Conductor) -> None:
    """
    Workers of three languages share a queue, and one of each dies in the midst of a job.

    No job is lost and none completes twice; only what the dead held runs again.
    """
    count = 300
    shared = {"REDIS_URL": valkey_url, "GOPHER_NAMESPACE": namespace}
    python = {**shared, "WORKER_CONCURRENCY": "2", "WORKER_LEASE": "2s"}
    async with contextlib.AsyncExitStack() as stack:
        api = await stack.enter_async_context(running("--role=api", **shared))
        victim = await stack.enter_async_context(
            running("--role=worker", "--handlers=userjobs", **python, LEDGER_NAME="py-victim", LEDGER_SECONDS="1")
        )
        dying: dict[str, Any] = {"py-victim": victim}
        for language in COMMANDS:
            name = f"{language}-victim"
            dying[name] = await stack.enter_async_context(worker(language, api.url, name=name, seconds=1))
            await stack.enter_async_context(worker(language, api.url, name=language))
        await stack.enter_async_context(
            # With more slots than the others have: each job of theirs costs some processes.
            running(
                "--role=worker",
                "--handlers=userjobs",
                **{**python, "WORKER_CONCURRENCY": "12"},
                LEDGER_NAME="python",
                LEDGER_SECONDS="0.02",
            )
        )
        jobs = [{"type": "traced", "payload": {"port": conductor.port}} for _ in range(count)]
        status, answer = await api.request("POST", "/api/v1/jobs/bulk", json=jobs)
        assert status == 201
        ids = [job["job_id"] for job in answer["items"]]
        for name, process in dying.items():
            await heard_from(conductor, name)
            kill(process)
        ended = [await api.ended(id) for id in ids]
        _, stats = await api.request("GET", "/api/v1/stats")

    runs = Counter(line.split()[0] for line in conductor.lines)
    by = Counter(job["result"] for job in ended)
    again = [job for job in ended if job["attempt"] > 1]
    broken_off = Counter(attempt["outcome"] for job in ended for attempt in job["attempts"][:-1])
    # Each job has one completion, and the store has counted so many.
    assert {(job["status"], job["attempts"][-1]["outcome"]) for job in ended} == {("completed", "completed")}
    assert stats["totals"]["completed"] == count
    assert set(runs) == set(ids)
    # What ran more often than once is what the dead held: two slots, ten, and one.
    assert 3 <= len(again) <= 13
    assert set(broken_off) <= {"crashed", "released"}
    assert all(runs[job["job_id"]] <= job["attempt"] for job in ended)
    assert {attempt["node"].split("-")[0] for job in again for attempt in job["attempts"][:-1]} >= {
        "http:bash",
        "http:javascript",
    }
    assert {"python", "bash", "javascript"} <= by.keys()


def kill(process: NodeProcess | asyncio.subprocess.Process) -> None:
    """The worker alone: its children have to see for themselves."""
    os.kill(process.pid, signal.SIGKILL)
