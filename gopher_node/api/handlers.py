"""Handlers: the job types that this node knows, and what their payloads look like."""

from __future__ import annotations

from typing import Any, Literal

from aiohttp import web

from gopher_node.api.documents import Document, Level
from gopher_node.api.endpoint import endpoint
from gopher_node.api.parts import PARTS
from gopher_node.api.queries import NoQuery
from gopher_node.api.views import respond


class HandlerDocument(Document):
    type: str
    description: str
    mode: Literal["async", "thread", "process"]
    timeout: float | None
    max_retries: int | None
    priority: Level | None
    concurrency: int | None
    payload_schema: dict[str, Any]


class HandlerListDocument(Document):
    items: list[HandlerDocument]


@endpoint("GET", "/api/v1/handlers", scope="read", answers={200: HandlerListDocument})
async def list_handlers(request: web.Request, query: NoQuery) -> web.Response:
    """List the handlers, each with the JSON schema of its payload."""
    return respond({"items": [handler.describe() for handler in request.app[PARTS].registry.handlers()]})


ENDPOINTS = (list_handlers,)
