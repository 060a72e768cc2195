"""Questions about what bounds the jobs of a type: rate limits, caps, pauses, circuit breakers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gopher_node.client.calls.call import API, Call, Duration, encode, members, plain
from gopher_node.client.flow_views import BreakerView, RateLimitView
from gopher_node.client.views import QueueView, items_of
from gopher_node.job import TYPE_NAME, Priority


def rate_limits() -> Call[tuple[RateLimitView, ...]]:
    return Call(method="GET", path=f"{API}/rate-limits", read=_read_limits)


def rate_limit(type: str) -> Call[RateLimitView]:
    return Call(method="GET", path=_path("rate-limits", type), read=RateLimitView.read)


def set_rate_limit(
    type: str, limit: float | None, per: Duration | None, burst: int | None, group: Mapping[str, Any] | None
) -> Call[RateLimitView]:
    """Raises ValueError unless there is a limit, of the type or of its groups."""
    if limit is None and group is None:
        raise ValueError("Give a limit, or group with one.")
    body = members(limit=limit, per=per, burst=burst, group=group and members(**group))
    return _act(_path("rate-limits", type), RateLimitView.read, body)


def delete_rate_limit(type: str) -> Call[RateLimitView]:
    return Call(method="DELETE", path=_path("rate-limits", type), read=RateLimitView.read, told_twice=True)


def limit(type: str, limits: Mapping[str, Any]) -> Call[QueueView]:
    """Raises ValueError if nothing is to change."""
    if not limits:
        raise ValueError("Say what is to be limited, such as rate_limit or max_running.")
    # Here a None says something: that what was set is taken back.
    body = {
        name: members(**value) if isinstance(value, Mapping) else plain(name, value) for name, value in limits.items()
    }
    path = _path("queues", type)
    return Call(method="PATCH", path=path, body=encode(body, "limit"), read=QueueView.read, told_twice=True)


def pause(type: str, priority: Priority | str | int | None, group: str | None) -> Call[QueueView]:
    return _act(f"{_path('queues', type)}/pause", QueueView.read, members(priority=priority, group=group))


def resume(type: str, priority: Priority | str | int | None, group: str | None) -> Call[QueueView]:
    return _act(f"{_path('queues', type)}/resume", QueueView.read, members(priority=priority, group=group))


def drain(type: str) -> Call[QueueView]:
    return _act(f"{_path('queues', type)}/drain", QueueView.read)


def breakers() -> Call[tuple[BreakerView, ...]]:
    return Call(method="GET", path=f"{API}/breakers", read=_read_breakers)


def breaker(type: str) -> Call[BreakerView]:
    return Call(method="GET", path=_path("breakers", type), read=BreakerView.read)


def open_breaker(type: str) -> Call[BreakerView]:
    return _act(f"{_path('breakers', type)}/open", BreakerView.read)


def close_breaker(type: str) -> Call[BreakerView]:
    return _act(f"{_path('breakers', type)}/close", BreakerView.read)


def reset_breaker(type: str) -> Call[BreakerView]:
    # Not told twice: what was counted in between would be lost.
    return Call(method="POST", path=f"{_path('breakers', type)}/reset", read=BreakerView.read)


def _act(path: str, read: Any, body: dict[str, Any] | None = None) -> Call[Any]:
    """Something that the node, told again, finds done."""
    encoded = encode(body, "limit") if body else None
    return Call(method="POST", path=path, body=encoded, read=read, told_twice=True)


def _path(resource: str, type: str) -> str:
    if not TYPE_NAME.match(type):
        raise ValueError(f"{type!r} cannot be the name of a queue.")
    return f"{API}/{resource}/{type}"


def _read_limits(content: Any) -> tuple[RateLimitView, ...]:
    return tuple(RateLimitView.read(item) for item in items_of(content))


def _read_breakers(content: Any) -> tuple[BreakerView, ...]:
    return tuple(BreakerView.read(item) for item in items_of(content))
