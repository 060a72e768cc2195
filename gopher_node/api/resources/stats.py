"""Statistics: how many jobs there are, where they stand, and what became of all that came before."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Annotated, Any

from aiohttp import web
from pydantic import Field

from gopher_node import __version__
from gopher_node.api.answers.documents import Count, Document, Moment
from gopher_node.api.answers.latencies import (
    QuantilesDocument,
    TookDocument,
    Window,
    WindowDocument,
    show_quantiles,
)
from gopher_node.api.answers.views import format_time, respond
from gopher_node.api.endpoint import endpoint
from gopher_node.api.parts import PARTS
from gopher_node.api.requests.fields import TypeName
from gopher_node.api.requests.queries import NoQuery, Query, whole
from gopher_node.job import Priority, State
from gopher_node.store import Minute, Stats
from gopher_node.store.history import KEPT

HAPPENINGS = ("submitted", "completed", "failed", "retried", "crashed", "cancelled")
Minutes = Annotated[int, whole(1, KEPT)]


class QueueStatsDocument(TookDocument):
    """
    The jobs of one type.

    Of each node, a hundred types are measured by themselves; those that came later are `other` together.
    """

    type: str
    depth: dict[str, Count]
    states: dict[str, Count]


class StatsNodeDocument(Document):
    id: str
    role: str
    version: str


class StatsDocument(Document):
    jobs_submitted: Count
    jobs_completed: Count
    jobs_failed: Count
    workers_active: Count
    queue_size: Count
    uptime: float
    jobs: dict[str, Count]
    totals: dict[str, Count]
    queues: list[QueueStatsDocument]
    latency: WindowDocument
    nodes_working: Count
    durability: str
    node: StatsNodeDocument


@endpoint("GET", "/api/v1/stats", scope="read", answers={200: StatsDocument}, aliases=("/stats",))
async def show_stats(request: web.Request, query: NoQuery) -> web.Response:
    """
    Show how many jobs there are, where they stand, what became of all that came before, and how long it took lately.

    `latency` tells from when to when that is: ten whole minutes and the present one. Nodes report every ten seconds.
    """
    parts = request.app[PARTS]
    stats, window = await asyncio.gather(parts.store.stats(), parts.latencies.read(parts.store))
    jobs = _by_state(stats)
    status = parts.status
    return respond(
        {
            "jobs_submitted": stats.totals.get("submitted", 0),
            "jobs_completed": stats.totals.get("completed", 0),
            "jobs_failed": stats.totals.get("failed", 0),
            # Each job that runs keeps one worker busy, whichever node it is on.
            "workers_active": jobs["processing"],
            "queue_size": jobs["enqueued"],
            "uptime": round(status.uptime, 3),
            "jobs": jobs,
            "totals": {**dict.fromkeys(HAPPENINGS, 0), **stats.totals},
            "queues": _queues(stats, window),
            "latency": window.show_all(),
            "nodes_working": stats.sessions,
            "durability": parts.store.durability,
            "node": {"id": status.id, "role": parts.settings.role, "version": __version__},
        }
    )


def _by_state(stats: Stats) -> dict[str, int]:
    jobs: dict[str, int] = {state.value: 0 for state in State}
    for (state, _, _), count in stats.counts.items():
        jobs[state.value] += count
    return jobs


def _queues(stats: Stats, window: Window) -> list[dict[str, Any]]:
    depth: dict[str, Counter[str]] = {}
    # What ran lately is told even if none of its jobs is kept.
    states: dict[str, Counter[str]] = {type: Counter() for type in window.types}
    for (state, priority, type), count in stats.counts.items():
        states.setdefault(type, Counter())[state.value] += count
        if state is State.ENQUEUED:
            depth.setdefault(type, Counter())[priority.label] += count
    levels = [level.label for level in sorted(Priority, reverse=True)]
    return [
        {
            "type": type,
            "depth": {level: depth.get(type, Counter[str]())[level] for level in levels},
            "states": {state.value: found[state.value] for state in State},
            **window.show(type),
        }
        for type, found in sorted(states.items())
    ]


class HistoryQuery(Query):
    type: TypeName | None = Field(None, description="Only jobs of this type. `queue` is another word for it.")
    minutes: Minutes = Field(60, description="How many minutes back, up to two days.")


class MinuteDocument(Document):
    """What happened in one minute."""

    at: Moment
    submitted: Count
    completed: Count
    failed: Count
    retried: Count
    crashed: Count
    cancelled: Count
    run_seconds: QuantilesDocument = Field(
        description="How long runs took that ended then. Of the last two minutes it is not known yet."
    )
    wait_seconds: QuantilesDocument = Field(description="How long jobs had been due that began then.")


class MinuteListDocument(Document):
    items: list[MinuteDocument]


@endpoint("GET", "/api/v1/stats/history", scope="read", query=HistoryQuery, answers={200: MinuteListDocument})
async def show_history(request: web.Request, query: HistoryQuery) -> web.Response:
    """
    Show what happened in each of the last minutes, to all jobs or to those of a type, the latest minute last.

    Two days are kept. A minute in which no node ran is left out, and so is the present one. How long runs and waits
    took is told of the hundred types that had most jobs in the minute, and of all others as `other`.
    """
    minutes = await request.app[PARTS].store.history.read(query.minutes, query.type)
    return respond({"items": [_show_minute(minute, query.type) for minute in minutes]})


def _show_minute(minute: Minute, type: str | None) -> dict[str, Any]:
    happened = minute.totals if type is None else minute.types.get(type, {})
    return {
        "at": format_time(minute.at_ms),
        **{what: happened.get(what, 0) for what in HAPPENINGS},
        "run_seconds": show_quantiles(minute.run),
        "wait_seconds": show_quantiles(minute.wait),
    }


ENDPOINTS = (show_stats, show_history)
