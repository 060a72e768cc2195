"""What a node tells of jobs, queues, handlers and itself, as typed values that do not change."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr

from gopher_node.client.latency_views import LatencyView, WindowView
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

    `timeout` and `retention` are in seconds; None is the node's default. `node` is where it runs or last ran. With a
    lease come `parents`, the jobs that it has waited for, by name or id, and `traceparent`, for the span of its run to
    link to, if it is traced. `existing` says of a submission that it stored nothing: this job was there before.
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
    callback_url: str | None = None
    unique_key: str | None = None
    expires_at: datetime | None = None
    retry: dict[str, Any] | None = None
    name: str | None = None
    workflow_id: str | None = None
    depends_on: tuple[str, ...] = ()
    on_parent_failure: str | None = None
    recurring: str | None = None
    parents: dict[str, ParentView] | None = None
    traceparent: str | None = None
    tracestate: str | None = None
    node: str | None = None
    durability: str | None = None
    existing: bool = False


class ParentView(View):
    """How a job ended that another has waited for. A large result is left out, and `result_omitted` then true."""

    status: State
    result: Any = None
    error: dict[str, Any] | None = None
    result_omitted: bool = False


class QueueView(View):
    """
    The jobs of one type: how many wait at each priority, and how many are in each state.

    `oldest_age` is how many seconds the longest-waiting one waits, `oldest_ages` the same by priority; `rates` are
    jobs per minute; `served_by` is how many nodes and workers over HTTP run this type. `policy` is what bounds them,
    and `breaker` the state of the circuit breaker, if there is one. Runs and waits are those of the last minutes.
    """

    type: str
    depth: dict[str, int] = {}
    waiting: int = 0
    oldest_age: float | None = None
    oldest_ages: dict[str, float | None] = {}
    states: dict[str, int] = {}
    rates: dict[str, float] = {}
    run_seconds: LatencyView = LatencyView()
    wait_seconds: LatencyView = LatencyView()
    served_by: int = 0
    policy: dict[str, Any] = {}
    paused: bool = False
    paused_priorities: tuple[str, ...] = ()
    paused_groups: tuple[str, ...] = ()
    draining: bool = False
    breaker: str | None = None


class StatsView(View):
    """What the node counts. `uptime` is in seconds, `latency` of all nodes in the last minutes."""

    jobs_submitted: int
    jobs_completed: int
    jobs_failed: int
    workers_active: int
    queue_size: int
    uptime: float
    jobs: dict[str, int] = {}
    queues: tuple[QueueView, ...] = ()
    latency: WindowView | None = None
    durability: str = "unknown"
    node: dict[str, Any] = {}


class HandlerView(View):
    """
    A type of job that can be run. `timeout` is in seconds; unset options are the node's defaults.

    `mode` is how it runs, and `endpoint` where it is pushed to, if it is; `nodes` are the ids of those that run it.
    """

    type: str
    description: str = ""
    payload_schema: dict[str, Any] = {}
    timeout: float | None = None
    max_retries: int | None = None
    priority: Annotated[Priority | None, BeforeValidator(lambda value: value and Priority.parse(value))] = None
    concurrency: int | None = None
    policy: dict[str, Any] = {}
    mode: str | None = None
    endpoint: str | None = None
    nodes: tuple[str, ...] = ()


class MinuteView(View):
    """What was counted in one minute, which began at `at`."""

    at: datetime
    submitted: int = 0
    completed: int = 0
    failed: int = 0
    retried: int = 0
    crashed: int = 0
    cancelled: int = 0
    run_seconds: LatencyView = LatencyView()
    wait_seconds: LatencyView = LatencyView()


class NodeView(View):
    """A node, as it reported itself last."""

    id: str
    role: str = ""
    version: str = ""


class WorkerView(View):
    """Who runs jobs: a node's worker, or a worker over HTTP under the name that it gives. Rates are per minute."""

    running: int = 0
    completed: int = 0
    failed: int = 0
    crashed: int = 0


class WorkersView(View):
    """How many jobs can run at once, and who runs them."""

    workers: int = 0
    items: tuple[WorkerView, ...] = ()

    @classmethod
    def read(cls, content: Any) -> Self:
        view = cls(workers=content["workers"], items=tuple(WorkerView.read(item) for item in items_of(content)))
        view._raw = content
        return view


class LogLineView(View):
    """A line of a job's log; `level` is debug, info, warning or error, `attempt` the run that wrote it."""

    at: datetime
    level: str = "info"
    attempt: int = 0
    message: str


class LogView(View):
    """Lines of a job's log, the oldest first. `next_cursor` leads on, now or later; None if no more will come."""

    items: tuple[LogLineView, ...]
    next_cursor: str | None = None


class LeaseView(View):
    """The right to finish a job until `lease_expires_at`. Who has the token may settle it, so keep it out of logs."""

    job: JobView
    token: str = Field(repr=False)
    lease_expires_at: datetime

    @classmethod
    def read(cls, content: Any) -> Self:
        view = super().read(content)
        view.job._raw = content["job"]
        return view


class BeatView(View):
    """What a heartbeat was answered: until when the lease holds now, and whether the job is to stop."""

    job_id: str
    cancel_requested: bool = False
    lease_expires_at: datetime


class SettledView(View):
    """What became of a job: its state, when it runs again if it does, and the ids of its follow-up jobs."""

    job_id: str
    status: State
    execute_at: datetime | None = None
    follow_ups: tuple[str, ...] = ()


class RateLimit(View):
    """So many requests in a window of so many seconds."""

    limit: int
    window: float


class KeyView(View):
    """
    An API key, of the store or of the node's settings (`source`).

    The key itself is in `key`, which only the answer to its creation has; it is not shown again.
    """

    id: str
    name: str = ""
    scopes: tuple[str, ...] = ()
    created_at: datetime | None = None
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    rate_limit: RateLimit | None = None
    source: str = "store"
    key: str | None = Field(default=None, repr=False)


class HealthView(View):
    """How the node is: healthy, degraded or unhealthy, and what each check says."""

    status: str
    timestamp: datetime | None = None
    checks: dict[str, Any] = {}


class WorkflowView(View):
    """
    A workflow: running, completed, failed or cancelled.

    `counts` are its jobs by state, `callbacks` the ids of the jobs that it has brought, and `job_ids` those of its jobs
    in the answer to its submit.
    """

    workflow_id: str
    status: str
    name: str | None = None
    total: int = 0
    ended: int = 0
    counts: dict[str, int] = {}
    callbacks: dict[str, str | None] = {}
    cancel_requested: bool = False
    created_at: datetime | None = None
    finished_at: datetime | None = None
    job_ids: tuple[str, ...] = ()


class RecurringView(View):
    """
    A recurring job: when it fires, what each of its jobs is, and what has come of it.

    `every`, `timeout` and `retention` are in seconds. `last_fire` has the time `at` and the `job_id`, `last_skip` the
    time and the `reason`. The numbers say how often it fired, was missed, found its last job running, was triggered.
    """

    name: str
    type: str
    cron_expression: str | None = None
    every: float | None = None
    timezone: str | None = None
    in_words: str = ""
    missed: str = "once"
    overlap: str = "allow"
    payload: Any = None
    priority: Annotated[Priority, BeforeValidator(Priority.parse)] = Priority.NORMAL
    group: str | None = None
    max_retries: int = 0
    timeout: float | None = None
    retention: float | None = None
    tags: tuple[str, ...] = ()
    callback_url: str | None = None
    ttl: float | None = None
    retry: dict[str, Any] | None = None
    paused: bool = False
    next_fires: tuple[datetime, ...] = ()
    last_fire: dict[str, Any] | None = None
    last_skip: dict[str, Any] | None = None
    fired: int = 0
    missed_fires: int = 0
    overlapped: int = 0
    triggered: int = 0
    created_at: datetime | None = None
    updated_at: datetime | None = None


class RecurringPage(View):
    """One page of the list of recurring jobs, and where the next one begins."""

    items: tuple[RecurringView, ...]
    next_cursor: str | None = None

    @classmethod
    def read(cls, content: Any) -> Self:
        items = tuple(RecurringView.read(item) for item in items_of(content))
        return cls(items=items, next_cursor=content.get("next_cursor"))


class PreviewView(View):
    """When a schedule would fire: in UTC, and as the clocks of its time zone show it."""

    in_words: str = ""
    next_fires: tuple[datetime, ...] = ()
    local_fires: tuple[datetime, ...] = ()


class WorkflowPage(View):
    """One page of the list of workflows, and where the next one begins."""

    items: tuple[WorkflowView, ...]
    next_cursor: str | None = None

    @classmethod
    def read(cls, content: Any) -> Self:
        items = tuple(WorkflowView.read(item) for item in items_of(content))
        return cls(items=items, next_cursor=content.get("next_cursor"))


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
