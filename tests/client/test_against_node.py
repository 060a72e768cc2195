"""Both clients against a real node: what they send is what the API takes, and what it answers is what they read."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gopher_node.client import InvalidRequest, InvalidState, JobFailed, JobNotFound
from gopher_node.job import Priority, State

pytestmark = pytest.mark.process


@pytest.fixture
def client(connect: Any, node_url: str) -> Any:
    return connect(node_url)


@pytest.fixture
def queue() -> str:
    """A job type that nobody serves and no other test uses."""
    return f"unserved-{uuid.uuid4().hex[:12]}"


async def test_a_job_is_submitted_waited_for_and_deleted(client: Any) -> None:
    """The way of a job that completes."""
    job = await client.submit("echo", {"sum": [1, 2.5, "ä"]}, tags=["a"], priority="urgent")
    ended = await client.wait(job.job_id, timeout="30s")

    assert job.status in (State.ENQUEUED, State.PROCESSING)
    assert ended.status is State.COMPLETED
    assert ended.result == {"sum": [1, 2.5, "ä"]}
    assert (ended.priority, ended.tags, ended.attempt) == (Priority.URGENT, ("a",), 1)
    assert ended.created_at <= ended.started_at <= ended.finished_at
    await client.delete(job.job_id)
    with pytest.raises(JobNotFound):
        await client.get(job.job_id)


async def test_every_option_is_taken(client: Any, queue: str) -> None:
    """The node stores each option as it was meant."""
    due = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)

    job = await client.submit(
        queue,
        [1],
        priority=Priority.LOW,
        max_retries=9,
        execute_at=due,
        group="acme",
        timeout=timedelta(seconds=90),
        tags=("x", "y"),
        retention="2d",
    )

    assert job.status is State.SCHEDULED
    assert job.execute_at == due
    assert (job.payload, job.priority, job.max_retries, job.group) == ([1], Priority.LOW, 9, "acme")
    assert (job.timeout, job.retention, job.tags) == (90.0, 172800.0, ("x", "y"))


async def test_many_are_submitted_at_once_or_not_at_all(client: Any, queue: str) -> None:
    """A batch is atomic; its faults say which job is meant."""
    jobs = await client.submit_many([{"type": queue, "payload": {"n": n}, "delay": "1h"} for n in range(3)])

    assert [job.payload for job in jobs] == [{"n": 0}, {"n": 1}, {"n": 2}]
    with pytest.raises(InvalidRequest) as caught:
        await client.submit_many([{"type": queue}, {"type": "no type"}])
    assert [fault.pointer for fault in caught.value.errors] == ["/1/type"]
    assert len(await client.list(type=queue)) == 3


async def test_jobs_are_listed_by_what_they_are(client: Any, queue: str) -> None:
    """Every filter is one that the API knows."""
    before = datetime.now(UTC) - timedelta(minutes=5)
    await client.submit_many(
        [
            {"type": queue, "priority": "high", "group": "a", "tags": ["red"]},
            {"type": queue, "priority": "low", "group": "b", "tags": ["blue"]},
            {"type": queue, "delay": "1h"},
        ]
    )

    async def count(**filters: Any) -> int:
        return len(await client.list(type=queue, **filters))

    assert await count() == 3
    assert await count(limit=2) == 2
    assert await count(status=State.SCHEDULED) == 1
    assert await count(status=[State.SCHEDULED, "enqueued"]) == 3
    assert await count(priority=Priority.HIGH) == 1
    assert await count(group="b") == 1
    assert await count(tag="red") == 1
    assert await count(created_after=before) == 3
    assert await count(created_before=before) == 0


async def test_a_long_list_is_read_over_its_pages(client: Any, queue: str) -> None:
    """More jobs than a page holds are all found, each once."""
    jobs = await client.submit_many([{"type": queue, "delay": "1h"}] * 450)

    found = [job.job_id for job in await client.list(type=queue)]

    assert len(found) == 450
    assert set(found) == {job.job_id for job in jobs}


async def test_failed_jobs_run_again(client: Any) -> None:
    """The dead letters are listed with their error; one or all of a type are retried."""
    job = await client.submit("broken", {"reason": "worn"})
    with pytest.raises(JobFailed) as caught:
        await client.wait(job.job_id, timeout=30)
    failed = await client.wait(job.job_id, timeout=30, check=False)
    assert caught.value.job == failed

    assert failed.status is State.FAILED
    assert failed.error["code"] == "broken-part"
    assert job.job_id in [letter.job_id for letter in await client.dead_letters("broken")]
    assert (await client.retry(job.job_id)).attempts
    assert (await client.wait(job.job_id, timeout=30, check=False)).status is State.FAILED
    assert await client.retry_all("broken") >= 1


async def test_a_waiting_job_is_cancelled(client: Any, queue: str) -> None:
    """What its state does not allow is refused with that state."""
    job = await client.submit(queue)

    with pytest.raises(InvalidState) as caught:
        await client.retry(job.job_id)
    assert caught.value.state == "enqueued"
    assert (await client.cancel(job.job_id)).status is State.CANCELLED


async def test_a_queue_is_emptied(client: Any, queue: str) -> None:
    """One level, or all of it."""
    await client.submit_many([{"type": queue, "priority": level} for level in ("high", "low", "low")])

    assert await client.purge(queue, priority=Priority.HIGH) == 1
    assert await client.purge(queue) == 2


async def test_the_node_tells_of_itself(client: Any, queue: str) -> None:
    """Statistics, handlers and health are read whole."""
    await client.submit(queue, priority="high")

    stats = await client.stats()
    handlers = {handler.type: handler for handler in await client.handlers()}
    health = await client.health()

    assert next(each for each in stats.queues if each.type == queue).depth["high"] == 1
    assert stats.jobs_submitted >= 1
    assert stats.uptime > 0
    assert stats.node["role"] == "all"
    assert {"math", "email", "echo"} <= handlers.keys()
    assert "reason" in handlers["broken"].payload_schema["properties"]
    assert health.status == "healthy"
    assert health.timestamp is not None
