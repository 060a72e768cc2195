"""How new jobs get into the store: alone, in bulk, and once however often they are sent."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from gopher_node.errors import (
    DuplicateJob,
    JobExists,
    KeyReused,
    ParentNotFound,
    QueueDraining,
    QueueFull,
    WorkflowEnded,
    WorkflowNotFound,
)
from gopher_node.job import NewJob, State
from gopher_node.store import replies
from gopher_node.store.group_commit import GroupCommit
from gopher_node.store.ordering import by_ids, parents_first, renamed
from gopher_node.store.scripts import Run
from gopher_node.store.values import Once, Submitted
from gopher_node.store.workflows import NewWorkflow, as_member, callbacks_of

MAX_BULK = 1000

Refusal = (
    JobExists | DuplicateJob | KeyReused | ParentNotFound | QueueDraining | QueueFull | WorkflowNotFound | WorkflowEnded
)
Outcome = list[Submitted] | Refusal


@dataclass(frozen=True, slots=True)
class _Call:
    """
    What one caller wants stored: all of it, or none.

    The seed is random and tells this call from all others. The ids of jobs that are submitted once follow from it.
    Without a key, ids that the client chose, and jobs that are unique or depend on others or belong to a workflow, a
    call cannot be refused, and needs no seed.
    """

    jobs: Sequence[NewJob]
    once: Once | None
    seed: str
    workflow: str = ""  # a new one, as submit.lua takes it
    callbacks: Sequence[NewJob] = ()

    @classmethod
    def of(cls, jobs: Sequence[NewJob], once: Once | None) -> _Call:
        if once is None and not any(job.client_id or _can_be_refused(job) for job in jobs):
            return cls(jobs, None, "")
        seed = uuid.uuid4().hex
        if once is not None:
            ids = _ids(jobs, seed)
            known = {job.id: id for job, id in zip(jobs, ids, strict=True)}
            jobs = [replace(renamed(job, known), id=id) for job, id in zip(jobs, ids, strict=True)]
        return cls(jobs, once, seed)

    @property
    def size(self) -> int:
        return sum(len(job.payload) + 300 for job in self.jobs)

    def words(self) -> list[Any]:
        """What stands before the jobs of a call, for submit.lua."""
        key, fingerprint = (_digest(self.once.key), self.once.fingerprint) if self.once else ("", "")
        chosen = [str(number) for number, job in enumerate(self.jobs, 1) if job.client_id] if self.seed else []
        return [key, fingerprint, self.seed, " ".join(chosen), self.workflow]


class _Replayed(list[Submitted]):
    """What an earlier call was answered, whose seed this is."""

    seed = ""


def _workflow_id(seed: str) -> str:
    return str(uuid.UUID(bytes=hashlib.sha256(f"{seed}:workflow".encode()).digest()[:16], version=4))


def _can_be_refused(job: NewJob) -> bool:
    options = job.options
    return bool(options.unique or options.depends_on or options.workflow)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _ids(jobs: Sequence[NewJob], seed: str) -> list[str]:
    """The ids of a call's jobs, which follow from its seed unless the client chose them."""
    return [
        job.id
        if job.client_id
        else str(uuid.UUID(bytes=hashlib.sha256(f"{seed}:{number}".encode()).digest()[:16], version=4))
        for number, job in enumerate(jobs)
    ]


class Submitting:
    """Stores new jobs. Concurrent single ones share a request; `stored` is told in how many ms the earliest is due."""

    def __init__(self, run: Run, window: Callable[[], float], stored: Callable[[int], None]) -> None:
        self._run = run
        self._window = window
        self._stored = stored
        self._group = GroupCommit[_Call, Outcome](self._send, size=lambda call: call.size)

    async def one(self, job: NewJob, once: Once | None) -> Submitted:
        parents_first((job,))
        outcome = await self._group.call(_Call.of((renamed(job, {}),), once))
        return _accepted(outcome)[0]

    async def many(self, jobs: Sequence[NewJob], once: Once | None, now: int | None) -> list[Submitted]:
        if len(jobs) > MAX_BULK:
            raise ValueError(f"At most {MAX_BULK} jobs can be stored in one step, not {len(jobs)}.")
        if not jobs:
            return []
        jobs = by_ids(jobs)
        order = parents_first(jobs)
        (outcome,) = await self._send([_Call.of([jobs[place] for place in order], once)], now=now)
        return _in_order(_accepted(outcome, order), order)

    async def workflow(self, new: NewWorkflow, once: Once | None, now: int | None) -> tuple[str, list[Submitted]]:
        """The id of a workflow that was stored with its jobs, which may be of an earlier call, and these jobs."""
        if not 1 <= len(new.jobs) <= MAX_BULK:
            raise ValueError(f"A workflow is stored with 1 to {MAX_BULK} jobs, not {len(new.jobs)}.")
        jobs = by_ids([as_member(job, new.id) for job in new.jobs])
        order = parents_first(jobs)
        call = _Call.of([jobs[place] for place in order], once)
        id = _workflow_id(call.seed) if once else new.id
        callbacks = callbacks_of(new, id)
        names = ",".join(callbacks) or "-"
        members = [as_member(job, id) for job in call.jobs]
        call = replace(call, jobs=members, workflow=f"{id} {names} {new.name}", callbacks=list(callbacks.values()))
        (outcome,) = await self._send([call], now=now)
        stored = _accepted(outcome, order)
        if once and stored[0].replayed:
            id = _workflow_id(outcome.seed) if isinstance(outcome, _Replayed) else id
        return id, _in_order(stored, order)

    async def _send(self, calls: Sequence[_Call], *, now: int | None = None) -> list[Outcome]:
        # What cannot be refused is told as one call, which costs the server less.
        runs = [list(run) for _, run in groupby(calls, key=lambda call: call.seed)]
        words: list[Any] = [round(self._window() * 1000), len(runs)]
        for run in runs:
            jobs = [job for call in run for job in call.jobs]
            said = run[0].words()
            if len(run) > 1:
                said[1] = "each"
            words += [*said, len(jobs)]
            for job in (*jobs, *run[0].callbacks):
                words += replies.new_job_fields(job)
        answers = await self._run("submit", *words, now=now)
        outcomes = [outcome for run, answer in zip(runs, answers, strict=True) for outcome in _outcomes(run, answer)]
        self._tell_due(calls, outcomes)
        return outcomes

    def _tell_due(self, calls: Sequence[_Call], outcomes: list[Outcome]) -> None:
        due: list[int] = []
        for call, outcome in zip(calls, outcomes, strict=True):
            if isinstance(outcome, list):
                for job, stored in zip(call.jobs, outcome, strict=True):
                    due += _alarms(job, stored)
        if due:
            self._stored(min(due))


def _alarms(job: NewJob, stored: Submitted) -> Iterator[int]:
    """In how many ms there is something to be done about a job that was stored."""
    if stored.replayed:
        return
    if stored.twin:
        # It may have moved a job that was stored before; when that is due, the scheduler is told by the store.
        yield from (0,) if stored.state is State.SCHEDULED else ()
        return
    if stored.state is State.SCHEDULED and stored.due_ms is not None:
        yield stored.due_ms - stored.created_ms
    if job.options.expires_ms is not None:
        yield max(0, job.options.expires_ms - stored.created_ms)
    elif job.options.ttl_ms is not None:
        yield job.options.ttl_ms


def _outcomes(run: list[_Call], answer: list[Any]) -> list[Outcome]:
    """What became of calls that were told as one, from submit.lua."""
    word, *rest = answer
    first = run[0].jobs
    jobs = iter(rest)
    if word == b"exists":
        index: int = rest[0] - 1
        return [JobExists(rest[1].decode(), first[index].id, index=index)]
    if word == b"duplicate":
        return [DuplicateJob(rest[1].decode(), State(rest[2].decode()), index=rest[0] - 1)]
    if word == b"no-parent":
        return [ParentNotFound(rest[1].decode(), index=rest[0] - 1)]
    if word == b"no-workflow":
        return [WorkflowNotFound()]
    if word == b"ended":
        return [WorkflowEnded(rest[1].decode())]
    if word == b"reused":
        return [KeyReused()]
    if word in (b"draining", b"full"):
        return [_refused(answer)]
    if word == b"replayed":
        seed: str = next(jobs).decode()
        replayed = _Replayed(replies.submitted(id, next(jobs), replayed=True) for id in _ids(first, seed))
        replayed.seed = seed
        return [replayed]
    if len(run) > 1:  # these have one job each
        told = zip(run, jobs, strict=True)
        return [
            _refused(one) if one[0] in (b"draining", b"full") else [replies.submitted(call.jobs[0].id, one)]
            for call, one in told
        ]
    return [[replies.submitted(job.id, next(jobs)) for job in first]]


def _refused(answer: list[Any]) -> QueueDraining | QueueFull:
    word, type, *numbers = answer
    return QueueDraining(type.decode()) if word == b"draining" else QueueFull(type.decode(), *numbers)


def _accepted(outcome: Outcome, order: Sequence[int] = (0,)) -> list[Submitted]:
    """`order` are the places at which the call's jobs stood before they were put in order."""
    if isinstance(outcome, (JobExists, DuplicateJob, ParentNotFound)):
        outcome.index = order[outcome.index]
    if not isinstance(outcome, list):
        raise outcome
    return outcome


def _in_order(stored: Sequence[Submitted], order: Sequence[int]) -> list[Submitted]:
    found = dict(zip(order, stored, strict=True))
    return [found[place] for place in range(len(order))]
