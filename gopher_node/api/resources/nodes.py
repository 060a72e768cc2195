"""Nodes and workers: which processes there are, what they run, and how each of them fares."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from aiohttp import web
from pydantic import Field

from gopher_node.api.answers.documents import Count, Document, Moment
from gopher_node.api.answers.problems import Problem
from gopher_node.api.answers.views import format_time, respond
from gopher_node.api.endpoint import endpoint
from gopher_node.api.http_work.http_workers import HTTP_WORKERS, LATELY_MS
from gopher_node.api.parts import PARTS
from gopher_node.api.requests.queries import NoQuery

SILENT = 15.0
"""Seconds without a word, of which a node has one every ten, after which it may be gone."""


class PerMinuteDocument(Document):
    completed: float
    failed: float
    cancelled: float
    crashed: float


class NodeDocument(Document):
    """A node, as it last told of itself. Its counts begin with it."""

    id: str
    role: str
    version: str
    host: str
    pid: int
    url: str | None
    started_at: Moment
    last_seen: Moment = Field(description="When it told this.")
    status: Literal["ok", "draining", "silent"] = Field(
        description="`silent` once it has told nothing for fifteen seconds: it may be gone."
    )
    draining: bool
    types: list[str] = Field(description="The job types that it runs.")
    slots: Count = Field(description="How many jobs it can run at once.")
    running: Count
    stuck: Count = Field(description="Slots whose handler goes on although its run is settled.")
    utilisation: float = Field(description="The part of its slots that was busy in the last minute, 0 to 1.")
    completed: Count
    failed: Count
    cancelled: Count
    crashed: Count
    per_minute: PerMinuteDocument


class NodeListDocument(Document):
    items: list[NodeDocument]


class WorkerDocument(Document):
    """Who runs jobs: the worker of a node, or one over HTTP under the name that it gives, as a node has counted it."""

    name: str
    kind: Literal["node", "http"]
    node: str = Field(description="The node that it is part of, or talks to.")
    running: Count
    completed: Count
    failed: Count
    slots: Count | None = Field(None, description="Of a node's worker.")
    crashed: Count | None = Field(None, description="Of a node's worker.")
    utilisation: float | None = Field(None, description="Of a node's worker.")
    per_minute: PerMinuteDocument | None = Field(None, description="Of a node's worker.")
    claimed: Count | None = Field(None, description="Of a worker over HTTP.")
    released: Count | None = Field(None, description="Of a worker over HTTP.")
    last_seen: Moment | None = Field(None, description="Of a worker over HTTP.")


class WorkersDocument(Document):
    workers: Count = Field(description="How many jobs the nodes can run at once.")
    items: list[WorkerDocument]


@endpoint("GET", "/api/v1/nodes", scope="read", answers={200: NodeListDocument})
async def list_nodes(request: web.Request, query: NoQuery) -> web.Response:
    """List the nodes that have told of themselves within a minute."""
    nodes = await request.app[PARTS].store.nodes.all()
    return respond({"items": [_show_node(node) for node in nodes]})


@endpoint("GET", "/api/v1/nodes/{node_id}", scope="read", answers={200: NodeDocument}, problems=("node-not-found",))
async def get_node(request: web.Request, query: NoQuery) -> web.Response:
    """Show one node."""
    for node in await request.app[PARTS].store.nodes.all():
        if node["id"] == request.match_info["node_id"]:
            return respond(_show_node(node))
    raise Problem("node-not-found", "It has stopped, or has not told of itself for a minute.")


@endpoint("GET", "/api/v1/workers", scope="read", answers={200: WorkersDocument}, aliases=("/workers",))
async def list_workers(request: web.Request, query: NoQuery) -> web.Response:
    """List who runs jobs, each with its own counts: the nodes' workers, and those over HTTP."""
    parts = request.app[PARTS]
    nodes = await parts.store.nodes.all()
    working = [node for node in nodes if node["slots"]]
    items = [_show_worker(node) for node in working]
    for node in nodes:
        if node["id"] != parts.status.id:
            items += [_show_http_worker(worker, node["id"]) for worker in node.get("http_workers", ())]
    # What this node knows itself is fresher than what it last told.
    items += [_show_http_worker(worker, parts.status.id) for worker in request.app[HTTP_WORKERS].records()]
    return respond({"workers": sum(node["slots"] for node in working), "items": items})


def http_workers_by_type(request: web.Request, nodes: Sequence[Mapping[str, Any]]) -> dict[str, set[str]]:
    """The names of the workers over HTTP, at any of these nodes or here, that lately asked for each type."""
    parts = request.app[PARTS]
    workers = [worker for node in nodes if node["id"] != parts.status.id for worker in node.get("http_workers", ())]
    workers += request.app[HTTP_WORKERS].records()
    since_ms = time.time_ns() // 1_000_000 - LATELY_MS
    found: dict[str, set[str]] = {}
    for worker in workers:
        if worker["last_seen_ms"] > since_ms:
            for type in worker.get("types", ()):
                found.setdefault(type, set()).add(worker["name"])
    return found


def _show_node(node: dict[str, Any]) -> dict[str, Any]:
    # A node of another version may tell more, or less.
    shown = {name: node.get(name) for name in NodeDocument.model_fields}
    silent: float = node["silent"]
    status = "silent" if silent > SILENT else "draining" if node.get("draining") else "ok"
    last_seen = format_time(time.time_ns() // 1_000_000 - round(1000 * silent))
    return {**shown, "started_at": format_time(node["started_at"]), "last_seen": last_seen, "status": status}


def _show_worker(node: dict[str, Any]) -> dict[str, Any]:
    told = ("running", "completed", "failed", "slots", "crashed", "utilisation", "per_minute")
    return {"name": node["id"], "kind": "node", "node": node["id"], **{name: node[name] for name in told}}


def _show_http_worker(worker: dict[str, Any], node_id: str) -> dict[str, Any]:
    return {
        "name": worker["name"],
        "kind": "http",
        "node": node_id,
        "running": worker["active"],
        "last_seen": format_time(worker["last_seen_ms"]),
        **{name: worker[name] for name in ("completed", "failed", "claimed", "released")},
    }


ENDPOINTS = (list_nodes, get_node, list_workers)
