"""Jobs: submit one or many, look, wait, list, cancel, retry, delete."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from aiohttp import web
from pydantic import RootModel

from gopher_node.api.bodies import MAX_DEPTH, read_json
from gopher_node.api.documents import JobDocument, JobListDocument, JobPageDocument
from gopher_node.api.endpoint import endpoint
from gopher_node.api.models import Submission, batch_refusal, read_submission, refusal
from gopher_node.api.parts import PARTS, Parts
from gopher_node.api.problems import MAX_FAULTS, Fault, Problem
from gopher_node.api.queries import JobsQuery, NoQuery, PageQuery, WaitQuery, bad_cursor, read_job_id
from gopher_node.api.views import respond, show_job, show_submitted
from gopher_node.job import Job, NewJob
from gopher_node.store import JobFilter

MAX_BATCH = 1000
MAX_BATCH_BODY = 8 * 1024 * 1024

_AT_A_TIME = 50


REFUSED_SUBMISSIONS = (
    "job-too-large",
    "invalid-job",
    "invalid-name",
    "invalid-payload",
    "invalid-run-at",
    "invalid-duration",
    "out-of-range",
    "unknown-field",
)


@endpoint(
    "POST",
    "/api/v1/jobs",
    scope="submit",
    body=Submission,
    reads_body=False,
    answers={201: JobDocument},
    problems=(*REFUSED_SUBMISSIONS, "draining"),
    aliases=("/api/jobs",),
)
async def submit(request: web.Request, query: NoQuery) -> web.Response:
    """Submit a job."""
    parts = request.app[PARTS]
    _refuse_if_draining(parts)
    document = await read_json(request)
    job = read_submission(document, parts.registry, parts.settings.worker.max_retries)
    if isinstance(job, list):
        raise refusal(job)
    submitted = await parts.store.submit(job)
    parts.events.submitted(1)
    content = show_submitted(job, submitted, parts.store.durability)
    return respond(content, status=201, headers={"Location": f"/api/v1/jobs/{submitted.id}"})


class Batch(RootModel[list[Submission]]):
    """Up to 1,000 jobs."""


@endpoint(
    "POST",
    "/api/v1/jobs/bulk",
    scope="submit",
    body=Batch,
    reads_body=False,
    answers={201: JobListDocument},
    problems=("batch-too-large", "job-too-large", "invalid-job", "draining"),
)
async def submit_batch(request: web.Request, query: NoQuery) -> web.Response:
    """Submit many jobs: all of a JSON array, or none."""
    parts = request.app[PARTS]
    _refuse_if_draining(parts)
    # One level more, for the array, so that a job that is accepted alone is accepted here too.
    documents = await read_json(request, limit=MAX_BATCH_BODY, depth=MAX_DEPTH + 1)
    if not isinstance(documents, list):
        raise Problem("invalid-job", "Send a JSON array of jobs.")
    jobs = await _read_batch(cast("list[Any]", documents), parts)
    submitted = await parts.store.submit_many(jobs)
    parts.events.submitted(len(jobs))
    durability = parts.store.durability
    items = [show_submitted(job, stored, durability) for job, stored in zip(jobs, submitted, strict=True)]
    return respond({"items": items}, status=201)


async def _read_batch(documents: list[Any], parts: Parts) -> list[NewJob]:
    if len(documents) > MAX_BATCH:
        detail = f"A batch has at most {MAX_BATCH} jobs, and this one {len(documents)}. Nothing was stored."
        raise Problem("batch-too-large", detail, limit=MAX_BATCH)
    jobs: list[NewJob] = []
    faults: list[Fault] = []
    for index, document in enumerate(documents):
        if index % _AT_A_TIME == 0:
            # A large batch must not hold up everybody else's requests.
            await asyncio.sleep(0)
        job = read_submission(document, parts.registry, parts.settings.worker.max_retries)
        if isinstance(job, NewJob):
            jobs.append(job)
            continue
        faults += [{**fault, "pointer": f"/{index}{fault['pointer']}"} for fault in job]
        if len(faults) > MAX_FAULTS:
            break
    if faults:
        raise batch_refusal(faults)
    return jobs


def _refuse_if_draining(parts: Parts) -> None:
    if parts.draining.is_set():
        detail = "Nothing was stored. Try again: another node, or this one's successor, takes jobs."
        raise Problem("draining", detail, outcome="not-done")


@endpoint(
    "GET",
    "/api/v1/jobs/{job_id}",
    scope="read",
    query=WaitQuery,
    answers={200: JobDocument},
    problems=("job-not-found",),
)
async def get_job(request: web.Request, query: WaitQuery) -> web.Response:
    """Show a job; with `wait`, not before it has ended or the wait is over."""
    parts = request.app[PARTS]
    job_id = read_job_id(request)
    job = await (_wait(parts, job_id, query.wait / 1000) if query.wait else parts.store.get(job_id))
    return respond(show_job(job, parts.store.durability))


async def _wait(parts: Parts, job_id: str, timeout: float) -> Job:
    waiting = asyncio.create_task(parts.store.wait(job_id, timeout))
    draining = asyncio.create_task(parts.draining.wait())
    try:
        await asyncio.wait((waiting, draining), return_when=asyncio.FIRST_COMPLETED)
        return waiting.result() if waiting.done() else await parts.store.get(job_id)
    finally:
        # Here also when the client has gone, for then this handler is cancelled.
        waiting.cancel()
        draining.cancel()
        await asyncio.gather(waiting, draining, return_exceptions=True)


@endpoint("GET", "/api/v1/jobs", scope="read", query=JobsQuery, answers={200: JobPageDocument})
async def list_jobs(request: web.Request, query: JobsQuery) -> web.Response:
    """List jobs: those running and waiting, then those that have ended, the latest first."""
    wanted = JobFilter(
        states=query.status,
        type=query.type,
        priority=query.priority,
        group=query.group,
        tag=query.tag,
        created_after_ms=query.created_after,
        created_before_ms=query.created_before,
    )
    return await respond_page(request.app[PARTS], wanted, query)


async def respond_page(parts: Parts, wanted: JobFilter, query: PageQuery) -> web.Response:
    try:
        page = await parts.store.list(wanted, limit=query.limit, cursor=query.cursor)
    except ValueError:
        raise bad_cursor() from None
    items = [show_job(job, parts.store.durability) for job in page.items]
    return respond({"items": items, "next_cursor": page.next_cursor})


@endpoint(
    "POST",
    "/api/v1/jobs/{job_id}/cancel",
    scope="submit",
    answers={200: JobDocument, 202: JobDocument},
    problems=("job-not-found", "invalid-state"),
)
async def cancel_job(request: web.Request, query: NoQuery) -> web.Response:
    """Cancel a job: 200 if it is cancelled now, 202 if whoever runs it has been asked to stop."""
    parts = request.app[PARTS]
    job = await parts.store.cancel(read_job_id(request))
    return respond(show_job(job, parts.store.durability), status=200 if job.state.final else 202)


@endpoint(
    "POST",
    "/api/v1/jobs/{job_id}/retry",
    scope="admin",
    answers={200: JobDocument},
    problems=("job-not-found", "invalid-state"),
)
async def retry_job(request: web.Request, query: NoQuery) -> web.Response:
    """Run a finished job once more, with its budgets full again."""
    parts = request.app[PARTS]
    job = await parts.store.requeue(read_job_id(request))
    return respond(show_job(job, parts.store.durability))


@endpoint(
    "DELETE",
    "/api/v1/jobs/{job_id}",
    scope="admin",
    answers={204: None},
    problems=("job-not-found", "invalid-state"),
)
async def delete_job(request: web.Request, query: NoQuery) -> web.Response:
    """Forget a job that is not running."""
    await request.app[PARTS].store.delete(read_job_id(request))
    return web.Response(status=204)


ENDPOINTS = (submit, submit_batch, list_jobs, get_job, delete_job, cancel_job, retry_job)
