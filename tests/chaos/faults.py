"""What goes wrong, drawn from a seed before it begins, and done when so much of the work has ended."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.chaos.fleet import Fleet
from tests.chaos.server import Server

LULL = 0.9
"""The part of the work that has ended when the last fault comes: what is left shows whether all recovers."""


@dataclass(frozen=True, slots=True)
class Fault:
    """`at` is the part of the work that has ended, `choice` says whom it hits, `seconds` how long it lasts."""

    at: float
    kind: str
    choice: float
    seconds: float


def plan_faults(seed: int, lease: float, *, kills: int = 0, pauses: int = 0, bounces: int = 0) -> list[Fault]:
    """
    In the order in which they come. The same seed draws the same faults; which jobs they hit is up to the machine.

    Pauses last 1.1 to 2.5 leases, so whoever wakes has lost what it held.
    """
    rng = random.Random(f"faults {seed}")
    faults: list[Fault] = []
    for kind, count, least, most in (
        ("kill", kills, 0.0, 0.0),
        ("pause", pauses, 1.1 * lease, 2.5 * lease),
        ("bounce", bounces, 0.0, 0.5),
    ):
        faults += [Fault(rng.uniform(0.01, LULL), kind, rng.random(), rng.uniform(least, most)) for _ in range(count)]
    return sorted(faults, key=lambda fault: fault.at)


class Faults:
    """Does what is planned; `done` counts what was."""

    def __init__(self, plan: list[Fault], fleet: Fleet, server: Server, progress: Callable[[], float]) -> None:
        self._plan = plan
        self._fleet = fleet
        self._server = server
        self._progress = progress
        self.done: dict[str, int] = {}

    async def run(self) -> None:
        for fault in self._plan:
            while self._progress() < fault.at:  # noqa: ASYNC110 - other processes make it
                await asyncio.sleep(0.005)
            match fault.kind:
                case "kill":
                    await self._fleet.kill(fault.choice)
                case "pause":
                    await self._fleet.pause(fault.choice, fault.seconds)
                case _:
                    await self._server.bounce(fault.seconds)
            self.done[fault.kind] = self.done.get(fault.kind, 0) + 1
        await self._fleet.settle()
