"""What happened in each minute of the last two days, and how the queues stand now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from gopher_node.job import Priority, State
from gopher_node.store.scripts import Run
from gopher_node.store.values import Demand, Minute, QueueState

KEPT = 2 * 24 * 60
"""So many minutes are kept."""

_PAGE = 240
_TYPES_A_STEP = 50
_LEVELS = tuple(sorted(Priority, reverse=True))


class History:
    """Minutes, as any node writes them down; all nodes tick, and each minute is written once."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def tick(self, *, now: int | None = None) -> bool:
        """Write down the last whole minute, and forget silent nodes. False: somebody has done so already."""
        return bool(await self._run("minute", now=now))

    async def read(self, minutes: int, type: str | None = None, *, now: int | None = None) -> list[Minute]:
        """
        What is written down of so many last whole minutes, the oldest first.

        In a minute in which no node ran, nothing was written. Each names the hundred types to which most happened, and
        all others together as "(other)". How long runs and waits took is told of this type, or of all jobs.
        """
        found: list[Minute] = []
        while True:
            after = found[-1].at_ms if found else ""
            answer = await self._run("history", min(minutes, KEPT), after, _PAGE, type or "", now=now)
            for text, took in zip(answer[::2], answer[1::2], strict=True):
                content = orjson.loads(text)
                run, wait = _quantiles(took)
                # Not every server can tell an empty object from an empty list.
                found.append(Minute(content["at"], content["totals"] or {}, content["types"] or {}, run, wait))
            if len(answer) < 2 * _PAGE:
                return found

    async def demand(self, type: str | None, within: float, *, now: int | None = None) -> Demand:
        """How much there is to do for workers, now and within so many seconds, of a type or of all."""
        *numbers, exact = await self._run("demand", type or "", round(within * 1000), now=now)
        return Demand(*numbers, exact=bool(exact))


def _quantiles(took: bytes) -> Sequence[Sequence[float] | None]:
    """Those of runs and those of waits, in seconds; None of what did not happen in the minute."""
    numbers: list[float | None] = orjson.loads(took) if took else [None] * 6
    return [
        None if None in of_one else [number / 1000 for number in of_one if number is not None]
        for of_one in (numbers[:3], numbers[3:])
    ]


async def read_queues(run: Run, type: str | None, now: int | None) -> list[QueueState]:
    names = [name.decode() for name in await run("queues", now=now)]
    return await queues_of(run, sorted(names) if type is None else [type] if type in names else [], now)


async def queues_of(run: Run, wanted: Sequence[str], now: int | None) -> list[QueueState]:
    """How the queues of these types stand."""
    found: list[QueueState] = []
    while len(found) < len(wanted):
        step = wanted[len(found) : len(found) + _TYPES_A_STEP]
        found += [_queue(answer) for answer in await run("queues", *step, now=now)]
    return found


def _queue(answer: Sequence[Any]) -> QueueState:
    """A queue as queues.lua tells it."""
    name, counts, ages, totals, rates = answer
    depth = dict.fromkeys(_LEVELS, 0)
    states = dict.fromkeys(State, 0)
    for field, number in zip(counts[::2], counts[1::2], strict=True):
        state, priority = field.decode().split(":")
        states[State(state)] += int(number)
        if state == State.ENQUEUED:
            depth[Priority(int(priority))] = int(number)
    oldest = {level: age for level, age in zip(_LEVELS, ages, strict=True) if age != b""}
    return QueueState(name.decode(), depth, oldest, states, _numbers(totals), _numbers(rates))


def _numbers(flat: Sequence[bytes]) -> dict[str, int]:
    return {what.decode(): int(number) for what, number in zip(flat[::2], flat[1::2], strict=True)}
