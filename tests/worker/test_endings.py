"""What each way in which a handler can end means for its job."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

import orjson
import pytest
from pydantic import BaseModel

from gopher_node.errors import Fail, JobNotFound, Retry
from gopher_node.handlers import JobContext
from gopher_node.job import Job, RetryPolicy, State

from . import in_process
from .conftest import Bench


def error_of(job: Job) -> dict[str, Any]:
    assert job.error is not None
    return job.error


async def test_async_handler_completes(bench: Bench) -> None:
    """A job of an async handler ends completed, with what the handler returned."""

    @bench.registry.handler("add")
    async def add(a: int, b: int) -> dict[str, int]:
        return {"sum": a + b}

    bench.start()

    job = await bench.run("add", {"a": 1, "b": 2})

    assert (job.state, job.result, job.attempt) == (State.COMPLETED, b'{"sum":3}', 1)


async def test_sync_handler_runs_in_a_thread(bench: Bench) -> None:
    """A sync handler runs in the node's process but not on its loop."""

    @bench.registry.handler("where")
    def where() -> list[Any]:
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        return [os.getpid()]

    bench.start()

    job = await bench.run("where")

    assert [os.getpid()] == orjson.loads(job.result or b"")


async def test_process_handler_runs_in_another_process(bench: Bench) -> None:
    """A handler that is registered for a process runs in one, which is reused, and may print."""
    bench.registry.handler("double", run="process")(in_process.double)
    bench.start()

    first = orjson.loads((await bench.run("double", {"n": 4})).result or b"")
    second = orjson.loads((await bench.run("double", {"n": 5})).result or b"")

    assert first["double"] == 8
    assert first["pid"] == second["pid"] != os.getpid()


async def test_process_handler_has_its_context(bench: Bench) -> None:
    """In a process too, the context tells of the job, reports progress and creates follow-up jobs."""
    bench.registry.handler("tell", run="process")(in_process.tell)
    bench.registry.handler("double", run="process")(in_process.double)
    bench.start()

    job = await bench.run("tell", {"word": "half"})

    assert {"job_id": job.id, "attempt": 1, "key": job.id} == orjson.loads(job.result or b"")
    assert orjson.loads(job.progress or b"") == {"fraction": 0.5, "message": "half"}
    await bench.events.until(lambda: len(bench.events.settlements) == 2)
    follow_up = await bench.store.get(bench.events.settlements[1].job.id)
    assert (follow_up.type, follow_up.state) == ("double", State.COMPLETED)


async def test_handler_knows_what_its_job_belongs_to(bench: Bench) -> None:
    """Group, tags and retries are in its context, on the node and in a process."""

    @bench.registry.handler("here")
    async def here(ctx: JobContext) -> list[Any]:
        return in_process.belongings(ctx)

    bench.registry.handler("there", run="process")(in_process.belongings)
    bench.start()

    for type in ("here", "there"):
        job = await bench.run(type, group="shop-1", tags=("a", "b"), max_retries=7)
        assert job.result == b'["shop-1",["a","b"],7]'


async def test_payload_that_does_not_fit_fails_at_once(bench: Bench) -> None:
    """A payload that the handler cannot take is no error that a retry could mend."""

    @bench.registry.handler("add")
    async def add(a: int) -> int:
        return a

    bench.start()

    job = await bench.run("add", {"a": "one"}, max_retries=3)

    assert (job.state, job.attempt, error_of(job)["code"]) == (State.FAILED, 1, "invalid-payload")
    assert "/a" in error_of(job)["message"]


async def test_error_is_retried_until_it_passes(bench: Bench) -> None:
    """A job whose first two runs raise completes with its third, and keeps what was wrong with the others."""

    @bench.registry.handler("flaky")
    async def flaky(ctx: JobContext) -> int:
        if ctx.attempt < 3:
            raise ValueError(f"attempt {ctx.attempt}")
        return ctx.attempt

    bench.start()

    job = await bench.run("flaky")

    assert (job.state, job.result, job.errors) == (State.COMPLETED, b"3", 2)
    assert [entry["error"]["message"] for entry in job.attempts] == ["attempt 1", "attempt 2"]


@pytest.mark.parametrize("mode", ["async", "thread", "process"])
async def test_error_is_described_as_its_author_needs_it(bench: Bench, mode: str) -> None:
    """The stored error has the exception's type, its words, and a traceback that begins in the handler."""
    if mode == "async":

        @bench.registry.handler("refuse")
        async def refuse_async() -> None:
            in_process.refuse()

    else:
        bench.registry.handler("refuse", run="process" if mode == "process" else None)(in_process.refuse)
    bench.start()

    error = error_of(await bench.run("refuse", max_retries=0))

    assert (error["code"], error["message"], error["type"]) == ("exception", "no", "ValueError")
    assert 'raise ValueError("no")' in error["traceback"]
    assert "gopher_node" not in error["traceback"]


async def test_job_fails_when_its_retries_are_used_up(bench: Bench) -> None:
    """Two retries mean three runs; then the job is failed, with an entry for each."""

    @bench.registry.handler("broken")
    async def broken() -> None:
        raise RuntimeError("always")

    bench.start()

    job = await bench.run("broken", max_retries=2)

    assert (job.state, job.attempt, len(job.attempts)) == (State.FAILED, 3, 3)


async def test_retry_waits_as_the_policy_says(bench: Bench) -> None:
    """The handler's own policy stands before the node's, and its wait is drawn from 0 to base * 2 ** (n - 1)."""
    policy = RetryPolicy(base=1000.0, cap=1500.0)

    @bench.registry.handler("later", retry=policy)
    async def later() -> None:
        raise RuntimeError

    bench.start()
    began = time.time() * 1000

    job = await bench.until_state(await bench.submit("later"), State.SCHEDULED)

    assert job.due_ms is not None
    assert began <= job.due_ms + 1 <= time.time() * 1000 + 1_000_000 + 1
    assert error_of(job)["message"] == "RuntimeError"


@pytest.mark.parametrize(("after", "seconds"), [(90, 90), ("1m30s", 90), ("soon", 0)])
async def test_handler_chooses_when_to_retry(bench: Bench, after: float | str, seconds: float) -> None:
    """Retry(after=…) is honoured as a number and as text; what is neither is named, and the policy decides."""

    @bench.registry.handler("later", retry=RetryPolicy(base=0.002))
    async def later() -> None:
        raise Retry("busy", after=after)

    bench.start()
    began = time.time()

    await bench.submit("later", max_retries=1)
    (settled,) = await bench.events.until_settled(1)
    job = await bench.store.get(settled.job.id)

    assert settled.error is not None
    assert settled.error.code == "retry"
    assert settled.error.message.startswith("busy")
    assert (after == "soon") == ("soon" in settled.error.message)
    if seconds:
        assert job.due_ms is not None
        assert seconds - 1 < job.due_ms / 1000 - began < seconds + 10


async def test_fail_is_final(bench: Bench) -> None:
    """Fail(…) ends the job whatever retries are left, with the code and the cause that the handler gave."""

    @bench.registry.handler("never")
    async def never() -> None:
        try:
            raise KeyError("account")
        except KeyError as error:
            raise Fail("no such account", code="unknown-account") from error

    bench.start()

    job = await bench.run("never", max_retries=5)

    assert (job.state, job.attempt) == (State.FAILED, 1)
    assert (error_of(job)["code"], error_of(job)["message"]) == ("unknown-account", "no such account")
    assert "KeyError: 'account'" in error_of(job)["traceback"]


@pytest.mark.parametrize("mode", ["async", "thread"])
@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), StopIteration(), asyncio.CancelledError()])
async def test_nothing_that_a_handler_raises_ends_the_node(bench: Bench, mode: str, error: BaseException) -> None:
    """SystemExit, KeyboardInterrupt and their like are errors of the job like any other."""

    def leave() -> None:
        raise error

    @bench.registry.handler("fine")
    async def fine() -> None: ...

    if mode == "async":

        @bench.registry.handler("leave")
        async def leave_async() -> None:
            leave()

    else:
        bench.registry.handler("leave")(leave)
    worker = bench.start()

    job = await bench.run("leave", max_retries=1)

    assert (job.state, job.attempt, error_of(job)["code"]) == (State.FAILED, 2, "exception")
    assert State.COMPLETED is (await bench.run("fine")).state
    await bench.stop(worker)


async def test_a_stop_of_all_processes_is_for_the_node_to_carry_out(bench: Bench) -> None:
    """A process that is sent SIGTERM goes on, and its job has not crashed: whether its run ends, the node decides."""
    bench.registry.handler("go-on", run="process")(in_process.go_on)
    bench.start()

    job = await bench.run("go-on")

    assert (job.state, job.crashes) == (State.COMPLETED, 0)
    assert orjson.loads(job.result or b"")[1] == -signal.SIGTERM


async def test_process_that_ends_is_a_crash_of_its_job(bench: Bench) -> None:
    """A child that is killed costs its job a crash and nobody else anything; sys.exit() does not even end it."""
    bench.registry.handler("die", run="process")(in_process.die)
    bench.registry.handler("die-once", run="process", retry=RetryPolicy(never=["process-died"]))(in_process.die)
    bench.registry.handler("leave", run="process")(in_process.leave)
    bench.registry.handler("double", run="process")(in_process.double)
    bench.start()

    died = await bench.run("die", max_retries=0, max_crashes=1)
    never = await bench.run("die-once")
    left = await bench.run("leave", max_retries=0)
    fine = await bench.run("double", {"n": 1})

    assert (died.state, died.errors, died.crashes, error_of(died)["code"]) == (State.FAILED, 0, 1, "process-died")
    assert "signal 9" in error_of(died)["message"]
    assert (never.state, error_of(never)["code"]) == (State.FAILED, "process-died")
    assert (error_of(left)["code"], error_of(left)["type"]) == ("exception", "SystemExit")
    assert State.COMPLETED is fine.state


async def test_result_that_json_cannot_carry_fails(bench: Bench) -> None:
    """A result that cannot be written as JSON fails the job for good, and says why."""

    @bench.registry.handler("odd")
    async def odd() -> object:
        return object()

    bench.start()

    job = await bench.run("odd")

    assert (job.state, error_of(job)["code"]) == (State.FAILED, "invalid-result")


async def test_result_beyond_the_limit_fails(bench: Bench) -> None:
    """A result of more than 1 MiB fails the job for good; one at the limit is kept."""

    @bench.registry.handler("long")
    async def long(size: int) -> str:
        return "x" * (size - 2)

    bench.start()

    kept = await bench.run("long", {"size": 1024 * 1024})
    refused = await bench.run("long", {"size": 1024 * 1024 + 1})

    assert (kept.state, len(kept.result or b"")) == (State.COMPLETED, 1024 * 1024)
    assert (refused.state, error_of(refused)["code"]) == (State.FAILED, "result-too-large")


async def test_result_may_be_a_model(bench: Bench) -> None:
    """A pydantic model, also inside other values, and numbers as keys are results like any other."""

    class Point(BaseModel):
        x: int

    @bench.registry.handler("point")
    async def point() -> dict[int, Point]:
        return {7: Point(x=1)}

    bench.start()

    assert (await bench.run("point")).result == b'{"7":{"x":1}}'


async def test_follow_ups_come_with_the_completion_only(bench: Bench) -> None:
    """Jobs that a run enqueues are created when it completes, and not at all when it fails."""
    ids: list[str] = []

    @bench.registry.handler("order")
    async def order(ctx: JobContext, fail: bool) -> None:
        ids.append(ctx.enqueue("notify", {"order": 1}))
        if fail:
            raise Fail

    @bench.registry.handler("notify")
    async def notify(order: int) -> int:
        return order

    bench.start()

    await bench.run("order", {"fail": True})
    await bench.run("order", {"fail": False})

    with pytest.raises(JobNotFound):
        await bench.store.get(ids[0])
    assert (await bench.finished(ids[1])).result == b"1"


async def test_handler_that_cancels_its_own_task_is_settled(bench: Bench) -> None:
    """A cancellation that a handler leaves behind for the next await does not reach the settlement."""

    @bench.registry.handler("odd")
    async def odd() -> str:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return "done"

    bench.start()
    job = await bench.run("odd")
    (settled,) = await bench.events.until_settled(1)

    assert job.result == b'"done"'
    assert settled.state is State.COMPLETED
