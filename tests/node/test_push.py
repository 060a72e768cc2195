"""A node that sends jobs to an HTTP endpoint, and tells a callback_url how a job ended, against a real server."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from standardwebhooks.webhooks import Webhook

from tests.node.node_process import NodeProcess, running

pytestmark = pytest.mark.process

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + "A" * 32


class Endpoint:
    """
    A server that verifies what it is sent, keeps it by the path, and answers with what `answers` has for the path.

    `gone` counts, by the path, the requests whose caller went away before the answer.
    """

    def __init__(self) -> None:
        self.port = 0
        self.messages: defaultdict[str, list[tuple[str, Any]]] = defaultdict(list)
        self.gone: defaultdict[str, int] = defaultdict(int)
        self.answers: dict[str, Callable[[int], Awaitable[web.Response]]] = {}
        self._news = asyncio.Condition()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    async def receive(self, request: web.Request) -> web.Response:
        path = request.path.strip("/")
        headers = dict(request.headers)
        message = Webhook(OTHER if path == "busy" else SECRET).verify(await request.read(), headers)
        async with self._news:
            self.messages[path].append((request.headers["webhook-id"], message))
            self._news.notify_all()
        try:
            return await self.answers[path](len(self.messages[path]))
        except asyncio.CancelledError:
            async with self._news:
                self.gone[path] += 1
                self._news.notify_all()
            raise

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30), self._news:
            await self._news.wait_for(condition)

    def answer(self, path: str, *answers: web.Response) -> None:
        """The n-th request gets the n-th answer, and the last one holds from then on."""

        async def choose(count: int) -> web.Response:
            chosen = answers[min(count, len(answers)) - 1]
            # One that was sent cannot be sent again.
            return web.Response(status=chosen.status, body=chosen.body, headers=chosen.headers)

        self.answers[path] = choose

    def hang(self, path: str) -> None:
        async def wait(count: int) -> web.Response:
            await asyncio.Event().wait()
            return web.Response()

        self.answers[path] = wait


@pytest.fixture
async def endpoint() -> AsyncIterator[Endpoint]:
    endpoint = Endpoint()
    app = web.Application()
    app.router.add_post("/{path}", endpoint.receive)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    endpoint.port = runner.addresses[0][1]
    yield endpoint
    await runner.cleanup()


@pytest.fixture
async def node(endpoint: Endpoint, tmp_path: Path) -> AsyncIterator[NodeProcess]:
    config = tmp_path / "node.toml"
    config.write_text(
        f"""
        [push]
        resize = "{endpoint.url("resize")}?token=s3cret"
        busy = {{ url = "{endpoint.url("busy")}", secret = "{OTHER}" }}
        wrong = "{endpoint.url("wrong")}"
        moved = "{endpoint.url("moved")}"
        silent = {{ url = "{endpoint.url("silent")}", timeout = "200ms" }}
        heavy = {{ url = "{endpoint.url("heavy")}", timeout = "1m", concurrency = 2 }}
        email = "{endpoint.url("email")}"
        """
    )
    async with running(
        f"--data-dir={tmp_path / 'data'}",
        f"--config={config}",
        "--handlers=userjobs",
        WEBHOOK_ALLOW="127.0.0.1",
        WEBHOOK_SECRET=SECRET,
        WORKER_RETRY_BASE="10ms",
    ) as node:
        yield node


async def test_endpoint_runs_the_job(node: NodeProcess, endpoint: Endpoint) -> None:
    """Its JSON is the result; a built-in type can be pushed as well, and the catalogue hides what may be secret."""
    endpoint.answer("resize", web.json_response({"width": 160}))
    endpoint.answer("email", web.Response(status=204))

    job = await node.submit("resize", {"source": "photo.jpg"}, group="shop-1", tags=["a"], max_retries=7)
    mail = await node.submit("email", {"of": "a shape of the endpoint's own"})
    ended = [await node.ended(each["job_id"]) for each in (job, mail)]
    _, catalogue = await node.request("GET", "/api/v1/handlers")

    assert [each["status"] for each in ended] == ["completed"] * 2, ended
    assert [each["result"] for each in ended] == [{"width": 160}, {"status": 204}]
    ((id, message),) = endpoint.messages["resize"]
    assert (id, message["type"]) == (job["job_id"], "job.run")
    assert message["data"] == {
        "job_id": job["job_id"],
        "type": "resize",
        "payload": {"source": "photo.jpg"},
        "attempt": 1,
        "max_retries": 7,
        "group": "shop-1",
        "tags": ["a"],
    }
    shown = {handler["type"]: handler for handler in catalogue["items"]}
    assert (shown["resize"]["mode"], shown["email"]["mode"], shown["math"]["mode"]) == ("push", "push", "thread")
    assert shown["resize"]["endpoint"] == f"http://127.0.0.1:{endpoint.port}"
    assert "s3cret" not in str(catalogue)


async def test_busy_endpoint_says_when(node: NodeProcess, endpoint: Endpoint) -> None:
    """The next run comes after Retry-After, where the retry policy would have waited 10 ms; its id is the same."""
    endpoint.answer("busy", web.Response(status=503, headers={"Retry-After": "1"}), web.json_response("done"))

    ended = await node.ended((await node.submit("busy"))["job_id"])

    assert (ended["status"], ended["attempt"], ended["result"]) == ("completed", 2, "done"), ended
    first, second = (datetime.fromisoformat(attempt["started_at"]) for attempt in ended["attempts"])
    assert (second - first).total_seconds() >= 1
    assert [id for id, _ in endpoint.messages["busy"]] == [ended["job_id"]] * 2
    assert [message["data"]["attempt"] for _, message in endpoint.messages["busy"]] == [1, 2]


async def test_refusals_end_the_job(node: NodeProcess, endpoint: Endpoint) -> None:
    """At its first attempt; a redirect is never followed."""
    endpoint.answer("wrong", web.Response(status=400, text="no such picture"))
    endpoint.answer("moved", web.Response(status=302, headers={"Location": endpoint.url("resize")}))

    wrong, moved = [await node.ended((await node.submit(type))["job_id"]) for type in ("wrong", "moved")]

    assert [(job["status"], job["attempt"]) for job in (wrong, moved)] == [("failed", 1)] * 2
    assert (wrong["error"]["code"], moved["error"]["code"]) == ("http-error", "redirect-refused")
    assert "no such picture" in wrong["error"]["message"]
    assert endpoint.messages["resize"] == []


async def test_silent_endpoint_has_the_time_of_the_type(node: NodeProcess, endpoint: Endpoint) -> None:
    """Then the request is broken off, and the job is tried again."""
    endpoint.hang("silent")

    ended = await node.ended((await node.submit("silent", max_retries=1))["job_id"])

    assert (ended["status"], ended["attempt"], ended["error"]["code"]) == ("failed", 2, "timeout")
    await endpoint.until(lambda: endpoint.gone["silent"] == 2)


async def test_cancel_aborts_the_request(node: NodeProcess, endpoint: Endpoint) -> None:
    """And no more of a type run at once than its concurrency."""
    endpoint.hang("heavy")

    jobs = [await node.submit("heavy") for _ in range(3)]
    await endpoint.until(lambda: len(endpoint.messages["heavy"]) == 2)
    running = {id for id, _ in endpoint.messages["heavy"]}
    assert len(running) == 2
    for job in jobs:
        await node.request("POST", f"/api/v1/jobs/{job['job_id']}/cancel")
    ended = [await node.ended(job["job_id"]) for job in jobs]

    assert {job["status"] for job in ended} == {"cancelled"}
    assert {id for id, _ in endpoint.messages["heavy"]} >= running
    await endpoint.until(lambda: endpoint.gone["heavy"] == len(endpoint.messages["heavy"]))


async def test_callback_is_told_of_the_end(node: NodeProcess, endpoint: Endpoint) -> None:
    """Of a completion and of a failure, as a job of its own, which is tried again when the receiver is out of order."""
    endpoint.answer("callback", web.Response(status=500), web.Response(status=200))
    math = {"operation": "is_prime", "n": 97}

    done = await node.submit("math", math, callback_url=endpoint.url("callback"))
    await endpoint.until(lambda: len(endpoint.messages["callback"]) == 2)
    hopeless = await node.submit("hopeless", callback_url=endpoint.url("callback"))
    await endpoint.until(lambda: len(endpoint.messages["callback"]) == 3)

    (first, told), (again, repeated), (_, failure) = endpoint.messages["callback"]
    completed, failed = [await node.ended(job["job_id"]) for job in (done, hopeless)]
    assert (first, told) == (again, repeated)
    assert told == {
        "type": "job.completed",
        "timestamp": completed["finished_at"],
        "data": {
            "job_id": done["job_id"],
            "type": "math",
            "status": "completed",
            "attempt": 1,
            "created_at": completed["created_at"],
            "finished_at": completed["finished_at"],
            "result": completed["result"],
            "error": None,
        },
    }
    assert (failure["type"], failure["data"]["job_id"]) == ("job.failed", hopeless["job_id"])
    assert failure["data"]["error"]["code"] == failed["error"]["code"] == "hopeless"
    callback = await node.ended(first)
    assert (callback["type"], callback["status"], callback["attempt"]) == ("job_callback", "completed", 2)
    assert callback["result"] == {"status": 200, "signed": True}


@pytest.mark.parametrize(
    ("type", "complaint"),
    [("resize", r"WEBHOOK_SECRET is not set.*openssl rand"), ("slow", r"has a handler, userjobs\.slow.*remove slow")],
)
async def test_node_that_could_not_push_does_not_start(tmp_path: Path, type: str, complaint: str) -> None:
    """It says what to do."""
    secret = "" if type == "resize" else SECRET
    node = NodeProcess(
        f"--data-dir={tmp_path / 'data'}",
        "--handlers=userjobs",
        GOPHER_PUSH=f"{type}=https://example.org/",
        WEBHOOK_SECRET=secret,
    )
    with pytest.raises(AssertionError, match=complaint):
        await node.start()
    assert await node.wait() != 0
