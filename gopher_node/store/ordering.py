"""In which order jobs are stored that wait for each other: parents first, so that each finds the one it waits for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from graphlib import CycleError, TopologicalSorter

from gopher_node.errors import DependencyCycle
from gopher_node.job import NewJob

MAX_PARENTS = 1000
"""So many jobs one job can wait for: what one step does to them all has a bound."""


def by_ids(jobs: Sequence[NewJob]) -> Sequence[NewJob]:
    """
    The jobs, each with the ids of those it waits for in place of their names.

    What names no job among these is taken for the id of one that is stored. Raises ValueError.
    """
    if not any(job.options.depends_on or job.options.name for job in jobs):
        return jobs
    ids: dict[str, str] = {}
    for job in jobs:
        if (name := job.options.name) and ids.setdefault(name, job.id) != job.id:
            raise ValueError(f"Two jobs have the name {name!r}.")
    return [renamed(job, ids) for job in jobs]


def renamed(job: NewJob, ids: dict[str, str]) -> NewJob:
    """The job with those it waits for under these other names. Raises ValueError if they are too many."""
    if not job.options.depends_on:
        return job
    parents = tuple(dict.fromkeys(ids.get(parent, parent) for parent in job.options.depends_on))
    if len(parents) > MAX_PARENTS:
        raise ValueError(f"A job can wait for at most {MAX_PARENTS} others, not {len(parents)}.")
    return replace(job, options=replace(job.options, depends_on=parents))


def parents_first(jobs: Sequence[NewJob]) -> list[int]:
    """
    The places of the jobs, in an order in which each comes behind all of them that it waits for.

    Where they are in such an order already it stays as it is. Jobs that were stored before cannot wait for these, so no
    circle leads beyond them. Raises DependencyCycle.
    """
    if not any(job.options.depends_on for job in jobs):
        return list(range(len(jobs)))
    places = {job.id: place for place, job in enumerate(jobs)}
    graph = {
        place: [places[parent] for parent in job.options.depends_on if parent in places]
        for place, job in enumerate(jobs)
    }
    if all(parent < place for place, parents in graph.items() for parent in parents):
        return list(graph)
    try:
        return list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        circle: list[int] = error.args[1]
        raise DependencyCycle([jobs[place].options.name or jobs[place].id for place in circle]) from None
