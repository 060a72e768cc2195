"""The workers of a scenario: forked when needed, replaced when they die, as a service manager would."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tests.chaos.worker_process import Order

ROOT = Path(__file__).parent.parent.parent


@dataclass
class Member:
    """A worker that lives; `name` is its node's, which no other had before."""

    number: int
    name: str
    pid: int
    frozen: bool = False


@dataclass(frozen=True, slots=True)
class Blow:
    """What befell a worker: killed, paused, poisoned (it died by itself), or drained (it was told to stop, and did)."""

    kind: str
    node: str
    at: float
    seconds: float = 0.0
    code: int = 0


class Fleet:
    """
    So many workers at any time. `blows` is the record of what befell them, `processes` of where each ever was.

    One that ends, whatever the reason, is followed by another of the same number under a new name.
    """

    def __init__(self, size: int, order: Order, log: Path, environment: Mapping[str, str]) -> None:
        self.blows: list[Blow] = []
        self.members: dict[int, Member] = {}
        self.born = 0
        self.processes: dict[str, int] = {}
        self._size = size
        self._order = order
        self._log = log
        self._environment = environment
        self._nursery: asyncio.subprocess.Process | None = None
        self._listening: asyncio.Task[None] | None = None
        self._news = asyncio.Condition()
        self._thaws: set[asyncio.Task[None]] = set()
        self._expected: dict[int, Blow] = {}
        self._codes: dict[int, int] = {}
        self._replacing = True

    async def start(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **self._environment}
        with self._log.open("ab") as log:
            self._nursery = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.chaos.nursery"),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=environment,
                cwd=ROOT,
                start_new_session=True,
            )
        self._listening = asyncio.create_task(self._listen())
        for number in range(self._size):
            self._bear(number)
        await self._until(lambda: len(self.members) == self._size)

    async def stop(self) -> None:
        """Have all drain, and wait for their ends."""
        for thaw in list(self._thaws):
            thaw.cancel()
        self._replacing = False
        for member in list(self.members.values()):
            self._signal_all(member, signal.SIGCONT)
            with contextlib.suppress(ProcessLookupError):
                os.kill(member.pid, signal.SIGTERM)
        await self._until(lambda: not self.members)

    async def close(self) -> None:
        """End whatever still lives."""
        if self._nursery is not None and self._listening is not None:
            for member in self.members.values():
                self._signal_all(member, signal.SIGKILL)
            assert self._nursery.stdin is not None
            self._nursery.stdin.close()
            await self._nursery.wait()
            await self._listening

    async def kill(self, choice: float) -> None:
        """Kill the worker that the choice, from 0 to 1, falls on."""
        member = await self._choose(choice)
        self._expected[member.pid] = Blow("kill", member.name, time.time())
        os.kill(member.pid, signal.SIGKILL)

    async def pause(self, choice: float, seconds: float) -> None:
        """Freeze a worker and its children, as a host does that is overcommitted, and let it go on later."""
        member = await self._choose(choice, leave=2)
        member.frozen = True
        self.blows.append(Blow("pause", member.name, time.time(), seconds))
        self._signal_all(member, signal.SIGSTOP)

        async def thaw() -> None:
            await asyncio.sleep(seconds)
            member.frozen = False
            self._signal_all(member, signal.SIGCONT)

        task = asyncio.create_task(thaw())
        self._thaws.add(task)
        task.add_done_callback(self._thaws.discard)

    async def drain(self, choice: float) -> None:
        """Tell a worker to stop. Returns when it has ended."""
        member = await self._choose(choice)
        began = time.time()
        os.kill(member.pid, signal.SIGTERM)
        await self._until(lambda: self.members.get(member.number) is not member)
        self.blows.append(Blow("drain", member.name, began, time.time() - began, self._codes.pop(member.pid, 0)))

    async def settle(self) -> None:
        """Wait until nobody is frozen any more."""
        if self._thaws:
            await asyncio.wait(self._thaws)

    async def _choose(self, choice: float, leave: int = 0) -> Member:
        async with asyncio.timeout(30):
            while True:
                awake = [member for _, member in sorted(self.members.items()) if not self._is_struck(member)]
                if len(awake) > leave:
                    return awake[int(choice * len(awake))]
                await asyncio.sleep(0.01)

    def _is_struck(self, member: Member) -> bool:
        return member.frozen or member.pid in self._expected

    def _bear(self, number: int) -> None:
        assert self._nursery is not None
        assert self._nursery.stdin is not None
        self.born += 1
        order = replace(self._order, node=f"worker-{number}-{self.born}")
        self._nursery.stdin.write(json.dumps(order.words()).encode() + b"\n")

    async def _listen(self) -> None:
        assert self._nursery is not None
        assert self._nursery.stdout is not None
        async for line in self._nursery.stdout:
            word, first, second = line.decode().split()
            if word == "born":
                number = int(first.split("-")[1])
                self.members[number] = Member(number, first, int(second))
                self.processes[first] = int(second)
            else:
                self._bury(int(first), int(second))
            async with self._news:
                self._news.notify_all()
        async with self._news:
            self.members.clear()
            self._news.notify_all()

    def _bury(self, pid: int, code: int) -> None:
        member = next(member for member in self.members.values() if member.pid == pid)
        del self.members[member.number]
        blow = self._expected.pop(pid, None)
        if blow is None and code:
            blow = Blow("died", member.name, time.time(), code=code)
        if blow is not None:
            self.blows.append(blow)
        self._codes[pid] = code
        if self._replacing:
            self._bear(member.number)

    def _signal_all(self, member: Member, number: signal.Signals) -> None:
        for pid in _family(member.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    async def _until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(60), self._news:
            await self._news.wait_for(holds)


def _family(pid: int) -> Iterator[int]:
    """A process, and then all that descends from it."""
    yield pid
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield from _family(int(child))
