"""What a handler's return value or exception means for its job. Used on the node and in its child processes."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any

import orjson
from pydantic import BaseModel

from gopher_node.durations import parse_duration
from gopher_node.errors import Fail, HandlerSignal, Retry
from gopher_node.job import JobError, NewJob, RetryPolicy, names_of_class
from gopher_node.worker.outcome import Completed, Failed, Outcome, Retried

MAX_RESULT_BYTES = 1024 * 1024

# A traceback shown to a handler's author begins in the handler.
_OURS = frozenset({os.path.dirname(__file__), os.path.join(os.path.dirname(os.path.dirname(__file__)), "handlers")})


def returned(result: Any, follow_ups: Sequence[NewJob]) -> Outcome:
    """What a handler's return value means."""
    try:
        encoded = b"null" if result is None else orjson.dumps(result, _plain, orjson.OPT_NON_STR_KEYS)
    except Exception as error:
        return Failed(JobError("invalid-result", f"The result cannot be written as JSON: {error_text(error)}"))
    if len(encoded) > MAX_RESULT_BYTES:
        return Failed(
            JobError(
                "result-too-large",
                f"The result is {len(encoded)} bytes of JSON; the most is {MAX_RESULT_BYTES}. "
                "Store it elsewhere and return its address.",
            )
        )
    return Completed(encoded, tuple(follow_ups))


def raised(error: BaseException, errors: int, policy: RetryPolicy) -> Outcome:
    """What it means that a handler raised; `errors` counts those of the job's earlier runs. Never raises."""
    try:
        return _judged(error, errors, policy)
    except BaseException:
        # The attributes of an exception, and its text, are the handler's code.
        told = JobError("exception", f"The handler raised a {type(error).__name__} that cannot be read.")
        return Failed(told) if isinstance(error, Fail) else again(told, errors, policy, names_of_class(type(error)))


def again(error: JobError, errors: int, policy: RetryPolicy, names: Iterable[str]) -> Outcome:
    """What becomes of a run that ended in an error which has these names, as the policy says."""
    return Retried(error, policy.delay(errors + 1)) if policy.retries(names) else Failed(error)


def _judged(error: BaseException, errors: int, policy: RetryPolicy) -> Outcome:
    if isinstance(error, Fail):
        return Failed(_signal(error.code, error))
    if not isinstance(error, Retry):
        return again(_exception(error), errors, policy, names_of_class(type(error)))
    if error.after is None:
        return Retried(_signal(error.code, error), policy.delay(errors + 1))
    try:
        return Retried(_signal(error.code, error), parse_duration(error.after))
    except ValueError as invalid:
        told = _signal(error.code, error)
        message = f"{told.message} (after={error.after!r} {invalid}; the retry policy decided instead.)"
        return Retried(JobError(told.code, message, told.kind, told.traceback), policy.delay(errors + 1))


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError


def error_text(error: BaseException) -> str:
    """What an exception says of itself, even if saying it fails."""
    try:
        return str(error)
    except Exception:
        return f"<{type(error).__name__} whose text cannot be read>"


def _signal(code: str, error: HandlerSignal) -> JobError:
    # Where a handler chose to end says little; what made it choose says much.
    trace = _trace(error) if error.__cause__ is not None or error.__context__ is not None else ""
    return JobError(code, error_text(error), traceback=trace)


def _exception(error: BaseException) -> JobError:
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return JobError("exception", error_text(error) or kind.__name__, name, _trace(error))


def _trace(error: BaseException) -> str:
    frame: TracebackType | None = error.__traceback__
    while frame is not None and os.path.dirname(frame.tb_frame.f_code.co_filename) in _OURS:
        frame = frame.tb_next
    try:
        return "".join(traceback.format_exception(type(error), error, frame))
    except Exception:
        return ""
