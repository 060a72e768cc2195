"""Queues: the jobs of one type that have not begun."""

from __future__ import annotations

from aiohttp import web

from gopher_node.api.documents import Count, Document
from gopher_node.api.endpoint import endpoint
from gopher_node.api.parts import PARTS
from gopher_node.api.queries import PriorityQuery, read_type
from gopher_node.api.views import respond


class PurgedDocument(Document):
    purged: Count


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
    purged = await request.app[PARTS].store.purge(read_type(request), query.priority)
    return respond({"purged": purged})


ENDPOINTS = (purge_queue,)
