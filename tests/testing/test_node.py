"""What users have for tests of their handlers: a node whose jobs run, and whose time goes on, as a test says."""

from __future__ import annotations

import asyncio
import inspect
import re
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gopher_node import Fail, JobContext, Retry, RetryPolicy
from gopher_node.flow import Rate
from gopher_node.handlers import InvalidPayload, Registry
from gopher_node.handlers.registry import registry as default_registry
from gopher_node.job import NewJob
from gopher_node.schedules import Schedule
from gopher_node.store.recurring import Definition
from gopher_node.testing import RunFailed, SyncTestNode, TestNode

START = datetime(2030, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def registry() -> Registry:
    registry = Registry()

    @registry.handler("order", max_retries=2, retry=RetryPolicy(base=60.0, strategy="fixed"))
    async def order(ctx: JobContext, number: int) -> dict[str, int]:
        ctx.progress(0.5, "half")
        ctx.state.seen.append((ctx.attempt, number))
        if number < 0:
            raise ValueError("no such order")
        ctx.enqueue("receipt", {"number": number}, delay="1h")
        ctx.enqueue("unserved", {"number": number})
        return {"number": number}

    @registry.handler("receipt")
    def receipt(number: int) -> str:
        return f"receipt {number}"

    return registry


@pytest.fixture
def state() -> SimpleNamespace:
    return SimpleNamespace(seen=[])


async def test_jobs_run_when_the_test_says_so(registry: Registry, state: SimpleNamespace) -> None:
    """What a handler returned, and what it enqueued, is seen; what waits for later, or for no handler, waits."""
    async with TestNode(registry=registry, state=state, now=START) as node:
        job = await node.submit("order", {"number": 7}, priority="high", tags=["shop"])
        assert (job.status, state.seen, job.created_at) == ("enqueued", [], START)

        (ran,) = await node.run_until_idle()

        assert (ran.status, ran.result, ran.progress) == (
            "completed",
            {"number": 7},
            {"fraction": 0.5, "message": "half"},
        )
        (receipt,) = node.enqueued("receipt")
        assert (receipt.status, receipt.payload, receipt.execute_at) == (
            "scheduled",
            {"number": 7},
            START.replace(hour=13),
        )
        assert [one.type for one in node.enqueued()] == ["receipt", "unserved"]
        assert node.enqueued("order") == []
        assert await node.advance("59m") == []
        (late,) = await node.advance("1m")
        assert (late.result, late.finished_at, node.now) == (
            "receipt 7",
            START.replace(hour=13),
            START.replace(hour=13),
        )
        assert node.jobs("unserved")[0].status == "enqueued"


async def test_an_error_is_raised_or_found(registry: Registry, state: SimpleNamespace) -> None:
    """By choice the handler's own exception reaches the test, or the job tells; either way it is tried again later."""
    async with TestNode(registry=registry, state=state, now=START) as node:
        job = await node.submit("order", {"number": -1})
        with pytest.raises(ValueError, match="no such order"):
            await node.run_until_idle()
        assert (node.job(job.job_id).status, node.job(job.job_id).errors) == ("scheduled", 1)

        runs = await node.advance("1h", check=False)

        assert (runs[-1].status, runs[-1].errors, len(runs)) == ("failed", 3, 2)
        assert state.seen == [(1, -1), (2, -1), (3, -1)]
        # Each at its time, though all of it was one step for the test.
        begun = [attempt["started_at"][11:19] for attempt in runs[-1].attempts]
        assert begun == ["12:00:00", "12:01:00", "12:02:00"]


async def test_errors_that_no_handler_raises(registry: Registry, state: SimpleNamespace) -> None:
    """A payload is refused when it is submitted; a timeout is a failed run."""

    @registry.handler("slow", timeout=0.01, max_retries=0)
    async def slow() -> None:
        await asyncio.Event().wait()

    async with TestNode(registry=registry, state=state) as node:
        with pytest.raises(InvalidPayload, match="number"):
            await node.submit("order", {"nmber": 1})
        assert node.jobs() == []
        await node.submit("slow")
        with pytest.raises(RunFailed, match="timeout") as failed:
            await node.run_until_idle()
        assert (failed.value.code, failed.value.job.status) == ("timeout", "failed")


@pytest.mark.parametrize(("raised", "status"), [(Retry("later", after="5m"), "scheduled"), (Fail("never"), "failed")])
async def test_a_retry_is_no_error(registry: Registry, raised: Exception, status: str) -> None:
    """A handler that asks for another run does what it should; one that gives up is told of."""

    @registry.handler("picky")
    def picky() -> None:
        raise raised

    async with TestNode(registry=registry) as node:
        job = await node.submit("picky")
        if isinstance(raised, Fail):
            with pytest.raises(Fail, match="never"):
                await node.run_until_idle()
        else:
            await node.run_until_idle()
        assert node.job(job.job_id).status == status


async def test_hooks_and_state(registry: Registry) -> None:
    """Start-up hooks fill the state and shutdown hooks empty it, unless the test wants to fill it itself."""
    told: list[str] = []

    @registry.startup
    async def connect(state: SimpleNamespace) -> None:
        state.seen = []
        told.append("startup")

    @registry.shutdown
    def disconnect(state: SimpleNamespace) -> None:
        told.append("shutdown")

    async with TestNode(registry=registry) as node:
        await node.submit("order", {"number": 1})
        await node.run_until_idle()
        assert node.state.seen == [(1, 1)]
    assert told == ["startup", "shutdown"]
    async with TestNode(registry=registry, hooks=False):
        pass
    assert told == ["startup", "shutdown"]


async def test_a_job_may_be_cancelled(registry: Registry, state: SimpleNamespace) -> None:
    """While it waits, and from within its run."""
    node = TestNode(registry=registry, state=state)

    @registry.handler("long")
    async def long(ctx: JobContext) -> None:
        await node.cancel(ctx.job_id)
        await asyncio.Event().wait()

    async with node:
        waiting = await node.submit("receipt", {"number": 1}, delay="1h")
        assert (await node.cancel(waiting.job_id)).status == "cancelled"
        await node.submit("long")
        (ran,) = await node.run_until_idle()
        assert ran.status == "cancelled"
        assert await node.advance("2h") == []


def test_without_a_loop(registry: Registry, state: SimpleNamespace) -> None:
    """The same without a coroutine, and due jobs may be left for later."""
    with SyncTestNode(registry=registry, state=state) as node:
        node.submit("order", {"number": 3})
        assert [job.type for job in node.run_until_idle()] == ["order"]
        assert node.advance("1h", run=False) == []
        assert node.enqueued("receipt")[0].status == "enqueued"
        assert node.run_until_idle()[0].result == "receipt 3"


def test_handlers_of_a_process_run_in_a_thread(registry: Registry) -> None:
    """A test sees what they do, and needs no further process."""
    registry.handler("apart", run="process")(in_process)
    with SyncTestNode(registry=registry) as node:
        job = node.submit("apart", {"words": ["a"]})
        node.run_until_idle()
        assert node.job(job.job_id).result == ["a"]
    assert SEEN == [["a"]]


SEEN: list[list[str]] = []


def in_process(words: list[str]) -> Any:
    SEEN.append(words)
    return words


async def test_recurring_jobs_run_as_time_goes_on(registry: Registry) -> None:
    """Each fire at its own time, however far the test moves the clock."""
    async with TestNode(registry=registry, now=START) as node:
        job = NewJob(type="receipt", payload=b'{"number": 1}')
        await node.store.recurring.create(Definition(name="minutely", schedule=Schedule(cron="* * * * *"), job=job))

        ran = await node.advance("3m")

        assert [one.started_at for one in ran] == [START.replace(minute=minute) for minute in (1, 2, 3)]


async def test_limits_hold(registry: Registry) -> None:
    """What a rate limit holds back runs when it may."""
    async with TestNode(registry=registry, now=START) as node:
        await node.store.flow.set("receipt", {"rate": Rate(1, per=60.0, burst=1)})
        for number in range(3):
            await node.submit("receipt", {"number": number})

        assert len(await node.run_until_idle()) == 1
        assert [one.started_at for one in await node.advance("2m")] == [
            START.replace(minute=minute) for minute in (1, 2)
        ]


async def test_time_may_pass_beyond_what_is_kept(registry: Registry) -> None:
    """What ran on the way is told, though its job is gone by the end."""
    async with TestNode(registry=registry, now=START) as node:
        await node.submit("receipt", {"number": 1})
        for days in (1, 2):
            await node.submit("receipt", {"number": days}, delay=f"{days}d")

        ran = await node.advance("3d")

        assert [one.result for one in ran] == ["receipt 1", "receipt 1", "receipt 2"]
        assert len(node.jobs()) < len(ran)


async def test_limits_of_handlers_hold(registry: Registry) -> None:
    """What the decorator declares is in force without a word of the test."""

    @registry.handler("limited", rate_limit="1/m")
    def limited() -> None: ...

    async with TestNode(registry=registry, now=START) as node:
        for _ in range(2):
            await node.submit("limited")

        assert len(await node.run_until_idle()) == 1
        assert [one.started_at for one in await node.advance("2m")] == [START.replace(minute=1)]


def test_the_page_shows_tests_that_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/testing.md, word for word."""
    monkeypatch.setattr(default_registry, "_handlers", {})
    page = (Path(__file__).parent.parent.parent / "docs" / "testing.md").read_text()
    names: dict[str, Any] = {"__name__": "page"}
    exec("\n\n".join(re.findall(r"```python\n(.*?)```", page, re.DOTALL)), names)
    tests = [value for name, value in names.items() if name.startswith("test_")]
    assert len(tests) == 3
    for test in tests:
        answer = test()
        if inspect.iscoroutine(answer):
            asyncio.run(answer)
