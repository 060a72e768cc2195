"""Events that tests can wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from gopher_node.job import Job, JobError, State
from gopher_node.telemetry import Events


@dataclass(frozen=True, slots=True)
class Settled:
    job: Job
    state: State | None
    outcome: str
    seconds: float
    error: JobError | None = None


class Recorder(Events):
    """
    Does what `Events` does, remembers every report, and wakes whoever waits for what it makes true.

    Nothing polls: a condition is looked at when it is first asked for, and again after each report.
    """

    def __init__(self, node_id: str = "test-node", **options: Any) -> None:
        super().__init__(node_id, **options)
        self.reports: list[tuple[str, tuple[Any, ...]]] = []
        self.settlements: list[Settled] = []
        self._waiting: list[tuple[Callable[[], object], asyncio.Future[None]]] = []

    def named(self, name: str) -> list[tuple[Any, ...]]:
        """The arguments of every report of this name, in order."""
        return [arguments for reported, arguments in self.reports if reported == name]

    async def until(self, condition: Callable[[], object], timeout: float = 10.0) -> None:
        """Return once the condition holds. It may look at anything that changes no later than a report."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Registered before the first look, or a report of another thread could fall between the two.
        self._waiting.append((condition, future))
        try:
            async with asyncio.timeout(timeout):
                if not condition():
                    await future
        except TimeoutError:
            names = [name for name, _ in self.reports]
            raise AssertionError(f"Still not true after {timeout} s. Reported so far: {names}") from None
        finally:
            self._waiting.remove((condition, future))

    async def until_reported(self, name: str, times: int = 1, timeout: float = 10.0) -> None:
        await self.until(lambda: len(self.named(name)) >= times, timeout)

    async def until_settled(self, count: int = 1, timeout: float = 10.0) -> list[Settled]:
        """The first `count` runs that were settled, once there are so many. A refused one counts too."""
        await self.until(lambda: len(self.settlements) >= count, timeout)
        return self.settlements[:count]

    def note(self, name: str, arguments: tuple[Any, ...]) -> None:
        """Remember a report and wake who waited for it."""
        self.reports.append((name, arguments))
        if name == "settled":
            self.settlements.append(Settled(*arguments))
        for condition, future in list(self._waiting):
            if not future.done() and condition():
                # Also right for a report from another thread, though none is expected.
                future.get_loop().call_soon_threadsafe(_finish, future)


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _recorded(name: str) -> Callable[..., None]:
    production = getattr(Events, name)

    def report(self: Recorder, *arguments: Any, **more: Any) -> None:
        production(self, *arguments, **more)
        self.note(name, (*arguments, *more.values()))

    return report


# Every report there is, so that a new one is recorded without a word here.
for _name, _member in vars(Events).items():
    if callable(_member) and not _name.startswith("_"):
        setattr(Recorder, _name, _recorded(_name))
