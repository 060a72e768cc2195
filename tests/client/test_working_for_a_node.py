"""Both clients against a real node, as workers: claim, heartbeat, and settle in each way."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from gopher_node.client import InvalidState, JobView, LeaseLost, LeaseNotFound, LeaseView
from gopher_node.job import State

pytestmark = pytest.mark.process


@pytest.fixture
def client(connect: Any, node_url: str) -> Any:
    return connect(node_url)


@pytest.fixture
def queue() -> str:
    """A job type that only this test's worker serves."""
    return f"pulled-{uuid.uuid4().hex[:12]}"


async def claim(client: Any, queue: str, **options: Any) -> LeaseView:
    (lease,) = await client.lease(queue, wait="10s", **options)
    return lease


async def submit(client: Any, queue: str, **options: Any) -> JobView:
    return await client.submit(queue, {"n": 1}, **options)


async def test_a_job_is_run_by_a_worker_of_ones_own(client: Any, queue: str) -> None:
    """Claimed, kept, completed with a result and what follows from it; told twice, it is the same answer."""
    job = await submit(client, queue)

    lease = await claim(client, queue, lease="20s", worker="tester")
    beat = await client.heartbeat(lease.token, progress={"done": 0.5}, lease="60s")
    running = await client.get(job.job_id)
    done = await client.complete(lease.token, {"sum": 3}, follow_ups=[{"type": queue, "payload": {"n": 2}}])
    again = await client.complete(lease.token, {"sum": 3}, follow_ups=[{"type": queue, "payload": {"n": 2}}])

    assert (lease.job.job_id, lease.job.payload, lease.job.attempt) == (job.job_id, {"n": 1}, 1)
    assert beat.lease_expires_at > lease.lease_expires_at
    assert not beat.cancel_requested
    assert (running.status, running.progress) == (State.PROCESSING, {"done": 0.5})
    assert (done.job_id, done.status) == (job.job_id, State.COMPLETED)
    assert again.raw == done.raw
    assert (await client.get(job.job_id)).result == {"sum": 3}
    assert (await client.get(done.follow_ups[0])).payload == {"n": 2}


async def test_nothing_comes_where_nothing_is(client: Any, queue: str) -> None:
    """No jobs are no error."""
    assert await client.lease([queue], wait="50ms") == ()


async def test_several_jobs_are_claimed_at_once(client: Any, queue: str) -> None:
    """At most as many as are asked for."""
    await client.submit_many([{"type": queue}] * 3)

    leases = await client.lease([queue], max_jobs=2, wait="10s")

    assert len(leases) == 2
    for lease in leases:
        assert (await client.release(lease.token)).status is State.ENQUEUED


async def test_a_run_that_failed_is_tried_again_or_not(client: Any, queue: str) -> None:
    """After the time that the worker asks for, and not at all if that has no sense."""
    job = await submit(client, queue)
    lease = await claim(client, queue)

    waiting = await client.fail(lease.token, "no paper", code="empty", retry_after="1h")
    await client.run_now(job.job_id)
    second = await claim(client, queue)
    ended = await client.fail(second.token, ValueError("no ink"), retryable=False)
    found = await client.get(job.job_id)

    assert waiting.status is State.SCHEDULED
    assert waiting.execute_at is not None
    assert ended.status is State.FAILED
    assert found.error["type"] == "ValueError"
    assert [attempt["error"]["message"] for attempt in found.attempts] == ["no paper", "no ink"]
    assert found.attempts[0]["error"]["code"] == "empty"


async def test_who_does_not_hold_the_job_does_not_settle_it(client: Any, queue: str) -> None:
    """A released lease is over, a settled one is settled, and what is no token is none."""
    job = await submit(client, queue)
    lease = await claim(client, queue)
    await client.release(lease.token)
    second = await claim(client, queue)

    with pytest.raises(LeaseLost):
        await client.heartbeat(lease.token)
    with pytest.raises((LeaseLost, InvalidState)):
        await client.complete(lease.token, 1)
    with pytest.raises(LeaseNotFound):
        await client.complete("no-token", 1)
    await client.complete(second.token, 2)
    with pytest.raises(InvalidState) as caught:
        await client.fail(second.token, "too late", retryable=False)
    assert caught.value.state == "completed"
    assert (await client.get(job.job_id)).result == 2


async def test_a_worker_learns_of_a_cancel(client: Any, queue: str) -> None:
    """With its next heartbeat; releasing the job then ends it."""
    job = await submit(client, queue)
    lease = await claim(client, queue)
    await client.cancel(job.job_id)

    beat = await client.heartbeat(lease.token)
    ended = await client.release(lease.token)

    assert beat.cancel_requested
    assert ended.status is State.CANCELLED
