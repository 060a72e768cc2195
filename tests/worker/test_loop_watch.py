"""The watch over the event loop."""

from __future__ import annotations

import asyncio
import threading

import pytest

from gopher_node.telemetry import loop_watch
from gopher_node.telemetry.loop_watch import LoopWatch


class Reports:
    def __init__(self) -> None:
        self.all: list[tuple[float, str | None, bool]] = []
        self.arrived = threading.Event()

    def __call__(self, seconds: float, name: str | None) -> None:
        self.all.append((seconds, name, threading.current_thread() is threading.main_thread()))
        self.arrived.set()


async def watch(*, name: str, seconds: float) -> Reports:
    """Let a task of this name block the loop for so long, and return what was reported."""
    reports = Reports()
    watching = LoopWatch(lambda task: task.get_name() if task.get_name() == "culprit" else None, reports)
    running = asyncio.create_task(watching.run())

    async def block() -> None:
        threading.Event().wait(seconds)

    await asyncio.create_task(block(), name=name)
    async with asyncio.timeout(10):
        while not reports.all:
            await asyncio.to_thread(reports.arrived.wait, 0.1)
    running.cancel()
    return reports


async def test_blocked_loop_is_measured_and_its_task_named() -> None:
    """A loop that stood still is reported once it moves again, with how long and by whom."""
    reports = await watch(name="culprit", seconds=0.6)

    ((seconds, name, on_loop),) = reports.all
    assert 0.4 < seconds < 2
    assert (name, on_loop) == ("culprit", True)


async def test_task_that_is_no_handler_is_not_named() -> None:
    """A block that no handler causes is measured all the same."""
    ((_, name, _),) = (await watch(name="somebody", seconds=0.6)).all

    assert name is None


async def test_loop_that_never_comes_back_is_reported_by_the_onlooker(monkeypatch: pytest.MonkeyPatch) -> None:
    """A block that lasts is reported while it lasts, from the thread that looks."""
    monkeypatch.setattr(loop_watch, "WEDGED", 0.4)

    reports = await watch(name="culprit", seconds=1.0)

    assert reports.all[0][1:] == ("culprit", False)
    assert sum(1 for _, _, on_loop in reports.all if not on_loop) == 1


async def test_busy_loop_is_not_reported() -> None:
    """Work in small steps is no block."""
    reports = Reports()
    running = asyncio.create_task(LoopWatch(lambda task: None, reports).run())
    loop = asyncio.get_running_loop()
    end = loop.time() + 0.5

    while loop.time() < end:
        await asyncio.to_thread(lambda: None)
    running.cancel()

    assert reports.all == []
