"""One node, started as a user starts it: jobs of every kind run to their end."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from email import message_from_bytes
from pathlib import Path

import pytest
from aiohttp import web
from PIL import Image

from tests.node.node_process import NodeProcess, running

pytestmark = pytest.mark.process


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[NodeProcess]:
    async with running(
        f"--data-dir={tmp_path / 'data'}", "--handlers=userjobs", WEBHOOK_ALLOW="127.0.0.1", WEBHOOK_SECRET="whsec_c2VjcmV0"
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

    assert ["completed"] * 3 == [job["status"] for job in ended], ended
    assert 12586269025 == ended[0]["result"]["result"]
    (letter,) = (tmp_path / "data" / "outbox").glob("*.eml")
    assert "Hello" == message_from_bytes(letter.read_bytes())["Subject"]
    with Image.open(pictures / "small.jpg") as small:
        assert (160, 120) == small.size


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

    assert "completed" == ended["status"], ended
    assert 2 == ended["attempt"]
    assert ['{"order":7}'] * 2 == [body for body, _ in received]
    headers = {name.lower(): value for name, value in received[1][1].items()}
    assert job["job_id"] == headers["webhook-id"]
    assert headers["webhook-signature"].startswith("v1,")


async def test_job_that_fails_twice_succeeds(node: NodeProcess) -> None:
    """Each failed attempt is on record, with its error."""
    job = await node.submit("flaky", {"fails": 2})
    ended = await node.ended(job["job_id"])

    assert ("completed", 3, 2, 3) == (ended["status"], ended["attempt"], ended["errors"], ended["result"])
    assert ["not yet: 1", "not yet: 2"] == [attempt["error"]["message"] for attempt in ended["attempts"][:2]]


async def test_dead_letter_is_retried_after_the_cure(node: NodeProcess, tmp_path: Path) -> None:
    """A job whose retries are used up stays with every attempt's error until an operator retries it."""
    cure = tmp_path / "cure"
    job = await node.submit("fixable", {"cure": str(cure)})
    failed = await node.ended(job["job_id"])
    _, letters = await node.request("GET", "/api/v1/dead-letters")
    cure.touch()
    status, _ = await node.request("POST", f"/api/v1/jobs/{job['job_id']}/retry")
    cured = await node.ended(job["job_id"])

    assert ("failed", 3) == (failed["status"], failed["errors"])
    assert ["there is no cure yet"] * 3 == [attempt["error"]["message"] for attempt in failed["attempts"]]
    assert [job["job_id"]] == [letter["job_id"] for letter in letters["items"]]
    assert 200 == status
    assert ("completed", "cured") == (cured["status"], cured["result"])


async def test_permanent_failure_is_not_retried(node: NodeProcess) -> None:
    """Fail ends a job at its first attempt."""
    ended = await node.ended((await node.submit("hopeless"))["job_id"])

    assert ("failed", 1, "hopeless") == (ended["status"], ended["attempt"], ended["error"]["code"])


async def test_follow_ups_come_with_the_completion(node: NodeProcess, tmp_path: Path) -> None:
    """An order's items become jobs of their own, each once."""
    trace = tmp_path / "trace"
    await node.ended((await node.submit("order", {"path": str(trace), "items": 20}))["job_id"])
    followers = [await node.ended(job["job_id"]) for job in await node.jobs(type="trace")]

    assert sorted(f"item {n}" for n in range(20)) == sorted(job["result"] for job in followers)
    assert 20 == len(trace.read_text().splitlines())


async def test_type_that_nobody_serves_waits(node: NodeProcess) -> None:
    """A job of an unknown type is accepted, stays visible, and blocks nobody."""
    unserved = [await node.submit(f"unserved{n}") for n in range(17)]
    done = await node.ended((await node.submit("math", {"operation": "is_prime", "n": 97}))["job_id"])
    _, job = await node.request("GET", f"/api/v1/jobs/{unserved[0]['job_id']}")

    assert "completed" == done["status"]
    assert "enqueued" == job["status"]


async def test_bulk_and_purge(node: NodeProcess) -> None:
    """Jobs of one request are all stored, and a queue can be emptied."""
    status, answer = await node.request(
        "POST", "/api/v1/jobs/bulk", json=[{"type": "nobody", "delay": "1h" if n % 2 else 0} for n in range(500)]
    )
    _, purged = await node.request("POST", "/api/v1/queues/nobody/purge")

    assert (201, 500) == (status, len(answer["items"]))
    assert {"purged": 500} == purged
    assert [] == await node.jobs(type="nobody")


async def test_a_thousand_jobs_over_http(node: NodeProcess, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All complete, none runs twice; how fast that went is printed."""
    trace = tmp_path / "trace"
    began = time.perf_counter()
    gate = asyncio.Semaphore(50)

    async def submit_one() -> str:
        async with gate:
            return (await node.submit("trace", {"path": str(trace)}))["job_id"]

    ids = await asyncio.gather(*[submit_one() for _ in range(1000)])
    await asyncio.gather(*[node.ended(id) for id in ids])
    seconds = time.perf_counter() - began
    with capsys.disabled():
        print(f"\n1,000 jobs over HTTP, each submitted and awaited alone: {1000 / seconds:,.0f} jobs/s")  # noqa: T201

    assert Counter(ids) == Counter(trace.read_text().splitlines())
    assert {"completed"} == {job["status"] for job in await node.jobs(type="trace")}


async def test_scheduled_job_runs_at_its_time(node: NodeProcess) -> None:
    """A delay is kept to within tens of milliseconds."""
    job = await node.submit("math", {"operation": "is_prime", "n": 7}, delay="300ms")
    ended = await node.ended(job["job_id"])

    assert "scheduled" == job["status"]
    due, started = (_seconds(ended[name]) for name in ("execute_at", "started_at"))
    assert 0 <= started - due < 0.25


def _seconds(text: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(text).timestamp()
