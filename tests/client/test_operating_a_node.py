"""Both clients against a real node, as operators: acts on one job and on many, following, keys, nodes and queues."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gopher_node.client import (
    ApiError,
    AsyncClient,
    Client,
    Forbidden,
    JobExists,
    JobNotFound,
    NodeNotFound,
    NotFound,
    QueueNotFound,
    RateLimited,
    Unauthenticated,
)
from gopher_node.job import Priority, State
from tests.cli.processes import running_node
from tests.client.test_clients import ASKED

pytestmark = pytest.mark.process


@pytest.fixture
def client(connect: Any, node_url: str) -> Any:
    return connect(node_url)


@pytest.fixture
def queue() -> str:
    """A job type that nobody serves and no other test uses."""
    return f"unserved-{uuid.uuid4().hex[:12]}"


async def test_an_id_of_ones_own_is_used_once(client: Any, queue: str) -> None:
    """A second submit with it is refused, and names the state of the first."""
    job_id = uuid.uuid4()

    assert (await client.submit(queue, job_id=job_id)).job_id == str(job_id)
    with pytest.raises(JobExists) as caught:
        await client.submit(queue, job_id=str(job_id))
    assert caught.value.state == "enqueued"


async def test_a_submit_of_ones_own_key_is_one_submit(client: Any, queue: str) -> None:
    """A program that repeats itself gets the first answer."""
    key = uuid.uuid4().hex

    first = await client.submit(queue, {"n": 1}, idempotency_key=key)
    again = await client.submit(queue, {"n": 1}, idempotency_key=key)
    many = [await client.submit_many([{"type": queue}] * 3, idempotency_key=f"{key}-many") for _ in range(2)]

    assert again.raw == first.raw
    assert [job.job_id for job in many[0]] == [job.job_id for job in many[1]]
    assert len(await client.list(type=queue)) == 4


async def test_many_jobs_are_submitted_with_a_result_for_each(client: Any, queue: str) -> None:
    """More than a batch takes; those that are refused cost nobody else."""
    taken = await client.submit(queue)
    jobs: list[Any] = [{"type": queue, "payload": {"n": n}, "delay": "1h"} for n in range(1200)]
    jobs[7] = {"type": "no type"}
    jobs[1100] = {"type": queue, "job_id": taken.job_id}

    results = await client.submit_all(jobs)

    assert [result.index for result in results if not result.ok] == [7, 1100]
    assert [fault.pointer for fault in results[7].error.errors] == ["/type"]
    assert isinstance(results[1100].error, JobExists)
    assert results[1100].error.state == "enqueued"
    assert results[1199].job.payload == {"n": 1199}
    assert len(await client.list(type=queue, status="scheduled")) == 1198


async def test_a_job_is_followed_to_its_end(client: Any) -> None:
    """From how it is to how it ended."""
    job = await client.submit("echo", {"a": 1}, delay="200ms")

    seen = await client.events(job.job_id)

    assert seen[0].status in (State.SCHEDULED, State.ENQUEUED, State.PROCESSING)
    assert seen[-1].status is State.COMPLETED
    assert seen[-1].result == {"a": 1}
    with pytest.raises(JobNotFound):
        await client.events(str(uuid.uuid4()))


async def test_a_waiting_job_is_edited(client: Any, queue: str) -> None:
    """Its priority, and when it is due."""
    job = await client.submit(queue, delay="1h")
    due = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)

    assert (await client.edit(job.job_id, priority=Priority.LOW)).priority is Priority.LOW
    assert (await client.edit(job.job_id, execute_at=due)).execute_at == due
    assert (await client.edit(job.job_id, delay=timedelta(minutes=5))).execute_at < due
    assert (await client.run_now(job.job_id)).status is State.ENQUEUED


async def test_many_are_acted_on_at_once(client: Any, queue: str) -> None:
    """Each verb changes the jobs that match and allow it, and says how many they were."""
    await client.submit_many([{"type": queue, "delay": "1h", "tags": ["odd" if n % 2 else "even"]} for n in range(250)])

    assert await client.run_now_many(type=queue, tag="odd") == 125
    assert await client.cancel_many(type=queue, status=[State.ENQUEUED]) == 125
    assert await client.retry_many(type=queue, status="cancelled") == 125
    assert await client.delete_many(type=queue, tag="odd") == 125
    assert await client.delete_many(type=queue) == 125
    assert await client.list(type=queue) == []


async def test_dead_letters_are_retried_and_deleted(client: Any) -> None:
    """By their ids, a tag, or all of them."""
    tag = uuid.uuid4().hex
    jobs = await client.submit_many([{"type": "broken", "tags": [tag]}] * 3)
    for job in jobs:
        assert (await client.wait(job.job_id, timeout=30, check=False)).status is State.FAILED
    ids = [job.job_id for job in jobs]

    assert {job.job_id for job in await client.dead_letters("broken", tag=tag)} == set(ids)
    assert await client.retry_all(job_ids=ids[:1]) == 1
    assert (await client.wait(ids[0], timeout=30, check=False)).status is State.FAILED
    assert await client.delete_dead_letters(job_ids=ids[:2]) == 2
    assert await client.delete_dead_letters("broken", tag=tag) == 1
    assert await client.dead_letters(tag=tag) == []


async def test_queues_are_shown(client: Any, queue: str) -> None:
    """What waits in them, and for how long."""
    await client.submit_many([{"type": queue, "priority": level} for level in ("high", "low", "low")])

    found = await client.queue(queue)

    assert (found.depth["high"], found.depth["low"], found.waiting) == (1, 2, 3)
    assert found.oldest_age >= 0
    assert found.served_by == 0
    assert queue in [each.type for each in await client.queues()]
    with pytest.raises(QueueNotFound):
        await client.queue(f"{queue}-not")


async def test_nodes_and_their_workers_are_shown(client: Any) -> None:
    """Who is there, who runs what, and what was counted in each minute."""
    (node,) = await client.nodes()

    assert (node.role, node.raw["id"]) == ("all", node.id)
    assert (await client.node(node.id)).id == node.id
    with pytest.raises(NodeNotFound):
        await client.node("nobody")
    workers = await client.workers()
    assert workers.workers >= 1
    assert workers.items
    assert all(handler.nodes == (node.id,) for handler in await client.handlers())
    assert len(await client.stats_history(5)) <= 5


@pytest.mark.parametrize("method", ASKED)
def test_each_method_asks_for_what_is_documented(openapi: dict[str, Any], method: str) -> None:
    """Its address, its HTTP method, and the names of its parameters and of its body's members."""
    _, _, verb, path, query, body, _, _ = ASKED[method]
    address = f"/api/v1/{path}"
    # A plain address comes before one with a variable in its place.
    found = sorted(
        (template for template in openapi["paths"] if matches(template, address)), key=lambda template: "{" in template
    )

    operation = openapi["paths"][found[0]][verb.lower()]
    named = {each["name"] for each in operation.get("parameters", []) if each["in"] == "query"}
    assert set(query) <= named
    if isinstance(body, dict):
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        members = openapi["components"]["schemas"][schema["$ref"].rpartition("/")[2]]["properties"]
        assert set(body) <= set(members)


def matches(template: str, address: str) -> bool:
    return re.fullmatch(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(template)), address) is not None


@pytest.fixture(scope="module")
def openapi(node_url: str) -> dict[str, Any]:
    return httpx2.get(f"{node_url}/openapi.json").json()


@pytest.fixture
def guarded_url(tmp_path: Path) -> Iterator[str]:
    """A node of its own, for a key that it has holds for everybody."""
    with running_node(tmp_path) as url:
        yield url


async def test_keys_are_made_and_ended(guarded_url: str) -> None:
    """From the first one on, each request needs one, and may do what that one allows."""
    async with AsyncClient(guarded_url) as nobody:
        admin = await nobody.create_key("operator", ["admin"])
        assert admin.key is not None
        with pytest.raises(Unauthenticated):
            await nobody.stats()

    async with AsyncClient(guarded_url, api_key=admin.key) as operator:
        made = await operator.create_key("app", ["submit"], expires_in="1h", rate_limit=(1, "1m"))
        assert {key.name: key.scopes for key in await operator.keys()} == {"operator": ("admin",), "app": ("submit",)}
        assert made.rate_limit is not None
        assert (made.rate_limit.limit, made.rate_limit.window) == (1, 60.0)

        async with AsyncClient(guarded_url, api_key=made.key, retries=0) as app:
            await app.submit("echo")
            with pytest.raises(RateLimited) as limited:
                await app.submit("echo")
            assert limited.value.retry_after is not None

        turned = await operator.rotate_key(made.id, overlap=0)
        assert turned.key != made.key
        async with AsyncClient(guarded_url, api_key=made.key) as old:
            with pytest.raises(Unauthenticated):
                await old.submit("echo")
        await operator.revoke_key(turned.id)
        with pytest.raises(NotFound):
            await operator.revoke_key(turned.id)
        with pytest.raises(ApiError, match="scope admin"):
            await operator.revoke_key(admin.id)


async def test_a_key_names_the_scope_that_it_lacks(guarded_url: str) -> None:
    """So that whoever meets the refusal knows what to ask for."""

    def ask() -> str:
        with Client(guarded_url) as nobody:
            admin = nobody.create_key("operator", ["admin"])
        with Client(guarded_url, api_key=admin.key) as operator:
            reader = operator.create_key("reader", ["read"])
        with Client(guarded_url, api_key=reader.key) as reading:
            assert reading.stats().uptime > 0
            with pytest.raises(Forbidden) as caught:
                reading.submit("echo")
        return caught.value.scope

    assert await asyncio.to_thread(ask) == "submit"
