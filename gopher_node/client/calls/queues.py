"""Questions about queues: the jobs of one type each."""

from __future__ import annotations

from typing import Any

from gopher_node.client.calls.call import API, Call, Duration, count_of, duration_param, params
from gopher_node.client.flow_views import AutoscaleView
from gopher_node.client.views import QueueView, items_of
from gopher_node.job import TYPE_NAME, Priority


def queues() -> Call[tuple[QueueView, ...]]:
    return Call(method="GET", path=f"{API}/queues", read=_read_queues)


def queue(type: str) -> Call[QueueView]:
    return Call(method="GET", path=_path(type), read=QueueView.read)


def purge(type: str, priority: Priority | str | int | None) -> Call[int]:
    return Call(method="POST", path=f"{_path(type)}/purge", params=params(priority=priority), read=count_of("purged"))


def autoscale(type: str | None, within: Duration | None) -> Call[AutoscaleView]:
    told = params(type=type) + (() if within is None else duration_param("within", within))
    return Call(method="GET", path=f"{API}/autoscale", params=told, read=AutoscaleView.read)


def _path(type: str) -> str:
    if not TYPE_NAME.match(type):
        raise ValueError(f"{type!r} cannot be the name of a queue.")
    return f"{API}/queues/{type}"


def _read_queues(content: Any) -> tuple[QueueView, ...]:
    return tuple(QueueView.read(item) for item in items_of(content))
