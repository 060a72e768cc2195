"""Log lines of Python handlers, and which of their errors are tried again."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from gopher_node import Retry
from gopher_node.errors import StoreUnavailable
from gopher_node.handlers import JobContext
from gopher_node.job import JobOptions, RetryPolicy, State
from tests.worker import in_process
from tests.worker.conftest import Bench, Gate


async def messages(bench: Bench, id: str) -> list[tuple[str, str]]:
    lines = (await bench.store.logs.read(id)).lines
    return [(content["level"], content["message"]) for content in map(orjson.loads, lines)]


async def test_lines_of_every_kind_of_handler(bench: Bench) -> None:
    """All of them, in order, are there when the job has ended, in few steps."""
    steps: list[int] = []
    append = bench.store.logs.append

    async def counted(lease: object, lines: list[bytes], batch: str) -> bool:
        steps.append(len(lines))
        return await append(lease, lines, batch)  # pyright: ignore[reportArgumentType]

    bench.store.logs.append = counted  # pyright: ignore[reportAttributeAccessIssue]

    @bench.registry.handler("async")
    async def in_loop(ctx: JobContext) -> None:
        in_process.write_log(ctx)

    bench.registry.handler("thread")(in_process.write_log)
    bench.registry.handler("process", run="process")(in_process.write_log)
    bench.start()

    for type in ("async", "thread", "process"):
        job = await bench.run(type)
        assert await messages(bench, job.id) == [("info", f"line {n}") for n in range(300)] + [("error", "last")], type
        assert job.progress == b'{"fraction":0.5}'
    assert sum(steps) == 3 * 301
    assert len(steps) <= 12


async def test_lines_are_seen_while_the_job_runs(bench: Bench, gate: Gate) -> None:
    @bench.registry.handler("half")
    def half(ctx: JobContext) -> None:
        ctx.log("half-way", level="warning")
        gate.wait()

    bench.start()
    id = await bench.submit("half")
    await gate.entered.wait()
    async with asyncio.timeout(5):
        while not (seen := await messages(bench, id)):
            await bench.store.ping()
    gate.opened.set()
    await bench.finished(id)

    assert seen == [("warning", "half-way")]


async def test_a_lost_answer_doubles_no_line(bench: Bench, gate: Gate) -> None:
    """The store has the lines and its answer is lost: they are told again under the same id."""
    append = bench.store.logs.append
    lost: list[str] = []

    async def forgetful(lease: object, lines: list[bytes], batch: str) -> bool:
        answer = await append(lease, lines, batch)  # pyright: ignore[reportArgumentType]
        if not lost:
            lost.append(batch)
            raise StoreUnavailable
        gate.opened.set()
        return answer

    bench.store.logs.append = forgetful  # pyright: ignore[reportAttributeAccessIssue]

    @bench.registry.handler("once")
    def once(ctx: JobContext) -> None:
        ctx.log("once")
        gate.wait()

    bench.start()

    job = await bench.run("once")

    assert await messages(bench, job.id) == [("info", "once")]
    assert lost


@pytest.mark.parametrize("mode", ["async", "thread", "process"])
async def test_errors_that_are_not_tried_again(bench: Bench, mode: str) -> None:
    """By class or base class, as the handler says, and in place of that as the job does."""
    policy = RetryPolicy(strategy="fixed", base=0.0, only=[LookupError], never=["KeyError"])
    if mode == "async":

        @bench.registry.handler("fail", retry=policy)
        async def fail(kind: str) -> None:
            in_process.raise_one(kind)
    else:
        bench.registry.handler("fail", retry=policy, run="process" if mode == "process" else None)(in_process.raise_one)
    bench.start()

    for kind, runs in (("IndexError", 3), ("KeyError", 1), ("ValueError", 1)):
        job = await bench.run("fail", {"kind": kind}, max_retries=2)
        assert (job.state, job.attempt) == (State.FAILED, runs), kind
        assert [entry["error"]["type"] for entry in job.attempts] == [kind] * runs
    own = JobOptions(retry=RetryPolicy(strategy="list", delays=[0.0], only=["ValueError"]))
    job = await bench.run("fail", {"kind": "ValueError"}, max_retries=1, options=own)
    assert (job.state, job.attempt) == (State.FAILED, 2)


async def test_timeouts_have_a_name_and_wishes_have_none(bench: Bench) -> None:
    """A timeout is one of the errors that a policy may name; a retry that a handler asks for is none."""

    @bench.registry.handler("slow", timeout=0.01, retry=RetryPolicy(base=0.0, never=["timeout"]))
    async def slow() -> None:
        await asyncio.sleep(60)

    @bench.registry.handler("wish", retry=RetryPolicy(base=0.0, only=["Nothing"]))
    async def wish() -> None:
        raise Retry

    bench.start()

    assert (await bench.run("slow", max_retries=1)).attempt == 1
    assert (await bench.run("wish", max_retries=1)).attempt == 2
