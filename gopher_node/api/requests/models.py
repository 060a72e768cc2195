"""What a request body may say: the fields of a new job, strictly typed, and how they become one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from gopher_node.api.answers.problem_kinds import KINDS
from gopher_node.api.answers.problems import Fault, Problem, no_such, one_fault, our_words
from gopher_node.api.requests.catalogue import Published
from gopher_node.api.requests.fields import (
    MAX_IDS,
    MAX_PARENTS,
    MAX_TAGS,
    CallbackUrl,
    Delay,
    GroupName,
    Ids,
    JobName,
    Keep,
    Level,
    OnParentFailure,
    OwnJobId,
    Parents,
    Retries,
    RunAt,
    Tags,
    Timeout,
    TypeName,
)
from gopher_node.api.requests.policies import (
    MAX_KEY,
    Duplicates,
    RetryRules,
    UniqueKey,
    UniqueUntil,
    conflicts,
    outlived,
    unique_of,
)
from gopher_node.api.requests.schedules import EXAMPLE, NamedRecurrence
from gopher_node.handlers import Handler, InvalidPayload, Registry
from gopher_node.handlers.builtin.addresses import Allowed, callback_refusal
from gopher_node.job import JobOptions, NewJob, Priority, new_job_id

MAX_PAYLOAD = 256 * 1024
MAX_SUGGESTIONS = 3


class Submission(BaseModel):
    """
    A new job. It needs a `type`, and what is left out is as its handler says, else as the node does.

    A null says the same as leaving the field out.
    """

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"type": "math", "payload": {"operation": "fibonacci", "n": 30}},
                {
                    "type": "webhook",
                    "payload": {"url": "https://example.org/orders", "body": {"order": 17}},
                    "priority": "high",
                    "max_retries": 5,
                    "timeout": "30s",
                    "tags": ["orders", "customer:17"],
                },
                {
                    "type": "email",
                    "payload": {"to": "someone@example.org", "subject": "Hello", "body": "How are you?"},
                    "delay": "1h30m",
                    "group": "customer-17",
                    "retention": "7d",
                    "job_id": "b3864208-5177-41ad-8fa2-451fed8ec84f",
                },
            ]
        },
    )

    type: TypeName | None = Field(
        None, description="The job's type, which says who runs it, and is its queue's name.", examples=["nightly"]
    )
    queue: TypeName | None = Field(None, description="Another word for `type`.", examples=["nightly"])
    payload: Any = Field(
        None,
        description=f"What the job is to work on: any JSON, up to {MAX_PAYLOAD // 1024} KiB, that its type's handler "
        "takes. An empty object unless it is said.",
        examples=[{"to": "someone@example.org", "subject": "Hello"}],
    )
    priority: Level | None = Field(
        None, description="Which of the waiting jobs runs first: a name or its number. Normal unless it is said."
    )
    retries: Retries | None = Field(None, description="Another word for `max_retries`.", examples=[3])
    max_retries: Retries | None = Field(
        None, description="How often the job is tried again after an error.", examples=[3]
    )
    execute_at: RunAt | None = Field(
        None,
        description="Not to run before this time (RFC 3339), within a year from now. In the past means now.",
    )
    delay: Delay | None = Field(
        None, description="Not to run before so much time has passed; instead of `execute_at`.", examples=["10m", 90]
    )
    group: GroupName | None = Field(
        None, description="Whom the job is for, such as a customer. Groups take turns.", examples=["customer-17"]
    )
    timeout: Timeout | None = Field(None, description="How long one run may take.", examples=["30s", 30])
    retention: Keep | None = Field(
        None, description="How long the job is kept once it has ended.", examples=["7d", 86400]
    )
    tags: Tags | None = Field(
        None, description=f"Up to {MAX_TAGS} words by which to find the job.", examples=[["orders", "customer:17"]]
    )
    job_id: OwnJobId | None = Field(
        None,
        description="An id of your own, a UUID in lower case, so that the same job is never stored twice.",
        examples=["b3864208-5177-41ad-8fa2-451fed8ec84f"],
    )
    callback_url: CallbackUrl | None = Field(
        None,
        description="Where a signed message tells that the job has ended: https, on the public internet unless the "
        "node allows more.",
        examples=["https://example.org/hooks/jobs"],
    )
    unique_key: UniqueKey | None = Field(
        None,
        description=f"A name, up to {MAX_KEY} characters, that only one job of the type bears at a time.",
        examples=["order-17"],
    )
    unique_until: UniqueUntil | None = Field(
        None,
        description="How long it bears the name: until it is `started` or `finished`, or for so long from now on, as "
        "long as it is kept. Until it is finished unless it is said.",
        examples=["started", "10m"],
    )
    on_duplicate: Duplicates | None = Field(
        None,
        description="What happens if another job bears the name: that one is the answer (`existing`, unless another "
        "is said), or gets this payload and due time as long as it waits (`replace`), or the request is refused "
        "(`reject`, and `replace` if it waits no longer).",
    )
    expires_at: RunAt | None = Field(
        None,
        description="When the job is of no use any more (RFC 3339), within a year from now: what has not started by "
        "then is cancelled. Retries count.",
    )
    ttl: Delay | None = Field(
        None, description="The same as a time from now on; instead of `expires_at`.", examples=["1h"]
    )
    retry: RetryRules | None = Field(
        None, description="When it is tried again after an error, if not as its handler says."
    )
    name: JobName | None = Field(
        None,
        description="What it is called: in its request, in its workflow, and by the jobs that wait for it.",
        examples=["resize"],
    )
    depends_on: Parents | None = Field(
        None,
        description=f"The jobs that have to end first, up to {MAX_PARENTS:,}: their ids, or the names of jobs of the "
        "same request.",
    )
    on_parent_failure: OnParentFailure | None = Field(
        None,
        description="What becomes of it if one of those jobs does not complete: it is skipped, which ends it as "
        "cancelled, fails, or runs all the same. Skipped unless it is said.",
    )
    workflow_id: OwnJobId | None = Field(None, description="The workflow, still running, that it is a part of.")
    recurring: NamedRecurrence | None = Field(
        None,
        description="That it recurs, and when: such jobs come until this is paused or deleted at /api/v1/recurring. "
        "The answer is the job of the first time, which is scheduled. The same request again makes no other one.",
        examples=[{"cron_expression": EXAMPLE}],
    )


class Edit(BaseModel):
    """What is to change of a waiting job: at least one of these. A null says the same as leaving the field out."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        json_schema_extra={"examples": [{"priority": "urgent"}, {"delay": "10m"}], "minProperties": 1},
    )

    priority: Level | None = Field(None, description="Its new priority: a name or its number.")
    execute_at: RunAt | None = Field(
        None,
        description="When it is due instead (RFC 3339), within a year from now. In the past means now.",
    )
    delay: Delay | None = Field(
        None, description="How long from now it is due; instead of `execute_at`.", examples=["10m", 0]
    )


class JobIds(BaseModel):
    """Jobs by their ids."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        json_schema_extra={"examples": [{"job_ids": ["b3864208-5177-41ad-8fa2-451fed8ec84f"]}]},
    )

    job_ids: Ids = Field(description=f"Up to {MAX_IDS:,} ids.")


def read_submission(
    document: Any,
    registry: Registry,
    max_retries: int,
    *,
    published: Mapping[str, Published] = MappingProxyType({}),
    allow: Sequence[Allowed] = (),
) -> NewJob | list[Fault]:
    """
    The job that a body describes, or all that is wrong with it.

    `max_retries` holds where nothing else says. What other nodes have `published` of a type holds in place of a handler
    here, and its payloads are for them to check. `allow` is where callbacks may go beyond public addresses.
    """
    if not isinstance(document, dict):
        return [{"pointer": "", "code": "invalid-job", "detail": "must be a JSON object"}]
    given = cast("dict[str, Any]", document)
    faults = _conflicts(given)
    try:
        submission = Submission.model_validate(given)
    except ValidationError as error:
        submission = None
        faults = faults_of(error, Submission) + faults

    type = given.get("type") or given.get("queue")
    elsewhere = published.get(type) if isinstance(type, str) else None
    handler = registry.get(type) if isinstance(type, str) and elsewhere is None else None
    payload = given.get("payload")
    content = b"{}" if payload is None else orjson.dumps(payload)
    faults += _payload_faults(content, handler)
    callback = given.get("callback_url")
    if isinstance(callback, str) and (refused := callback_refusal(callback, allow)):
        faults.append({"pointer": "/callback_url", "code": "callback-not-allowed", "detail": refused})
    if submission is not None and not faults:
        faults += outlived(submission.execute_at, submission.delay, submission.expires_at, submission.ttl)
    if faults or submission is None:
        return faults
    return _new_job(submission, content, elsewhere or handler, max_retries)


def _new_job(
    submission: Submission, payload: bytes, handler: Handler | Published | None, default_retries: int
) -> NewJob:
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
        options=_options(submission),
    )


def _options(submission: Submission) -> JobOptions:
    """What few jobs have."""
    return JobOptions(
        unique=unique_of(submission.unique_key, submission.unique_until, submission.on_duplicate),
        expires_ms=submission.expires_at,
        ttl_ms=submission.ttl,
        retry=None if submission.retry is None else submission.retry.policy(),
        depends_on=submission.depends_on or (),
        on_parent_failure=submission.on_parent_failure or "skip",
        workflow=submission.workflow_id or "",
        name=submission.name or "",
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
    if given.get("recurring") is not None:
        faults.append(_conflict("recurring", "is for a job that is submitted alone, at /api/v1/jobs"))
    return faults + conflicts(given)


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
            return [
                {**fault, "pointer": "/payload" + fault["pointer"], "detail": our_words(fault["detail"])}
                for fault in error.errors
            ]
    return []


def faults_of(error: ValidationError, model: type[BaseModel]) -> list[Fault]:
    """What pydantic found in a document of this model, in our words and without the client's."""
    faults: list[Fault] = []
    suggested = 0
    for found in error.errors(include_url=False, include_input=False):
        steps, detail = found["loc"], our_words(found["msg"])
        if "item" in (context := found.get("ctx", {})):
            # Which one of a list that is read as a whole.
            steps = (*steps, context["item"])
        if found["type"] == "extra_forbidden":
            # To compare words takes time, and one in haste misspells few.
            suggested += 1
            known = model.model_fields if len(steps) == 1 and suggested <= MAX_SUGGESTIONS else ()
            detail = no_such("field", str(steps[-1]), known)
        elif found["type"] == "model_type":
            detail = "must be a JSON object"
        faults.append(
            {
                "pointer": "".join(f"/{_step(step)}" for step in steps),
                "code": "unknown-field" if found["type"] == "extra_forbidden" else found["type"].replace("_", "-"),
                "detail": detail,
            }
        )
    return faults


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
    return one_fault(faults[0]) if len(faults) == 1 else f"{len(faults)} things are wrong; see errors."
