from __future__ import annotations

import asyncio

import pytest

from gopher_node.job import Job, JobError, Priority, State
from tests.recorder import Recorder

JOB = Job(id="6f1a", type="email", state=State.PROCESSING, payload=b"{}", priority=Priority.LOW, created_ms=0)


async def test_waits_for_what_is_reported() -> None:
    """Whoever waits is woken by the report that makes the condition true, and by none before it."""
    recorder = Recorder()
    waiting = asyncio.create_task(recorder.until_settled(2))
    told = asyncio.create_task(recorder.until_reported("claimed"))

    recorder.claimed(1)
    recorder.settled(JOB, State.COMPLETED, "completed", 0.1)
    await told
    assert not waiting.done()
    recorder.settled(JOB, None, "error", 0.2, error=JobError("error", "x"))

    first, second = await waiting
    assert (first.state, first.outcome, first.seconds) == (State.COMPLETED, "completed", 0.1)
    assert (second.state, second.error) == (None, JobError("error", "x"))
    assert recorder.named("stale") == [(JOB,)]
    assert recorder.counts["completed"] == 1


async def test_what_is_already_true() -> None:
    """A condition that holds is not waited for."""
    recorder = Recorder()
    recorder.submitted(["a", "b", "c"])
    await recorder.until(lambda: recorder.counts["submitted"] == 3)


async def test_waiting_in_vain() -> None:
    """Who waits in vain learns what was reported instead."""
    recorder = Recorder()
    recorder.promoted(1)
    with pytest.raises(AssertionError, match=r"Still not true after 0\.01 s\. Reported so far: \['promoted'\]"):
        await recorder.until_settled(timeout=0.01)


async def test_reports_of_other_threads() -> None:
    """A report made in a thread wakes the loop."""
    recorder = Recorder()
    waiting = asyncio.create_task(recorder.until_reported("loop_blocked"))
    await asyncio.to_thread(recorder.loop_blocked, 0.3, "email")
    await waiting
