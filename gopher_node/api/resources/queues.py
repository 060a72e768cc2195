"""Queues: the jobs of one type, how many wait at which priority and for how long, and emptying them."""

from __future__ import annotations

from collections import Counter
from typing import Any

from aiohttp import web
from pydantic import Field

from gopher_node.api.access.auth import note
from gopher_node.api.answers.documents import Count, Document
from gopher_node.api.answers.problems import Problem
from gopher_node.api.answers.views import respond
from gopher_node.api.endpoint import endpoint
from gopher_node.api.parts import PARTS
from gopher_node.api.requests.queries import NoQuery, PriorityQuery, read_type
from gopher_node.api.resources.nodes import http_workers_by_type
from gopher_node.job import Priority, State
from gopher_node.store import QueueState

LEVELS = sorted(Priority, reverse=True)
RATES = ("submitted", "completed", "failed")


class DepthDocument(Document):
    urgent: Count
    high: Count
    normal: Count
    low: Count


class AgesDocument(Document):
    urgent: float | None
    high: float | None
    normal: float | None
    low: float | None


class RatesDocument(Document):
    """Jobs in the last whole minute."""

    submitted: Count
    completed: Count
    failed: Count


class QueueDocument(Document):
    """The jobs of one type."""

    type: str
    waiting: Count = Field(description="Jobs that could run now.")
    depth: DepthDocument = Field(description="The same by priority.")
    oldest_age: float | None = Field(description="Seconds for which the oldest of them has waited.")
    oldest_ages: AgesDocument
    states: dict[str, Count]
    rates: RatesDocument
    served_by: Count = Field(
        description="How many run this type: nodes, and workers over HTTP that were seen within two minutes, by their "
        "names."
    )


class QueueListDocument(Document):
    items: list[QueueDocument]


class PurgedDocument(Document):
    purged: Count


@endpoint("GET", "/api/v1/queues", scope="read", answers={200: QueueListDocument})
async def list_queues(request: web.Request, query: NoQuery) -> web.Response:
    """List the queues: how many jobs wait in each, for how long, and how fast they come and go."""
    queues, served = await request.app[PARTS].store.queues(), await _served(request)
    return respond({"items": [_show(queue, served) for queue in queues]})


@endpoint("GET", "/api/v1/queues/{type}", scope="read", answers={200: QueueDocument}, problems=("queue-not-found",))
async def get_queue(request: web.Request, query: NoQuery) -> web.Response:
    """Show one queue."""
    return respond(_show(*await _find(request, read_type(request))))


@endpoint(
    "POST",
    "/api/v1/queues/{type}/purge",
    scope="admin",
    query=PriorityQuery,
    answers={200: PurgedDocument},
    problems=("queue-not-found",),
)
async def purge_queue(request: web.Request, query: PriorityQuery) -> web.Response:
    """Forget all that waits in a queue, or in one priority of it. There is no way back."""
    type = read_type(request)
    await _find(request, type)
    purged = await request.app[PARTS].store.purge(type, query.priority)
    note(request, count=purged)
    return respond({"purged": purged})


async def _find(request: web.Request, type: str) -> tuple[QueueState, Counter[str]]:
    """A queue, and how many serve each type. Raises Problem if nobody knows of it."""
    parts = request.app[PARTS]
    queues, served = await parts.store.queues(type), await _served(request)
    if queues:
        return queues[0], served
    if parts.registry.get(type) is None and type not in served:
        raise Problem("queue-not-found", "No job of this type is known, and nobody runs it.")
    return QueueState(type, {}, {}, {}, {}, {}), served


async def _served(request: web.Request) -> Counter[str]:
    """How many nodes and workers over HTTP run each type."""
    nodes = await request.app[PARTS].store.nodes.all()
    served = Counter(type for node in nodes for type in node.get("types", ()))
    served.update({type: len(names) for type, names in http_workers_by_type(request, nodes).items()})
    return served


def _show(queue: QueueState, served: Counter[str]) -> dict[str, Any]:
    ages = {level.label: queue.oldest_ms[level] / 1000 if level in queue.oldest_ms else None for level in LEVELS}
    return {
        "type": queue.type,
        "waiting": sum(queue.depth.values()),
        "depth": {level.label: queue.depth.get(level, 0) for level in LEVELS},
        "oldest_age": max((age for age in ages.values() if age is not None), default=None),
        "oldest_ages": ages,
        "states": {state.value: queue.states.get(state, 0) for state in State},
        "rates": {what: queue.rates.get(what, 0) for what in RATES},
        "served_by": served[queue.type],
    }


ENDPOINTS = (list_queues, get_queue, purge_queue)
