"""Submits jobs: one, many at once, or a stream of them."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, cast

from aiohttp import web
from pydantic import ConfigDict, Field, RootModel

from gopher_node.api.answers.documents import JobDocument, JobListDocument, LineDocument
from gopher_node.api.answers.problems import MAX_FAULTS, Fault, Problem
from gopher_node.api.answers.views import respond, show_submitted
from gopher_node.api.endpoint import Stream, endpoint
from gopher_node.api.parts import PARTS, Parts
from gopher_node.api.requests import idempotency, ndjson
from gopher_node.api.requests.bodies import MAX_DEPTH, is_text, parse_json, read_bytes
from gopher_node.api.requests.models import Submission, batch_refusal, read_submission, refusal
from gopher_node.api.requests.queries import NoQuery
from gopher_node.errors import JobExists
from gopher_node.job import NewJob
from gopher_node.store import Once, Submitted

MAX_BATCH = 1000
MAX_BATCH_BODY = 8 * 1024 * 1024

REFUSED_SUBMISSIONS = (
    "job-exists",
    "job-too-large",
    "invalid-job",
    "invalid-name",
    "invalid-payload",
    "invalid-run-at",
    "invalid-duration",
    "callback-not-allowed",
    "out-of-range",
    "unknown-field",
)

_AT_A_TIME = 50


@endpoint(
    "POST",
    "/api/v1/jobs",
    scope="submit",
    body=Submission,
    reads_body=False,
    needs_body=True,
    answers={201: JobDocument},
    problems=(*REFUSED_SUBMISSIONS, *idempotency.PROBLEMS, "draining"),
    aliases=("/api/jobs", "/jobs/create"),
    headers=idempotency.HEADERS,
    tells=("Location", "Idempotency-Replayed"),
)
async def submit(request: web.Request, query: NoQuery) -> web.Response:
    """
    Submit a job.

    With the header `Idempotency-Key`, the request may be told again: the same body is answered as the first time, with
    the header `Idempotency-Replayed: true`, and another body is refused. Bodies are the same if their bytes are. With a
    `job_id` of your own, a job that is there already is refused, and the answer names its state.
    """
    parts = request.app[PARTS]
    refuse_if_draining(parts)
    body = await read_bytes(request)
    once = idempotency.read_once(request, "submit", body)
    job, submitted = await store_document(parts, parse_json(body), once)
    headers = {"Location": f"/api/v1/jobs/{submitted.id}"}
    if submitted.replayed:
        headers |= idempotency.REPLAYED
    return respond(show_submitted(job, submitted, parts.store.durability), status=201, headers=headers)


async def store_document(parts: Parts, document: Any, once: Once | None = None) -> tuple[NewJob, Submitted]:
    """Store the job that a document describes. Raises Problem with all that is wrong with it, and GopherError."""
    worker, webhook = parts.settings.worker, parts.settings.webhook
    catalogue = parts.catalogue
    if catalogue.lacks(document):
        await catalogue.ask()
    job = read_submission(
        document, parts.registry, worker.max_retries, published=catalogue.published, allow=webhook.allow
    )
    if isinstance(job, list):
        raise refusal(job)
    submitted = await parts.store.submit(job, once)
    if not submitted.replayed:
        parts.events.submitted(1)
    return job, submitted


class Batch(RootModel[Annotated[list[Submission], Field(max_length=MAX_BATCH)]]):
    """Up to 1,000 jobs: all of them are stored, or none."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                [
                    {"type": "math", "payload": {"operation": "add", "a": 1, "b": 2}},
                    {"type": "nightly", "priority": "low", "delay": "5m"},
                ]
            ]
        }
    )


@endpoint(
    "POST",
    "/api/v1/jobs/bulk",
    scope="submit",
    body=Batch,
    reads_body=False,
    stream=Stream(
        media=ndjson.MEDIA_TYPE,
        item=Submission,
        example='{"type": "email", "payload": {"to": "a@example.org", "subject": "Hello"}}\n{"type": "nightly"}\n',
    ),
    answers={201: JobListDocument, 200: Stream(media=ndjson.MEDIA_TYPE, item=LineDocument)},
    problems=("batch-too-large", "job-too-large", "invalid-job", "job-exists", *idempotency.PROBLEMS, "draining"),
    headers=idempotency.HEADERS,
    tells=("Idempotency-Replayed",),
)
async def submit_batch(request: web.Request, query: NoQuery) -> web.StreamResponse:
    """
    Submit many jobs: all of a JSON array, or none; or a stream, line by line.

    As `application/x-ndjson`, any number of lines of up to 1 MiB, each of them a job. They are stored as they come, and
    each is answered by one line, in the same order: `{"line": 1, "status": 201, "job": {"job_id": …, "status": …}}`, or
    `{"line": 2, "status": 422, "problem": {…}}`; blank lines count and get no answer. Read the answers while you send,
    for who does not read is not read from either. A line after which no others are answered has the status 400, 408
    or 503 and a problem of the name `bad-encoding`, `bad-request`, `request-timeout` or `draining`: from that line on,
    nothing was stored. To be able to send lines again, give each job a `job_id` of your own.
    """
    parts = request.app[PARTS]
    refuse_if_draining(parts)
    if is_text(request, ndjson.MEDIA_TYPE):
        idempotency.refuse_key(request, "A stream has no key. To send its lines again, give each a job_id.")
        return await ndjson.submit_lines(request)
    body = await read_bytes(request, limit=MAX_BATCH_BODY)
    once = idempotency.read_once(request, "bulk", body)
    # One level more, for the array, so that a job that is accepted alone is accepted here too.
    documents = parse_json(body, depth=MAX_DEPTH + 1)
    if not isinstance(documents, list):
        raise Problem("invalid-job", "Send a JSON array of jobs.")
    jobs = await _read_batch(cast("list[Any]", documents), parts)
    try:
        submitted = await parts.store.submit_many(jobs, once=once)
    except JobExists as error:
        fault = {"pointer": f"/{error.index}/job_id", "code": "job-exists", "detail": "There is a job of this id."}
        raise Problem("job-exists", "Nothing was stored.", faults=[fault], state=error.state) from None
    replayed = bool(submitted) and submitted[0].replayed
    if not replayed:
        parts.events.submitted(len(jobs))
    durability = parts.store.durability
    items = [show_submitted(job, stored, durability) for job, stored in zip(jobs, submitted, strict=True)]
    return respond({"items": items}, status=201, headers=idempotency.REPLAYED if replayed else None)


async def _read_batch(documents: list[Any], parts: Parts) -> list[NewJob]:
    if len(documents) > MAX_BATCH:
        detail = f"A batch has at most {MAX_BATCH} jobs, and this one {len(documents)}. Nothing was stored."
        raise Problem("batch-too-large", detail, limit=MAX_BATCH)
    worker, webhook, catalogue = parts.settings.worker, parts.settings.webhook, parts.catalogue
    jobs: list[NewJob] = []
    faults: list[Fault] = []
    named: set[str] = set()
    for index, document in enumerate(documents):
        if index % _AT_A_TIME == 0:
            # A large batch must not hold up everybody else's requests.
            await asyncio.sleep(0)
        if catalogue.lacks(document):
            await catalogue.ask()
        job = read_submission(
            document, parts.registry, worker.max_retries, published=catalogue.published, allow=webhook.allow
        )
        if isinstance(job, NewJob):
            if job.id in named:
                faults.append(
                    {"pointer": f"/{index}/job_id", "code": "conflict", "detail": "stands in this batch twice"}
                )
            named.add(job.id)
            jobs.append(job)
            continue
        faults += [{**fault, "pointer": f"/{index}{fault['pointer']}"} for fault in job]
        if len(faults) > MAX_FAULTS:
            break
    if faults:
        raise batch_refusal(faults)
    return jobs


def refuse_if_draining(parts: Parts) -> None:
    if parts.draining.is_set():
        detail = "Nothing was stored. Try again: another node, or this one's successor, takes jobs."
        raise Problem("draining", detail, outcome="not-done")


ENDPOINTS = (submit, submit_batch)
