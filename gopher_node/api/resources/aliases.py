"""Older spellings that are more than another path: each is read here, and ends in the same code as the API's own."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, RootModel, model_validator
from pydantic_core import PydanticCustomError

from gopher_node.api.answers.documents import Document, JobDocument, JobId
from gopher_node.api.answers.problems import Problem
from gopher_node.api.answers.views import respond, show_job
from gopher_node.api.endpoint import Header, endpoint
from gopher_node.api.http_work.http_workers import NAMELESS
from gopher_node.api.http_work.settling import Completion, ErrorText, Failure, Release, parse_token
from gopher_node.api.parts import PARTS
from gopher_node.api.requests import idempotency
from gopher_node.api.requests.bodies import parse_json, read_bytes
from gopher_node.api.requests.fields import Level, TypeName
from gopher_node.api.requests.queries import NoQuery, Query, read_job_id
from gopher_node.api.resources.leases import desk_of
from gopher_node.api.resources.submitting import REFUSED_SUBMISSIONS, refuse_if_draining, store_document
from gopher_node.errors import InvalidState, StaleLease
from gopher_node.job import JobError, State, Token

LEASE = "Gopher-Lease"
HEADERS = {
    LEASE: Header(
        description="The token of the job's lease. Without it, only a job that was set running here can be moved.",
        schema={"type": "string"},
    )
}
GRACE = 30.0
"""Seconds beyond its timeout for which a run holds its job."""
PROBLEMS = ("job-not-found", "invalid-state", "lease-required", "lease-not-found", "lease-lost")


class ShortSubmissionQuery(Query):
    type: TypeName = Field("default", description="The job's type. `queue` is another word for it.", examples=["echo"])
    priority: Level | None = Field(None, description="Its priority: a name or its number.")


class Payload(RootModel[Any]):
    """What the job is to work on: any JSON, up to 256 KiB."""


class ShortAnswer(Document):
    """The job that was stored."""

    job_id: JobId
    status: Literal["submitted"]


WITHOUT_PAYLOAD: dict[str, dict[str, Any]] = {
    "email": {"subject": "A job without a payload"},
    "sync": {"source": "sync/source", "destination": "sync/destination", "missing_ok": True},
    "cleanup": {"folder": ".", "older_than": "30d", "dry_run": True},
}
"""What small and safe work these types do where a payload could not be told; the others have defaults of their own."""


@endpoint(
    "POST",
    "/jobs",
    scope="submit",
    query=ShortSubmissionQuery,
    body=Payload,
    reads_body=False,
    needs_body=False,
    answers={201: ShortAnswer},
    problems=(*REFUSED_SUBMISSIONS, *idempotency.PROBLEMS, "draining"),
    headers=idempotency.HEADERS,
    tells=("Location", "Idempotency-Replayed"),
)
async def submit_by_query(request: web.Request, query: ShortSubmissionQuery) -> web.Response:
    """
    Submit a job by its type and priority; the body, if there is one, is its payload.

    Without a body, `email` writes to SMTP_FROM, `sync` copies `sync/source` to `sync/destination`, and `cleanup` only
    counts what has not changed for 30 days.
    """
    parts = request.app[PARTS]
    refuse_if_draining(parts)
    body = await read_bytes(request) if request.body_exists else b""
    payload = parse_json(body) if body else WITHOUT_PAYLOAD.get(query.type)
    if not body and query.type == "email":
        payload = {**WITHOUT_PAYLOAD["email"], "to": parts.settings.smtp.sender or "postmaster@localhost"}
    document: dict[str, Any] = {"type": query.type, "payload": payload}
    if query.priority is not None:
        document["priority"] = query.priority.label
    said = f"{query.type} {document.get('priority', '')}\n".encode() + body
    _, submitted = await store_document(parts, document, idempotency.read_once(request, "submit", said))
    headers = {"Location": f"/api/v1/jobs/{submitted.id}"}
    if submitted.replayed:
        headers |= idempotency.REPLAYED
    return respond({"job_id": submitted.id, "status": "submitted"}, status=201, headers=headers)


REACHED = {"completed": State.COMPLETED, "failed": State.FAILED, "queued": State.ENQUEUED}


Word = Literal["running", "completed", "failed", "queued"]


def _parse_word(value: object) -> Word:
    if value not in ("running", "completed", "failed", "queued"):
        raise PydanticCustomError("unknown-status", "must be running, completed, failed or queued")
    return value


class Move(BaseModel):
    """Where a worker wants a job to be. A null says the same as leaving the field out."""

    model_config = ConfigDict(strict=True, extra="forbid")

    status: Annotated[Word, PlainValidator(_parse_word, json_schema_input_type=Word)] = Field(
        description="`running` claims the job; the others say how its run ended."
    )
    result: Any = Field(None, description="With `completed`: any JSON.")
    error: ErrorText | None = Field(None, description="With `failed` or `queued`: why.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.result is not None and self.status != "completed":
            raise PydanticCustomError("conflict", "A result can stand only beside completed.")
        if self.error is not None and self.status not in ("failed", "queued"):
            raise PydanticCustomError("conflict", "An error can stand only beside failed or queued.")
        return self


class Saved(BaseModel):
    """What a run has brought."""

    model_config = ConfigDict(strict=True, extra="forbid")

    result: Any = Field(None, description="Any JSON.")


@endpoint(
    "PUT",
    "/jobs/{job_id}/status",
    scope="work",
    body=Move,
    answers={200: JobDocument},
    problems=(*PROBLEMS, "result-too-large"),
    headers=HEADERS,
    tells=(LEASE,),
)
async def set_status(request: web.Request, query: NoQuery, body: Move) -> web.Response:
    """
    Move a job along: `running` claims it, `completed`, `failed` and `queued` say how its run ended.

    `failed` is for good. `queued` has the job tried again at once; if the run's error was counted, or stands beside it,
    only until the job's retries are used up: then it is failed.

    A job that was claimed here lasts for its timeout and half a minute, without heartbeats. The answer to `running`
    has its token in the header `Gopher-Lease`: who sends that along cannot be mistaken for a later run.
    """
    if body.status == "running":
        return await _claim(request)
    try:
        token = await _token(request)
    except InvalidState as refusal:
        # Such as after a result was saved, which completes the job.
        return await _show_again(request, refusal, REACHED[body.status], body.result)
    desk = desk_of(request)
    if body.status == "completed":
        await desk.complete(token, Completion(result=body.result, follow_ups=None))
    elif body.status == "failed":
        error = body.error or JobError("error", "The worker said no more.")
        await desk.fail(token, Failure.model_construct(error=error, retryable=False, retry_after=None))
    elif body.error is not None:
        await desk.fail(token, Failure.model_construct(error=body.error, retryable=True, retry_after=0))
    else:
        await desk.release(token, Release())
    return await _show(request)


async def _claim(request: web.Request) -> web.Response:
    parts = request.app[PARTS]
    job_id = read_job_id(request)
    desk = desk_of(request)
    job = await parts.store.get(job_id)
    handler = parts.registry.get(job.type)
    own = None if job.timeout_ms is None else job.timeout_ms / 1000
    timeout = own or (handler and handler.timeout) or parts.settings.worker.job_timeout
    lease = await parts.store.leases.claim_job(
        job_id, lease=timeout + GRACE, worker="" if desk.name == NAMELESS else desk.name, timeout=timeout, grace=GRACE
    )
    desk.workers.claimed(desk.name, [lease])
    return await _show(request, {LEASE: str(lease.token)})


@endpoint(
    "POST",
    "/jobs/{job_id}/increment",
    scope="work",
    answers={200: JobDocument},
    problems=PROBLEMS,
    headers=HEADERS,
)
async def count_error(request: web.Request, query: NoQuery) -> web.Response:
    """
    Count an error of a job's run, once however often it is told.

    Set `queued` then, and the job is tried again, unless its retries are used up.
    """
    token = await _token(request)
    if await request.app[PARTS].store.leases.count_error(token) is None:
        raise StaleLease
    return await _show(request)


@endpoint(
    "POST",
    "/jobs/{job_id}/save",
    scope="work",
    body=Saved,
    answers={200: JobDocument},
    problems=(*PROBLEMS, "result-too-large"),
    headers=HEADERS,
)
async def save_result(request: web.Request, query: NoQuery, body: Saved) -> web.Response:
    """Store a run's result, which completes the job."""
    try:
        token = await _token(request)
    except InvalidState as refusal:
        return await _show_again(request, refusal, State.COMPLETED, body.result)
    await desk_of(request).complete(token, Completion(result=body.result, follow_ups=None))
    return await _show(request)


async def _show_again(request: web.Request, refusal: InvalidState, state: State, result: Any) -> web.Response:
    """What was told before is answered again, if nothing else has come since; all that is new to the job is refused."""
    parts = request.app[PARTS]
    job = await parts.store.get(read_job_id(request))
    if job.state is not state or (result is not None and orjson.dumps(result) != job.result):
        raise refusal
    return respond(show_job(job, parts.store.durability))


async def _token(request: web.Request) -> Token:
    """The token that the request shows, or that of a job which was set running here."""
    job_id = read_job_id(request)
    given = request.headers.get(LEASE)
    if given is not None:
        token = parse_token(given)
        if token.job_id != job_id:
            raise Problem("lease-not-found", "The token belongs to another job.")
        return token
    store = request.app[PARTS].store
    token = await store.leases.open_token(job_id)
    if token is None:
        job = await store.get(job_id)
        if job.state is not State.PROCESSING:
            advice = "and runs no more" if job.state.final else "and does not run: set it running first"
            raise InvalidState(job.state, f"The job is {job.state}, {advice}.")
        raise Problem("lease-required", f"The job was not set running here: send its lease's token as {LEASE}.")
    return token


async def _show(request: web.Request, headers: dict[str, str] | None = None) -> web.Response:
    store = request.app[PARTS].store
    return respond(show_job(await store.get(read_job_id(request)), store.durability), headers=headers)


ENDPOINTS = (submit_by_query, set_status, count_error, save_result)
