"""
Questions of a worker: claim jobs under a lease, and settle them.

A token is as good as a password, so it is always sent in a body and never as a part of an address, which logs hold.
That is why one lease is settled here as a batch of one.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar

from gopher_node.client.calls.call import (
    API,
    Call,
    Duration,
    encode,
    idempotency_key,
    members,
    strings,
)
from gopher_node.client.calls.jobs import JobRequest, request_body
from gopher_node.client.documents import problem_from
from gopher_node.client.problems import error_for
from gopher_node.client.views import BeatView, LeaseView, SettledView, items_of
from gopher_node.durations import parse_duration

V = TypeVar("V")


def lease(
    types: str | Sequence[str], max_jobs: int, wait: Duration, lease: Duration | None, worker: str | None
) -> Call[tuple[LeaseView, ...]]:
    named = [types] if isinstance(types, str) else strings("types", types)
    seconds = parse_duration(wait)
    body = members(types=named, max_jobs=max_jobs, wait=seconds, lease=lease, worker=worker)
    return Call(
        method="POST",
        path=f"{API}/leases",
        body=encode(body, "lease"),
        wait=seconds,
        # If the answer is lost, the jobs that it held are asked for again, and no others.
        key=idempotency_key(),
        read=_read_leases,
    )


def heartbeat(
    token: str, progress: Any, lease: Duration | None, log: Sequence[str | Mapping[str, str]] = ()
) -> Call[BeatView]:
    lines = [{"message": line} if isinstance(line, str) else dict(line) for line in log]
    told = members(progress=progress, lease=lease, log=lines or None)
    return _tell("heartbeat", token, told, BeatView.read, "progress")


def complete(token: str, result: Any, follow_ups: Iterable[JobRequest]) -> Call[SettledView]:
    jobs = [request_body(job) for job in follow_ups]
    return _tell("complete", token, members(result=result, follow_ups=jobs or None), SettledView.read, "result")


def fail(
    token: str,
    error: str | BaseException | Mapping[str, Any],
    code: str | None,
    retryable: bool,
    retry_after: Duration | None,
) -> Call[SettledView]:
    told = members(error=_describe(error, code), retryable=retryable, retry_after=retry_after)
    return _tell("fail", token, told, SettledView.read, "error")


def release(token: str) -> Call[SettledView]:
    return _tell("release", token, {}, SettledView.read, "release")


def _tell(
    verb: Literal["heartbeat", "complete", "fail", "release"],
    token: str,
    told: Mapping[str, Any],
    read: Callable[[Any], V],
    what: str,
) -> Call[V]:
    def read_one(content: Any) -> V:
        (item,) = items_of(content)
        problem = problem_from(item.get("problem"))
        if problem:
            raise error_for(problem)
        return read(item)

    body = encode({"items": [{"token": token, **told}]}, what)
    return Call(method="POST", path=f"{API}/leases/{verb}", body=body, told_twice=True, read=read_one)


def _describe(error: str | BaseException | Mapping[str, Any], code: str | None) -> Any:
    if isinstance(error, BaseException):
        described: dict[str, Any] = {
            "message": str(error) or type(error).__name__,
            "type": type(error).__qualname__,
            "traceback": "".join(traceback.format_exception(error)),
        }
    elif isinstance(error, str):
        described = {"message": error}
    else:
        described = dict(error)
    return {**described, "code": code} if code is not None else described


def _read_leases(content: Any) -> tuple[LeaseView, ...]:
    return tuple(LeaseView.read(item) for item in items_of(content))
