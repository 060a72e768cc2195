"""Error answers: every problem by name, which problem an exception is, and its form on the wire (RFC 9457)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
from aiohttp import web
from aiohttp.http_exceptions import BadHttpMessage, ContentEncodingError, LineTooLong

from gopher_node.api.answers.problem_kinds import KINDS
from gopher_node.errors import (
    BreakerNotFound,
    DependencyCycle,
    DuplicateJob,
    GopherError,
    InvalidState,
    JobExists,
    JobNotFound,
    KeyReused,
    OutcomeUnknown,
    ParentNotFound,
    QueueDraining,
    QueueFull,
    RecurringChanged,
    RecurringExists,
    RecurringNotFound,
    StaleLease,
    StoreFull,
    StoreReadOnly,
    StoreUnavailable,
    TooManyPools,
    UnusableStore,
    WorkflowEnded,
    WorkflowNotFound,
)

Fault = dict[str, str]
"""One mistake of a request: `pointer` (a JSON pointer into the body) or `parameter`, `code` and `detail`."""

MAX_FAULTS = 100
MAX_SUGGESTED = 40
"""Characters of an unknown name that are compared with the known ones."""
OUR_WORDS = {"Field required": "must be given", "Extra inputs are not permitted": "There is no such field."}
"""What is said in place of pydantic's words."""
SERVER = "gopher-node"
"""Said in place of the library's name and version, which are nobody's business."""
HEADERS = {"Server": SERVER, "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
"""What every answer has, unless it says otherwise itself: no guessing of types, and no copies of what a key opened."""
MAX_LINE = 8 * 1024
MAX_HEADER = 16 * 1024


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
        case JobExists():
            return Problem("job-exists", "Nothing was stored: there is a job of this id.", state=error.state)
        case DependencyCycle():
            return Problem("dependency-cycle", str(error), cycle=list(error.circle))
        case DuplicateJob():
            return Problem("duplicate-job", f"Nothing was done. {error}", job_id=error.id, state=error.state)
        case ParentNotFound():
            return Problem("parent-not-found", "Nothing was stored: a job is to wait for one that is not there.")
        case QueueDraining():
            return Problem("queue-draining", str(error))
        case QueueFull():
            return Problem("queue-full", str(error), limit=error.max_backlog)
        case BreakerNotFound():
            return Problem(
                "breaker-not-found",
                "Jobs of this type have no circuit breaker. Give the queue one with PATCH, or pause it.",
            )
        case WorkflowNotFound():
            return Problem("workflow-not-found", "No workflow has this id; it may have outlived its retention.")
        case WorkflowEnded():
            return Problem("workflow-ended", str(error), state=error.state)
        case RecurringNotFound():
            return Problem("recurring-not-found", "No recurring job has this name.")
        case RecurringExists():
            return Problem(
                "recurring-exists",
                "Nothing was stored: the name is taken, by one with another content. Change that, or take another.",
            )
        case RecurringChanged():
            return Problem("recurring-changed", "Nothing was changed. Try again.", outcome="not-done")
        case StaleLease():
            return Problem("lease-lost", "Stop this run: another worker may have the job.")
        case TooManyPools():
            detail = "Too many different sets of types are claimed, with one of these types or in all."
            return Problem("too-many-pools", detail, outcome="not-done")
        case KeyReused():
            return Problem("idempotency-key-reused", "Nothing was stored. A key stands for one request and its body.")
        case StoreFull():
            return Problem(
                "store-full", "Nothing was done. Try again when jobs have been finished.", outcome="not-done"
            )
        case OutcomeUnknown():
            return Problem("store-timeout", "What was asked may or may not have been done.", outcome="unknown")
        case StoreReadOnly():
            return Problem("store-read-only", "Nothing was done. Try again.", outcome="not-done")
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
        return Problem(names[error.status], _of_address(error), headers={"Allow": allow} if allow else None)
    return Problem("bad-request") if error.status < 500 else _internal()


LISTED = "All addresses are listed at /docs."


def _of_address(error: web.HTTPException) -> str:
    if isinstance(error, web.HTTPMethodNotAllowed):
        *others, last = sorted(error.allowed_methods)
        takes = f"{', '.join(others)} and {last}" if others else last
        return f"This address takes {takes}. {LISTED}"
    return LISTED if error.status == 404 else ""


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


def one_fault(fault: Fault) -> str:
    """A fault as a sentence, with where it is."""
    where, said = fault.get("pointer") or fault.get("parameter") or "The body", fault["detail"]
    return f"{where}{' ' if said[:1].islower() else ': '}{said}{'' if said.endswith(('.', '?')) else '.'}"


def no_such(what: str, name: str, known: Iterable[str]) -> str:
    """What is said of a field or parameter that does not exist, with the one that may be meant."""
    close = difflib.get_close_matches(name[:MAX_SUGGESTED], list(known), 1)
    return f"There is no such {what}; did you mean `{close[0]}`?" if close else f"There is no such {what}."


def our_words(said: str) -> str:
    """What pydantic says of a value, in the style of all that is said here."""
    if said in OUR_WORDS:
        return OUR_WORDS[said]
    return re.sub(r"^Input should be ", "must be ", said)


def document(problem: Problem, request_id: str) -> dict[str, Any]:
    """A problem in JSON."""
    kind = problem.kind
    content: dict[str, Any] = {
        "type": f"/problems/{problem.name}",
        "title": kind.title,
        "status": kind.status,
        "detail": problem.detail or (one_fault(problem.faults[0]) if len(problem.faults) == 1 else kind.title),
        "instance": request_id,
        **problem.extra,
    }
    if problem.faults:
        content["errors"] = problem.faults[:MAX_FAULTS]
    return content


def answer(problem: Problem, request_id: str) -> web.Response:
    kind = problem.kind
    headers = {
        **HEADERS,
        "Content-Type": "application/problem+json",
        "X-Request-ID": request_id,
        **problem.headers,
    }
    if kind.retry_after is not None:
        headers["Retry-After"] = str(kind.retry_after)
    response = web.Response(body=orjson.dumps(document(problem, request_id)), status=kind.status, headers=headers)
    if kind.close:
        response.force_close()
    return response
