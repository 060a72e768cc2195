"""What an operator does at random in a walk: in the store and in the model alike."""

from __future__ import annotations

import contextlib
import random

import pytest

from gopher_node.errors import InvalidState
from gopher_node.job import Priority, State
from gopher_node.store import JobFilter, Store
from tests.store.model import Life, Model

TYPES = ("a", "b", "c", "nobody's")


class OperatorSteps:
    """The steps of a walk that are an operator's."""

    store: Store
    model: Model
    rng: random.Random

    @property
    def now(self) -> int:
        return self.model.now_ms

    def any_life(self) -> Life | None:
        return self.rng.choice([*self.model.lives.values(), None])

    async def is_there(self, life: Life) -> bool:
        raise NotImplementedError

    async def cancel(self) -> None:
        if (life := self.any_life()) is not None and await self.is_there(life):
            allowed = not life.state.final or life.state is State.CANCELLED
            with contextlib.nullcontext() if allowed else pytest.raises(InvalidState):
                await self.store.cancel(life.job.id, now=self.now)
            self.model.cancel(life)

    async def requeue(self) -> None:
        if (life := self.any_life()) is not None and await self.is_there(life):
            with contextlib.nullcontext() if life.state.final else pytest.raises(InvalidState):
                await self.store.requeue(life.job.id, now=self.now)
            if life.state.final:
                self.model.requeue(life)

    async def requeue_failed(self) -> None:
        type = self.rng.choice((None, "a"))
        failed = [life for life in self.model.in_state(State.FAILED) if type in (None, life.job.type)]
        assert await self.store.requeue_failed(type) == len(failed)
        for life in failed:
            self.model.requeue(life)

    async def delete(self) -> None:
        if (life := self.any_life()) is not None and await self.is_there(life):
            running = life.state is State.PROCESSING
            with pytest.raises(InvalidState) if running else contextlib.nullcontext():
                await self.store.delete(life.job.id)
            if not running:
                self.model.drop(life)

    async def edit(self) -> None:
        if (life := self.any_life()) is not None and await self.is_there(life):
            level, due = self.rng.choice((None, *Priority)), self.rng.choice((None, self.now - 5, self.now + 2000))
            allowed = life.state in (State.SCHEDULED, State.ENQUEUED)
            with contextlib.nullcontext() if allowed else pytest.raises(InvalidState):
                await self.store.edit(life.job.id, priority=level, due_ms=due, now=self.now)
            if allowed:
                self.model.edit(life, level, due)

    async def run_now(self) -> None:
        if (life := self.any_life()) is not None and await self.is_there(life):
            with (
                contextlib.nullcontext()
                if life.state in (State.SCHEDULED, State.ENQUEUED)
                else pytest.raises(InvalidState)
            ):
                await self.store.run_now(life.job.id, now=self.now)
            if life.state is State.SCHEDULED:
                self.model.edit(life, None, self.now)

    async def cancel_many(self) -> None:
        type = self.rng.choice(TYPES)
        meant = [life for life in self.model.lives.values() if life.job.type == type and not life.state.final]
        count, cursor = 0, None
        while True:
            acted = await self.store.act("cancel", JobFilter(type=type), cursor, 5, now=self.now)
            count, cursor = count + acted.count, acted.next_cursor
            if cursor is None:
                break
        assert count == sum(not life.cancel for life in meant)
        for life in meant:
            self.model.cancel(life)

    async def purge(self) -> None:
        type, level = self.rng.choice(TYPES), self.rng.choice((None, *Priority))
        await self.store.purge(type, level)
        for life in self.model.in_state(State.ENQUEUED, State.SCHEDULED):
            if life.job.type == type and level in (None, life.priority):
                self.model.drop(life)
