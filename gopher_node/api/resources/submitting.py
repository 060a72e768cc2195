"""Submits jobs: one, many at once, or a stream of them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Annotated, Any, cast

from aiohttp import web
from pydantic import ConfigDict, Field, RootModel

from gopher_node.api.answers.documents import JobDocument, JobListDocument, LineDocument
from gopher_node.api.answers.problems import MAX_FAULTS, Fault, Problem, problem_of
from gopher_node.api.answers.views import respond, show_job, show_submitted
from gopher_node.api.endpoint import Stream, endpoint
from gopher_node.api.parts import PARTS, Parts
from gopher_node.api.requests import dependencies, idempotency, ndjson
from gopher_node.api.requests.bodies import MAX_DEPTH, is_text, parse_json, read_bytes
from gopher_node.api.requests.models import Submission, batch_refusal, read_submission, refusal
from gopher_node.api.requests.queries import NoQuery
from gopher_node.api.resources.recurring import is_recurring, submit_recurring
from gopher_node.errors import DuplicateJob, JobExists, JobNotFound, ParentNotFound, QueueDraining, QueueFull
from gopher_node.job import NewJob
from gopher_node.store import Once, Submitted

MAX_BATCH = 1000
MAX_BATCH_BODY = 8 * 1024 * 1024

REFUSED_PARENTS = ("parent-not-found", "dependency-cycle", "workflow-not-found", "workflow-ended")
REFUSED_BY_QUEUES = ("queue-full", "queue-draining")
REFUSED_SUBMISSIONS = (
    "job-exists",
    "duplicate-job",
    "job-too-large",
    "invalid-job",
    "invalid-name",
    "invalid-payload",
    "invalid-run-at",
    "invalid-duration",
    "callback-not-allowed",
    "out-of-range",
    "unknown-field",
    *REFUSED_BY_QUEUES,
    *REFUSED_PARENTS,
)

EXISTING = {"Job-Existing": "true"}

_AT_A_TIME = 50


@endpoint(
    "POST",
    "/api/v1/jobs",
    scope="submit",
    body=Submission,
    reads_body=False,
    needs_body=True,
    answers={201: JobDocument, 200: JobDocument},
    problems=(*REFUSED_SUBMISSIONS, "recurring-exists", "invalid-schedule", *idempotency.PROBLEMS, "draining"),
    aliases=("/api/jobs", "/jobs/create"),
    headers=idempotency.HEADERS,
    tells=("Location", "Idempotency-Replayed", "Job-Existing"),
)
async def submit(request: web.Request, query: NoQuery) -> web.Response:
    """
    Submit a job.

    With the header `Idempotency-Key`, the request may be told again: the same body is answered as the first time, with
    the header `Idempotency-Replayed: true`, and another body is refused. Bodies are the same if their bytes are. With a
    `job_id` of your own, a job that is there already is refused, and the answer names its state.

    With a `unique_key` that another job of the type bears, the answer is 200 and that job, with the header
    `Job-Existing: true` and the member `existing`, unless `on_duplicate` says otherwise; nothing is stored then.

    With `recurring`, such a job comes again and again: the answer is the first one, `scheduled` and with the name under
    which /api/v1/recurring has it. The same submission again is answered with 200, `Job-Existing: true` and the job
    that comes next or came last; it makes no other one, with or without an Idempotency-Key.
    """
    parts = request.app[PARTS]
    refuse_if_draining(parts)
    body = await read_bytes(request)
    once = idempotency.read_once(request, "submit", body)
    document = parse_json(body)
    if is_recurring(document):
        return await submit_recurring(parts, document)
    job, submitted = await store_document(parts, document, once)
    headers = {"Location": f"/api/v1/jobs/{submitted.id}"}
    if submitted.replayed:
        headers |= idempotency.REPLAYED
    if submitted.twin:
        headers |= EXISTING
    return respond(await show_stored(parts, job, submitted), status=200 if submitted.twin else 201, headers=headers)


async def show_stored(parts: Parts, job: NewJob, submitted: Submitted) -> dict[str, Any]:
    """A job that has just been stored, or the one that bears its name."""
    if submitted.twin:
        with contextlib.suppress(JobNotFound):  # of an old request that is told again
            return {**show_job(await parts.store.get(submitted.id), parts.store.durability), "existing": True}
    return show_submitted(job, submitted, parts.store.durability)


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
    (job,) = dependencies.resolve([job], dependencies.alone)
    sends = parts.traces and parts.traces.send((job,))
    submitted = await parts.store.submit(sends.jobs[0] if sends else job, once)
    if not submitted.replayed and not submitted.twin:
        parts.events.submitted((job.type,))
        if sends:
            sends.sent((submitted.id,))
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
    problems=(
        "batch-too-large",
        "job-too-large",
        "invalid-job",
        "job-exists",
        "duplicate-job",
        *REFUSED_BY_QUEUES,
        *REFUSED_PARENTS,
        *idempotency.PROBLEMS,
        "draining",
    ),
    headers=idempotency.HEADERS,
    tells=("Idempotency-Replayed", "Job-Existing"),
)
async def submit_batch(request: web.Request, query: NoQuery) -> web.StreamResponse:
    """
    Submit many jobs: all of a JSON array, or none; or a stream, line by line.

    As `application/x-ndjson`, any number of lines of up to 1 MiB, each of them a job. They are stored as they come, and
    each is answered by one line, in the same order: `{"line": 1, "status": 201, "job": {"job_id": …, "status": …}}`, or
    `{"line": 2, "status": 422, "problem": {…}}`; blank lines count and get no answer. Read the answers while you send,
    for who does not read is not read from either. A line after which no others are answered has the status 400, 408
    or 503 and a problem of the name `bad-encoding`, `bad-request`, `request-timeout` or `draining`: from that line on,
    nothing was stored. To be able to send lines again, give each job a `job_id` of your own. A job whose unique key
    another bears stands for that one in the answer: its line has the status 200, an array the header `Job-Existing`.
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
    jobs = await read_jobs(cast("list[Any]", documents), parts)
    return await store_jobs(jobs, parts, once)


async def store_jobs(
    jobs: list[NewJob], parts: Parts, once: Once | None, place: dependencies.Place = dependencies.in_array
) -> web.Response:
    """Store all jobs of a request, or none. Raises Problem and GopherError."""
    sends = parts.traces and parts.traces.send(jobs)
    try:
        submitted = await parts.store.submit_many(sends.jobs if sends else jobs, once=once)
    except (JobExists, DuplicateJob, ParentNotFound) as error:
        raise refused_by_store(error, place) from None
    except (QueueDraining, QueueFull) as error:
        raise refused_by_queue(error, jobs, place) from None
    replayed = bool(submitted) and submitted[0].replayed
    if not replayed:
        parts.events.submitted(job.type for job, stored in zip(jobs, submitted, strict=True) if not stored.twin)
        if sends:
            sends.sent([None if stored.twin else stored.id for stored in submitted])
    jobs = dependencies.as_stored(jobs, submitted)
    items = [await show_stored(parts, job, stored) for job, stored in zip(jobs, submitted, strict=True)]
    headers = idempotency.REPLAYED if replayed else {}
    if any(stored.twin for stored in submitted):
        headers = headers | EXISTING
    return respond({"items": items}, status=201, headers=headers)


def refused_by_store(error: JobExists | DuplicateJob | ParentNotFound, place: dependencies.Place) -> Problem:
    """The problem of a request of whose jobs one is the reason why none was stored."""
    pointer = place(error.index)
    if isinstance(error, JobExists):
        fault = {"pointer": f"{pointer}/job_id", "code": "job-exists", "detail": "There is a job of this id."}
        return Problem("job-exists", "Nothing was stored.", faults=[fault], state=error.state)
    if isinstance(error, DuplicateJob):
        fault = {"pointer": f"{pointer}/unique_key", "code": "duplicate-job", "detail": "Another job bears this key."}
        return Problem("duplicate-job", "Nothing was stored.", faults=[fault], job_id=error.id, state=error.state)
    detail = "names a job that is not there; it may have outlived its retention"
    fault = {"pointer": f"{pointer}/depends_on", "code": "parent-not-found", "detail": detail}
    return Problem("parent-not-found", "Nothing was stored.", faults=[fault])


def refused_by_queue(error: QueueDraining | QueueFull, jobs: list[NewJob], place: dependencies.Place) -> Problem:
    """The problem of a request with jobs for a queue that takes none; it names the first of them."""
    problem = problem_of(error)
    first = next(index for index, job in enumerate(jobs) if job.type == error.type)
    problem.faults = [{"pointer": f"{place(first)}/type", "code": problem.name, "detail": problem.detail}]
    return problem


async def read_jobs(
    documents: list[Any], parts: Parts, place: dependencies.Place = dependencies.in_array
) -> list[NewJob]:
    """The jobs that a request describes, with those that they wait for by id. Raises Problem."""
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
                    {"pointer": f"{place(index)}/job_id", "code": "conflict", "detail": "stands in this batch twice"}
                )
            named.add(job.id)
            jobs.append(job)
            continue
        faults += [{**fault, "pointer": f"{place(index)}{fault['pointer']}"} for fault in job]
        if len(faults) > MAX_FAULTS:
            break
    if faults:
        raise batch_refusal(faults)
    return dependencies.resolve(jobs, place)


def refuse_if_draining(parts: Parts) -> None:
    if parts.draining.is_set():
        detail = "Nothing was stored. Try again: another node, or this one's successor, takes jobs."
        raise Problem("draining", detail, outcome="not-done")


ENDPOINTS = (submit, submit_batch)
