"""What an operator does to jobs, one by one or to many: cancel, retry, delete, edit, run now, purge."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from gopher_node.errors import DuplicateJob, InvalidState, JobNotFound
from gopher_node.job import FINAL_STATES, Job, Priority, State
from gopher_node.store.scripts import Run
from gopher_node.store.values import Acted, JobFilter

MAX_STEP = 200  # jobs that one step changes at most

Verb = Literal["cancel", "retry", "delete", "run_now"]
Find = Callable[[JobFilter, int, str | None], Awaitable[tuple[list[str], str | None]]]


@dataclass(frozen=True, slots=True)
class _Verb:
    """A verb's script, the states that allow it, and those that are meant when nobody says which."""

    script: str
    states: tuple[State, ...]
    default: tuple[State, ...]


# In the order in which a job passes through them, so that a walk meets a job that moves on meanwhile.
_CANCELLED = (State.SCHEDULED, State.BLOCKED, State.ENQUEUED, State.PROCESSING)
_ENDED = (State.COMPLETED, State.FAILED, State.CANCELLED)
_DELETED = (State.SCHEDULED, State.BLOCKED, State.ENQUEUED, *_ENDED)
_VERBS: dict[str, _Verb] = {
    "cancel": _Verb("cancel", _CANCELLED, _CANCELLED),
    "retry": _Verb("requeue", _ENDED, (State.FAILED,)),
    "delete": _Verb("delete", _DELETED, _DELETED),
    "run_now": _Verb("run_now", (State.SCHEDULED,), (State.SCHEDULED,)),
}


class Operating:
    """
    The operator's verbs.

    Each call of a script has an id. The jobs that it changes bear that id, or the store keeps its answer for a minute,
    so that a call whose answer was lost is told again without changing, or counting, anything twice.
    """

    def __init__(self, run: Run, find: Find, get: Callable[[str], Awaitable[Job]]) -> None:
        self._run = run
        self._find = find
        self._get = get

    async def _apply(self, verb: str, states: tuple[State, ...], ids: list[str], now: int | None) -> list[Any]:
        return await self._run(_VERBS[verb].script, uuid.uuid4().hex, " ".join(states), *ids, now=now)

    async def _apply_to_one(self, verb: str, id: str, now: int | None = None) -> State:
        """The state in which the verb found the job. Raises JobNotFound; of a retry, also what stands against that."""
        (answer,) = await self._apply(verb, _VERBS[verb].states, [id], now)
        if answer is None:
            raise JobNotFound(f"There is no job {id}.")
        if len(answer) > 2:
            if not answer[2]:
                raise InvalidState(answer[0].decode(), f"Job {id} has outlived its deadline; submit it as a new one.")
            other = await self._get(answer[2].decode())
            raise DuplicateJob(other.id, other.state)
        return State.PROCESSING if answer[0] == b"cancelling" else State(answer[0].decode())

    async def cancel(self, id: str, now: int | None) -> Job:
        before = await self._apply_to_one("cancel", id, now)
        if before in FINAL_STATES and before is not State.CANCELLED:
            raise InvalidState(before, f"Job {id} has {before} and can no longer be cancelled.")
        return await self._get(id)

    async def requeue(self, id: str, now: int | None) -> Job:
        before = await self._apply_to_one("retry", id, now)
        if before not in FINAL_STATES:
            raise InvalidState(before, f"Job {id} is {before}; only a job that has ended can be retried.")
        return await self._get(id)

    async def run_now(self, id: str, now: int | None) -> Job:
        before = await self._apply_to_one("run_now", id, now)
        if before not in (State.SCHEDULED, State.ENQUEUED):
            raise InvalidState(before, f"Job {id} is {before}; only a scheduled job can be run at once.")
        return await self._get(id)

    async def delete(self, id: str) -> None:
        before = await self._apply_to_one("delete", id)
        if before is State.PROCESSING:
            raise InvalidState(before, f"Job {id} is running. Cancel it first; delete it when it has ended.")

    async def edit(
        self, id: str, priority: Priority | None, due_ms: int | None, delay_ms: int | None, now: int | None
    ) -> Job:
        if due_ms is not None and delay_ms is not None:
            raise ValueError("Give due_ms or delay_ms, not both.")
        answer = await self._run(
            "edit",
            uuid.uuid4().hex,
            id,
            "" if priority is None else priority.value,
            "" if due_ms is None else due_ms,
            "" if delay_ms is None else delay_ms,
            now=now,
        )
        if answer is None:
            raise JobNotFound(f"There is no job {id}.")
        before = State(answer.decode())
        if before not in (State.SCHEDULED, State.ENQUEUED, State.BLOCKED):
            raise InvalidState(before, f"Job {id} is {before}; only a job that waits can be changed.")
        return await self._get(id)

    async def act(self, verb: Verb, filter: JobFilter, cursor: str | None, limit: int, now: int | None = None) -> Acted:
        stages = _stages(_VERBS[verb], filter)
        if not stages:
            return Acted(0, 0, None)
        stage, at = _read_cursor(cursor, stages)
        limit = max(1, min(limit, MAX_STEP))
        ids: list[str] = []
        while stage < len(stages) and len(ids) < limit:
            found, at = await self._find(replace(filter, states=stages[stage]), limit - len(ids), at)
            ids += found
            if at is not None:
                break
            stage += 1
        # The script is told the states too: a job may have moved on since it was found.
        wanted = tuple(state for states in stages for state in states)
        answers = await self._apply(verb, wanted, list(dict.fromkeys(ids)), now) if ids else []
        count = sum(1 for answer in answers if answer is not None and answer[0] != answer[1])
        return Acted(count, len(ids), f"{stages[stage][0]}.{at or ''}" if stage < len(stages) else None)

    async def act_on(self, verb: Verb, ids: Sequence[str], states: tuple[State, ...], now: int | None = None) -> int:
        answers = await self._apply(verb, states, list(dict.fromkeys(ids)), now) if ids else []
        return sum(1 for answer in answers if answer is not None and answer[0] != answer[1])

    async def cancel_all(self, ids: Sequence[str], now: int | None) -> None:
        if ids:
            await self._apply("cancel", _CANCELLED, list(ids), now)

    async def retry_failed(self, type: str | None) -> int:
        retried = 0
        cursor: str | None = None
        while True:
            # The walk goes from the latest to the oldest, so jobs that fail again meanwhile are not met twice.
            acted = await self.act("retry", JobFilter(states=(State.FAILED,), type=type), cursor, MAX_STEP)
            retried, cursor = retried + acted.count, acted.next_cursor
            if cursor is None:
                return retried

    async def purge(self, type: str, priority: Priority | None) -> int:
        deleted, cursor = 0, "0"
        while cursor:
            level = priority.value if priority else ""
            count, next_cursor = await self._run("purge", type, level, cursor, uuid.uuid4().hex)
            deleted += count
            cursor = next_cursor.decode()
        return deleted


def _stages(verb: _Verb, filter: JobFilter) -> list[tuple[State, ...]]:
    """
    What a walk goes through, one after the other.

    Jobs with a tag stand in one list whatever their state. All others are walked state by state, and no state that the
    verb moves jobs into is among them, so none is met twice.
    """
    wanted = tuple(state for state in verb.states if state in (filter.states or verb.default))
    if filter.tag is not None:
        return [wanted] if wanted else []
    return [(state,) for state in wanted]


def _read_cursor(cursor: str | None, stages: list[tuple[State, ...]]) -> tuple[int, str | None]:
    """Raises ValueError for text that no walk through these stages has given out."""
    if cursor is None:
        return 0, None
    name, dot, at = cursor.partition(".")
    for stage, states in enumerate(stages):
        if dot and name == states[0]:
            return stage, at or None
    raise ValueError("The cursor is not one that this walk has given out.")
