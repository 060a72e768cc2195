"""Dead letters: the failed jobs, each with the error of every attempt, until they are run once more or deleted."""

from __future__ import annotations

from aiohttp import web

from gopher_node.api.answers.documents import JobDocument, JobPageDocument
from gopher_node.api.answers.problems import Problem
from gopher_node.api.answers.views import respond, show_job
from gopher_node.api.endpoint import endpoint, read_body
from gopher_node.api.parts import PARTS, Parts
from gopher_node.api.requests.models import JobIds
from gopher_node.api.requests.queries import DeadLettersActQuery, DeadLettersQuery, NoQuery, read_job_id
from gopher_node.api.resources.jobs import respond_page
from gopher_node.api.resources.selections import DeletedDocument, RetriedDocument, act, chosen
from gopher_node.errors import JobNotFound, OutcomeUnknown, StoreError
from gopher_node.job import Job, State
from gopher_node.store import Verb

FAILED = (State.FAILED,)
STEP = 200
"""Jobs that are named to the store at once."""


@endpoint("GET", "/api/v1/dead-letters", scope="read", query=DeadLettersQuery, answers={200: JobPageDocument})
async def list_dead_letters(request: web.Request, query: DeadLettersQuery) -> web.Response:
    """List failed jobs, the latest first."""
    return await respond_page(request.app[PARTS], query.filter(FAILED), query)


@endpoint(
    "POST",
    "/api/v1/dead-letters/retry",
    scope="admin",
    query=DeadLettersActQuery,
    body=JobIds,
    reads_body=False,
    needs_body=False,
    answers={200: RetriedDocument},
    problems=("invalid-name", "out-of-range"),
)
async def retry_dead_letters(request: web.Request, query: DeadLettersActQuery) -> web.Response:
    """
    Run failed jobs once more: all of them, those that match, or those whose ids the body names.

    Ids of jobs that are not failed are passed over. After five seconds the answer says how many there were, and where
    to go on: send the same again with its `next_cursor` as `cursor`.
    """
    parts = request.app[PARTS]
    if request.body_exists:
        return respond({"retried": await _act_on_named(request, query, "retry"), "next_cursor": None})
    return respond(await act(parts, "retry", "retried", query.filter(FAILED), query.cursor))


@endpoint(
    "DELETE",
    "/api/v1/dead-letters",
    scope="admin",
    query=DeadLettersActQuery,
    body=JobIds,
    reads_body=False,
    needs_body=False,
    answers={200: DeletedDocument},
    problems=("invalid-name", "out-of-range"),
)
async def delete_dead_letters(request: web.Request, query: DeadLettersActQuery) -> web.Response:
    """
    Forget failed jobs: those that match, those whose ids the body names, or with `all=true` all. There is no way back.

    Ids of jobs that are not failed are passed over. After five seconds the answer says how many there were, and where
    to go on: send the same again with its `next_cursor` as `cursor`.
    """
    parts = request.app[PARTS]
    if request.body_exists:
        return respond({"deleted": await _act_on_named(request, query, "delete"), "next_cursor": None})
    # A body that got lost on its way here must not mean everything.
    return respond(await act(parts, "delete", "deleted", chosen(query, FAILED), query.cursor))


async def _act_on_named(request: web.Request, query: DeadLettersActQuery, verb: Verb) -> int:
    ids = (await read_body(request, JobIds)).job_ids
    if query.model_fields_set:
        detail = "Name jobs by their ids or by parameters, not by both."
        raise Problem("invalid-body", detail, faults=[{"pointer": "/job_ids", "code": "conflict", "detail": detail}])
    store = request.app[PARTS].store
    count = 0
    for start in range(0, len(ids), STEP):
        try:
            count += await store.act_on(verb, ids[start : start + STEP], FAILED)
        except StoreError as error:
            if start:
                raise OutcomeUnknown from error
            raise
    return count


@endpoint(
    "GET",
    "/api/v1/dead-letters/{job_id}",
    scope="read",
    answers={200: JobDocument},
    problems=("job-not-found",),
)
async def get_dead_letter(request: web.Request, query: NoQuery) -> web.Response:
    """Show a failed job, with the error of every attempt."""
    parts = request.app[PARTS]
    return respond(show_job(await _find(parts, request), parts.store.durability))


@endpoint(
    "POST",
    "/api/v1/dead-letters/{job_id}/retry",
    scope="admin",
    answers={200: JobDocument},
    problems=("job-not-found", "invalid-state", "duplicate-job"),
)
async def retry_dead_letter(request: web.Request, query: NoQuery) -> web.Response:
    """Run a failed job once more, with its budgets full again."""
    parts = request.app[PARTS]
    job = await _find(parts, request)
    if not await parts.store.act_on("retry", [job.id], FAILED):
        await _find(parts, request)
        await parts.store.requeue(job.id)  # which says what stands against it
    return respond(show_job(await parts.store.get(job.id), parts.store.durability))


@endpoint(
    "DELETE",
    "/api/v1/dead-letters/{job_id}",
    scope="admin",
    answers={204: None},
    problems=("job-not-found",),
)
async def delete_dead_letter(request: web.Request, query: NoQuery) -> web.Response:
    """Forget a failed job."""
    parts = request.app[PARTS]
    if not await parts.store.act_on("delete", [read_job_id(request)], FAILED):
        await _find(parts, request)
        raise JobNotFound
    return web.Response(status=204)


async def _find(parts: Parts, request: web.Request) -> Job:
    """Raises Problem for a job that is no dead letter, and JobNotFound."""
    job = await parts.store.get(read_job_id(request))
    if job.state is not State.FAILED:
        detail = f"This job has not failed, so it is no dead letter: it is {job.state}."
        raise Problem("job-not-found", detail, state=job.state)
    return job


ENDPOINTS = (
    list_dead_letters,
    retry_dead_letters,
    delete_dead_letters,
    get_dead_letter,
    retry_dead_letter,
    delete_dead_letter,
)
