"""What a handler is told about the run it is in, and how it speaks back."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import BaseModel

from gopher_node.durations import parse_duration
from gopher_node.errors import JobCancelled
from gopher_node.job import GROUP_NAME, TAG_NAME, TYPE_NAME, NewJob, Priority, new_job_id

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

    Every method may be called from any thread and returns at once.
    """

    __slots__ = (
        "_cancel_requested",
        "_follow_up_bytes",
        "_logger",
        "_on_progress",
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
    ) -> None:
        """
        `on_progress` is called with JSON, on the caller's thread. With `registry`, follow-up jobs are checked
        against their handler and take its defaults.
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
    ) -> str:
        """
        Add a job that is created when this one completes, in the same step; returns its id.

        `delay` and `timeout` are seconds or text such as "30s"; `execute_at` is a datetime with a time zone.
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
        )
        self._add(job)
        return job.id

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
