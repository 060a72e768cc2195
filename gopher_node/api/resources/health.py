"""Health: what a node says to probes, load balancers and people about itself."""

from __future__ import annotations

import time
from typing import Any, Literal

from aiohttp import web
from pydantic import Field

from gopher_node.api.access.auth import may_look
from gopher_node.api.answers.documents import Document, Moment
from gopher_node.api.answers.views import format_time, respond
from gopher_node.api.endpoint import endpoint
from gopher_node.api.parts import PARTS, Parts
from gopher_node.api.requests.queries import FreeQuery

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


PROBE = {200: ChecksDocument, 503: ChecksDocument}


def _checks(parts: Parts) -> dict[str, str]:
    status = parts.status
    checks = {
        "node": status.dead_part() or OK,
        "started": OK if status.started else "The node is still starting.",
        "store": status.store_failure() or OK,
    }
    if parts.settings.role != "api":
        checks["worker"] = status.worker_failure() or OK
    checks["accepting"] = "The node is shutting down." if parts.draining.is_set() else OK
    return checks


def _answer(request: web.Request, checks: dict[str, str], good: str, bad: str) -> web.Response:
    well = all(found == OK for found in checks.values())
    return respond({"status": good if well else bad, **_details(request, checks)}, status=200 if well else 503)


def _details(request: web.Request, checks: dict[str, str]) -> dict[str, Any]:
    """What is amiss, which is not for everybody."""
    return {"checks": checks} if may_look(request) else {}


@endpoint("GET", "/livez", scope=None, query=FreeQuery, answers=PROBE)
async def livez(request: web.Request, query: FreeQuery) -> web.Response:
    """Tell whether to let the node live: a restart mends nothing else, least of all a store that is away."""
    checks = _checks(request.app[PARTS])
    return _answer(request, {"node": checks["node"]}, "alive", "dead")


@endpoint("GET", "/startupz", scope=None, query=FreeQuery, answers=PROBE)
async def startupz(request: web.Request, query: FreeQuery) -> web.Response:
    """Tell whether the node has started."""
    checks = _checks(request.app[PARTS])
    return _answer(request, {name: checks[name] for name in ("node", "started")}, "started", "starting")


@endpoint("GET", "/readyz", scope=None, query=FreeQuery, answers=PROBE)
async def readyz(request: web.Request, query: FreeQuery) -> web.Response:
    """
    Tell whether to send the node work.

    An api node stays ready while the store is away: it says "try again" itself, and if all were unready nobody would.
    """
    parts = request.app[PARTS]
    checks = _checks(parts)
    if parts.settings.role == "api":
        del checks["store"]
    return _answer(request, checks, "ready", "unready")


@endpoint("GET", "/health", scope=None, query=FreeQuery, answers={200: HealthDocument, 503: HealthDocument})
async def health(request: web.Request, query: FreeQuery) -> web.Response:
    """
    Tell people and monitors how the node is.

    Unhealthy if no job can be accepted or run, degraded if something else is amiss, such as a circuit breaker that is
    open.
    """
    parts = request.app[PARTS]
    checks = _checks(parts)
    held = await parts.open_breakers.look(parts.store) if checks["store"] == checks["started"] == OK else ()
    # Which types there are is nothing for everybody, and may be a lot for one line.
    more = ", …" if len(held) > MOST_NAMED else ""
    checks["breakers"] = f"Held back, as their runs fail: {', '.join(held[:MOST_NAMED])}{more}" if held else OK
    if any(checks[name] != OK for name in ("node", "started", "store")):
        status = "unhealthy"
    else:
        status = "healthy" if all(found == OK for found in checks.values()) else "degraded"
    content = {"status": status, "timestamp": format_time(time.time_ns() // 1_000_000)}
    return respond({**content, **_details(request, checks)}, status=503 if status == "unhealthy" else 200)


ENDPOINTS = (livez, readyz, startupz, health)
