"""Jobs: submit one or many, look, wait, list, cancel, retry, delete."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from aiohttp import web

from gopher_node.api.bodies import MAX_DEPTH, read_json
from gopher_node.api.models import batch_refusal, read_submission, refusal
from gopher_node.api.parts import PARTS, Parts
from gopher_node.api.problems import MAX_FAULTS, Fault, Problem
from gopher_node.api.queries import JobsQuery, NoQuery, PageQuery, WaitQuery, bad_cursor, read_job_id, read_query
from gopher_node.api.views import respond, show_job, show_submitted
from gopher_node.job import Job, NewJob
from gopher_node.store import JobFilter

MAX_BATCH = 1000
MAX_BATCH_BODY = 8 * 1024 * 1024

_AT_A_TIME = 50


async def submit(request: web.Request) -> web.Response:
    parts = request.app[PARTS]
    _refuse_if_draining(parts)
    read_query(request, NoQuery)
    document = await read_json(request)
    job = read_submission(document, parts.registry, parts.settings.worker.max_retries)
    if isinstance(job, list):
        raise refusal(job)
    submitted = await parts.store.submit(job)
    parts.events.submitted(1)
    content = show_submitted(job, submitted, parts.store.durability)
    return respond(content, status=201, headers={"Location": f"/api/v1/jobs/{submitted.id}"})


async def submit_batch(request: web.Request) -> web.Response:
    """All of a JSON array of jobs, or none."""
    parts = request.app[PARTS]
    _refuse_if_draining(parts)
    read_query(request, NoQuery)
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


async def get(request: web.Request) -> web.Response:
    """One job; with `wait`, not before it has ended or the wait is over."""
    parts = request.app[PARTS]
    job_id = read_job_id(request)
    wait_ms = read_query(request, WaitQuery).wait
    job = await (_wait(parts, job_id, wait_ms / 1000) if wait_ms else parts.store.get(job_id))
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


async def list_jobs(request: web.Request) -> web.Response:
    query = read_query(request, JobsQuery)
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


async def cancel(request: web.Request) -> web.Response:
    """200 if the job is cancelled now, 202 if whoever runs it has been asked to stop."""
    parts = request.app[PARTS]
    read_query(request, NoQuery)
    job = await parts.store.cancel(read_job_id(request))
    return respond(show_job(job, parts.store.durability), status=200 if job.state.final else 202)


async def retry(request: web.Request) -> web.Response:
    """Run a finished job once more, with its budgets full again."""
    parts = request.app[PARTS]
    read_query(request, NoQuery)
    job = await parts.store.requeue(read_job_id(request))
    return respond(show_job(job, parts.store.durability))


async def delete(request: web.Request) -> web.Response:
    read_query(request, NoQuery)
    await request.app[PARTS].store.delete(read_job_id(request))
    return web.Response(status=204)


ROUTES = [
    web.post("/api/v1/jobs", submit),
    web.post("/api/jobs", submit),
    web.post("/api/v1/jobs/bulk", submit_batch),
    web.get("/api/v1/jobs", list_jobs),
    web.get("/api/v1/jobs/{job_id:[^/]+}", get),
    web.delete("/api/v1/jobs/{job_id:[^/]+}", delete),
    web.post("/api/v1/jobs/{job_id:[^/]+}/cancel", cancel),
    web.post("/api/v1/jobs/{job_id:[^/]+}/retry", retry),
]
