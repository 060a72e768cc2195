"""Which jobs of one request wait for which: names become ids, and what could never run is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from gopher_node.api.answers.problems import Fault
from gopher_node.api.requests.models import refusal
from gopher_node.job import JOB_ID, NewJob
from gopher_node.store import Submitted
from gopher_node.store.ordering import parents_first, renamed

MAX_EDGES = 10_000
"""So many times one job of a request may wait for another: resolving them takes the store a while."""

Place = Callable[[int], str]
"""The JSON pointer to the job of this index."""


def alone(index: int) -> str:
    """The place of a job that is a request by itself."""
    return ""


def in_array(index: int) -> str:
    return f"/{index}"


def resolve(jobs: Sequence[NewJob], place: Place = in_array) -> list[NewJob]:
    """
    The jobs of one request, each with the ids of those that it waits for in place of their names.

    An id that is not of this request is left for the store to know. Raises Problem, and DependencyCycle.
    """
    if not any(job.options.depends_on or job.options.name for job in jobs):
        return list(jobs)
    faults: list[Fault] = []
    ids: dict[str, str] = {}
    for index, job in enumerate(jobs):
        name = job.options.name
        if name and name in ids:
            faults.append(_fault(f"{place(index)}/name", "conflict", "is the name of another job of this request"))
        elif name:
            ids[name] = job.id
    resolved: list[NewJob] = []
    for index, job in enumerate(jobs):
        for number, parent in enumerate(job.options.depends_on):
            if parent not in ids and not JOB_ID.match(parent):
                detail = "names no job of this request; one that was stored before has to be named by its id"
                faults.append(_fault(f"{place(index)}/depends_on/{number}", "parent-not-found", detail))
        resolved.append(renamed(job, ids))
    if (edges := sum(len(job.options.depends_on) for job in resolved)) > MAX_EDGES:
        detail = f"must have at most {MAX_EDGES} entries in all their depends_on together, not {edges}"
        faults.append(_fault(place(0), "out-of-range", detail))
    if faults:
        raise refusal(faults)
    parents_first(resolved)
    return resolved


def as_stored(jobs: Sequence[NewJob], stored: Sequence[Submitted]) -> list[NewJob]:
    """The jobs as they were stored: with an idempotency key, the store chooses the ids that they refer to."""
    ids = {job.id: submitted.id for job, submitted in zip(jobs, stored, strict=True)}
    return [renamed(job, ids) for job in jobs]


def _fault(pointer: str, code: str, detail: str) -> Fault:
    return {"pointer": pointer, "code": code, "detail": detail}
