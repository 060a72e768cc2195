"""Handlers: the job types that this node knows, and what their payloads look like."""

from __future__ import annotations

from aiohttp import web

from gopher_node.api.parts import PARTS
from gopher_node.api.queries import NoQuery, read_query
from gopher_node.api.views import respond


async def list_handlers(request: web.Request) -> web.Response:
    read_query(request, NoQuery)
    return respond({"items": [handler.describe() for handler in request.app[PARTS].registry.handlers()]})


ROUTES = [web.get("/api/v1/handlers", list_handlers)]
