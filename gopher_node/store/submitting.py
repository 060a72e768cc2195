"""How new jobs get into the store: alone, in bulk, and once however often they are sent."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

from gopher_node.errors import JobExists, KeyReused
from gopher_node.job import NewJob, State
from gopher_node.store import replies
from gopher_node.store.group_commit import GroupCommit
from gopher_node.store.scripts import Run
from gopher_node.store.values import Once, Submitted

MAX_BULK = 1000

Outcome = list[Submitted] | JobExists | KeyReused


@dataclass(frozen=True, slots=True)
class _Call:
    """
    What one caller wants stored: all of it, or none.

    The seed is random and tells this call from all others. The ids of jobs that are submitted once follow from it.
    Without a key and without ids that the client chose, a call cannot be refused, and needs no seed.
    """

    jobs: Sequence[NewJob]
    once: Once | None
    seed: str

    @classmethod
    def of(cls, jobs: Sequence[NewJob], once: Once | None) -> _Call:
        if once is None and not any(job.client_id for job in jobs):
            return cls(jobs, None, "")
        seed = uuid.uuid4().hex
        if once is not None:
            jobs = [replace(job, id=id) for job, id in zip(jobs, _ids(jobs, seed), strict=True)]
        return cls(jobs, once, seed)

    @property
    def size(self) -> int:
        return sum(len(job.payload) + 300 for job in self.jobs)

    def words(self) -> list[Any]:
        """What stands before the jobs of a call, for submit.lua."""
        key, fingerprint = (_digest(self.once.key), self.once.fingerprint) if self.once else ("", "")
        chosen = [str(number) for number, job in enumerate(self.jobs, 1) if job.client_id] if self.seed else []
        return [key, fingerprint, self.seed, " ".join(chosen)]


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
        outcome = await self._group.call(_Call.of((job,), once))
        return _accepted(outcome)[0]

    async def many(self, jobs: Sequence[NewJob], once: Once | None, now: int | None) -> list[Submitted]:
        if len(jobs) > MAX_BULK:
            raise ValueError(f"At most {MAX_BULK} jobs can be stored in one step, not {len(jobs)}.")
        if not jobs:
            return []
        (outcome,) = await self._send([_Call.of(jobs, once)], now=now)
        return _accepted(outcome)

    async def _send(self, calls: Sequence[_Call], *, now: int | None = None) -> list[Outcome]:
        # What cannot be refused is told as one call, which costs the server less.
        runs = [list(run) for _, run in groupby(calls, key=lambda call: call.seed)]
        words: list[Any] = [round(self._window() * 1000), len(runs)]
        for run in runs:
            jobs = [job for call in run for job in call.jobs]
            words += run[0].words()
            words.append(len(jobs))
            for job in jobs:
                words += replies.new_job_fields(job)
        answers = await self._run("submit", *words, now=now)
        outcomes = [outcome for run, answer in zip(runs, answers, strict=True) for outcome in _outcomes(run, answer)]
        self._tell_due(outcomes)
        return outcomes

    def _tell_due(self, outcomes: list[Outcome]) -> None:
        due = [
            job.due_ms - job.created_ms
            for outcome in outcomes
            if isinstance(outcome, list)
            for job in outcome
            if job.state is State.SCHEDULED and job.due_ms is not None and not job.replayed
        ]
        if due:
            self._stored(min(due))


def _outcomes(run: list[_Call], answer: list[Any]) -> list[Outcome]:
    """What became of calls that were told as one, from submit.lua."""
    word, *rest = answer
    first = run[0].jobs
    jobs = iter(rest)
    if word == b"exists":
        index: int = rest[0] - 1
        return [JobExists(rest[1].decode(), first[index].id, index=index)]
    if word == b"reused":
        return [KeyReused()]
    if word == b"replayed":
        ids = _ids(first, next(jobs).decode())
        return [[replies.submitted(id, next(jobs), replayed=True) for id in ids]]
    return [[replies.submitted(job.id, next(jobs)) for job in call.jobs] for call in run]


def _accepted(outcome: Outcome) -> list[Submitted]:
    if isinstance(outcome, (JobExists, KeyReused)):
        raise outcome
    return outcome
