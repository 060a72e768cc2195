"""Jobs that were present at two crashes run alone, each in a process of its own."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path

import orjson
import pytest

from gopher_node.handlers import JobContext
from gopher_node.job import JobOptions, NewJob, State
from gopher_node.store import JobFilter, Pool

from . import in_process
from .conftest import Bench, pid_from, until_gone

PATIENCE = 40.0

LONELY = """
import asyncio, os
from gopher_node import JobContext, handler, shutdown, startup

@startup
async def connect(state):
    state.word, state.loop = "connected", asyncio.get_running_loop()

@startup
def listen(state):
    raise OSError("The node has this port.")

@shutdown
def disconnect(state):
    with open(os.environ["LONELY_TRACES"], "a") as traces:
        traces.write(f"{state.word} no more")

@handler("inquire")
async def inquire(ctx: JobContext, word: str) -> dict:
    ctx.progress(0.5, "asking")
    ctx.log("a line")
    ctx.enqueue("double", {"n": 21})
    return {
        "word": word,
        "state": ctx.state.word,
        "same loop": ctx.state.loop is asyncio.get_running_loop(),
        "parents": {name: parent.result for name, parent in (await ctx.parents()).items()},
        "told": [ctx.job_id, ctx.attempt, ctx.group, ctx.tags, ctx.settings.worker.max_retries],
        "process": os.getpid(),
    }

@handler("endure")
async def endure(ctx: JobContext, path: str) -> None:
    with open(path, "w") as pipe:
        pipe.write(f"{os.getpid()}\\n")
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        with open(os.environ["LONELY_TRACES"], "a") as traces:
            traces.write(f"tidied up, {ctx.cancel_requested}; ")
        raise
"""


@pytest.fixture
def traces(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the handlers of a module leave behind that this process has not imported: it knows them by their types."""
    (tmp_path / "lonely_handlers.py").write_text(LONELY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("LONELY_TRACES", str(tmp_path / "traces"))
    bench.handlers.append("lonely_handlers")

    @bench.registry.handler("inquire")
    async def inquire(ctx: JobContext, word: str) -> None:
        raise AssertionError("It should run elsewhere.")

    @bench.registry.handler("endure", timeout=60)
    async def endure(ctx: JobContext, path: str) -> None:
        raise AssertionError("It should run elsewhere.")

    return tmp_path / "traces"


def left_in(traces: Path) -> str:
    return traces.read_text()


async def suspects(bench: Bench, *jobs: NewJob) -> None:
    """Store jobs, and have them be present at two crashes."""
    await bench.store.submit_many(jobs)
    for _ in range(2):
        dead = await bench.store.open_session("dead", 15.0)
        claimed = await bench.store.claim(dead, Pool.of({job.type for job in jobs}), len(jobs))
        assert len(claimed.leases) == len(jobs)
        await bench.store.reap_session(dead.id, 0)


async def test_a_coroutine_alone_has_all_that_it_has_on_a_node(bench: Bench, traces: Path) -> None:
    """Its context, what hooks prepared, the parents, follow-ups; and a hook that cannot run there does no harm."""
    parent = NewJob(type="parent")
    await bench.store.submit(parent)
    session = await bench.store.open_session("before", 15.0)
    (lease,) = (await bench.store.claim(session, Pool.of(["parent"]), 1)).leases
    await bench.store.complete(lease, b"7")
    job = NewJob(
        type="inquire",
        payload=b'{"word":"hello"}',
        group="acme",
        tags=("red",),
        options=JobOptions(depends_on=(parent.id,)),
    )
    await suspects(bench, job)
    worker = bench.start(max_retries=9)

    done = await bench.finished(job.id, PATIENCE)
    await bench.stop(worker)

    assert (done.state, done.attempt, done.crashes, done.progress) == (
        State.COMPLETED,
        3,
        2,
        b'{"fraction":0.5,"message":"asking"}',
    )
    told = orjson.loads(done.result or b"")
    assert told.pop("process") != os.getpid()
    assert told == {
        "word": "hello",
        "state": "connected",
        "same loop": True,
        "parents": {parent.id: 7},
        "told": [job.id, 3, "acme", ["red"], 9],
    }
    assert b"a line" in (await bench.store.logs.read(job.id)).lines[0]
    (follow_up,) = (await bench.store.list(JobFilter(type="double"))).items
    assert follow_up.state is State.ENQUEUED
    assert left_in(traces) == "connected no more"


async def test_a_coroutine_alone_is_cancelled_like_any_other(bench: Bench, traces: Path, pipe: Path) -> None:
    """It gets the time to tidy up, and its process is gone after it."""
    job = NewJob(type="endure", payload=orjson.dumps({"path": str(pipe)}))
    await suspects(bench, job)
    bench.start()
    pid = await pid_from(pipe)

    await bench.store.cancel(job.id)
    ended = await bench.finished(job.id, PATIENCE)
    await until_gone(pid)

    assert (ended.state, ended.crashes) == (State.CANCELLED, 2)
    assert left_in(traces) == "tidied up, True; connected no more"


async def test_a_suspect_dies_alone(bench: Bench) -> None:
    """Threads too run in a process then: what kills it costs nobody anything but the job, which is a dead letter."""
    bench.registry.handler("die")(in_process.die)
    job = NewJob(type="die", max_retries=0)
    await suspects(bench, job)
    bench.start()

    died = await bench.finished(job.id, PATIENCE)

    assert (died.state, died.errors, died.crashes) == (State.FAILED, 0, 3)
    assert [(entry["outcome"], entry["error"]["code"]) for entry in died.attempts] == [
        ("crashed", "crashed"),
        ("crashed", "crashed"),
        ("crashed", "process-died"),
    ]


async def test_a_suspect_that_only_this_process_knows_runs_here(bench: Bench) -> None:
    """No job fails because its handler cannot be found in another process."""

    @bench.registry.handler("local")
    def local() -> int:
        return os.getpid()

    job = NewJob(type="local")
    await suspects(bench, job)
    bench.start()

    assert (await bench.finished(job.id, PATIENCE)).result == str(os.getpid()).encode()


async def test_suspects_hold_nobody_up(bench: Bench, tmp_path: Path) -> None:
    """As many run as there are processors. The others wait without a slot, and a drain hands back those that run."""
    bench.registry.handler("spin")(in_process.spin)
    bench.registry.handler("double")(in_process.double)
    limit = os.cpu_count() or 1
    pipes = [tmp_path / f"pid-{n}" for n in range(limit + 1)]
    for path in pipes:
        os.mkfifo(path)
    jobs = [NewJob(type="spin", payload=orjson.dumps({"path": str(path)})) for path in pipes]
    await suspects(bench, *jobs)
    worker = bench.start(concurrency=limit + 1, shutdown_timeout=0.0)
    hearing = [asyncio.create_task(pid_from(path)) for path in pipes]
    await bench.events.until(lambda: len(bench.events.named("started")) == limit)

    assert (await bench.run("double", {"n": 1})).state is State.COMPLETED
    running, waiting = await asyncio.wait(hearing, timeout=None, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    states = Counter([(await bench.store.get(job.id)).state for job in jobs])
    await bench.stop(worker)
    for task in running:
        await until_gone(task.result())

    assert states == {State.PROCESSING: limit, State.SCHEDULED: 1}
    assert {(await bench.store.get(job.id)).crashes for job in jobs} == {2}
