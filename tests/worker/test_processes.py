"""Child processes for handlers: none outlives the node, however that ends."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import pytest

from gopher_node.job import State

from . import in_process
from .conftest import Bench, pid_from, until_gone

PARENT = """
import asyncio, os, pickle, sys
from types import SimpleNamespace
from gopher_node.handlers import Registry
from gopher_node.job import Job, Lease, Priority, RetryPolicy, State
from gopher_node.settings import Settings
from gopher_node.worker.processes import Processes
from gopher_node.worker.run import Run
from tests.worker import in_process

async def main(name, path):
    registry = Registry()
    registry.handler("spin", run="process")(getattr(in_process, name))
    job = Job(id="id", type="spin", state=State.PROCESSING, payload=b"{}", priority=Priority.NORMAL, created_ms=0)
    run = Run(Lease(job, "nonce"), registry.get("spin"), 60.0, RetryPolicy(), 0.0)
    processes = Processes(Settings(), "node", lambda run: None, lambda run, value: None)
    await processes.call(run, {"path": path})

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("function", ["spin", "hold_interpreter"])
async def test_child_ends_when_its_parent_is_killed(pipe: Path, function: str) -> None:
    """A handler that runs when the node is killed is killed too, even in C code that lets no thread look."""
    if function == "hold_interpreter" and sys.platform != "linux":
        pytest.skip("needs the parent-death signal of Linux")
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", PARENT, function, str(pipe), stdin=PIPE)
    pid = await pid_from(pipe)

    parent.kill()
    await parent.communicate()

    await until_gone(pid)


async def test_idle_child_that_died_is_replaced(bench: Bench) -> None:
    """A child that is killed while it is idle costs no job an attempt."""
    bench.registry.handler("double", run="process")(in_process.double)
    worker = bench.start()
    await bench.run("double", {"n": 1})
    (child,) = worker._processes._idle  # pyright: ignore[reportPrivateUsage]
    child.process.kill()
    await child.process.wait()

    job = await bench.run("double", {"n": 2})

    assert (job.state, job.attempt) == (State.COMPLETED, 1)


async def test_children_end_with_the_worker(bench: Bench) -> None:
    """After the drain no child is left."""
    bench.registry.handler("double", run="process")(in_process.double)
    worker = bench.start()
    await bench.run("double", {"n": 1})
    (child,) = worker._processes._idle  # pyright: ignore[reportPrivateUsage]
    await bench.stop(worker)

    await until_gone(child.process.pid)


async def test_no_more_processes_than_processors(bench: Bench, tmp_path: Path) -> None:
    """However many such jobs wait, as many are claimed as there are processors; the rest stay for other nodes."""
    bench.registry.handler("spin", run="process")(in_process.spin)
    worker = bench.start()
    limit = worker._processes.limit  # pyright: ignore[reportPrivateUsage]
    pipes = [tmp_path / f"pid-{n}" for n in range(limit + 1)]
    ids: list[str] = []
    for path in pipes:
        os.mkfifo(path)
        ids.append(await bench.submit("spin", {"path": str(path)}))
    await asyncio.gather(*(pid_from(path) for path in pipes[:limit]))

    states = [(await bench.store.get(id)).state for id in ids]

    assert [State.PROCESSING] * limit + [State.ENQUEUED] == states


async def test_function_that_cannot_be_sent_is_a_clear_failure(bench: Bench) -> None:
    """A handler that its module does not show under its name cannot be found by a child, and the error says so."""
    hidden: Any = type(in_process.double)(in_process.double.__code__, {}, "hidden")
    hidden.__module__, hidden.__qualname__ = in_process.__name__, "hidden"
    bench.registry.handler("hidden", run="process")(hidden)
    bench.start()

    job = await bench.run("hidden", {"n": 1})

    assert job.error is not None
    assert (job.state, job.error["code"]) == (State.FAILED, "not-importable")
    assert "hidden" in job.error["message"]
