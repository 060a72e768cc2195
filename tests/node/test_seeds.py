"""What users of older systems do with a running node: their settings, their job types, and their workers outside."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gopher_node.job import State
from gopher_node.store import Connections, Store
from gopher_node.store.embedded import find_binary
from tests.conftest import server
from tests.node.node_process import HANDLERS, NodeProcess, running

pytestmark = pytest.mark.process

TYPES = {
    "email",
    "math",
    "image_resize",
    "image_processing",
    "data_export",
    "report",
    "backup",
    "sync",
    "cleanup",
    "default",
    "send_email",
    "process_payment",
    "send_webhook",
}


async def until(node: NodeProcess, path: str, condition: Callable[[Any], bool]) -> Any:
    """The first answer for which it holds."""
    async with asyncio.timeout(30):
        while True:
            status, answer = await node.request("GET", path)
            assert status == 200, answer
            if condition(answer):
                return answer


# Settings


def free_port(host: str) -> int:
    with socket.socket() as unused:
        unused.bind((host, 0))
        return unused.getsockname()[1]


async def test_the_whole_environment(valkey_url: str, namespace: str) -> None:
    """Every name at once, as it stood there; none is ignored, and the node listens and logs as it is told to."""
    host = "127.0.0.77"  # nobody else's
    port = free_port(host)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GOPHER_")}
    environment |= {
        "SERVER_PORT": str(port),
        "SERVER_HOST": host,
        "SERVER_READ_TIMEOUT": "10s",
        "SERVER_WRITE_TIMEOUT": "10s",
        "REDIS_URL": valkey_url,
        "REDIS_PASSWORD": "",
        "REDIS_DB": "0",
        "REDIS_TIMEOUT": "5s",
        "WORKER_CONCURRENCY": "5",
        "WORKER_POLL_INTERVAL": "1s",
        "WORKER_MAX_RETRIES": "4",
        "WORKER_SHUTDOWN_TIMEOUT": "30s",
        "WORKER_JOB_TIMEOUT": "5m",
        "LOG_LEVEL": "info",
        "LOG_FORMAT": "console",
        "GOPHER_NAMESPACE": namespace,
    }
    command = [sys.executable, "-m", "gopher_node.cli", "--role=all"]
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, cwd=HANDLERS, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    said = ""
    try:
        async with asyncio.timeout(30):
            while "node.started" not in said:
                line = (await process.stderr.readline()).decode()
                assert line, said
                said += line
        async with (
            aiohttp.ClientSession(f"http://{host}:{port}") as session,
            session.post("/api/jobs", json={"type": "unserved"}) as response,
        ):
            job = await response.json()
    finally:
        process.terminate()
        rest = (await process.communicate())[1].decode()

    assert (response.status, job["max_retries"]) == (201, 4)
    assert process.returncode == 0
    assert "ignored" not in said + rest
    assert "node.stopped" in rest
    assert not said.startswith("{")


CONCURRENCY = {"WORKER_CONCURRENCY": "5", "WORKER_NUM_WORKERS": "6", "WORKER_MAX_CONCURRENCY": "7"}


@pytest.mark.parametrize("name", CONCURRENCY)
@pytest.mark.parametrize("retries", ["WORKER_MAX_RETRIES", "WORKER_RETRY_ATTEMPTS"])
async def test_workers_and_retries(valkey_url: str, namespace: str, name: str, retries: str) -> None:
    """Each spelling decides how many workers there are, and how often a job is tried again."""
    environment = {name: CONCURRENCY[name], retries: "9"}
    async with running(REDIS_URL=valkey_url, GOPHER_NAMESPACE=namespace, **environment) as node:
        workers = await until(node, "/workers", lambda answer: bool(answer["items"]))
        job = await node.submit("unserved")

    assert workers["workers"] == int(CONCURRENCY[name])
    assert job["max_retries"] == 9


async def test_times_and_logs(valkey_url: str, namespace: str) -> None:
    """How long a run, a request and a shutdown may take; and the lines have the keys that programs look for."""

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(hang, "127.0.0.1", 0)
    payload = {"port": silent.sockets[0].getsockname()[1]}
    times = {"WORKER_JOB_TIMEOUT": "300ms", "WORKER_SHUTDOWN_TIMEOUT": "150ms", "SERVER_READ_TIMEOUT": "300ms"}
    async with running(
        "--handlers=userjobs",
        REDIS_URL=valkey_url,
        GOPHER_NAMESPACE=namespace,
        WORKER_MAX_RETRIES="0",
        LOG_LEVEL="debug",
        **times,
    ) as node:
        late = await node.ended((await node.submit("trace", payload))["job_id"])
        done = await node.ended((await node.submit("default"))["job_id"])
        reader, writer = await asyncio.open_connection("127.0.0.1", int(node.url.rpartition(":")[2]))
        writer.write(b"POST /jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
        writer.write(b"Content-Length: 9\r\n\r\n{")
        answer = await asyncio.wait_for(reader.read(), 8)
        writer.close()
        assert await node.stop() == 0
    silent.close()

    assert (late["status"], late["error"]["code"]) == ("failed", "timeout")
    assert b" 408 " in answer.splitlines()[0]
    lines = [line for line in node.log if line.get("job_id") == done["job_id"] and "duration" in line]
    assert lines
    assert {"level", "msg", "worker_id", "job_id", "duration", "time"} <= lines[0].keys()
    assert [line["grace"] for line in node.log if line["msg"] == "node.stopping"] == [0.15]
    assert any(line["level"] == "debug" for line in node.log if "level" in line)


@pytest.fixture
def guarded_store() -> Iterator[str]:
    """The address of a server that wants a password."""
    with server(str(find_binary()), "--requirepass", "open-sesame") as url:
        yield url


async def test_the_stores_password_and_database(guarded_store: str, namespace: str) -> None:
    """They need not stand in the address."""
    settings = {"REDIS_URL": guarded_store, "REDIS_PASSWORD": "open-sesame", "REDIS_DB": "3"}
    async with running("--role=api", GOPHER_NAMESPACE=namespace, **settings) as node:
        job = await node.submit("unserved")
        address = guarded_store.replace("unix://", "unix://:open-sesame@") + "?db=3"
        store = Store(Connections(address), namespace=namespace)
        try:
            await store.open()
            assert (await store.get(job["job_id"])).state is State.ENQUEUED
        finally:
            await store.close()


# Nodes


async def test_roles(valkey_url: str, namespace: str) -> None:
    """An api node takes jobs and has no worker, a worker node runs them and answers probes; each tells of itself."""
    shared = {"REDIS_URL": valkey_url, "GOPHER_NAMESPACE": namespace}
    async with running("--role=api", **shared) as api:
        async with running("--role=worker", "--concurrency=3", **shared) as worker:
            nodes = await until(api, "/api/v1/nodes", lambda answer: len(answer["items"]) == 2)
            job = await api.ended((await api.submit("default", [1]))["job_id"])
            workers = (await api.request("GET", "/workers"))[1]
            handlers = (await api.request("GET", "/api/v1/handlers"))[1]["items"]
            queue = (await api.request("GET", "/api/v1/queues/default"))[1]
            health = [(await node.request("GET", "/health"))[0] for node in (api, worker)]
            refused = (await worker.request("GET", "/workers"))[0]
            me = (await api.request("GET", "/stats"))[1]["node"]["id"]
        left = (await api.request("GET", "/api/v1/nodes"))[1]["items"]
        gone = [node["id"] for node in nodes["items"] if node["id"] != me]
        status, _ = await api.request("GET", f"/api/v1/nodes/{gone[0]}")

    by_role = {node["role"]: node for node in nodes["items"]}
    assert (by_role["api"]["id"], by_role["api"]["slots"], by_role["api"]["types"]) == (me, 0, [])
    assert (by_role["worker"]["id"], by_role["worker"]["slots"]) == (gone[0], 3)
    assert (by_role["worker"]["pid"], by_role["worker"]["url"]) == (worker.pid, worker.url)
    assert (job["status"], job["node"]) == ("completed", gone[0])
    assert workers["workers"] == 3
    assert [(item["name"], item["kind"]) for item in workers["items"]] == [(gone[0], "node")]
    assert [(handler["type"], handler["nodes"]) for handler in handlers] == [
        (type, gone) for type in by_role["worker"]["types"]
    ]
    assert queue["served_by"] == 1
    assert (health, refused) == ([200, 200], 404)
    assert ([node["id"] for node in left], status) == ([me], 404)


async def test_every_job_type_is_served(valkey_url: str, namespace: str, tmp_path: Path) -> None:
    """Of all three systems; and the calls of the second one bring real work about."""
    async with running(f"--data-dir={tmp_path}", REDIS_URL=valkey_url, GOPHER_NAMESPACE=namespace) as node:
        (me,) = (await until(node, "/api/v1/nodes", lambda answer: bool(answer["items"])))["items"]
        handlers = (await node.request("GET", "/api/v1/handlers"))[1]["items"]
        mail = {"to": "ann@example.org", "subject": "hello", "body": "there"}
        ended: dict[str, Any] = {}
        bare = ["", *(f"type={type}" for type in ("cleanup", "backup", "sync", "email", "report", "default"))]
        for query, payload in {**dict.fromkeys(bare), "type=email&priority=high": mail}.items():
            body = {} if payload is None else {"json": payload}
            status, answer = await node.request("POST", f"/jobs?{query}", **body)
            assert (status, answer["status"]) == (201, "submitted"), answer
            ended[query] = await node.ended(answer["job_id"])
        stats = (await node.request("GET", "/stats"))[1]

    assert {handler["type"] for handler in handlers if handler["nodes"] == [me["id"]]} >= TYPES
    assert all(handler["description"] for handler in handlers)
    assert {job["status"] for job in ended.values()} == {"completed"}, ended
    assert len(written(tmp_path)) == 2
    assert (stats["jobs_submitted"], stats["jobs_completed"], stats["queue_size"]) == (8, 8, 0)


def written(folder: Path) -> list[Path]:
    """The mails that were written for want of a mail server."""
    return list(folder.rglob("*.eml"))


# Workers outside


class OldWorker:
    """
    One that knows only the old calls: it lists a queue, sets a job running, and says how that went.

    Of each ten jobs, the third is broken for good, and the fifth and the seventh succeed at their second try.
    """

    def __init__(self, url: str, results: Counter[str]) -> None:
        self.url = url
        self.results = results
        self.refused = 0

    async def work(self, queue: str) -> None:
        """Until all jobs of the queue have ended."""
        async with aiohttp.ClientSession(self.url) as session:
            while True:
                async with session.get("/jobs", params={"queue": queue, "limit": "200"}) as response:
                    jobs = (await response.json())["items"]
                if all(job["status"] in ("completed", "failed") for job in jobs):
                    return
                for job in jobs:
                    if job["status"] == "enqueued":
                        await self._try(session, job["job_id"])

    async def _try(self, session: aiohttp.ClientSession, job_id: str) -> None:
        async with session.put(f"/jobs/{job_id}/status", json={"status": "running"}) as response:
            job = await response.json()
        if response.status != 200:
            assert (response.status, job["type"]) == (409, "/problems/invalid-state"), job
            self.refused += 1
            return
        kind, first = job["payload"]["n"] % 10, job["errors"] == 0
        if kind == 3:
            calls = [("PUT", "status", {"status": "failed", "error": "broken"})]
        elif kind in (5, 7) and first:
            calls = [("POST", "increment", None), ("PUT", "status", {"status": "queued"})]
        else:
            calls = [("POST", "save", {"result": {"square": job["payload"]["n"] ** 2}})]
            self.results[job_id] += 1
        for method, verb, body in calls:
            async with session.request(method, f"/jobs/{job_id}/{verb}", json=body) as response:
                assert response.status == 200, await response.json()


async def test_workers_that_know_only_the_old_calls(valkey_url: str, namespace: str) -> None:
    """Two of them work off fifty jobs beside a node that serves other types; each job ends once and as it should."""
    results: Counter[str] = Counter()
    async with running(REDIS_URL=valkey_url, GOPHER_NAMESPACE=namespace) as node:
        ids: list[str] = []
        for n in range(50):
            status, job = await node.request("POST", "/jobs/create", json={"queue": "orders", "payload": {"n": n}})
            assert (status, job["status"]) == (201, "enqueued")
            ids.append(job["job_id"])
            await node.submit("default", n)
        workers = [OldWorker(node.url, results) for _ in range(2)]
        async with asyncio.timeout(50):
            await asyncio.gather(*(worker.work("orders") for worker in workers))
        orders = {job["job_id"]: job for job in await node.jobs(type="orders")}
        own = await node.jobs(type="default")
        for job in own:
            await node.ended(job["job_id"])
        stats = (await node.request("GET", "/stats"))[1]
        (http,) = [item for item in (await node.request("GET", "/workers"))[1]["items"] if item["kind"] == "http"]

    for n, job_id in enumerate(ids):
        job = orders[job_id]
        broken, second = n % 10 == 3, n % 10 in (5, 7)
        assert (job["status"], job["result"]) == (("failed", None) if broken else ("completed", {"square": n**2}))
        assert (job["attempt"], job["errors"]) == ((2, 1) if second else (1, 1 if broken else 0))
        assert results[job_id] == (0 if broken else 1)
    assert len(own) == 50
    assert (stats["jobs_submitted"], stats["jobs_completed"], stats["jobs_failed"]) == (100, 95, 5)
    assert (http["claimed"], http["completed"], http["failed"], http["running"]) == (60, 45, 5, 0)
