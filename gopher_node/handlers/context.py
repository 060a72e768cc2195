"""What a handler is told about the run it is in, and how it speaks back."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal

import orjson
from pydantic import BaseModel

from gopher_node.durations import parse_duration
from gopher_node.errors import JobCancelled
from gopher_node.handlers.log_lines import Level, log_line
from gopher_node.handlers.parents import ParentResult
from gopher_node.job import GROUP_NAME, JOB_ID, TAG_NAME, TYPE_NAME, JobOptions, NewJob, Priority, new_job_id

if TYPE_CHECKING:
    from gopher_node.handlers.registry import Registry
    from gopher_node.settings import Settings

MAX_FOLLOW_UPS = 100
MAX_FOLLOW_UP_BYTES = 1024 * 1024
MAX_PROGRESS_BYTES = 4 * 1024
MAX_RETRIES = 1000


class JobContext:
    """
    One run of one job, as its handler sees it.

    A job can run more than once: `attempt` counts its runs from 1, and `idempotency_key` is the same in all of them,
    so pass it to whatever must not be told twice. `state` is shared by all jobs of the node and filled by start-up
    hooks. The follow-up jobs of `enqueue` are created together with this job's completion, or not at all.
    `workflow_id` is empty for a job of no workflow.

    Every method may be called from any thread and, but for those that ask for the parents, returns at once.
    """

    __slots__ = (
        "_cancel_requested",
        "_follow_up_bytes",
        "_logger",
        "_on_progress",
        "_parents",
        "_registry",
        "attempt",
        "follow_ups",
        "group",
        "job_id",
        "max_retries",
        "settings",
        "state",
        "tags",
        "token",
        "type",
        "workflow_id",
    )

    def __init__(
        self,
        *,
        job_id: str,
        type: str,
        settings: Settings,
        attempt: int = 1,
        max_retries: int = 3,
        group: str = "",
        tags: Sequence[str] = (),
        token: str = "",
        state: SimpleNamespace | None = None,
        registry: Registry | None = None,
        on_progress: Callable[[bytes], None] | None = None,
        workflow_id: str = "",
        parents: Callable[[], Future[Mapping[str, ParentResult]]] | None = None,
    ) -> None:
        """
        `on_progress` is called with JSON, progress or a LogLine, on the caller's thread. With `registry`, follow-up
        jobs are checked against their handler and take its defaults. `parents` begins to fetch what is known of the
        job's parents; it is called on the caller's thread too.
        """
        self.job_id = job_id
        self.type = type
        self.attempt = attempt
        self.max_retries = max_retries
        self.group = group
        self.tags = tuple(tags)
        self.token = token
        self.settings = settings
        self.state = SimpleNamespace() if state is None else state
        self.follow_ups: list[NewJob] = []
        self._follow_up_bytes = 0
        self._registry = registry
        self._on_progress = on_progress
        self.workflow_id = workflow_id
        self._parents = parents
        self._cancel_requested = False
        self._logger: Any = None

    def __repr__(self) -> str:
        # Without the token, for this text enters logs.
        return f"JobContext(job_id={self.job_id!r}, type={self.type!r}, attempt={self.attempt})"

    @property
    def idempotency_key(self) -> str:
        return self.job_id

    @property
    def logger(self) -> Any:
        """A structlog logger that adds job_id, job_type and attempt to each line."""
        if self._logger is None:
            import structlog  # it takes a good part of a process's start, and many handlers never log

            self._logger = structlog.get_logger("gopher_node.job").bind(
                job_id=self.job_id, job_type=self.type, attempt=self.attempt
            )
        return self._logger

    @property
    def cancel_requested(self) -> bool:
        """Whether the job was cancelled, ran out of time, or was lost to another node: what it does now is in vain."""
        return self._cancel_requested

    def raise_if_cancelled(self) -> None:
        """For handlers in threads, which nobody can interrupt: call it between steps. Raises JobCancelled."""
        if self._cancel_requested:
            raise JobCancelled

    def request_cancel(self) -> None:
        self._cancel_requested = True

    def progress(self, fraction: float | None = None, message: str = "", **data: Any) -> None:
        """
        Say how far the run is: `fraction` from 0 to 1, and anything else that is JSON, up to 4 KiB.

        The latest word wins, and words that follow quickly on another may be left out. Raises ValueError.
        """
        content: dict[str, Any] = {}
        if fraction is not None:
            if not math.isfinite(fraction):
                raise ValueError(f"progress must be a number from 0 to 1, not {fraction}")
            content["fraction"] = min(max(float(fraction), 0.0), 1.0)
        if message:
            content["message"] = message
        encoded = orjson.dumps(content | data)
        if len(encoded) > MAX_PROGRESS_BYTES:
            raise ValueError(f"progress is {len(encoded)} bytes; the most is {MAX_PROGRESS_BYTES}")
        if self._on_progress is not None:
            self._on_progress(encoded)

    def log(self, message: object, level: Level = "info") -> None:
        """
        Add a line to the job's log, which can be read while it runs: `level` is debug, info, warning or error.

        Of a long log the latest lines stay, 1,000 and 64 KiB of them; a line of more than 4 KiB is cut. Lines are sent
        a few times a second. Raises ValueError for another level.
        """
        if self._on_progress is not None:
            self._on_progress(log_line(message, level, self.attempt))

    async def parents(self) -> Mapping[str, ParentResult]:
        """
        How the jobs ended that this one has waited for, each by its name or, if it has none, its id. One that somebody
        has deleted since is left out.

        They are fetched from the store, so it may raise StoreError.
        """
        return {} if self._parents is None else await asyncio.wrap_future(self._parents())

    def parents_sync(self) -> Mapping[str, ParentResult]:
        """The same for a handler that is no coroutine: it waits for the answer. Raises RuntimeError on a loop."""
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return {} if self._parents is None else self._parents().result()
        raise RuntimeError("this would hold up the loop: write `await ctx.parents()`")

    def enqueue(
        self,
        type: str,
        payload: Any = None,
        *,
        priority: Priority | str | int | None = None,
        group: str = "",
        delay: float | str | None = None,
        execute_at: datetime | None = None,
        max_retries: int | None = None,
        timeout: float | str | None = None,
        tags: Sequence[str] = (),
        name: str = "",
        depends_on: Sequence[str] = (),
        on_parent_failure: Literal["skip", "fail", "run"] = "skip",
        workflow: bool = False,
    ) -> str:
        """
        Add a job that is created when this one completes, in the same step; returns its id.

        `delay` and `timeout` are seconds or text such as "30s"; `execute_at` is a datetime with a time zone.
        `depends_on` are the ids of jobs that have to end first, such as this method has returned. `workflow` makes the
        job a part of this job's own workflow, which does not end before it.
        Raises ValueError for a bad option and beyond 100 jobs or 1 MiB of payloads, InvalidPayload when the
        handler of that type would refuse the payload.
        """
        _check_names(type, group, tags)
        if delay is not None and execute_at is not None:
            raise ValueError("give delay or execute_at, not both")
        if execute_at is not None and execute_at.tzinfo is None:
            raise ValueError("execute_at needs a time zone, such as datetime.now(timezone.utc) + timedelta(hours=1)")
        encoded = _encode_payload(payload)
        handler = self._registry.get(type) if self._registry is not None else None
        if handler is not None:
            handler.parse(encoded)
            priority = handler.priority if priority is None else priority
            max_retries = handler.max_retries if max_retries is None else max_retries
        retries = self.settings.worker.max_retries if max_retries is None else max_retries
        if not 0 <= retries <= MAX_RETRIES:
            raise ValueError(f"max_retries must be from 0 to {MAX_RETRIES}, not {retries}")
        job = NewJob(
            id=new_job_id(),
            type=type,
            payload=encoded,
            priority=Priority.NORMAL if priority is None else Priority.parse(priority),
            group=group,
            due_ms=None if execute_at is None else int(execute_at.timestamp() * 1000),
            delay_ms=None if delay is None else int(parse_duration(delay) * 1000),
            timeout_ms=None if timeout is None else int(parse_duration(timeout) * 1000),
            max_retries=retries,
            tags=tuple(tags),
            options=self._options(name, depends_on, on_parent_failure, workflow),
        )
        self._add(job)
        return job.id

    def _options(
        self, name: str, depends_on: Sequence[str], on_parent_failure: Literal["skip", "fail", "run"], workflow: bool
    ) -> JobOptions:
        if workflow and not self.workflow_id:
            raise ValueError("this job is of no workflow, so it can add none to it")
        if name and (not TYPE_NAME.match(name) or JOB_ID.match(name)):
            raise ValueError(f"{name!r} is no name of a job: letters, digits, dot, dash and underscore, at most 100")
        if isinstance(depends_on, str) or not all(map(JOB_ID.match, depends_on)):
            raise ValueError("depends_on is a list of the ids of jobs, such as enqueue returns")
        if on_parent_failure not in ("skip", "fail", "run"):
            raise ValueError(f"on_parent_failure is skip, fail or run, not {on_parent_failure!r}")
        return JobOptions(
            name=name,
            depends_on=tuple(dict.fromkeys(depends_on)),
            on_parent_failure=on_parent_failure,
            workflow=self.workflow_id if workflow else "",
        )

    def _add(self, job: NewJob) -> None:
        if len(self.follow_ups) >= MAX_FOLLOW_UPS:
            raise ValueError(f"a job can enqueue {MAX_FOLLOW_UPS} others; let one of them enqueue the rest")
        if self._follow_up_bytes + len(job.payload) > MAX_FOLLOW_UP_BYTES:
            raise ValueError("the payloads of all jobs enqueued here exceed 1 MiB; store the data and pass its address")
        self.follow_ups.append(job)
        self._follow_up_bytes += len(job.payload)


def _check_names(type: str, group: str, tags: Sequence[str]) -> None:
    if not TYPE_NAME.match(type):
        raise ValueError(f"{type!r} is no job type: letters, digits, dot, dash and underscore, at most 100")
    if group and not GROUP_NAME.match(group):
        raise ValueError(f"{group!r} is no group: letters, digits and any of ._@:/+- up to 200")
    for tag in tags:
        if not TAG_NAME.match(tag):
            raise ValueError(f"{tag!r} is no tag: letters, digits and any of ._@:/+- up to 200")


def _encode_payload(payload: Any) -> bytes:
    if payload is None:
        return b"{}"
    if isinstance(payload, BaseModel):
        return payload.model_dump_json().encode()
    try:
        return orjson.dumps(payload)
    except TypeError as error:
        raise ValueError(f"the payload cannot be written as JSON: {error}") from None
