"""
Any number of jobs, submitted in batches: how a stream of them is cut, and what becomes of each.

A batch is stored whole or not at all, under an idempotency key, so one whose answer was lost is sent again and stored
once. That is why it is preferred here to the API's other form, a stream with an answer for each line, of which nobody
knows after a cut how far it came. The price is that one faulty job refuses its batch; so the jobs that the node
complains of are taken out, or the batch is halved where it does not say which they are, and the rest is sent again.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from gopher_node.client.calls import jobs
from gopher_node.client.calls.jobs import JobRequest
from gopher_node.client.problems import ApiError, FieldError, QueueDraining, QueueFull, error_for
from gopher_node.client.views import JobView
from gopher_node.client.wire import Flow, Wire
from gopher_node.errors import GopherError

MOST_JOBS = 1000
# The node takes twice as much; but a batch should not keep it from others for long either.
MOST_BYTES = 4 * 1024 * 1024

# What is wrong with the jobs and not with the client, its key or the node.
_ABOUT_JOBS = frozenset({400, 409, 413, 422})


@dataclass(frozen=True, slots=True)
class SubmitResult:
    """
    What became of one job of many: `index` counts from 0, and either `job` or `error` is set.

    The error is what `submit` would have raised: an ApiError, or a TypeError or ValueError for what cannot be sent.
    """

    index: int
    job: JobView | None = None
    error: Exception | None = None

    @property
    def ok(self) -> bool:
        return self.job is not None


@dataclass(slots=True)
class Batch:
    """Jobs that are sent together. Those that cannot be sent at all are in `results` already."""

    results: list[SubmitResult] = field(default_factory=list[SubmitResult])
    _jobs: list[tuple[int, bytes]] = field(default_factory=list[tuple[int, bytes]])
    _size: int = 0

    def __len__(self) -> int:
        return len(self._jobs) + len(self.results)

    def fits(self, body: bytes | None) -> bool:
        if len(self) >= MOST_JOBS:
            return False
        return body is None or not self._jobs or self._size + len(body) + 1 <= MOST_BYTES

    def add(self, index: int, body: bytes | Exception) -> None:
        if isinstance(body, Exception):
            self.results.append(SubmitResult(index, error=body))
        else:
            self._jobs.append((index, body))
            self._size += len(body) + 1

    def send(self, wire: Wire, patience: float = 0.0) -> Flow[GopherError | None]:
        """Submit them; `results` then says what became of each. Answers what put an early end to it, if anything."""
        waiting = [self._jobs] if self._jobs else []
        stopped: GopherError | None = None
        while waiting and stopped is None:
            part = waiting.pop()
            try:
                stored = yield from wire.exchange(jobs.submit_encoded([body for _, body in part]), patience)
            except ApiError as error:
                if error.status in _ABOUT_JOBS or isinstance(error, QueueFull):
                    waiting += self._set_aside(part, error)
                else:
                    stopped = error
            except GopherError as error:
                stopped = error
            else:
                self.results += [SubmitResult(index, job) for (index, _), job in zip(part, stored, strict=True)]
        self.results.sort(key=lambda result: result.index)
        return stopped

    def _set_aside(self, part: list[tuple[int, bytes]], error: ApiError) -> list[list[tuple[int, bytes]]]:
        """Record the jobs that are refused. Answers what is to be sent again."""
        faulty = {place: alone for place in range(len(part)) if (alone := _alone(error, place))}
        if isinstance(error, (QueueDraining, QueueFull)):
            # One is named, and each of its type would be refused: that is not to be waited for again and again.
            closed = {_type_of(part[place][1]) for place in faulty}
            error = error_for(replace(error.problem, errors=()))
            faulty = {place: error for place, (_, body) in enumerate(part) if _type_of(body) in closed}
        if len(part) == 1:
            self.results.append(SubmitResult(part[0][0], error=faulty.get(0, error)))
            return []
        if not faulty:
            middle = len(part) // 2
            return [part[middle:], part[:middle]]
        self.results += [SubmitResult(part[place][0], error=alone) for place, alone in faulty.items()]
        rest = [entry for place, entry in enumerate(part) if place not in faulty]
        return [rest] if rest else []


def _type_of(body: bytes) -> str:
    return orjson.loads(body)["type"]


def _alone(error: ApiError, place: int) -> ApiError | None:
    """The error of the batch as if the job in this place had been sent alone; None if it is not about that job."""
    start = f"/{place}"
    faults = tuple(
        FieldError(fault.pointer[len(start) :], fault.code, fault.detail)
        for fault in error.errors
        if fault.pointer == start or fault.pointer.startswith(f"{start}/")
    )
    if not faults:
        return None
    detail = "One thing is wrong; see errors." if len(faults) == 1 else f"{len(faults)} things are wrong; see errors."
    return error_for(replace(error.problem, errors=faults, detail=detail))


class _Cutter:
    """Makes batches of jobs that come one by one."""

    def __init__(self) -> None:
        self._index = 0
        self._batch = Batch()

    def add(self, job: Any) -> Batch | None:
        """The batch that this job does not fit into any more, if so."""
        try:
            body: bytes | Exception = jobs.encode_job(job)
        except (TypeError, ValueError) as error:
            body = error
        full = None
        if not self._batch.fits(body if isinstance(body, bytes) else None):
            full, self._batch = self._batch, Batch()
        self._batch.add(self._index, body)
        self._index += 1
        return full

    def rest(self) -> Batch | None:
        return self._batch if len(self._batch) else None


def batches(jobs: Iterable[JobRequest]) -> Iterator[Batch]:
    cutter = _Cutter()
    for job in jobs:
        if full := cutter.add(job):
            yield full
    if rest := cutter.rest():
        yield rest


async def batches_of(jobs: Iterable[JobRequest] | AsyncIterable[JobRequest]) -> AsyncIterator[Batch]:
    if not isinstance(jobs, AsyncIterable):
        for batch in batches(jobs):
            yield batch
        return
    cutter = _Cutter()
    async for job in jobs:
        if full := cutter.add(job):
            yield full
    if rest := cutter.rest():
        yield rest
