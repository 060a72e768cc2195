"""How jobs look in JSON, and how an answer is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import orjson
from aiohttp import web

from gopher_node.job import Job, NewJob, Priority, RetryPolicy, State
from gopher_node.store import Submitted

# Several times faster than an enum's own properties, and this is done for every job.
_LABELS = ("", *(level.label for level in sorted(Priority)))

JSON = {"Content-Type": "application/json"}


def respond(content: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(body=orjson.dumps(content), status=status, headers={**JSON, **headers} if headers else JSON)


def format_time(epoch_ms: int | None) -> str | None:
    """RFC 3339 in UTC, to the millisecond."""
    if epoch_ms is None:
        return None
    seconds, milliseconds = divmod(epoch_ms, 1000)
    return f"{_format_seconds(seconds)}.{milliseconds:03}Z"


@lru_cache(maxsize=4096)
def _format_seconds(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()[:19]


def show_submitted(job: NewJob, submitted: Submitted, durability: str) -> dict[str, Any]:
    """A job that has just been stored."""
    return show_job(
        Job(
            id=submitted.id,
            type=job.type,
            state=submitted.state,
            payload=job.payload,
            priority=job.priority,
            created_ms=submitted.created_ms,
            group=job.group,
            max_retries=job.max_retries,
            max_crashes=job.max_crashes,
            timeout_ms=job.timeout_ms,
            due_ms=submitted.due_ms,
            retention_ms=job.retention_ms,
            tags=job.tags,
            callback_url=job.callback_url,
            options=job.options,
        ),
        durability,
    )


def show_job(job: Job, durability: str) -> dict[str, Any]:
    return {
        "job_id": job.id,
        "type": job.type,
        "status": job.state,
        "priority": _LABELS[job.priority],
        "group": job.group or None,
        "payload": orjson.Fragment(job.payload),
        "attempt": job.attempt,
        "errors": job.errors,
        "crashes": job.crashes,
        "max_retries": job.max_retries,
        "timeout": _seconds(job.timeout_ms),
        "retention": _seconds(job.retention_ms),
        "tags": job.tags,
        "callback_url": _show_address(job.callback_url) if job.callback_url else None,
        "unique_key": job.options.unique and job.options.unique.key,
        "expires_at": format_time(job.expires_ms),
        "retry": job.options.retry and show_retry(job.options.retry),
        "name": job.options.name or None,
        "workflow_id": job.options.workflow or None,
        "depends_on": job.options.depends_on,
        "on_parent_failure": job.options.on_parent_failure if job.options.depends_on else None,
        "recurring": job.options.recurring or None,
        "created_at": format_time(job.created_ms),
        "execute_at": format_time(job.due_ms),
        "started_at": format_time(job.started_ms),
        "finished_at": format_time(job.finished_ms),
        "node": job.node,
        "cancel_requested": job.cancel_requested,
        "progress": _raw(job.progress),
        "result": _raw(job.result),
        "error": job.error,
        "attempts": _show_attempts(job),
        "durability": durability,
    }


def show_retry(policy: RetryPolicy) -> dict[str, Any]:
    """In the words in which it is submitted, all of them."""
    return {
        "strategy": policy.strategy,
        "base": policy.base,
        "cap": policy.cap,
        "factor": policy.factor,
        "delays": list(policy.delays) or None,
        "jitter": policy.jitters,
        "only": list(policy.only) or None,
        "never": list(policy.never) or None,
    }


def _show_attempts(job: Job) -> list[dict[str, Any]]:
    attempts = job.attempts
    if job.state is State.COMPLETED:
        # The store keeps no entry for the run that completed the job: the job itself says all about it.
        last: dict[str, Any] = {
            "attempt": job.attempt,
            "outcome": "completed",
            "started_at": job.started_ms,
            "finished_at": job.finished_ms,
            "node": job.node,
        }
        attempts = [*attempts, last]
    return [
        {
            **attempt,
            "started_at": format_time(attempt.get("started_at")),
            "finished_at": format_time(attempt.get("finished_at")),
        }
        for attempt in attempts
    ]


def _show_address(url: str) -> str | None:
    """Without what may be secret: credentials and the query."""
    try:
        parts = urlsplit(url)
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    except ValueError:
        return None


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _raw(value: bytes | None) -> orjson.Fragment | None:
    return None if value is None else orjson.Fragment(value)
