"""Circuit breakers: which types are held back because their runs fail, and what an operator can do about it."""

from __future__ import annotations

from typing import Literal

from aiohttp import web

from gopher_node.api.access.auth import note
from gopher_node.api.answers.flow import (
    BreakerDetailDocument,
    BreakerDocument,
    BreakerListDocument,
    show_breaker,
    show_move,
)
from gopher_node.api.answers.views import respond
from gopher_node.api.endpoint import endpoint
from gopher_node.api.parts import PARTS
from gopher_node.api.requests.queries import NoQuery
from gopher_node.errors import BreakerNotFound
from gopher_node.job import TYPE_NAME

PATH = "/api/v1/breakers/{type}"
PROBLEMS = ("breaker-not-found",)


@endpoint("GET", "/api/v1/breakers", scope="read", answers={200: BreakerListDocument})
async def list_breakers(request: web.Request, query: NoQuery) -> web.Response:
    """List the circuit breakers, by type."""
    return respond({"items": [show_breaker(breaker) for breaker in await request.app[PARTS].store.breakers.all()]})


@endpoint("GET", PATH, scope="read", answers={200: BreakerDetailDocument}, problems=PROBLEMS)
async def get_breaker(request: web.Request, query: NoQuery) -> web.Response:
    """Show the circuit breaker of a type, and how it moved."""
    breakers, type = request.app[PARTS].store.breakers, _type(request)
    found = await breakers.get(type)
    history = [show_move(move) for move in reversed(await breakers.history(type))]
    return respond({**show_breaker(found), "history": history})


@endpoint("POST", f"{PATH}/open", scope="admin", answers={200: BreakerDocument}, problems=PROBLEMS)
async def open_breaker(request: web.Request, query: NoQuery) -> web.Response:
    """Hold a breaker open: no job of the type is begun until it is closed or reset. Those that wait lose nothing."""
    return await _force(request, "open")


@endpoint("POST", f"{PATH}/close", scope="admin", answers={200: BreakerDocument}, problems=PROBLEMS)
async def close_breaker(request: web.Request, query: NoQuery) -> web.Response:
    """Hold a breaker closed, however many runs fail, until it is opened or reset."""
    return await _force(request, "closed")


@endpoint("POST", f"{PATH}/reset", scope="admin", answers={200: BreakerDocument}, problems=PROBLEMS)
async def reset_breaker(request: web.Request, query: NoQuery) -> web.Response:
    """Close a breaker and let it count anew; from then on it moves by itself again."""
    return await _force(request, None)


async def _force(request: web.Request, state: Literal["open", "closed"] | None) -> web.Response:
    found = await request.app[PARTS].store.breakers.force(_type(request), state)
    note(request, state=found.state)
    return respond(show_breaker(found))


def _type(request: web.Request) -> str:
    type = request.match_info["type"]
    if not TYPE_NAME.match(type):
        raise BreakerNotFound
    return type


ENDPOINTS = (list_breakers, get_breaker, open_breaker, close_breaker, reset_breaker)
