"""Queues: the jobs of one type that have not begun."""

from __future__ import annotations

from aiohttp import web

from gopher_node.api.parts import PARTS
from gopher_node.api.queries import PriorityQuery, read_query, read_type
from gopher_node.api.views import respond


async def purge(request: web.Request) -> web.Response:
    """Forget all that waits in a queue, or in one priority of it. There is no way back."""
    query = read_query(request, PriorityQuery)
    purged = await request.app[PARTS].store.purge(read_type(request), query.priority)
    return respond({"purged": purged})


ROUTES = [web.post("/api/v1/queues/{type:[^/]+}/purge", purge)]
