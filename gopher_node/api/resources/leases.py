"""Leases: workers in any language claim jobs here, keep them by heartbeats, and say how each run ended."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Annotated, Any, TypeVar, cast

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, PlainValidator
from pydantic_core import PydanticCustomError

from gopher_node.api.access.auth import ANONYMOUS, key_of
from gopher_node.api.answers.documents import Document, ErrorDocument, JobDocument, JobId, Moment, Status
from gopher_node.api.answers.views import format_time, respond, show_job
from gopher_node.api.endpoint import Header, endpoint, validate
from gopher_node.api.http_work import settling
from gopher_node.api.http_work.http_workers import HTTP_WORKERS, NAMELESS, HttpWorkers
from gopher_node.api.http_work.long_poll import LongPoll, Order
from gopher_node.api.http_work.settling import Completion, Desk, Failure, Heartbeat, LeaseTime, Release, parse_token
from gopher_node.api.parts import PARTS
from gopher_node.api.requests.bodies import MAX_DEPTH, read_json
from gopher_node.api.requests.fields import GroupName, TypeName, duration, refuse_first, whole
from gopher_node.api.requests.idempotency import HEADER, read_key
from gopher_node.api.requests.queries import MAX_WAIT_MS, NoQuery
from gopher_node.errors import StoreError
from gopher_node.job import TYPE_NAME, Lease, trace_headers
from gopher_node.store import Pool, Store

MAX_TYPES = 100
MAX_JOBS = 100
MAX_PARENTS_BYTES = 4 * 1024 * 1024
"""Of parents' results in one answer."""
MAX_COMPLETION_BODY = settling.MAX_RESULT + settling.MAX_FOLLOW_UP_BYTES + 256 * 1024
DEPTH = MAX_DEPTH + 4
"""A payload or a result may be as deep as anywhere, and stands inside of a few lists and objects."""

LONG_POLL: web.AppKey[LongPoll] = web.AppKey("LONG_POLL", LongPoll)

_UNFIT = re.compile(r"[^A-Za-z0-9._@:/+-]")
_SETTLED = ("lease-not-found", "lease-lost", "invalid-state", "invalid-duration", "out-of-range")


def _parse_types(value: object) -> tuple[str, ...]:
    types = cast("list[object]", value) if isinstance(value, list) else None
    if types is None:
        raise PydanticCustomError("invalid-name", "must be a list of job types")
    refuse_first(types, TYPE_NAME, "the name of a job type")
    if not 1 <= len(types) <= MAX_TYPES:
        raise PydanticCustomError("out-of-range", "must be 1 to {high} job types", {"high": MAX_TYPES})
    return tuple(cast("list[str]", types))


Types = Annotated[
    tuple[str, ...],
    PlainValidator(
        _parse_types,
        json_schema_input_type=Annotated[list[TypeName], Field(min_length=1, max_length=MAX_TYPES)],
    ),
]


class Claim(BaseModel):
    """Which jobs a worker wants. A null says the same as leaving the field out."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"types": ["email"]},
                {"types": ["email", "sms"], "max_jobs": 10, "wait": "30s", "lease": "1m", "worker": "mailer-1"},
            ]
        },
    )

    types: Types = Field(
        description="The types of the jobs. Workers that do the same work should send the same types, in any order.",
        examples=[["email"]],
    )
    max_jobs: Annotated[int, whole(1, MAX_JOBS)] | None = Field(
        None, description="At most so many jobs; 1 unless it is said.", examples=[10]
    )
    wait: Annotated[int, duration(0, MAX_WAIT_MS)] | None = Field(
        None, description="How long to wait for a first job, up to 60s; 0 unless it is said.", examples=["30s", 30]
    )
    lease: LeaseTime | None = Field(
        None, description="How long the leases last, from 1s to 1h; 30s unless it is said.", examples=["30s", 60]
    )
    worker: GroupName | None = Field(
        None, description="Who works; shown beside the jobs and among the workers.", examples=["mailer-1"]
    )


class ParentDocument(Document):
    """How a job ended that another has waited for."""

    status: Status
    result: Any = Field(description="What it has brought, if it is completed, in any JSON.")
    error: ErrorDocument | None = Field(description="Why it is not completed.")
    result_omitted: bool | None = Field(
        None, description="That the result is too large to be told here: GET the job with this id."
    )


class LeasedJobDocument(JobDocument):
    """A job that was claimed, with what it needs to run."""

    parents: dict[str, ParentDocument] | None = Field(
        None,
        description="The jobs that it has waited for, by name or, without one, by id; only of a job that waited. One "
        "that was deleted since is left out.",
    )
    traceparent: str | None = Field(
        None,
        description="Where the job was sent, if that is traced, as W3C Trace Context has it: the span of its run links "
        "to it.",
        examples=["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"],
    )
    tracestate: str | None = Field(None, description="What vendors have added to it, if any.")


class LeaseDocument(Document):
    """A job that was claimed, and what lets its worker settle it."""

    job: LeasedJobDocument
    token: str = Field(
        description="Whoever shows it may settle the run: keep it out of logs.", examples=[settling.EXAMPLE_TOKEN]
    )
    lease_expires_at: Moment = Field(description="When the job goes to others, unless a heartbeat comes before.")


class LeaseListDocument(Document):
    items: list[LeaseDocument]


class BeatDocument(Document):
    """How long a run's lease lasts from now on."""

    job_id: JobId
    cancel_requested: bool = Field(
        description="If true, stop the run and release it: its job ends as cancelled. A run that goes on loses its "
        "lease some seconds after it was first told so (`WORKER_CANCEL_GRACE`, 10s)."
    )
    lease_expires_at: Moment


class CompletedDocument(Document):
    """Where a job is after a run that succeeded."""

    job_id: JobId
    status: Status
    follow_ups: list[JobId] = Field(description="The ids of the jobs that follow, in order.")


class FailedDocument(Document):
    """Where a job is after a run that failed."""

    job_id: JobId
    status: Status
    execute_at: Moment | None = Field(description="When it is tried again, if it waits for that.")


class ReleasedDocument(Document):
    """Where a job is after it was handed back."""

    job_id: JobId
    status: Status


@endpoint(
    "POST",
    "/api/v1/leases",
    scope="work",
    body=Claim,
    answers={200: LeaseListDocument},
    problems=("invalid-name", "invalid-duration", "out-of-range", "invalid-idempotency-key", "too-many-pools"),
    headers={
        HEADER: Header(
            description="Names this claim: told again, it is answered with those of its jobs that still run, and no "
            "others.",
            schema={"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
        )
    },
)
async def claim_jobs(request: web.Request, query: NoQuery, body: Claim) -> web.Response:
    """
    Claim jobs to run them; with `wait`, not before there is one or the wait is over.

    Each job comes with a token, and is the worker's until `lease_expires_at`. A worker that takes longer sends
    heartbeats. A lease that ends without a single one costs the job nothing; later, it counts as a crash. No heartbeat
    gets a run beyond its job's timeout and half a minute. A node that shuts down answers at once, with no jobs.

    Nothing stays claimed for a client that goes away while it waits; but what a claim with an Idempotency-Key has won
    by then is kept, until its leases end, for whoever tells it again.
    """
    workers, name = _worker(request, body.worker)
    workers.seen(name, body.types)
    long_poll = request.app[LONG_POLL]
    order = Order(
        pool=Pool.of(body.types),
        limit=body.max_jobs or 1,
        lease=(body.lease or 30_000) / 1000,
        worker="" if name == NAMELESS else name,
    )
    key = read_key(request)
    if key is not None:
        # Another question is another claim: nobody gets jobs of types that it has not asked for.
        order.id = hashlib.sha256(f"{key}\n{order.pool.key}".encode()).hexdigest()[:32]
        order.repeatable = True
    leases = await long_poll.claim(order, (body.wait or 0) / 1000)
    if request.transport is None or request.transport.is_closing():
        long_poll.abandon(order, leases)
        leases = []
    try:
        parents = await _parents(request.app[PARTS].store, leases)
    except StoreError:
        # Nobody could run them without what they waited for.
        long_poll.abandon(order, leases)
        raise
    workers.claimed(name, leases)
    return respond({"items": [_show(lease, order.worker, request, parents) for lease in leases]})


async def _parents(store: Store, leases: Sequence[Lease]) -> dict[str, dict[str, Any]]:
    """What is told of the parents of those jobs that have waited for some. Raises StoreError."""
    left = MAX_PARENTS_BYTES
    told: dict[str, dict[str, Any]] = {}
    for job in (lease.job for lease in leases if lease.job.options.depends_on):
        told[job.id] = {}
        for name, parent in (await store.workflows.parents(job)).items():
            result = parent.result
            told[job.id][name] = {"status": parent.state, "result": None, "error": parent.error}
            if result is not None and len(result) > left:
                told[job.id][name]["result_omitted"] = True
            elif result is not None:
                told[job.id][name]["result"] = orjson.Fragment(result)
                left -= len(result)
    return told


def _show(lease: Lease, worker: str, request: web.Request, parents: dict[str, dict[str, Any]]) -> dict[str, Any]:
    job = replace(lease.job, node=f"http:{worker}" if worker else "http")
    more = {"parents": parents[job.id]} if job.id in parents else {}
    return {
        "job": show_job(job, request.app[PARTS].store.durability) | more | trace_headers(job.options.trace),
        "token": str(lease.token),
        "lease_expires_at": format_time(lease.expires_ms),
    }


def _worker(request: web.Request, given: str | None = None) -> tuple[HttpWorkers, str]:
    """The workers of this node, and the name of the one that asks: as given, else as its key is called."""
    key = key_of(request)
    named = given or (NAMELESS if key is ANONYMOUS else _UNFIT.sub("-", key.name))
    return request.app[HTTP_WORKERS], named


def desk_of(request: web.Request) -> Desk:
    return Desk(request.app[PARTS], *_worker(request))


AnyBody = TypeVar("AnyBody", bound=BaseModel)


async def _read(request: web.Request, model: type[AnyBody], limit: int) -> AnyBody:
    """Raises Problem."""
    if not request.body_exists and not any(field.is_required() for field in model.model_fields.values()):
        return model()
    return validate(model, await read_json(request, limit=limit, depth=DEPTH))


@endpoint(
    "POST",
    "/api/v1/leases/{token}/heartbeat",
    scope="work",
    body=Heartbeat,
    answers={200: BeatDocument},
    problems=("lease-not-found", "lease-lost", "progress-too-large", "invalid-duration", "out-of-range"),
)
async def heartbeat(request: web.Request, query: NoQuery, body: Heartbeat) -> web.Response:
    """
    Keep a lease for its length from now on, tell how far the run is, and learn whether it should stop.

    A run that was settled or released has no lease any more: that is `lease-lost`, as if the lease had ended by itself.
    """
    (answer,) = await desk_of(request).renew([(parse_token(request.match_info["token"]), body)])
    if isinstance(answer, Exception):
        raise answer
    return respond(answer)


@endpoint(
    "POST",
    "/api/v1/leases/{token}/complete",
    scope="work",
    body=Completion,
    reads_body=False,
    answers={200: CompletedDocument},
    problems=(
        "lease-not-found",
        "lease-lost",
        "invalid-state",
        "result-too-large",
        "job-too-large",
        "invalid-job",
        "out-of-range",
        "parent-not-found",
        "dependency-cycle",
    ),
)
async def complete(request: web.Request, query: NoQuery) -> web.Response:
    """
    Tell that a run succeeded, with its result and the jobs that follow from it.

    All of it is stored in one step, or nothing. Told again, it is answered as before, with the same follow-up jobs.
    What differs from the first completion is refused as `invalid-state`, and so is the completion of a run that ended
    in another way: one that failed, or was released.
    """
    token = parse_token(request.match_info["token"])
    told = await _read(request, Completion, MAX_COMPLETION_BODY)
    return respond(await desk_of(request).complete(token, told))


@endpoint(
    "POST",
    "/api/v1/leases/{token}/fail",
    scope="work",
    body=Failure,
    answers={200: FailedDocument},
    problems=(*_SETTLED, "invalid-run-at"),
)
async def fail(request: web.Request, query: NoQuery, body: Failure) -> web.Response:
    """
    Tell that a run failed: the job is tried again later, unless it may not be or its retries are used up.

    Told again, it is answered as before. A run that ended in another way is `invalid-state`.
    """
    return respond(await desk_of(request).fail(parse_token(request.match_info["token"]), body))


@endpoint(
    "POST",
    "/api/v1/leases/{token}/release",
    scope="work",
    body=Release,
    answers={200: ReleasedDocument},
    problems=("lease-not-found", "lease-lost", "invalid-state"),
)
async def release(request: web.Request, query: NoQuery, body: Release) -> web.Response:
    """
    Hand an unfinished job back, to be run by another at once; it costs the job nothing.

    Told again, it is answered as before. A run that ended in another way is `invalid-state`. Of the token of a released
    run, a heartbeat says `lease-lost`, and a completion or failure `invalid-state`.
    """
    return respond(await desk_of(request).release(parse_token(request.match_info["token"]), body))


ENDPOINTS = (claim_jobs, heartbeat, complete, fail, release)


def prepare(app: web.Application) -> None:
    """Give the application what its workers share, and have it answer those who wait before it stops."""
    parts = app[PARTS]
    app[HTTP_WORKERS] = HttpWorkers(parts.events)
    app[LONG_POLL] = LongPoll(parts.store, parts.registry, parts.settings.worker)
    app.cleanup_ctx.append(_keep_polling)


async def _keep_polling(app: web.Application) -> AsyncIterator[None]:
    async def drain() -> None:
        await app[PARTS].draining.wait()
        app[LONG_POLL].drain()

    draining = asyncio.create_task(drain(), name="long-poll")
    yield
    draining.cancel()
    await asyncio.gather(draining, return_exceptions=True)
    await app[LONG_POLL].close()
