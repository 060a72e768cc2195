"""What surrounds every request: its id, and the one place where an exception becomes an answer."""

from __future__ import annotations

import itertools
import re
import secrets
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from gopher_node.api.parts import PARTS
from gopher_node.api.problems import SERVER, Problem, answer, problem_of
from gopher_node.telemetry import get_logger

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = get_logger("gopher_node.api")

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
    request_id = request_id_of(request)
    try:
        if request.version.major != 1:
            raise Problem("bad-request", "Send HTTP/1.1.")
        response = await handler(request)
        response.headers["Server"] = SERVER
        response.headers["X-Request-ID"] = request_id
    except Exception as error:
        if isinstance(error, ConnectionError) and request.transport is None:
            # The client has gone; there is nobody to answer.
            raise
        problem = problem_of(error)
        if problem.name == "internal":
            log.error(
                "http.failed", request_id=request_id, method=request.method, route=_route(request), exc_info=error
            )
        response = answer(problem, request_id)
    if request.app[PARTS].draining.is_set():
        # Whoever keeps the connection would send the next request to a node that is about to go.
        response.force_close()
    return response


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
        request_id=response.headers.get("X-Request-ID"),
    )
    return response


def _route(request: web.Request) -> str:
    # The pattern, not the path: paths hold what clients made up.
    resource = request.match_info.route.resource
    return resource.canonical if resource else "unknown"
