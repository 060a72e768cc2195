"""Outcomes that are hard to tell: exceptions that cannot be read, and what cannot be encoded or sent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gopher_node.errors import Fail, Retry
from gopher_node.handlers import JobContext
from gopher_node.job import JobError, State
from gopher_node.worker import worker as worker_module

from .conftest import Bench


class NotFound(Fail):
    def __init__(self, status: int) -> None:
        Exception.__init__(self, f"http {status}")


class Later(Retry):
    def __init__(self) -> None:
        Exception.__init__(self, "later")


class Mute(Fail):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class Unreadable(Fail):
    def __getattribute__(self, name: str) -> Any:
        if name == "code":
            raise RuntimeError("no code")
        return super().__getattribute__(name)


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda: NotFound(404), "failed"),
        (Later, "retry"),
        (Mute, "failed"),
        (Unreadable, "exception"),
        (lambda: Fail("no", code=b"x"), "b'x'"),  # pyright: ignore[reportArgumentType]
        (lambda: Fail("no", code="\ud800"), "?"),
        (lambda: Fail("no", code="c" * 1024 * 1024), "c" * 200),
        (lambda: Fail("no \udcff"), "failed"),
    ],
)
async def test_odd_exception_ends_its_run(bench: Bench, make: Callable[[], Exception], code: str) -> None:
    """Whatever a handler raises, its job is settled and its slot is free for the next one."""

    @bench.registry.handler("odd")
    async def odd() -> None:
        raise make()

    @bench.registry.handler("now")
    async def now() -> None: ...

    bench.start(concurrency=1)
    job = await bench.run("odd", max_retries=0)

    assert job.state is State.FAILED
    assert job.error is not None
    assert job.error["code"] == code
    assert (await bench.run("now")).state is State.COMPLETED


def test_error_is_valid_bounded_text() -> None:
    """What goes to logs is what goes to the store."""
    error = JobError(5, "\ud800" * 9000, "k" * 999, "t" * 99999)  # pyright: ignore[reportArgumentType]

    assert (error.code, error.message, len(error.kind), len(error.traceback)) == ("5", "?" * 4096, 200, 16384)
    assert len(error.encode()) < 21000


async def test_defect_while_performing_costs_no_slot(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Should `perform` raise nevertheless, its run is an error like any other."""

    async def broken(*arguments: object) -> None:
        raise RuntimeError("defect")

    @bench.registry.handler("now")
    async def now() -> None: ...

    worker = bench.start(concurrency=1)
    with monkeypatch.context() as patched:
        patched.setattr(worker_module, "perform", broken)
        job = await bench.run("now", max_retries=0)

    assert job.error is not None
    assert job.error["message"] == "defect"
    assert (await bench.run("now")).state is State.COMPLETED
    assert worker.status().unsettled == 0


async def test_outcome_that_cannot_be_sent_becomes_a_failure(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that is not the store's own does not leave the job to the reaper."""

    async def broken(*arguments: object) -> None:
        raise TypeError("cannot be encoded")

    @bench.registry.handler("now")
    async def now() -> None: ...

    monkeypatch.setattr(bench.store, "complete", broken)
    bench.start()
    job = await bench.run("now")

    assert job.state is State.FAILED
    assert job.error is not None
    assert job.error["code"] == "unencodable-outcome"


async def test_passing_defect_while_settling_keeps_the_outcome(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """One unforeseen error is no reason to throw a result away."""
    complete = bench.store.complete
    tries: list[int] = []

    async def stumbling(*arguments: object) -> State | None:
        tries.append(1)
        if len(tries) == 1:
            raise RuntimeError("once")
        return await complete(*arguments)  # pyright: ignore[reportArgumentType]

    @bench.registry.handler("now")
    async def now() -> None: ...

    monkeypatch.setattr(bench.store, "complete", stumbling)
    bench.start()

    assert (await bench.run("now")).state is State.COMPLETED


async def test_defect_in_progress_keeps_the_outcome(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A word of progress that cannot be sent takes nothing with it."""

    async def broken(*arguments: object) -> bool:
        raise RuntimeError("defect")

    @bench.registry.handler("talk")
    async def talk(ctx: JobContext) -> None:
        ctx.progress(0.5)

    monkeypatch.setattr(bench.store, "progress", broken)
    bench.start()

    assert (await bench.run("talk")).state is State.COMPLETED
    assert (await bench.run("talk")).state is State.COMPLETED
