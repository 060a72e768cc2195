"""Statistics: how many jobs there are, where they stand, and what became of all that came before."""

from __future__ import annotations

from collections import Counter
from typing import Any

from aiohttp import web

from gopher_node import __version__
from gopher_node.api.parts import PARTS
from gopher_node.api.queries import NoQuery, read_query
from gopher_node.api.views import respond
from gopher_node.job import Priority, State
from gopher_node.store import Stats


async def show_stats(request: web.Request) -> web.Response:
    parts = request.app[PARTS]
    read_query(request, NoQuery)
    stats = await parts.store.stats()
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
            "totals": stats.totals,
            "queues": _queues(stats),
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


def _queues(stats: Stats) -> list[dict[str, Any]]:
    depth: dict[str, Counter[str]] = {}
    states: dict[str, Counter[str]] = {}
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
        }
        for type, found in sorted(states.items())
    ]


ROUTES = [web.get("/api/v1/stats", show_stats)]
