"""Jobs: look at them, wait for them, and act on one: edit, run now, cancel, retry, delete."""

from __future__ import annotations

import asyncio

from aiohttp import web

from gopher_node.api.answers.documents import JobDocument, JobPageDocument
from gopher_node.api.answers.problems import Fault, Problem
from gopher_node.api.answers.views import respond, show_job
from gopher_node.api.endpoint import endpoint
from gopher_node.api.parts import PARTS, Parts
from gopher_node.api.requests.models import Edit
from gopher_node.api.requests.queries import JobsQuery, NoQuery, PageQuery, WaitQuery, bad_cursor, read_job_id
from gopher_node.job import Job
from gopher_node.store import JobFilter


@endpoint("GET", "/api/v1/jobs", scope="read", query=JobsQuery, answers={200: JobPageDocument}, aliases=("/jobs",))
async def list_jobs(request: web.Request, query: JobsQuery) -> web.Response:
    """List jobs: those running and waiting, then those that have ended, the latest first."""
    return await respond_page(request.app[PARTS], query.filter(query.status), query)


async def respond_page(parts: Parts, wanted: JobFilter, query: PageQuery) -> web.Response:
    try:
        page = await parts.store.list(wanted, limit=query.limit, cursor=query.cursor)
    except ValueError:
        raise bad_cursor() from None
    items = [show_job(job, parts.store.durability) for job in page.items]
    return respond({"items": items, "next_cursor": page.next_cursor})


@endpoint(
    "GET",
    "/api/v1/jobs/{job_id}",
    scope="read",
    query=WaitQuery,
    answers={200: JobDocument},
    problems=("job-not-found",),
    aliases=("/jobs/{job_id}",),
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


@endpoint(
    "PATCH",
    "/api/v1/jobs/{job_id}",
    scope="admin",
    body=Edit,
    needs_body=True,
    answers={200: JobDocument},
    problems=("job-not-found", "invalid-state", "invalid-run-at", "invalid-duration", "out-of-range"),
)
async def edit_job(request: web.Request, query: NoQuery, body: Edit) -> web.Response:
    """Give a waiting job another priority, or let it be due at another time; a time in the past means now."""
    _check_edit(body)
    parts = request.app[PARTS]
    job = await parts.store.edit(
        read_job_id(request), priority=body.priority, due_ms=body.execute_at, delay_ms=body.delay
    )
    return respond(show_job(job, parts.store.durability))


def _check_edit(edit: Edit) -> None:
    faults: list[Fault] = []
    if edit.execute_at is not None and edit.delay is not None:
        faults.append({"pointer": "/delay", "code": "conflict", "detail": "cannot stand beside execute_at"})
    if edit.priority is None and edit.execute_at is None and edit.delay is None:
        faults.append({"pointer": "", "code": "missing", "detail": "must name a priority, an execute_at or a delay"})
    if faults:
        raise Problem("invalid-body", faults[0]["detail"], faults=faults)


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
    problems=("job-not-found", "invalid-state", "duplicate-job"),
)
async def retry_job(request: web.Request, query: NoQuery) -> web.Response:
    """Run a finished job once more, with its budgets full again."""
    parts = request.app[PARTS]
    job = await parts.store.requeue(read_job_id(request))
    return respond(show_job(job, parts.store.durability))


@endpoint(
    "POST",
    "/api/v1/jobs/{job_id}/run-now",
    scope="admin",
    answers={200: JobDocument},
    problems=("job-not-found", "invalid-state"),
)
async def run_job_now(request: web.Request, query: NoQuery) -> web.Response:
    """Put a scheduled job into its queue at once; one that is there already stays where it is."""
    parts = request.app[PARTS]
    job = await parts.store.run_now(read_job_id(request))
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


ENDPOINTS = (list_jobs, get_job, edit_job, delete_job, cancel_job, retry_job, run_job_now)
