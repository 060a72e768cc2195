"""One node, started as a user starts it: jobs of every kind run to their end."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from datetime import datetime
from email import message_from_bytes
from pathlib import Path

import pytest
from aiohttp import web
from PIL import Image

from tests.node.conductor import conducting
from tests.node.node_process import NodeProcess, running

pytestmark = pytest.mark.process


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[NodeProcess]:
    async with running(
        f"--data-dir={tmp_path / 'data'}",
        "--handlers=userjobs",
        WEBHOOK_ALLOW="127.0.0.1",
        WEBHOOK_SECRET="whsec_" + "A" * 32,
    ) as node:
        yield node


async def test_built_in_handlers_do_real_work(node: NodeProcess, tmp_path: Path) -> None:
    """math computes, email is written where no mail server is set, a picture gets smaller."""
    pictures = tmp_path / "data" / "files"
    pictures.mkdir(parents=True, exist_ok=True)
    Image.effect_noise((640, 480), 60).save(pictures / "photo.jpg")

    fibonacci = await node.submit("math", {"operation": "fibonacci", "n": 50})
    mail = await node.submit("email", {"to": "ada@example.com", "subject": "Hello", "body": "It works."})
    picture = await node.submit("image_resize", {"source": "photo.jpg", "width": 160, "destination": "small.jpg"})
    ended = [await node.ended(job["job_id"]) for job in (fibonacci, mail, picture)]

    assert [job["status"] for job in ended] == ["completed"] * 3, ended
    assert ended[0]["result"]["result"] == 12586269025
    (letter,) = (tmp_path / "data" / "outbox").glob("*.eml")
    assert message_from_bytes(letter.read_bytes())["Subject"] == "Hello"
    with Image.open(pictures / "small.jpg") as small:
        assert small.size == (160, 120)


async def test_webhook_is_really_delivered(node: NodeProcess) -> None:
    """A signed request reaches a real server; a refusal that may pass is tried again."""
    received: list[tuple[str, dict[str, str]]] = []

    async def receive(request: web.Request) -> web.Response:
        received.append((await request.text(), dict(request.headers)))
        return web.Response(status=503 if len(received) == 1 else 200, text="thanks", headers={"Retry-After": "0"})

    app = web.Application()
    app.router.add_post("/hook", receive)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        job = await node.submit("webhook", {"url": f"http://127.0.0.1:{port}/hook", "body": {"order": 7}})
        ended = await node.ended(job["job_id"])
    finally:
        await runner.cleanup()

    assert ended["status"] == "completed", ended
    assert ended["attempt"] == 2
    assert [body for body, _ in received] == ['{"order":7}'] * 2
    headers = {name.lower(): value for name, value in received[1][1].items()}
    assert job["job_id"] == headers["webhook-id"]
    assert headers["webhook-signature"].startswith("v1,")


async def test_job_that_fails_twice_succeeds(node: NodeProcess) -> None:
    """Each failed attempt is on record, with its error."""
    job = await node.submit("flaky", {"fails": 2})
    ended = await node.ended(job["job_id"])

    assert (ended["status"], ended["attempt"], ended["errors"], ended["result"]) == ("completed", 3, 2, 3)
    assert [attempt["error"]["message"] for attempt in ended["attempts"][:2]] == ["not yet: 1", "not yet: 2"]


async def test_dead_letter_is_retried_after_the_cure(node: NodeProcess, tmp_path: Path) -> None:
    """A job whose retries are used up stays with every attempt's error until an operator retries it."""
    cure = tmp_path / "cure"
    job = await node.submit("fixable", {"cure": str(cure)})
    failed = await node.ended(job["job_id"])
    _, letters = await node.request("GET", "/api/v1/dead-letters")
    cure.touch()
    status, _ = await node.request("POST", f"/api/v1/jobs/{job['job_id']}/retry")
    cured = await node.ended(job["job_id"])

    assert (failed["status"], failed["errors"]) == ("failed", 3)
    assert [attempt["error"]["message"] for attempt in failed["attempts"]] == ["there is no cure yet"] * 3
    assert [job["job_id"]] == [letter["job_id"] for letter in letters["items"]]
    assert status == 200
    assert (cured["status"], cured["result"]) == ("completed", "cured")


async def test_permanent_failure_is_not_retried(node: NodeProcess) -> None:
    """Fail ends a job at its first attempt."""
    ended = await node.ended((await node.submit("hopeless"))["job_id"])

    assert (ended["status"], ended["attempt"], ended["error"]["code"]) == ("failed", 1, "hopeless")


async def test_follow_ups_come_with_the_completion(node: NodeProcess) -> None:
    """An order's items become jobs of their own, each once."""
    async with conducting() as conductor:
        await node.ended((await node.submit("order", {"port": conductor.port, "items": 20}))["job_id"])
        followers = [await node.ended(job["job_id"]) for job in await node.jobs(type="trace")]

    assert sorted(job["result"] for job in followers) == sorted(f"item {n}" for n in range(20))
    assert conductor.runs == Counter(job["job_id"] for job in followers)


async def test_type_that_nobody_serves_waits(node: NodeProcess) -> None:
    """A job of an unknown type is accepted, stays visible, and blocks nobody."""
    unserved = [await node.submit(f"unserved{n}") for n in range(17)]
    done = await node.ended((await node.submit("math", {"operation": "is_prime", "n": 97}))["job_id"])
    _, job = await node.request("GET", f"/api/v1/jobs/{unserved[0]['job_id']}")

    assert done["status"] == "completed"
    assert job["status"] == "enqueued"


async def test_bulk_and_purge(node: NodeProcess) -> None:
    """Jobs of one request are all stored, and a queue can be emptied."""
    status, answer = await node.request(
        "POST", "/api/v1/jobs/bulk", json=[{"type": "nobody", "delay": "1h" if n % 2 else 0} for n in range(500)]
    )
    _, purged = await node.request("POST", "/api/v1/queues/nobody/purge")

    assert (status, len(answer["items"])) == (201, 500)
    assert purged == {"purged": 500}
    assert await node.jobs(type="nobody") == []


async def test_a_thousand_jobs_over_http(node: NodeProcess, capsys: pytest.CaptureFixture[str]) -> None:
    """All complete, none runs twice; how fast that went is printed."""
    gate = asyncio.Semaphore(50)

    async def submit_one(port: int) -> str:
        async with gate:
            return (await node.submit("trace", {"port": port}))["job_id"]

    async with conducting() as conductor:
        began = time.perf_counter()
        ids = await asyncio.gather(*[submit_one(conductor.port) for _ in range(1000)])
        await asyncio.gather(*[node.ended(id) for id in ids])
        seconds = time.perf_counter() - began
    with capsys.disabled():
        print(f"\n1,000 jobs over HTTP, each submitted and awaited alone: {1000 / seconds:,.0f} jobs/s")  # noqa: T201

    assert conductor.runs == Counter(ids)
    assert {job["status"] for job in await node.jobs(type="trace")} == {"completed"}


async def test_scheduled_job_runs_at_its_time(node: NodeProcess) -> None:
    """A delay is kept to within tens of milliseconds."""
    job = await node.submit("math", {"operation": "is_prime", "n": 7}, delay="300ms")
    ended = await node.ended(job["job_id"])

    assert job["status"] == "scheduled"
    due, started = (datetime.fromisoformat(ended[name]).timestamp() for name in ("execute_at", "started_at"))
    assert 0 <= started - due < 0.25
