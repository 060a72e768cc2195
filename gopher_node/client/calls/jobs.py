"""Questions about jobs: submit, look, list, and change one or all that match."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Generic, Literal, Protocol, Required, TypedDict, TypeVar, Unpack
from uuid import UUID

from gopher_node.client.calls.call import (
    API,
    Call,
    Duration,
    duration_param,
    encode,
    idempotency_key,
    members,
    params,
    plain,
    read_nothing,
    refuse_unknown,
    segment,
)
from gopher_node.client.problems import JobNotFound, Problem
from gopher_node.client.views import JobView, LogView, Page, items_of
from gopher_node.job import Priority, RetryPolicy, State

T = TypeVar("T")
Item = TypeVar("Item", covariant=True)

PAGE_SIZE = 200
# As long as the node works on one part of what is done to many jobs at once.
LONGEST_PART = 5.0


class JobOptions(TypedDict, total=False):
    """
    How a job is to be run. What is left out or None is for the handler or the node to decide.

    `job_id` is an id of your own choice, a UUID: a job that has it already is not submitted again (JobExists).
    `callback_url` is told how the job ended. Only one job of a type bears a `unique_key` at a time, until it is started
    or finished or for a while: `unique_until`. `on_duplicate` says what happens while another bears it: that is the
    answer, or is replaced as long as it waits, or DuplicateJob is raised. What has not started by `expires_at`, or
    within `ttl`, is cancelled. `retry` says when it is tried again after an error.

    The job waits for those in `depends_on` to end: ids, or each the `name` of a job that is submitted with it.
    `on_parent_failure` says what becomes of it if one of them does not complete. It becomes a part of the workflow
    `workflow_id`.
    """

    priority: Priority | str | int | None
    max_retries: int | None
    delay: Duration | None
    execute_at: datetime | str | None
    group: str | None
    timeout: Duration | None
    tags: Sequence[str] | None
    retention: Duration | None
    job_id: str | UUID | None
    callback_url: str | None
    unique_key: str | None
    unique_until: Literal["started", "finished"] | Duration | None
    on_duplicate: Literal["existing", "replace", "reject"] | None
    expires_at: datetime | str | None
    ttl: Duration | None
    retry: RetryPolicy | Mapping[str, Any] | None
    name: str | None
    depends_on: Sequence[str] | None
    on_parent_failure: Literal["skip", "fail", "run"] | None
    workflow_id: str | None


class SubmitOptions(JobOptions, total=False):
    """
    `idempotency_key` makes a submit of your program's the same one when your program repeats it.

    With `recurring`, such as {"cron_expression": "30 7 * * 1-5", "timezone": "Europe/Berlin"}, the job comes again and
    again; the first one is the answer.
    """

    idempotency_key: str | None
    recurring: Mapping[str, Any] | None


class JobRequest(JobOptions, total=False):
    """A job to be submitted together with others."""

    type: Required[str]
    payload: Any


class JobFilter(TypedDict, total=False):
    """Which jobs are meant: those to which all of these apply."""

    status: State | str | Sequence[State | str] | None
    type: str | None
    priority: Priority | str | int | None
    group: str | None
    tag: str | None
    created_after: datetime | str | None
    created_before: datetime | str | None


Act = Literal["cancel", "retry", "run-now", "delete"]
_DONE: Mapping[Act, str] = {"cancel": "cancelled", "retry": "retried", "run-now": "moved", "delete": "deleted"}


def submit(type: str, payload: Any, options: SubmitOptions) -> Call[JobView]:
    given: dict[str, Any] = dict(options)
    key = idempotency_key(given.pop("idempotency_key", None))
    recurring = given.pop("recurring", None)
    body = job_body(type, payload, given)
    if recurring is not None:
        body["recurring"] = {name: plain(name, value) for name, value in dict(recurring).items()}
    return Call(method="POST", path=f"{API}/jobs", body=encode(body), key=key, read=JobView.read)


def submit_many(jobs: Iterable[JobRequest], key: str | None = None) -> Call[tuple[JobView, ...]]:
    return submit_encoded([encode_job(job) for job in jobs], key)


def submit_encoded(bodies: Sequence[bytes], key: str | None = None) -> Call[tuple[JobView, ...]]:
    """Jobs that are JSON already, all or nothing."""
    count = len(bodies)

    def read(content: Any) -> tuple[JobView, ...]:
        views = tuple(JobView.read(item) for item in items_of(content))
        if len(views) != count:
            raise ValueError(f"{count} jobs were due")
        return views

    body = b"[" + b",".join(bodies) + b"]"
    return Call(method="POST", path=f"{API}/jobs/bulk", body=body, key=idempotency_key(key), read=read)


def encode_job(job: JobRequest) -> bytes:
    return encode(request_body(job))


def request_body(job: JobRequest) -> dict[str, Any]:
    options: dict[str, Any] = dict(job)
    if not isinstance(options.get("type"), str):
        raise TypeError("A job needs the name of its type.")
    return job_body(options.pop("type"), options.pop("payload", None), options)


def job_body(type: str, payload: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = {"type": type}
    if payload is not None:
        body["payload"] = payload
    refuse_unknown(options, JobOptions.__optional_keys__, "A job has no option")
    for name, value in options.items():
        if value is not None:
            body[name] = plain(name, value)
    return body


def get(job_id: str, wait: float = 0.0) -> Call[JobView]:
    wanted = duration_param("wait", wait) if wait > 0 else ()
    return Call(method="GET", path=job_path(job_id), params=wanted, wait=wait, read=JobView.read)


def log(job_id: str, cursor: str | None) -> Call[LogView]:
    return Call(method="GET", path=f"{job_path(job_id)}/log", params=params(cursor=cursor), read=LogView.read)


def cancel(job_id: str) -> Call[JobView]:
    return _act("cancel", job_id)


def retry(job_id: str) -> Call[JobView]:
    return _act("retry", job_id)


def run_now(job_id: str) -> Call[JobView]:
    return _act("run-now", job_id)


def edit(
    job_id: str,
    priority: Priority | str | int | None,
    delay: Duration | None,
    execute_at: datetime | str | None,
) -> Call[JobView]:
    changes = members(priority=priority, delay=delay, execute_at=execute_at)
    if not changes:
        raise ValueError("Say what is to change: priority, delay or execute_at.")
    return Call(method="PATCH", path=job_path(job_id), body=encode(changes), read=JobView.read)


def delete(job_id: str) -> Call[None]:
    return Call(method="DELETE", path=job_path(job_id), read=read_nothing)


def _act(act: Act, job_id: str) -> Call[JobView]:
    return Call(method="POST", path=f"{job_path(job_id)}/{act}", read=JobView.read)


@dataclass(frozen=True, slots=True)
class PartOfAct:
    """What one part of an act on many jobs did, and where the next one begins."""

    count: int
    next_cursor: str | None


def act_on_many(act: Act, filters: Mapping[str, Any], *, all: bool) -> Call[PartOfAct]:
    """The first step. Raises ValueError where nothing says which jobs are meant, for that is hardly every job."""
    wanted = filter_params(filters, frozenset(JobFilter.__optional_keys__))
    if not wanted and not all:
        raise ValueError("Say which jobs are meant by a filter, or all=True for every job there is.")
    path, method = (f"{API}/jobs", "DELETE") if act == "delete" else (f"{API}/jobs/{act}", "POST")
    # A filter narrows down what `all` would say, so it is not said then.
    wanted = wanted or (("all", "true"),)
    return Call(method=method, path=path, params=wanted, wait=LONGEST_PART, read=reader_of_part(_DONE[act]))


def go_on(call: Call[PartOfAct], cursor: str) -> Call[PartOfAct]:
    """The step after one that ended at this cursor."""
    kept = tuple(param for param in call.params if param[0] != "cursor")
    return replace(call, params=(*kept, ("cursor", cursor)))


def reader_of_part(name: str) -> Any:
    def read(content: Any) -> PartOfAct:
        return PartOfAct(int(content[name]), content.get("next_cursor"))

    return read


def filter_params(filters: Mapping[str, Any], known: frozenset[str]) -> tuple[tuple[str, str], ...]:
    refuse_unknown(filters, known, "Jobs cannot be found by")
    return params(**filters)


class PageOf(Protocol[Item]):
    """One page of a list, and where the next one begins."""

    @property
    def items(self) -> tuple[Item, ...]: ...

    @property
    def next_cursor(self) -> str | None: ...


class Listing(Generic[T]):
    """Walks a list page by page, to its end or to `limit` items: ask `call`, hand its answer to `take`, repeat."""

    def __init__(
        self, path: str, filters: Mapping[str, Any], limit: int | None, read: Callable[[Any], PageOf[T]]
    ) -> None:
        if limit is not None and limit < 1:
            raise ValueError("limit must be at least 1.")
        self._filters = filter_params(filters, frozenset(JobFilter.__optional_keys__))
        self._left = limit
        self._read = read
        self.call: Call[PageOf[T]] | None = self._call(path)

    def take(self, page: PageOf[T]) -> Sequence[T]:
        items = page.items[: self._left]
        if self._left is not None:
            self._left -= len(items)
        if self.call and page.next_cursor and self._left != 0:
            self.call = self._call(self.call.path, page.next_cursor)
        else:
            self.call = None
        return items

    def _call(self, path: str, cursor: str | None = None) -> Call[PageOf[T]]:
        size = PAGE_SIZE if self._left is None else min(self._left, PAGE_SIZE)
        call = Call(method="GET", path=path, params=(*self._filters, ("limit", str(size))), read=self._read)
        return replace(call, params=(*call.params, ("cursor", cursor))) if cursor else call


def jobs(limit: int | None = None, **filters: Unpack[JobFilter]) -> Listing[JobView]:
    return Listing(f"{API}/jobs", filters, limit, Page.read)


def job_path(job_id: str | UUID) -> str:
    name = segment(str(job_id))
    if name is None:
        # There is no such job, and the node need not be asked.
        raise JobNotFound(Problem(status=404, type="job-not-found", detail=f"No job has the id {job_id!r}."))
    return f"{API}/jobs/{name}"
