"""Queues: the jobs of one type, how many wait at which priority and for how long, and what an operator can do."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from pydantic import Field

from gopher_node.api.access.auth import note
from gopher_node.api.answers.documents import Count, Document
from gopher_node.api.answers.documents import Priority as PriorityWord
from gopher_node.api.answers.flow import STATES, BreakerState, PolicyDocument
from gopher_node.api.answers.latencies import TookDocument, Window
from gopher_node.api.answers.problems import Problem
from gopher_node.api.answers.views import respond
from gopher_node.api.endpoint import endpoint
from gopher_node.api.parts import PARTS
from gopher_node.api.requests.flow import Part, QueueEdit
from gopher_node.api.requests.queries import NoQuery, PriorityQuery, read_type
from gopher_node.api.resources.nodes import http_workers_by_type
from gopher_node.flow import UNLIMITED, FlowPolicy
from gopher_node.job import Priority, State
from gopher_node.limits import show_policy, written
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


class QueueDocument(TookDocument):
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
    policy: PolicyDocument = Field(description="What bounds its jobs: what operators set, else what is declared.")
    paused: bool = Field(description="Whether none of its jobs is begun.")
    paused_priorities: list[PriorityWord]
    paused_groups: list[str]
    draining: bool = Field(description="Whether it takes no new jobs.")
    breaker: BreakerState | None = Field(description=f"Of its circuit breaker, if it has one. {STATES}")


class QueueListDocument(Document):
    items: list[QueueDocument]


class PurgedDocument(Document):
    purged: Count


@endpoint("GET", "/api/v1/queues", scope="read", answers={200: QueueListDocument})
async def list_queues(request: web.Request, query: NoQuery) -> web.Response:
    """List the queues: how many jobs wait in each, for how long, and how fast they come and go."""
    queues, around = await request.app[PARTS].store.queues(), await _around(request)
    return respond({"items": [_show(queue, around) for queue in queues]})


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


@endpoint(
    "PATCH",
    "/api/v1/queues/{type}",
    scope="admin",
    body=QueueEdit,
    needs_body=True,
    answers={200: QueueDocument},
    problems=("queue-not-found", "invalid-body", "invalid-duration", "out-of-range", "unknown-field"),
)
async def edit_queue(request: web.Request, query: NoQuery, body: QueueEdit) -> web.Response:
    """
    Set what bounds the jobs of a type, in the whole cluster.

    It holds at once and goes before what handlers and settings declare; a null takes it back. A type may be bounded
    before its first job.
    """
    type = read_type(request)
    return await _changed(request, type, await request.app[PARTS].store.flow.set(type, body.patch()))


@endpoint(
    "POST",
    "/api/v1/queues/{type}/pause",
    scope="admin",
    body=Part,
    answers={200: QueueDocument},
    problems=("queue-not-found", "invalid-body", "invalid-name", "out-of-range", "unknown-field"),
)
async def pause_queue(request: web.Request, query: NoQuery, body: Part) -> web.Response:
    """
    Begin no job of a type, or of one of its priorities or groups, until that is resumed.

    What runs goes on, and new jobs are taken. Up to a thousand groups of a type can be paused at a time.
    """
    type = read_type(request)
    body.check()
    try:
        policy = await request.app[PARTS].store.flow.pause(type, body.priority, body.group)
    except ValueError as error:
        fault = {"pointer": "/group", "code": "out-of-range", "detail": str(error)}
        raise Problem("out-of-range", faults=[fault]) from None
    return await _changed(request, type, policy, body)


@endpoint(
    "POST",
    "/api/v1/queues/{type}/resume",
    scope="admin",
    body=Part,
    answers={200: QueueDocument},
    problems=("queue-not-found", "invalid-body", "invalid-name", "out-of-range", "unknown-field"),
)
async def resume_queue(request: web.Request, query: NoQuery, body: Part) -> web.Response:
    """
    Begin jobs again that were paused: of a type, or of one of its priorities or groups.

    A whole type takes new jobs again, too, if it was draining. What was paused by itself, a priority or a group, stays
    so until it is resumed by itself.
    """
    type = read_type(request)
    body.check()
    policy = await request.app[PARTS].store.flow.resume(type, body.priority, body.group)
    return await _changed(request, type, policy, body)


@endpoint(
    "POST",
    "/api/v1/queues/{type}/drain",
    scope="admin",
    answers={200: QueueDocument},
    problems=("queue-not-found",),
)
async def drain_queue(request: web.Request, query: NoQuery) -> web.Response:
    """
    Take no new jobs of a type until it is resumed; those that are there are run.

    Retries, and the jobs that others bring when they end, are taken.
    """
    type = read_type(request)
    return await _changed(request, type, await request.app[PARTS].store.flow.drain(type))


async def _changed(request: web.Request, type: str, policy: FlowPolicy, part: Part | None = None) -> web.Response:
    """The queue as it is now that its policy is this, which the audit line tells."""
    if part is None:
        note(request, limits=written(policy), draining=policy.draining)
    else:
        note(request, paused=policy.paused, priority=part.priority and part.priority.label, group=part.group)
    return respond(_show(*await _find(request, type, known=True)))


@dataclass(frozen=True, slots=True)
class _Around:
    """What is told of queues beside their jobs, by type."""

    served: Counter[str]
    window: Window
    policies: Mapping[str, FlowPolicy] = field(default_factory=dict[str, FlowPolicy])
    breakers: Mapping[str, str] = field(default_factory=dict[str, str])


async def _around(request: web.Request) -> _Around:
    store, latencies = request.app[PARTS].store, request.app[PARTS].latencies
    served, policies, window = await asyncio.gather(_served(request), store.flow.all(), latencies.read(store))
    # Most systems have none.
    has_breakers = any(policy.breaker for policy in policies.values())
    breakers = {breaker.type: breaker.state for breaker in await store.breakers.all()} if has_breakers else {}
    return _Around(served, window, policies, breakers)


async def _find(request: web.Request, type: str, *, known: bool = False) -> tuple[QueueState, _Around]:
    """A queue, and what is around it. Raises Problem if nobody knows of it."""
    parts = request.app[PARTS]
    queues, around = await parts.store.queues(type), await _around(request)
    if queues:
        return queues[0], around
    if not known and parts.registry.get(type) is None and type not in around.served and type not in around.policies:
        raise Problem("queue-not-found", "No job of this type is known, and nobody runs it.")
    return QueueState(type, {}, {}, {}, {}, {}), around


async def _served(request: web.Request) -> Counter[str]:
    """How many nodes and workers over HTTP run each type."""
    nodes = await request.app[PARTS].store.nodes.all()
    served = Counter(type for node in nodes for type in node.get("types", ()))
    served.update({type: len(names) for type, names in http_workers_by_type(request, nodes).items()})
    return served


def _show(queue: QueueState, around: _Around) -> dict[str, Any]:
    policy = around.policies.get(queue.type, UNLIMITED)
    ages = {level.label: queue.oldest_ms[level] / 1000 if level in queue.oldest_ms else None for level in LEVELS}
    return {
        "type": queue.type,
        "waiting": sum(queue.depth.values()),
        "depth": {level.label: queue.depth.get(level, 0) for level in LEVELS},
        "oldest_age": max((age for age in ages.values() if age is not None), default=None),
        "oldest_ages": ages,
        "states": {state.value: queue.states.get(state, 0) for state in State},
        "rates": {what: queue.rates.get(what, 0) for what in RATES},
        **around.window.show(queue.type),
        "served_by": around.served[queue.type],
        "policy": show_policy(policy),
        "paused": policy.paused,
        "paused_priorities": [level.label for level in policy.paused_priorities],
        "paused_groups": policy.paused_groups,
        "draining": policy.draining,
        "breaker": around.breakers.get(queue.type),
    }


ENDPOINTS = (list_queues, get_queue, edit_queue, purge_queue, pause_queue, resume_queue, drain_queue)
