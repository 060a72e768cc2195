"""What a node tells of jobs, queues, handlers and itself, as typed values that do not change."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, PrivateAttr

from gopher_node.job import Priority, State


class View(BaseModel):
    """
    Something a node told, as it was at that moment.

    A field that a newer node adds is let through and stands in `raw`, which is the whole answer as it came.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    _raw: Mapping[str, Any] = PrivateAttr(default_factory=dict[str, Any])

    @classmethod
    def read(cls, content: Any) -> Self:
        view = cls.model_validate(content)
        view._raw = content
        return view

    @property
    def raw(self) -> Mapping[str, Any]:
        return self._raw


class JobView(View):
    """
    A job. `attempt` counts its runs; `errors` and `crashes` are what its two budgets are compared with.

    `timeout` and `retention` are in seconds; None is the node's default. `node` is where it runs or last ran.
    """

    job_id: str
    type: str
    status: State
    payload: Any = None
    priority: Annotated[Priority, BeforeValidator(Priority.parse)] = Priority.NORMAL
    group: str | None = None
    attempt: int = 0
    max_retries: int = 0
    errors: int = 0
    crashes: int = 0
    timeout: float | None = None
    retention: float | None = None
    created_at: datetime | None = None
    execute_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    result: Any = None
    error: dict[str, Any] | None = None
    attempts: tuple[dict[str, Any], ...] = ()
    cancel_requested: bool = False
    progress: Any = None
    tags: tuple[str, ...] = ()
    node: str | None = None
    durability: str | None = None


class QueueView(View):
    """The jobs of one type: how many wait at each priority, and how many are in each state."""

    type: str
    depth: dict[str, int] = {}
    states: dict[str, int] = {}


class StatsView(View):
    """What the node counts. `uptime` is in seconds."""

    jobs_submitted: int
    jobs_completed: int
    jobs_failed: int
    workers_active: int
    queue_size: int
    uptime: float
    jobs: dict[str, int] = {}
    queues: tuple[QueueView, ...] = ()
    durability: str = "unknown"
    node: dict[str, Any] = {}


class HandlerView(View):
    """A type of job that the node can run. `timeout` is in seconds; unset options are the node's defaults."""

    type: str
    description: str = ""
    payload_schema: dict[str, Any] = {}
    timeout: float | None = None
    max_retries: int | None = None
    priority: Annotated[Priority | None, BeforeValidator(lambda value: value and Priority.parse(value))] = None
    concurrency: int | None = None


class HealthView(View):
    """How the node is: healthy, degraded or unhealthy, and what each check says."""

    status: str
    timestamp: datetime | None = None
    checks: dict[str, Any] = {}


class Page(View):
    """One page of a list of jobs, and where the next one begins."""

    items: tuple[JobView, ...]
    next_cursor: str | None = None

    @classmethod
    def read(cls, content: Any) -> Self:
        # Each job keeps its own raw answer, so each is read by itself.
        items = tuple(JobView.read(item) for item in items_of(content))
        return cls(items=items, next_cursor=content.get("next_cursor"))


def items_of(content: Any) -> list[Any]:
    """The items of an answer that lists something. Raises ValueError when it lists nothing."""
    items = content.get("items") if isinstance(content, dict) else None  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    if not isinstance(items, list):
        raise ValueError("an object with `items` was due")
    return items  # pyright: ignore[reportUnknownVariableType]
