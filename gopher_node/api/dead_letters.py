"""Dead letters: the failed jobs, and their retry all together."""

from __future__ import annotations

from aiohttp import web

from gopher_node.api.jobs import respond_page
from gopher_node.api.parts import PARTS
from gopher_node.api.queries import DeadLettersQuery, TypeQuery, read_query
from gopher_node.api.views import respond
from gopher_node.job import State
from gopher_node.store import JobFilter


async def list_dead_letters(request: web.Request) -> web.Response:
    query = read_query(request, DeadLettersQuery)
    return await respond_page(request.app[PARTS], JobFilter(states=(State.FAILED,), type=query.type), query)


async def retry_all(request: web.Request) -> web.Response:
    query = read_query(request, TypeQuery)
    return respond({"retried": await request.app[PARTS].store.requeue_failed(query.type)})


ROUTES = [
    web.get("/api/v1/dead-letters", list_dead_letters),
    web.post("/api/v1/dead-letters/retry", retry_all),
]
