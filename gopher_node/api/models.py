"""What a request body may say: the fields of a new job, strictly typed, and how they become one."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, LiteralString, cast

import orjson
from pydantic import BaseModel, ConfigDict, PlainValidator, ValidationError
from pydantic_core import PydanticCustomError

from gopher_node.api.problem_kinds import KINDS
from gopher_node.api.problems import Fault, Problem
from gopher_node.durations import parse_duration
from gopher_node.handlers import Handler, InvalidPayload, Registry
from gopher_node.handlers.builtin.addresses import Allowed, callback_refusal
from gopher_node.handlers.context import MAX_RETRIES
from gopher_node.job import GROUP_NAME, TAG_NAME, TYPE_NAME, NewJob, Priority, new_job_id

MAX_PAYLOAD = 256 * 1024
MAX_TAGS = 20
MAX_IDS = 1000
YEAR_MS = 366 * 86_400_000

_RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})\Z"
)
JOB_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")

_LEVELS = {level.label: level for level in Priority}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def name(pattern: re.Pattern[str], allowed: str) -> PlainValidator:
    def parse(value: object) -> str:
        if not isinstance(value, str) or not pattern.match(value):
            raise PydanticCustomError("invalid-name", "must be {allowed}", {"allowed": allowed})
        return value

    return PlainValidator(parse, json_schema_input_type=str)


def parse_priority(value: object) -> Priority:
    if type(value) is str and value in _LEVELS:
        return _LEVELS[value]
    try:
        return Priority.parse(value)
    except ValueError as error:
        raise PydanticCustomError("out-of-range", "{reason}", {"reason": str(error)}) from None


def parse_time(value: object) -> int:
    """Epoch milliseconds from RFC 3339 text."""
    try:
        if not isinstance(value, str) or not _RFC_3339.match(value):
            raise ValueError
        return (datetime.fromisoformat(value.upper()) - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        raise PydanticCustomError(
            "invalid-time", 'must be a time with its zone (RFC 3339), such as "2027-01-31T08:00:00Z"'
        ) from None


def parse_run_at(value: object) -> int:
    """Epoch milliseconds, at most a year from now."""
    try:
        due_ms = parse_time(value)
    except PydanticCustomError as error:
        raise PydanticCustomError("invalid-run-at", "{reason}", {"reason": error.message()}) from None
    if due_ms > time.time() * 1000 + YEAR_MS:
        raise PydanticCustomError("invalid-run-at", "must be within a year from now")
    return max(due_ms, 0)


def milliseconds(low: int, high: int | None = None, beyond: LiteralString = "out-of-range") -> Callable[[object], int]:
    """Reads a duration as milliseconds, from `low` to `high`, both included."""

    def parse(value: object) -> int:
        try:
            length = round(parse_duration(value) * 1000)
        except ValueError as error:
            raise PydanticCustomError("invalid-duration", "{reason}", {"reason": str(error)}) from None
        if length < low:
            raise PydanticCustomError("out-of-range", "must be at least 1 ms")
        if high is not None and length > high:
            raise PydanticCustomError(beyond, "must be at most {high} s", {"high": high // 1000})
        return length

    return parse


def _parse_retries(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_RETRIES:
        raise PydanticCustomError("out-of-range", "must be a whole number from 0 to {high}", {"high": MAX_RETRIES})
    return value


def _parse_callback(value: object) -> str:
    # Where it may lead is for read_submission to judge: that depends on the settings.
    if not isinstance(value, str):
        raise PydanticCustomError("callback-not-allowed", "must be a URL such as https://example.org/hooks")
    return value


def _parse_ids(value: object) -> tuple[str, ...]:
    ids = cast("list[object]", value) if isinstance(value, list) else None
    if ids is None or not all(isinstance(id, str) and JOB_ID.match(id.lower()) for id in ids):
        raise PydanticCustomError("invalid-name", "must be a list of job ids")
    if not 1 <= len(ids) <= MAX_IDS:
        raise PydanticCustomError("out-of-range", "must be 1 to {high} job ids", {"high": MAX_IDS})
    return tuple(dict.fromkeys(id.lower() for id in cast("list[str]", ids)))


def _parse_tags(value: object) -> tuple[str, ...]:
    tags = cast("list[object]", value) if isinstance(value, list) else None
    if tags is None or not all(isinstance(tag, str) and TAG_NAME.match(tag) for tag in tags):
        raise PydanticCustomError("invalid-name", "must be a list of names: letters, digits and ._@:/+- inside")
    if len(tags) > MAX_TAGS:
        raise PydanticCustomError("out-of-range", "must be at most {high} tags", {"high": MAX_TAGS})
    return tuple(dict.fromkeys(cast("list[str]", tags)))


_DURATION = str | int | float

TypeName = Annotated[
    str, name(TYPE_NAME, "1 to 100 letters, digits, dots, dashes or underscores, the first a letter or digit")
]
GroupName = Annotated[str, name(GROUP_NAME, "1 to 200 letters, digits or ._@:/+-, the first a letter or digit")]
TagName = Annotated[str, name(TAG_NAME, "1 to 200 letters, digits or ._@:/+-, the first a letter or digit")]
Level = Annotated[Priority, PlainValidator(parse_priority, json_schema_input_type=str | int)]
Retries = Annotated[int, PlainValidator(_parse_retries, json_schema_input_type=int)]
RunAt = Annotated[int, PlainValidator(parse_run_at, json_schema_input_type=str)]
Delay = Annotated[int, PlainValidator(milliseconds(0, YEAR_MS, "invalid-run-at"), json_schema_input_type=_DURATION)]
Timeout = Annotated[int, PlainValidator(milliseconds(1), json_schema_input_type=_DURATION)]
Keep = Annotated[int, PlainValidator(milliseconds(0), json_schema_input_type=_DURATION)]
OwnJobId = Annotated[str, name(JOB_ID, "a UUID in lower case, such as b3864208-5177-41ad-8fa2-451fed8ec84f")]
Ids = Annotated[tuple[str, ...], PlainValidator(_parse_ids, json_schema_input_type=list[str])]
CallbackUrl = Annotated[str, PlainValidator(_parse_callback, json_schema_input_type=str)]
Tags = Annotated[tuple[str, ...], PlainValidator(_parse_tags, json_schema_input_type=list[str])]


class Submission(BaseModel):
    """The body of a submit. A null says the same as leaving the field out."""

    model_config = ConfigDict(strict=True, extra="forbid")

    type: TypeName | None = None
    queue: TypeName | None = None
    payload: Any = None
    priority: Level | None = None
    retries: Retries | None = None
    max_retries: Retries | None = None
    execute_at: RunAt | None = None
    delay: Delay | None = None
    group: GroupName | None = None
    timeout: Timeout | None = None
    retention: Keep | None = None
    tags: Tags | None = None
    job_id: OwnJobId | None = None
    callback_url: CallbackUrl | None = None


class Edit(BaseModel):
    """What is to change of a waiting job. A null says the same as leaving the field out."""

    model_config = ConfigDict(strict=True, extra="forbid")

    priority: Level | None = None
    execute_at: RunAt | None = None
    delay: Delay | None = None


class JobIds(BaseModel):
    """Up to 1,000 jobs by their ids."""

    model_config = ConfigDict(strict=True, extra="forbid")

    job_ids: Ids


def read_submission(
    document: Any, registry: Registry, max_retries: int, *, allow: Sequence[Allowed] = ()
) -> NewJob | list[Fault]:
    """
    The job that a body describes, or all that is wrong with it.

    `max_retries` holds where nothing else says. `allow` is where callbacks may go beyond public addresses.
    """
    if not isinstance(document, dict):
        return [{"pointer": "", "code": "invalid-job", "detail": "must be a JSON object"}]
    given = cast("dict[str, Any]", document)
    faults = _conflicts(given)
    try:
        submission = Submission.model_validate(given)
    except ValidationError as error:
        submission = None
        faults = faults_of(error) + faults

    type = given.get("type") or given.get("queue")
    handler = registry.get(type) if isinstance(type, str) else None
    payload = given.get("payload")
    content = b"{}" if payload is None else orjson.dumps(payload)
    faults += _payload_faults(content, handler)
    callback = given.get("callback_url")
    if isinstance(callback, str) and (refused := callback_refusal(callback, allow)):
        faults.append({"pointer": "/callback_url", "code": "callback-not-allowed", "detail": refused})
    if faults or submission is None:
        return faults
    return _new_job(submission, content, handler, max_retries)


def _new_job(submission: Submission, payload: bytes, handler: Handler | None, default_retries: int) -> NewJob:
    priority, timeout_ms = submission.priority, submission.timeout
    retries = submission.retries if submission.max_retries is None else submission.max_retries
    if handler is not None:
        priority = priority or handler.priority
        retries = handler.max_retries if retries is None else retries
        if timeout_ms is None and handler.timeout is not None:
            timeout_ms = max(1, round(handler.timeout * 1000))
    return NewJob(
        id=submission.job_id or new_job_id(),
        client_id=submission.job_id is not None,
        callback_url=submission.callback_url or "",
        type=submission.type or submission.queue or "",
        payload=payload,
        priority=priority or Priority.NORMAL,
        group=submission.group or "",
        due_ms=submission.execute_at,
        delay_ms=submission.delay or None,
        timeout_ms=timeout_ms,
        max_retries=default_retries if retries is None else retries,
        retention_ms=submission.retention,
        tags=submission.tags or (),
    )


def _conflicts(given: dict[str, Any]) -> list[Fault]:
    faults: list[Fault] = []
    if given.get("type") is None and given.get("queue") is None:
        faults.append({"pointer": "/type", "code": "missing", "detail": "must name the job's type"})
    for one, other in (("type", "queue"), ("max_retries", "retries")):
        if given.get(one) is not None and given.get(other) is not None and given[one] != given[other]:
            faults.append(_conflict(other, f"is another word for {one}, which says something else"))
    if given.get("delay") is not None and given.get("execute_at") is not None:
        faults.append(_conflict("delay", "cannot stand beside execute_at"))
    return faults


def _conflict(field: str, detail: str) -> Fault:
    return {"pointer": f"/{field}", "code": "conflict", "detail": detail}


def _payload_faults(payload: bytes, handler: Handler | None) -> list[Fault]:
    if len(payload) > MAX_PAYLOAD:
        detail = f"must be at most {MAX_PAYLOAD} bytes of JSON; it has {len(payload)}"
        return [{"pointer": "/payload", "code": "job-too-large", "detail": detail}]
    if handler is not None:
        try:
            handler.parse(payload)
        except InvalidPayload as error:
            return [{**fault, "pointer": "/payload" + fault["pointer"]} for fault in error.errors]
    return []


def faults_of(error: ValidationError) -> list[Fault]:
    """What pydantic found, in our words and without the client's."""
    return [
        {
            "pointer": "".join(f"/{_step(step)}" for step in found["loc"]),
            "code": "unknown-field" if found["type"] == "extra_forbidden" else found["type"].replace("_", "-"),
            "detail": _OWN_WORDS.get(found["type"], found["msg"]),
        }
        for found in error.errors(include_url=False, include_context=False, include_input=False)
    ]


_OWN_WORDS = {"extra_forbidden": "There is no such field.", "model_type": "must be a JSON object"}


def _step(step: int | str) -> str:
    return str(step)[:100].replace("~", "~0").replace("/", "~1")


def refusal(faults: Sequence[Fault], general: str = "invalid-job") -> Problem:
    """The problem of a document with these faults: named after them if they are all of one kind, else `general`."""
    names = {_problem_name(fault, general) for fault in faults}
    return Problem(names.pop() if len(names) == 1 else general, _count(faults), faults=faults)


def batch_refusal(faults: Sequence[Fault]) -> Problem:
    """The problem of a batch whose items have these faults."""
    too_large = all(fault["code"] == "job-too-large" for fault in faults)
    return Problem(
        "job-too-large" if too_large else "invalid-job", f"Nothing was stored. {_count(faults)}", faults=faults
    )


def _problem_name(fault: Fault, general: str) -> str:
    if fault["code"] == "job-too-large":
        return fault["code"]
    if fault["pointer"].startswith("/payload/") or (
        fault["pointer"] == "/payload" and fault["code"] != "unknown-field"
    ):
        return "invalid-payload"
    return fault["code"] if fault["code"] in KINDS else general


def _count(faults: Sequence[Fault]) -> str:
    return "One thing is wrong; see errors." if len(faults) == 1 else f"{len(faults)} things are wrong; see errors."
