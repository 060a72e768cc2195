"""Rate limits: how many jobs of a type, or of each of its groups, may begin in a time, on all nodes together."""

from __future__ import annotations

from aiohttp import web

from gopher_node.api.access.auth import note
from gopher_node.api.answers.flow import RateLimitDocument, RateLimitListDocument, show_rate_limit
from gopher_node.api.answers.views import respond
from gopher_node.api.endpoint import endpoint
from gopher_node.api.parts import PARTS
from gopher_node.api.requests.flow import NewRateLimit
from gopher_node.api.requests.queries import NoQuery, read_type
from gopher_node.limits import written

PATH = "/api/v1/rate-limits/{type}"


@endpoint("GET", "/api/v1/rate-limits", scope="read", answers={200: RateLimitListDocument})
async def list_rate_limits(request: web.Request, query: NoQuery) -> web.Response:
    """List the types that have a rate limit, by name."""
    policies = sorted((await request.app[PARTS].store.flow.all()).items())
    limited = [(type, policy) for type, policy in policies if policy.rate or policy.group_rate]
    return respond({"items": [show_rate_limit(type, policy) for type, policy in limited]})


@endpoint("GET", PATH, scope="read", answers={200: RateLimitDocument}, problems=("queue-not-found",))
async def get_rate_limit(request: web.Request, query: NoQuery) -> web.Response:
    """Show the rate limit of a type; of one that has none, all is null."""
    type = read_type(request)
    return respond(show_rate_limit(type, await request.app[PARTS].store.flow.get(type)))


@endpoint(
    "POST",
    PATH,
    scope="admin",
    body=NewRateLimit,
    needs_body=True,
    answers={200: RateLimitDocument},
    problems=("queue-not-found", "invalid-body", "invalid-duration", "out-of-range", "unknown-field"),
)
async def set_rate_limit(request: web.Request, query: NoQuery, body: NewRateLimit) -> web.Response:
    """
    Limit how many jobs of a type may begin in a time, on all nodes together.

    It holds at once, whatever handlers and settings declare, until it is deleted. The jobs above it wait, and no other
    type waits for them.
    """
    type = read_type(request)
    policy = await request.app[PARTS].store.flow.set(type, body.patch())
    note(request, limits=written(policy))
    return respond(show_rate_limit(type, policy))


@endpoint("DELETE", PATH, scope="admin", answers={200: RateLimitDocument}, problems=("queue-not-found",))
async def delete_rate_limit(request: web.Request, query: NoQuery) -> web.Response:
    """Take back what was set of a type's rate limit. What is declared holds again, and is answered."""
    type = read_type(request)
    policy = await request.app[PARTS].store.flow.set(type, {"rate": None, "group_rate": None})
    note(request, limits=written(policy))
    return respond(show_rate_limit(type, policy))


ENDPOINTS = (list_rate_limits, get_rate_limit, set_rate_limit, delete_rate_limit)
