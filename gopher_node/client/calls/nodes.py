"""Questions about nodes: who is there, what they run, and what they count."""

from __future__ import annotations

from typing import Any

from gopher_node.client.calls.call import API, Call, params, segment
from gopher_node.client.problems import NodeNotFound, Problem
from gopher_node.client.views import (
    HandlerView,
    HealthView,
    MinuteView,
    NodeView,
    StatsView,
    WorkersView,
    items_of,
)


def nodes() -> Call[tuple[NodeView, ...]]:
    return Call(method="GET", path=f"{API}/nodes", read=_read_nodes)


def node(node_id: str) -> Call[NodeView]:
    name = segment(node_id)
    if name is None:
        raise NodeNotFound(Problem(status=404, type="node-not-found", detail=f"No node has the id {node_id!r}."))
    return Call(method="GET", path=f"{API}/nodes/{name}", read=NodeView.read)


def workers() -> Call[WorkersView]:
    return Call(method="GET", path=f"{API}/workers", read=WorkersView.read)


def handlers() -> Call[tuple[HandlerView, ...]]:
    return Call(method="GET", path=f"{API}/handlers", read=_read_handlers)


def stats() -> Call[StatsView]:
    return Call(method="GET", path=f"{API}/stats", read=StatsView.read)


def stats_history(minutes: int, type: str | None) -> Call[tuple[MinuteView, ...]]:
    return Call(
        method="GET", path=f"{API}/stats/history", params=params(minutes=minutes, type=type), read=_read_minutes
    )


def health() -> Call[HealthView]:
    # An unhealthy node says so with a 503, and that is the answer.
    return Call(method="GET", path="/health", accepts=frozenset({503}), read=HealthView.read)


def _read_nodes(content: Any) -> tuple[NodeView, ...]:
    return tuple(NodeView.read(item) for item in items_of(content))


def _read_handlers(content: Any) -> tuple[HandlerView, ...]:
    return tuple(HandlerView.read(item) for item in items_of(content))


def _read_minutes(content: Any) -> tuple[MinuteView, ...]:
    return tuple(MinuteView.read(item) for item in items_of(content))
