"""What surrounds every request: its id, the headers of all answers, and where an exception becomes an answer."""

from __future__ import annotations

import itertools
import re
import secrets
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from gopher_node.api.access.auth import ACCESS, ACT, FACTS, LIMIT, address_of, key_of
from gopher_node.api.answers.problems import HEADERS, LISTED, Problem, answer, problem_of
from gopher_node.api.parts import PARTS
from gopher_node.telemetry import get_logger

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = get_logger("gopher_node.api")

REQUEST_ID: web.RequestKey[str] = web.RequestKey("REQUEST_ID", str)

WORKS = "This is a worker node, which answers only probes and /metrics. Ask a node with the role api or all."

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Those that are measured by their names. Clients may make up others."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}\Z")
_process = secrets.token_hex(6)
_count = itertools.count(1)


def new_request_id() -> str:
    """Unique over all processes, and cheap: one random part for each process."""
    return f"{_process}-{next(_count):x}"


def request_id_of(request: web.BaseRequest) -> str:
    """The client's own id for the request if that can stand in a log and a header, else a new one."""
    given = request.headers.get("X-Request-ID")
    return given if given is not None and _REQUEST_ID.match(given) else new_request_id()


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer every request, and measure how long that takes; of a streamed answer, until its end."""
    measures = request.app[PARTS].events.measures
    began, status = time.perf_counter(), "gone"
    measures.http_in_progress += 1
    try:
        response = await _respond(request, handler)
        status = f"{response.status // 100}xx"
        return response
    finally:
        measures.http_in_progress -= 1
        method = request.method if request.method in METHODS else "other"
        measures.http[f"{method} {_route(request)} {status}"].observe(time.perf_counter() - began)


async def _respond(request: web.Request, handler: Handler) -> web.StreamResponse:
    request_id = request[REQUEST_ID] = request_id_of(request)
    try:
        if request.version.major != 1:
            raise Problem("bad-request", "Send HTTP/1.1.")
        response = await handler(request)
        if ACT in request and response.status < 400:
            _audit(request, response.status)
    except Exception as error:
        if isinstance(error, ConnectionError) and request.transport is None:
            # The client has gone; there is nobody to answer.
            raise
        response = answer(explain(request, error), request_id)
    if request.app[PARTS].draining.is_set():
        # Whoever keeps the connection would send the next request to a node that is about to go.
        response.force_close()
    return response


def explain(request: web.Request, error: Exception) -> Problem:
    """The problem that this exception is. One that nobody foresaw is logged, for the answer says nothing of it."""
    problem = problem_of(error)
    if request.app[PARTS].settings.role == "worker":
        # It has no /docs either.
        problem.detail = problem.detail.replace(LISTED, WORKS)
    if problem.name == "internal":
        log.error(
            "http.failed",
            request_id=request[REQUEST_ID],
            method=request.method,
            route=_route(request),
            exc_info=error,
        )
    return problem


async def dress(request: web.Request, response: web.StreamResponse) -> None:
    """Give an answer the headers that all have, just before it is sent."""
    headers = response.headers
    for name, value in HEADERS.items():
        headers.setdefault(name, value)
    headers["Server"] = HEADERS["Server"]
    # What aiohttp refuses by itself has not come this way.
    if REQUEST_ID in request:
        headers["X-Request-ID"] = request[REQUEST_ID]
    if LIMIT in request:
        headers["RateLimit-Policy"], headers["RateLimit"] = request[LIMIT]
    base = request.app[ACCESS].server.base_path
    if base and headers.get("Location", "").startswith("/"):
        headers["Location"] = base + headers["Location"]


def _audit(request: web.Request, status: int) -> None:
    """One line for each act of an operator: who did what to what. What was sent and answered is left out."""
    key, found = key_of(request), request.match_info
    about = {"job_id": found.get("job_id"), "job_type": found.get("type") or request.query.get("type")}
    log.info(
        "audit",
        key_id=key.id,
        key_name=key.name,
        address=address_of(request, request.app[ACCESS]),
        method=request.method,
        route=_route(request),
        status=status,
        request_id=request[REQUEST_ID],
        **{name: value for name, value in about.items() if value is not None},
        **request.get(FACTS, {}),
    )


@web.middleware
async def log_access(request: web.Request, handler: Handler) -> web.StreamResponse:
    begun = time.perf_counter()
    response = await handler(request)
    log.debug(
        "http.request",
        method=request.method,
        route=_route(request),
        status=response.status,
        duration=round(time.perf_counter() - begun, 6),
        request_id=request[REQUEST_ID],
    )
    return response


def _route(request: web.Request) -> str:
    # The pattern, not the path: paths hold what clients made up.
    resource = request.match_info.route.resource
    return resource.canonical if resource else "unknown"
