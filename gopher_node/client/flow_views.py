"""What a node tells of what bounds the jobs of a type, and of how many there are to do: values that do not change."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from gopher_node.client.views import View


class AutoscaleView(View):
    """How many jobs there are for workers: `target` is all of them. `exact` tells whether `due_soon` is."""

    target: int
    ready: int = 0
    due_soon: int = 0
    running: int = 0
    exact: bool = True


class RateLimitView(View):
    """How many jobs of a type may begin in `per` seconds, and of each of its groups; None is not limited."""

    type: str
    limit: float | None = None
    per: float | None = None
    burst: int | None = None
    group: dict[str, Any] | None = None


class BreakerView(View):
    """A type's circuit breaker. `ok` and `failed` count its runs; `history` comes where one breaker is asked for."""

    type: str
    state: str
    since: datetime | None = None
    until: datetime | None = None
    probe: str | None = None
    ok: int = 0
    failed: int = 0
    policy: dict[str, Any] = Field(default_factory=dict[str, Any])
    history: tuple[dict[str, Any], ...] = ()
