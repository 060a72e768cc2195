"""Older spellings that are more than another path: each is read here, and ends in the same code as the API's own."""

from __future__ import annotations

from typing import Any, Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from gopher_node.api.bodies import parse_json, read_bytes
from gopher_node.api.documents import Document, JobDocument, JobId
from gopher_node.api.endpoint import Header, endpoint
from gopher_node.api.http_workers import NAMELESS
from gopher_node.api.leases import desk_of
from gopher_node.api.models import Level, TypeName
from gopher_node.api.parts import PARTS
from gopher_node.api.problems import Problem
from gopher_node.api.queries import NoQuery, Query, read_job_id
from gopher_node.api.settling import Completion, ErrorText, Failure, Release, parse_token
from gopher_node.api.submitting import REFUSED_SUBMISSIONS, refuse_if_draining, store_document
from gopher_node.api.views import respond, show_job
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
    type: TypeName = "default"
    priority: Level | None = None


class ShortAnswer(Document):
    job_id: JobId
    status: Literal["submitted"]


@endpoint(
    "POST",
    "/jobs",
    scope="submit",
    query=ShortSubmissionQuery,
    answers={201: ShortAnswer},
    problems=(*REFUSED_SUBMISSIONS, "draining"),
)
async def submit_by_query(request: web.Request, query: ShortSubmissionQuery) -> web.Response:
    """Submit a job by its type and priority; the body, if there is one, is its payload."""
    parts = request.app[PARTS]
    refuse_if_draining(parts)
    payload = parse_json(await read_bytes(request)) if request.body_exists else None
    document: dict[str, Any] = {"type": query.type, "payload": payload}
    if query.priority is not None:
        document["priority"] = query.priority.label
    _, submitted = await store_document(parts, document)
    headers = {"Location": f"/api/v1/jobs/{submitted.id}"}
    return respond({"job_id": submitted.id, "status": "submitted"}, status=201, headers=headers)


REACHED = {"completed": State.COMPLETED, "failed": State.FAILED, "queued": State.ENQUEUED}


class Move(BaseModel):
    """Where a worker wants a job to be. A null says the same as leaving the field out."""

    model_config = ConfigDict(strict=True, extra="forbid")

    status: Literal["running", "completed", "failed", "queued"]
    result: Any = Field(None, description="With `completed`: any JSON, up to 1 MiB.")
    error: ErrorText | None = Field(None, description="With `failed`: why.")


class Saved(BaseModel):
    """What a run has brought."""

    model_config = ConfigDict(strict=True, extra="forbid")

    result: Any = Field(None, description="Any JSON, up to 1 MiB.")


@endpoint(
    "PUT",
    "/jobs/{job_id}/status",
    scope="work",
    body=Move,
    answers={200: JobDocument},
    problems=(*PROBLEMS, "result-too-large"),
    headers=HEADERS,
)
async def set_status(request: web.Request, query: NoQuery, body: Move) -> web.Response:
    """
    Move a job along: `running` claims it, `completed`, `failed` and `queued` say how its run ended.

    A job that was claimed here lasts for its timeout and half a minute, without heartbeats. The answer to `running`
    has its token in the header `Gopher-Lease`: who sends that along cannot be mistaken for a later run.
    """
    if body.status == "running":
        return await _claim(request)
    try:
        token = await _token(request)
    except InvalidState as error:
        if error.state != REACHED[body.status]:
            raise
        return await _show(request)  # such as after a result was saved, which completes the job
    desk = desk_of(request)
    if body.status == "completed":
        await desk.complete(token, Completion(result=body.result, follow_ups=None))
    elif body.status == "failed":
        error = body.error or JobError("error", "The worker said no more.")
        await desk.fail(token, Failure.model_construct(error=error, retryable=False, retry_after=None))
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
    token = await _token(request)
    await desk_of(request).complete(token, Completion(result=body.result, follow_ups=None))
    return await _show(request)


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
            raise InvalidState(job.state, f"The job is {job.state}. Set it running first.")
        raise Problem("lease-required", f"Another way of claiming has this job: send its token as {LEASE}.")
    return token


async def _show(request: web.Request, headers: dict[str, str] | None = None) -> web.Response:
    store = request.app[PARTS].store
    return respond(show_job(await store.get(read_job_id(request)), store.durability), headers=headers)


ENDPOINTS = (submit_by_query, set_status, count_error, save_result)
