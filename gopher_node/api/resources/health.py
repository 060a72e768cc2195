"""Health: what a node says to probes, load balancers and people about itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from aiohttp import web
from pydantic import Field

from gopher_node.api.access.auth import may_look
from gopher_node.api.answers.documents import Document, Moment
from gopher_node.api.answers.views import format_time, respond
from gopher_node.api.endpoint import endpoint
from gopher_node.api.parts import PARTS, Parts
from gopher_node.api.requests.queries import FreeQuery
from gopher_node.api.status import NodeStatus

OK = "ok"
MOST_NAMED = 20

_ONLY_WITH_READ = "Where keys are in force, only for those with the scope read."


class ChecksDocument(Document):
    status: Literal["alive", "dead", "started", "starting", "ready", "unready"]
    checks: dict[str, str] | None = Field(None, description=_ONLY_WITH_READ)


class HealthDocument(Document):
    status: Literal["healthy", "degraded", "unhealthy"]
    timestamp: Moment
    checks: dict[str, str] | None = Field(None, description=_ONLY_WITH_READ)
    notes: dict[str, str] | None = Field(
        None, description=f"What is meant to be so, but good to know. {_ONLY_WITH_READ}"
    )


PROBE = {200: ChecksDocument, 503: ChecksDocument}

_STARTING = "The node is still starting: it waits for its store. Its log tells more."
_MEMORY = (
    "A job counts as accepted before it is on disk, so a crash of the store's server may lose the newest. "
    "With appendonly yes and appendfsync always it loses none."
)


@dataclass(frozen=True, slots=True)
class Check:
    """
    One thing that may be amiss, and who heeds it: the probes named, and /health, which calls a node unhealthy if it is
    `grave`, for then no job can be accepted or run. With `workers` it is only looked at where there is a worker.
    """

    name: str
    look: Callable[[NodeStatus], str | None]
    probes: tuple[str, ...] = ()
    grave: bool = False
    workers: bool = False


CHECKS = (
    Check("node", lambda status: status.dead_part(), ("livez", "startupz", "readyz"), grave=True),
    Check("loop", lambda status: status.wedged_loop(), ("livez", "readyz"), grave=True),
    Check("started", lambda status: None if status.started else _STARTING, ("startupz", "readyz"), grave=True),
    # An api node stays ready while the store is away: it says "try again" itself, and if all were unready nobody would.
    Check("store", lambda status: status.store_failure(), ("readyz of a worker",), grave=True),
    Check("worker", lambda status: status.deaf_worker(), ("readyz",), workers=True),
    Check("slots", lambda status: status.stuck_slots(), workers=True),
    Check("outcomes", lambda status: status.unsettled_outcomes(), workers=True),
    Check("scheduler", lambda status: status.late_scheduler()),
    Check("lag", lambda status: status.slow_loop()),
    Check("certificate", lambda status: status.old_certificate()),
)
GRAVE = {check.name for check in CHECKS if check.grave} | {"writes"}


def _look(parts: Parts, probe: str | None = None) -> dict[str, str]:
    """What each check of a probe, or all of them, has found."""
    works = parts.settings.role != "api"
    heeded = {probe, f"{probe} of a worker" if works else None}
    return {
        check.name: check.look(parts.status) or OK
        for check in CHECKS
        if (works or not check.workers) and (probe is None or heeded.intersection(check.probes))
    }


def _accepting(parts: Parts) -> dict[str, str]:
    return {
        "accepting": "The node is shutting down. Send work to another one, or start it again."
        if parts.status.stopping or parts.draining.is_set()
        else OK
    }


def is_ready(parts: Parts) -> bool:
    """What /readyz answers."""
    return _is_well({**_look(parts, "readyz"), **_accepting(parts)})


def _is_well(checks: dict[str, str]) -> bool:
    return all(found == OK for found in checks.values())


def _answer(request: web.Request, checks: dict[str, str], good: str, bad: str) -> web.Response:
    well = _is_well(checks)
    return respond({"status": good if well else bad, **_details(request, checks)}, status=200 if well else 503)


def _details(request: web.Request, checks: dict[str, str]) -> dict[str, Any]:
    """What is amiss, which is not for everybody."""
    return {"checks": checks} if may_look(request) else {}


@endpoint("GET", "/livez", scope=None, query=FreeQuery, answers=PROBE)
async def livez(request: web.Request, query: FreeQuery) -> web.Response:
    """Tell whether to let the node live: a restart mends nothing else, least of all a store that is away."""
    return _answer(request, _look(request.app[PARTS], "livez"), "alive", "dead")


@endpoint("GET", "/startupz", scope=None, query=FreeQuery, answers=PROBE)
async def startupz(request: web.Request, query: FreeQuery) -> web.Response:
    """Tell whether the node has started."""
    return _answer(request, _look(request.app[PARTS], "startupz"), "started", "starting")


@endpoint("GET", "/readyz", aliases=("/healthz",), scope=None, query=FreeQuery, answers=PROBE)
async def readyz(request: web.Request, query: FreeQuery) -> web.Response:
    """
    Tell whether to send the node work.

    An api node stays ready while the store is away: it says "try again" itself, and if all were unready nobody would.
    """
    parts = request.app[PARTS]
    return _answer(request, {**_look(parts, "readyz"), **_accepting(parts)}, "ready", "unready")


@endpoint("GET", "/health", scope=None, query=FreeQuery, answers={200: HealthDocument, 503: HealthDocument})
async def health(request: web.Request, query: FreeQuery) -> web.Response:
    """
    Tell people and monitors how the node is.

    Unhealthy if no job can be accepted or run, degraded if something else is amiss, such as a circuit breaker that is
    open.
    """
    parts = request.app[PARTS]
    checks = {**_look(parts), **_accepting(parts)}
    checks["writes"], checks["breakers"] = OK, OK
    if checks["store"] == checks["started"] == OK:
        refuses, held = await asyncio.gather(parts.status.refuses_jobs(), parts.open_breakers.look(parts.store))
        checks["writes"] = refuses or OK
        # It may be that it was this question that got no answer.
        checks["store"] = parts.status.store_failure() or OK
        # Which types there are is nothing for everybody, and may be a lot for one line.
        more = ", …" if len(held) > MOST_NAMED else ""
        if held:
            checks["breakers"] = f"Held back, as their runs fail: {', '.join(held[:MOST_NAMED])}{more}"
    status = "healthy" if _is_well(checks) else "degraded"
    if any(checks[name] != OK for name in GRAVE):
        status = "unhealthy"
    content = {"status": status, "timestamp": format_time(time.time_ns() // 1_000_000), **_details(request, checks)}
    if "checks" in content and parts.store.durability == "memory":
        content["notes"] = {"durability": _MEMORY}
    return respond(content, status=503 if status == "unhealthy" else 200)


ENDPOINTS = (livez, readyz, startupz, health)
