"""The API's own documentation: its description for programs, the same for people, and a page for each problem."""

from __future__ import annotations

import asyncio
import hashlib
from base64 import b64encode
from typing import Any

import orjson
from aiohttp import web
from pydantic import Field

from gopher_node.api.answers import pages
from gopher_node.api.answers.documents import Document
from gopher_node.api.answers.openapi import describe
from gopher_node.api.answers.problem_kinds import KINDS, Kind
from gopher_node.api.answers.problems import Problem
from gopher_node.api.answers.views import JSON, respond
from gopher_node.api.endpoint import Endpoint, endpoint
from gopher_node.api.parts import PARTS
from gopher_node.api.requests.queries import FreeQuery

ENDPOINTS_KEY: web.AppKey[tuple[Endpoint, ...]] = web.AppKey("ENDPOINTS", tuple)
_DESCRIPTION: web.AppKey[dict[str, Any]] = web.AppKey("DESCRIPTION", dict)

# The pages load nothing, from anywhere; their one style sheet stands in them.
_STYLE = b64encode(hashlib.sha256(pages.STYLE.encode()).digest()).decode()
HTML = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{_STYLE}'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
}


class KindDocument(Document):
    """What holds for every problem of one name."""

    type: str = Field(examples=["/problems/invalid-job"])
    title: str
    status: int
    advice: str = Field(description="What to do about it.")


class KindListDocument(Document):
    items: list[KindDocument]


class IndexDocument(Document):
    """Addresses to begin with."""

    docs: str
    openapi: str
    health: str


async def _described(app: web.Application) -> dict[str, Any]:
    made = app[_DESCRIPTION]
    if not made:
        base_path = app[PARTS].settings.server.base_path
        # It takes some time, once, which requests under way should not have to wait for.
        made.update(await asyncio.to_thread(describe, app[ENDPOINTS_KEY], base_path))
    return made


@endpoint("GET", "/openapi.json", scope=None, query=FreeQuery, answers={200: "application/json"})
async def openapi_document(request: web.Request, query: FreeQuery) -> web.Response:
    """Describe this API in OpenAPI 3.1."""
    content = await _described(request.app)
    return web.Response(body=orjson.dumps(content, option=orjson.OPT_INDENT_2), headers=JSON)


@endpoint("GET", "/docs", scope=None, query=FreeQuery, answers={200: "text/html"})
async def docs_page(request: web.Request, query: FreeQuery) -> web.Response:
    """Describe this API to people."""
    return web.Response(text=pages.reference(await _described(request.app)), headers=HTML)


@endpoint("GET", "/", scope=None, query=FreeQuery, answers={200: IndexDocument, 302: None}, tells=("Location",))
async def index(request: web.Request, query: FreeQuery) -> web.Response:
    """Show where to begin; browsers are led to the documentation."""
    if "text/html" in request.headers.get("Accept", ""):
        return web.Response(status=302, headers={"Location": "/docs"})
    base = request.app[PARTS].settings.server.base_path
    return respond({"docs": f"{base}/docs", "openapi": f"{base}/openapi.json", "health": f"{base}/health"})


@endpoint("GET", "/problems", scope=None, query=FreeQuery, answers={200: (KindListDocument, "text/html")})
async def list_problems(request: web.Request, query: FreeQuery) -> web.Response:
    """List all problems that an answer may be; to browsers as a page."""
    if "text/html" in request.headers.get("Accept", ""):
        return web.Response(text=pages.problems(), headers=HTML)
    return respond({"items": [_show(name, kind) for name, kind in sorted(KINDS.items())]})


@endpoint("GET", "/problems/{name}", scope=None, query=FreeQuery, answers={200: (KindDocument, "text/html")})
async def problem_page(request: web.Request, query: FreeQuery) -> web.Response:
    """Explain a problem and say what to do; to browsers as a page."""
    name = request.match_info["name"]
    kind = KINDS.get(name)
    if kind is None:
        raise Problem("not-found", "There is no problem of this name.")
    if "text/html" in request.headers.get("Accept", ""):
        return web.Response(text=pages.problem(name, kind), headers=HTML)
    return respond(_show(name, kind))


def _show(name: str, kind: Kind) -> dict[str, Any]:
    return {"type": f"/problems/{name}", "title": kind.title, "status": kind.status, "advice": kind.advice}


ENDPOINTS = (index, openapi_document, docs_page, list_problems, problem_page)


def document(app: web.Application, endpoints: tuple[Endpoint, ...]) -> None:
    """Have the application describe these endpoints."""
    app[ENDPOINTS_KEY] = endpoints
    app[_DESCRIPTION] = {}
