"""Handlers: the job types that are run, what their payloads look like, and which nodes run them."""

from __future__ import annotations

from typing import Any, Literal

from aiohttp import web
from pydantic import Field

from gopher_node.api.documents import Document, Priority
from gopher_node.api.endpoint import endpoint
from gopher_node.api.nodes import served_by
from gopher_node.api.parts import PARTS
from gopher_node.api.queries import NoQuery
from gopher_node.api.views import respond


class HandlerDocument(Document):
    type: str
    description: str
    mode: Literal["async", "thread", "process", "push"] | None = Field(
        description="How it runs; null for a type that only other nodes know, of which no more can be told here."
    )
    endpoint: str | None
    timeout: float | None
    max_retries: int | None
    priority: Priority | None
    concurrency: int | None
    payload_schema: dict[str, Any]
    nodes: list[str] = Field(description="The nodes that run it.")


class HandlerListDocument(Document):
    items: list[HandlerDocument]


ELSEWHERE: dict[str, Any] = {
    "type": "",
    "description": "",
    "mode": None,
    "endpoint": None,
    "timeout": None,
    "max_retries": None,
    "priority": None,
    "concurrency": None,
    "payload_schema": {},
}


@endpoint("GET", "/api/v1/handlers", scope="read", answers={200: HandlerListDocument})
async def list_handlers(request: web.Request, query: NoQuery) -> web.Response:
    """List the handlers, each with the JSON schema of its payload and the nodes that run it."""
    parts = request.app[PARTS]
    served = await served_by(parts)
    items = [{**handler.describe(), "nodes": served.pop(handler.type, [])} for handler in parts.registry.handlers()]
    items += [{**ELSEWHERE, "type": type, "nodes": nodes} for type, nodes in sorted(served.items())]
    return respond({"items": items})


ENDPOINTS = (list_handlers,)
