"""How many slots a node gives itself: the decisions, what they are made of, and that the slots follow."""

from __future__ import annotations

import asyncio
import resource
from dataclasses import replace
from pathlib import Path

import pytest

from gopher_node.telemetry.loop_watch import LoopWatch
from gopher_node.worker import adaptive
from gopher_node.worker.adaptive import REST, Adaptive, Reading, SlotKeeper
from gopher_node.worker.load import Load, memory_limit, processors
from gopher_node.worker.slots import Slots

from .conftest import Bench

CALM = Reading(busy=0, lag=0.0, cpu=0.1, memory=0.2)


def test_slots_grow_while_all_are_busy() -> None:
    """By the same number at each look, up to the most; free slots are no reason for more."""
    deciding = Adaptive(10, 50)

    assert [deciding.look(float(n), replace(CALM, busy=10 + 2 * n)) for n in range(3)] == [12, 14, 16]
    assert deciding.look(3.0, replace(CALM, busy=15)) == 16
    for n in range(4, 40):
        deciding.look(float(n), replace(CALM, busy=deciding.limit))
    assert deciding.limit == 50


@pytest.mark.parametrize("strain", [{"lag": 0.3}, {"cpu": 0.99}, {"memory": 0.95}])
def test_slots_shrink_by_a_part_under_strain(strain: dict[str, float]) -> None:
    """From what was busy, then not again until that can show, and never below the fewest."""
    deciding = Adaptive(10, 500)
    deciding.limit = 400
    strained = replace(CALM, busy=100, **strain)

    assert deciding.look(1.0, strained) == 75
    assert deciding.look(1.0 + REST - 0.1, strained) == 75
    assert deciding.look(1.0 + REST, replace(strained, busy=12)) == 10
    assert deciding.look(100.0, strained) == 10


@pytest.mark.parametrize("load", [{"lag": 0.1}, {"cpu": 0.9}, {"memory": 0.85}])
def test_between_calm_and_strain_nothing_changes(load: dict[str, float]) -> None:
    """A node that is well used has found its number."""
    deciding = Adaptive(10, 500)
    deciding.limit = 40

    assert deciding.look(1.0, replace(CALM, busy=40, **load)) == 40


def test_slots_that_shrink_go_as_their_jobs_end() -> None:
    """Nothing is claimed while more jobs run than there are slots, and what opens again is told."""
    slots = Slots(3, [], processes=1)
    for _ in range(3):
        slots.take("a")
    slots.resize(1)
    assert (slots.free, slots.take_peak(), slots.take_peak()) == (-2, 3, 3)
    for _ in range(2):
        slots.give_back("a")
    assert (slots.free, slots.opened.is_set()) == (0, False)

    slots.resize(2)

    assert (slots.free, slots.opened.is_set()) == (1, True)


def test_control_groups_bound_what_may_be_used(tmp_path: Path) -> None:
    """The least that the process's group, or one above it, allows; nothing readable is no bound."""
    group = tmp_path / "sys/fs/cgroup/jobs/node"
    group.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    assert memory_limit(tmp_path) is None
    (tmp_path / "proc/self/cgroup").write_text("0::/jobs/node\n")
    (tmp_path / "proc/self/statm").write_text("9999 100 1 1 0 1 0\n")
    (tmp_path / "proc/meminfo").write_text("MemTotal: 99 kB\nMemAvailable: 8000000 kB\n")
    (group / "memory.max").write_text("max\n")
    (group / "cpu.max").write_text("50000 100000\n")
    (group.parent / "memory.max").write_text(f"{resource.getpagesize() * 400}\n")
    (group.parent / "cpu.max").write_text("max 100000\n")

    assert (memory_limit(tmp_path), processors(tmp_path)) == (resource.getpagesize() * 400, 0.5)
    load = Load(tmp_path)
    assert load.read(1.0) == (0.0, pytest.approx(0.25, rel=0.01))
    load._last = (1.0, 0.0, 0.0)  # pyright: ignore[reportPrivateUsage]
    # The loop's thread has one processor at most, whatever the process may use.
    assert load._cpu(2.0, 0.2, 0.1) == pytest.approx(0.4)  # pyright: ignore[reportPrivateUsage]
    assert load._cpu(3.0, 0.3, 0.9) == pytest.approx(0.8)  # pyright: ignore[reportPrivateUsage]


async def test_a_late_loop_is_noticed_and_calm_slots_grow() -> None:
    """The keeper looks at the slots and the loop that it was given, and tells when there is room again."""
    slots, told = Slots(1, [], processes=1), list[int]()
    watch = LoopWatch(lambda task: None, lambda late, name: None)
    keeper = SlotKeeper(Adaptive(1, 3), slots, watch, lambda: told.append(slots.free))
    watch._last_beat -= 1.0  # pyright: ignore[reportPrivateUsage]
    load = Load(Path("/nowhere"))
    slots.take("a")
    keeper.look(1.0, load)
    assert slots.total == 1

    watch._last_beat += 1.0  # pyright: ignore[reportPrivateUsage]
    keeper.look(2.0, load)

    assert (slots.total, told) == (2, [1])


async def test_a_worker_takes_more_as_long_as_it_copes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `auto` a node begins with the fewest slots, and its status tells how many there are now."""
    monkeypatch.setattr(adaptive, "EVERY", 0.01)
    monkeypatch.setattr(Load, "read", lambda self, now: (0.0, 0.0))  # pyright: ignore[reportUnknownLambdaType]
    monkeypatch.setattr(LoopWatch, "take_lag", lambda self: 0.0)  # pyright: ignore[reportUnknownLambdaType]
    all_run, finish = asyncio.Event(), asyncio.Event()
    running = 0

    @bench.registry.handler("slow")
    async def slow() -> None:
        nonlocal running
        running += 1
        if running == 3:
            all_run.set()
        await finish.wait()

    worker = bench.start(concurrency="auto", concurrency_min=1, concurrency_max=3)
    ids = [await bench.submit("slow") for _ in range(4)]
    async with asyncio.timeout(10):
        await all_run.wait()

    assert (worker.status().slots, worker.status().busy) == (3, 3)
    finish.set()
    for id in ids:
        await bench.finished(id)
