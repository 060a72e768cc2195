"""The circuit breakers: whether the jobs of a type are held back, because most of its runs fail."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, Literal, cast

import orjson

from gopher_node.errors import BreakerNotFound
from gopher_node.flow import BreakerPolicy
from gopher_node.store.scripts import Run

BreakerState = Literal["closed", "open", "half-open", "forced-open", "forced-closed"]
Reason = Literal["failures", "cooldown", "probe-succeeded", "probe-failed", "forced", "reset"]
Force = Literal["open", "closed"]


@dataclass(frozen=True, slots=True)
class Breaker:
    """
    A type's breaker, as all nodes see it.

    `since_ms` is None if it has never moved. An open one lets a probe through from `until_ms` on; `probe` is the job
    that is the probe, while it runs. `ok` and `failed` count the runs that ended within the policy's window.
    """

    type: str
    state: BreakerState
    since_ms: int | None
    until_ms: int | None
    probe: str | None
    ok: int
    failed: int
    policy: BreakerPolicy


@dataclass(frozen=True, slots=True)
class BreakerMove:
    """How a breaker moved, and why; `ok` and `failed` are the runs that were counted, `job_id` is the probe's."""

    at_ms: int
    before: BreakerState
    after: BreakerState
    reason: Reason
    ok: int
    failed: int
    job_id: str | None


class Breakers:
    """The breakers of all types that have one in their policy."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def get(self, type: str, *, now: int | None = None) -> Breaker:
        """Raises BreakerNotFound if the type has none."""
        (answer,) = await self._run("breakers", type, now=now)
        if answer is None:
            raise _none(type)
        return _breaker(answer)

    async def all(self, *, now: int | None = None) -> list[Breaker]:
        answers = await self._run("breakers", now=now)
        return sorted((_breaker(answer) for answer in answers), key=lambda breaker: breaker.type)

    async def history(self, type: str) -> list[BreakerMove]:
        """Its last hundred moves, the oldest first."""
        return [_move(text) for text in await self._run("breaker_history", type)]

    async def force(self, type: str, state: Force | None, *, now: int | None = None) -> Breaker:
        """
        Hold it open or closed, whatever happens. None: it is closed, counts anew, and moves by itself again.

        Raises BreakerNotFound if the type has none.
        """
        wanted = "closed" if state is None else f"forced-{state}"
        if await self._run("force_breaker", uuid.uuid4().hex, type, wanted, now=now) is None:
            raise _none(type)
        return await self.get(type, now=now)


def _none(type: str) -> BreakerNotFound:
    return BreakerNotFound(f"Jobs of type {type!r} have no circuit breaker.")


def _breaker(answer: list[Any]) -> Breaker:
    """A breaker as breakers.lua tells it."""
    type, policy, state, since, until, probe, ok, failed = answer
    return Breaker(
        type.decode(),
        cast("BreakerState", state.decode()),
        since or None,
        until,
        None if probe is None else probe.decode(),
        ok,
        failed,
        BreakerPolicy.decode(orjson.loads(policy)),
    )


def _move(text: bytes) -> BreakerMove:
    told = orjson.loads(text)
    words = (told["from"], told["to"], told["why"])
    return BreakerMove(told["at"], *words, told["ok"], told["failed"], told["job_id"])
