"""Error answers: every problem by name, which problem an exception is, and its form on the wire (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage, ContentEncodingError, LineTooLong

from gopher_node.errors import (
    GopherError,
    InvalidState,
    JobNotFound,
    OutcomeUnknown,
    StoreFull,
    StoreUnavailable,
    UnusableStore,
)

Fault = dict[str, str]
"""One mistake of a request: `pointer` (a JSON pointer into the body) or `parameter`, `code` and `detail`."""

MAX_FAULTS = 100
SERVER = "gopher-node"
"""Said in place of the library's name and version, which are nobody's business."""
MAX_LINE = 8 * 1024
MAX_HEADER = 16 * 1024


@dataclass(frozen=True, slots=True)
class Kind:
    """What holds for every problem of one name. `retry_after` is in seconds; `close` ends the connection as well."""

    status: int
    title: str
    retry_after: int | None = None
    close: bool = False


KINDS: Mapping[str, Kind] = {
    "bad-request": Kind(400, "This is no valid HTTP request.", close=True),
    "empty-body": Kind(400, "The request has no body."),
    "malformed-json": Kind(400, "The body is not valid JSON."),
    "number-out-of-range": Kind(400, "The body has a number that cannot be kept exactly."),
    "json-too-deep": Kind(400, "The body is nested too deeply."),
    "bad-encoding": Kind(400, "The body is not what its Content-Encoding says.", close=True),
    "not-found": Kind(404, "There is nothing at this address."),
    "job-not-found": Kind(404, "There is no such job."),
    "queue-not-found": Kind(404, "There is no such queue."),
    "method-not-allowed": Kind(405, "This address does not answer this method."),
    "request-timeout": Kind(408, "The request took too long to arrive.", close=True),
    "invalid-state": Kind(409, "The job's state does not allow this."),
    "payload-too-large": Kind(413, "The body is too large.", close=True),
    "job-too-large": Kind(413, "The job's payload is too large."),
    "batch-too-large": Kind(413, "The batch has too many jobs."),
    "uri-too-long": Kind(414, "The address is too long.", close=True),
    "unsupported-media-type": Kind(415, "The body must be JSON."),
    "unsupported-encoding": Kind(415, "This Content-Encoding is not supported."),
    "expectation-failed": Kind(417, "Only Expect: 100-continue is understood.", close=True),
    "invalid-body": Kind(422, "The body is not valid."),
    "invalid-job": Kind(422, "The job is not valid."),
    "invalid-name": Kind(422, "A name is not valid."),
    "invalid-payload": Kind(422, "The payload does not fit the job's type."),
    "invalid-run-at": Kind(422, "The time of execution is not valid."),
    "invalid-duration": Kind(422, "A duration is not valid."),
    "out-of-range": Kind(422, "A value is out of range."),
    "unknown-field": Kind(422, "The job has a field that does not exist."),
    "invalid-parameter": Kind(422, "A query parameter is not valid."),
    "headers-too-large": Kind(431, "The headers are too large.", close=True),
    "internal": Kind(500, "The node made a mistake."),
    "draining": Kind(503, "This node is shutting down.", retry_after=1, close=True),
    "store-unavailable": Kind(503, "The store cannot be reached.", retry_after=2),
    "store-timeout": Kind(503, "The store did not answer.", retry_after=2),
    "store-full": Kind(503, "The store is full.", retry_after=30),
}


class Problem(Exception):
    """
    An error answer; whoever notices the mistake raises it, and the middleware sends it.

    `faults` say what is wrong where. `extra` members stand beside the standard ones. Neither these nor `detail` may
    repeat what the client sent, except for the names of its fields.
    """

    def __init__(
        self,
        name: str,
        detail: str = "",
        *,
        faults: Sequence[Fault] = (),
        headers: Mapping[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(name, detail)
        self.name = name
        self.kind = KINDS[name]
        self.detail = detail
        self.faults = faults
        self.headers = headers or {}
        self.extra = extra


def problem_of(error: BaseException) -> Problem:
    """The problem that this exception is; `internal` for one that nobody foresaw."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, GopherError):
        return _of_ours(error)
    if isinstance(error, web.HTTPException):
        return _of_aiohttp(error)
    if isinstance(error, BadHttpMessage):
        return _of_parser(error)
    return _internal()


def _of_ours(error: GopherError) -> Problem:
    # The store's own words name hosts and settings, which are for the log and not for clients.
    match error:
        case JobNotFound():
            return Problem("job-not-found", "No job has this id; it may have outlived its retention.")
        case InvalidState():
            return Problem("invalid-state", str(error), state=error.state)
        case StoreFull():
            return Problem(
                "store-full", "Nothing was done. Try again when jobs have been finished.", outcome="not-done"
            )
        case OutcomeUnknown():
            return Problem("store-timeout", "What was asked may or may not have been done.", outcome="unknown")
        case StoreUnavailable() | UnusableStore():
            return Problem("store-unavailable", "Nothing was done. Try again.", outcome="not-done")
        case _:
            return _internal()


def _internal() -> Problem:
    return Problem("internal", "The node's log has the details, under this answer's instance.")


def _of_aiohttp(error: web.HTTPException) -> Problem:
    names = {
        404: "not-found",
        405: "method-not-allowed",
        413: "payload-too-large",
        417: "expectation-failed",
    }
    if error.status in names:
        allow = error.headers.get("Allow")
        return Problem(names[error.status], headers={"Allow": allow} if allow else None)
    return Problem("bad-request") if error.status < 500 else _internal()


def _of_parser(error: BadHttpMessage) -> Problem:
    # The parser's own words quote what the client sent, so they stay here.
    if isinstance(error, LineTooLong):
        # The two limits differ, and the error says which one was passed.
        if error.args[1] == MAX_LINE:
            return Problem("uri-too-long", f"An address has at most {MAX_LINE} bytes.")
        return Problem("headers-too-large", f"A header has at most {MAX_HEADER} bytes.")
    if error.args == ("Too many headers received",):
        return Problem("headers-too-large", "A request has at most 100 headers.")
    if isinstance(error, ContentEncodingError):
        return Problem("unsupported-encoding")
    return Problem("bad-request")


def answer(problem: Problem, request_id: str) -> web.Response:
    kind = problem.kind
    content: dict[str, Any] = {
        "type": f"/problems/{problem.name}",
        "title": kind.title,
        "status": kind.status,
        "detail": problem.detail or kind.title,
        "instance": request_id,
        **problem.extra,
    }
    if problem.faults:
        content["errors"] = problem.faults[:MAX_FAULTS]
    headers = {
        "Content-Type": "application/problem+json",
        "Server": SERVER,
        "X-Request-ID": request_id,
        **problem.headers,
    }
    if kind.retry_after is not None:
        headers["Retry-After"] = str(kind.retry_after)
    response = web.Response(body=orjson.dumps(content), status=kind.status, headers=headers)
    if kind.close:
        response.force_close()
    return response
