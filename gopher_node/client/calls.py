"""What a client can ask a node: each question as a value, with how its answer is read. Nothing here does I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Generic, Required, TypedDict, TypeVar, Unpack, cast
from urllib.parse import quote

import orjson

from gopher_node.client.problems import JobNotFound, Problem
from gopher_node.client.views import HandlerView, HealthView, JobView, Page, StatsView, items_of
from gopher_node.durations import format_duration, parse_duration
from gopher_node.job import TYPE_NAME, Priority, State

API = "/api/v1"
PAGE_SIZE = 200

Duration = float | str | timedelta
"""Seconds, a timedelta, or text such as "30s", "5m", "1h30m"."""

T = TypeVar("T")
Params = tuple[tuple[str, str], ...]


class JobOptions(TypedDict, total=False):
    """How a job is to be run. What is left out or None is for the handler or the node to decide."""

    priority: Priority | str | int | None
    max_retries: int | None
    delay: Duration | None
    execute_at: datetime | str | None
    group: str | None
    timeout: Duration | None
    tags: Sequence[str] | None
    retention: Duration | None


class JobRequest(JobOptions, total=False):
    """A job to be submitted together with others."""

    type: Required[str]
    payload: Any


class JobFilter(TypedDict, total=False):
    """Which jobs a list shows: those to which all of these apply."""

    status: State | str | Sequence[State | str] | None
    type: str | None
    priority: Priority | str | int | None
    group: str | None
    tag: str | None
    created_after: datetime | str | None
    created_before: datetime | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """
    One question to a node.

    `wait` is how many seconds the node may hold its answer back, on top of the time that any answer takes.
    `accepts` are the statuses beyond 2xx that carry an answer and no error.
    """

    method: str
    path: str
    read: Callable[[Any], T]
    params: Params = ()
    body: bytes | None = None
    wait: float = 0.0
    accepts: frozenset[int] = field(default_factory=frozenset[int])

    @property
    def repeatable(self) -> bool:
        """Whether asking twice does no more than asking once, so that a lost answer may be asked for again."""
        return self.method == "GET"


def submit(type: str, payload: Any, options: JobOptions) -> Call[JobView]:
    body = _encode(_job_body(type, payload, options))
    return Call(method="POST", path=f"{API}/jobs", body=body, read=JobView.read)


def submit_many(jobs: Iterable[JobRequest]) -> Call[tuple[JobView, ...]]:
    bodies: list[dict[str, Any]] = []
    for job in jobs:
        options: dict[str, Any] = dict(job)
        bodies.append(_job_body(options.pop("type"), options.pop("payload", None), options))
    return Call(method="POST", path=f"{API}/jobs/bulk", body=_encode(bodies), read=_read_jobs)


def get(job_id: str, wait: float = 0.0) -> Call[JobView]:
    params = (("wait", format_duration(wait)),) if wait > 0 else ()
    return Call(method="GET", path=_job_path(job_id), params=params, wait=wait, read=JobView.read)


def cancel(job_id: str) -> Call[JobView]:
    return Call(method="POST", path=f"{_job_path(job_id)}/cancel", read=JobView.read)


def retry(job_id: str) -> Call[JobView]:
    return Call(method="POST", path=f"{_job_path(job_id)}/retry", read=JobView.read)


def delete(job_id: str) -> Call[None]:
    return Call(method="DELETE", path=_job_path(job_id), read=_read_nothing)


def retry_all(type: str | None) -> Call[int]:
    return Call(
        method="POST", path=f"{API}/dead-letters/retry", params=_params(type=type), read=_reader_of_count("retried")
    )


def purge(type: str, priority: Priority | str | int | None) -> Call[int]:
    if not TYPE_NAME.match(type):
        raise ValueError(f"{type!r} cannot be the name of a queue.")
    return Call(
        method="POST",
        path=f"{API}/queues/{type}/purge",
        params=_params(priority=priority),
        read=_reader_of_count("purged"),
    )


def stats() -> Call[StatsView]:
    return Call(method="GET", path=f"{API}/stats", read=StatsView.read)


def handlers() -> Call[tuple[HandlerView, ...]]:
    return Call(method="GET", path=f"{API}/handlers", read=_read_handlers)


def health() -> Call[HealthView]:
    # An unhealthy node says so with a 503, and that is the answer.
    return Call(method="GET", path="/health", accepts=frozenset({503}), read=HealthView.read)


class Listing:
    """Walks a list page by page, to its end or to `limit` jobs: ask `call`, hand its answer to `take`, repeat."""

    def __init__(self, path: str, filters: Mapping[str, Any], limit: int | None) -> None:
        if limit is not None and limit < 1:
            raise ValueError("limit must be at least 1.")
        unknown = set(filters) - JobFilter.__optional_keys__
        if unknown:
            raise TypeError(f"Jobs cannot be listed by {', '.join(sorted(unknown))}.")
        self._filters = _params(**filters)
        self._left = limit
        self.call: Call[Page] | None = self._call(path)

    def take(self, page: Page) -> Sequence[JobView]:
        items = page.items[: self._left]
        if self._left is not None:
            self._left -= len(items)
        if self.call and page.next_cursor and self._left != 0:
            self.call = self._call(self.call.path, page.next_cursor)
        else:
            self.call = None
        return items

    def _call(self, path: str, cursor: str | None = None) -> Call[Page]:
        size = PAGE_SIZE if self._left is None else min(self._left, PAGE_SIZE)
        call = Call(method="GET", path=path, params=(*self._filters, ("limit", str(size))), read=Page.read)
        return replace(call, params=(*call.params, ("cursor", cursor))) if cursor else call


def jobs(limit: int | None = None, **filters: Unpack[JobFilter]) -> Listing:
    return Listing(f"{API}/jobs", filters, limit)


def dead_letters(type: str | None = None, limit: int | None = None) -> Listing:
    return Listing(f"{API}/dead-letters", {"type": type}, limit)


def _job_body(type: str, payload: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = {"type": type}
    if payload is not None:
        body["payload"] = payload
    unknown = set(options) - JobOptions.__optional_keys__
    if unknown:
        raise TypeError(f"A job has no option {', '.join(sorted(unknown))}.")
    for name, value in options.items():
        if value is not None:
            body[name] = _plain(name, value)
    return body


def _plain(name: str, value: Any) -> Any:
    """The value of an option as JSON has it."""
    if isinstance(value, timedelta):
        return parse_duration(value)
    if isinstance(value, datetime):
        return _moment(name, value)
    if isinstance(value, Priority):
        return value.label
    if name == "tags":
        if isinstance(value, str):
            raise TypeError("tags is a list of strings, not one string.")
        return list(value)
    return value


def _params(**values: Any) -> Params:
    return tuple((name, _param(name, value)) for name, value in values.items() if value is not None)


def _param(name: str, value: Any) -> str:
    # Several states are one parameter, with commas between.
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(cast("Sequence[str]", value))
    return str(_plain(name, value))


def _moment(name: str, value: datetime) -> str:
    if value.tzinfo is None:
        raise ValueError(f"{name} must be a datetime with a time zone, such as datetime.now(UTC).")
    return value.isoformat()


def _encode(body: Any) -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError as error:
        raise TypeError(f"The payload cannot be written as JSON: {error}.") from error


def _job_path(job_id: str) -> str:
    name = quote(job_id, safe="")
    # These three would name another resource, or none; there is no such job, and the node need not be asked.
    if name in ("", ".", ".."):
        raise JobNotFound(Problem(status=404, type="job-not-found", detail=f"No job has the id {job_id!r}."))
    return f"{API}/jobs/{name}"


def _read_jobs(content: Any) -> tuple[JobView, ...]:
    return tuple(JobView.read(item) for item in items_of(content))


def _read_handlers(content: Any) -> tuple[HandlerView, ...]:
    return tuple(HandlerView.read(item) for item in items_of(content))


def _read_nothing(_content: Any) -> None:
    return None


def _reader_of_count(name: str) -> Callable[[Any], int]:
    def read(content: Any) -> int:
        return int(content[name])

    return read
