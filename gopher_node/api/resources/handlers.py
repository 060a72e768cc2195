"""Handlers: the job types that are run, what their payloads look like, and which nodes run them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Literal

from aiohttp import web
from pydantic import Field

from gopher_node.api.answers.documents import Document, Priority
from gopher_node.api.answers.flow import PolicyDocument
from gopher_node.api.answers.problems import Problem
from gopher_node.api.answers.views import respond
from gopher_node.api.endpoint import endpoint
from gopher_node.api.parts import PARTS, Parts
from gopher_node.api.requests.queries import NoQuery
from gopher_node.flow import UNLIMITED
from gopher_node.limits import show_policy


class HandlerDocument(Document):
    type: str
    description: str
    mode: Literal["async", "thread", "process", "push"] | None = Field(
        description="How it runs; null for a type of another node that does not say more of it."
    )
    endpoint: str | None
    timeout: float | None
    max_retries: int | None
    priority: Priority | None
    concurrency: int | None = Field(description="How many run at once on one node.")
    policy: PolicyDocument = Field(
        description="What its handler and the settings declare; what holds is told of its queue."
    )
    payload_schema: dict[str, Any] = Field(
        description="JSON Schema. Empty, so that it allows anything, if none is known: of another node's handler, one "
        "of more than 16 KiB is not."
    )
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
    "policy": show_policy(UNLIMITED),
    "payload_schema": {},
}


@endpoint("GET", "/api/v1/handlers", scope="read", answers={200: HandlerListDocument})
async def list_handlers(request: web.Request, query: NoQuery) -> web.Response:
    """
    List the handlers, each with the JSON schema of its payload and the nodes that run it.

    Those of this node come first, then those that only other nodes have, as they say.
    """
    return respond({"items": await _all(request.app[PARTS])})


@endpoint(
    "GET", "/api/v1/handlers/{type}", scope="read", answers={200: HandlerDocument}, problems=("handler-not-found",)
)
async def get_handler(request: web.Request, query: NoQuery) -> web.Response:
    """Show the handler of one type."""
    for handler in await _all(request.app[PARTS]):
        if handler["type"] == request.match_info["type"]:
            return respond(handler)
    raise Problem("handler-not-found", "GET /api/v1/handlers lists those there are.")


async def _all(parts: Parts) -> list[dict[str, Any]]:
    nodes = await parts.store.nodes.all()
    parts.catalogue.take(nodes)
    served: dict[str, list[str]] = {}
    for node in nodes:
        for type in node["types"]:
            served.setdefault(type, []).append(node["id"])
    published = {type: told.model_dump() for type, told in parts.catalogue.published.items()}
    known = [published.pop(here.type, None) or here.describe() for here in parts.registry.handlers()]
    known += [published[type] for type in sorted(published)]
    items = [{**handler, "nodes": served.pop(handler["type"], [])} for handler in known]
    items += [{**ELSEWHERE, "type": type, "nodes": ids} for type, ids in sorted(served.items())]
    return items


async def keep_catalogue(app: web.Application) -> AsyncIterator[None]:
    """Keep the catalogue up to date while the application runs."""
    task = asyncio.create_task(app[PARTS].catalogue.run(), name="catalogue")
    yield
    task.cancel()
    await asyncio.wait((task,), timeout=1.0)


ENDPOINTS = (list_handlers, get_handler)
