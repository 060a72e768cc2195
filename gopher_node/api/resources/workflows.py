"""Workflows: jobs that belong together, of which some wait for others, and what follows when they have ended."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web
from pydantic import Field

from gopher_node.api.answers.documents import (
    Count,
    Cursor,
    Document,
    JobId,
    JobListDocument,
    JobPageDocument,
    Moment,
    WorkflowStatus,
)
from gopher_node.api.answers.problems import Fault, Problem
from gopher_node.api.answers.views import format_time, respond, show_job
from gopher_node.api.endpoint import endpoint, validate
from gopher_node.api.parts import PARTS, Parts
from gopher_node.api.requests import idempotency
from gopher_node.api.requests.bodies import MAX_DEPTH, parse_json, read_bytes
from gopher_node.api.requests.dependencies import Place
from gopher_node.api.requests.models import batch_refusal, read_submission
from gopher_node.api.requests.queries import NoQuery, PageQuery, WaitQuery, bad_cursor
from gopher_node.api.requests.workflows import (
    JobsOfWorkflow,
    WorkflowSubmission,
    callback_faults,
    chained,
    member_faults,
    of_workflow,
)
from gopher_node.api.resources.submitting import (
    MAX_BATCH_BODY,
    REFUSED_SUBMISSIONS,
    read_jobs,
    refuse_if_draining,
    refused_by_store,
    store_jobs,
)
from gopher_node.errors import DuplicateJob, JobExists, ParentNotFound, WorkflowNotFound
from gopher_node.job import JOB_ID, NewJob, State
from gopher_node.store import NewWorkflow, Workflow

DEPTH = MAX_DEPTH + 2
"""A payload may be as deep as anywhere, and stands inside of a job in a list."""
LOOK_EVERY = 0.25
"""Seconds between two looks at a workflow that somebody waits for."""


class CountsDocument(Document):
    """How many jobs are in each state."""

    scheduled: Count
    enqueued: Count
    blocked: Count
    processing: Count
    completed: Count
    failed: Count
    cancelled: Count


class CallbacksDocument(Document):
    """The jobs that were stored because the workflow has come so far; null for what has not happened."""

    on_complete: JobId | None
    on_success: JobId | None
    on_failure: JobId | None


class WorkflowDocument(Document):
    """A workflow, as it is at the time of the answer."""

    workflow_id: str = Field(json_schema_extra={"format": "uuid"})
    name: str | None
    status: WorkflowStatus = Field(
        description="Running until all jobs have ended; then completed if all of them have, cancelled if it was "
        "cancelled as one, else failed."
    )
    total: Count = Field(description="How many jobs it has had.")
    ended: Count = Field(description="How many of them have ended.")
    counts: CountsDocument
    callbacks: CallbacksDocument
    cancel_requested: bool
    created_at: Moment
    finished_at: Moment | None


class NewWorkflowDocument(WorkflowDocument):
    """A workflow that has just been stored."""

    job_ids: list[JobId] = Field(description="The ids of its jobs, in the order in which they were sent.")


class WorkflowPageDocument(Document):
    """Some of the workflows, the latest first, and where to go on."""

    items: list[WorkflowDocument]
    next_cursor: Cursor


@endpoint(
    "POST",
    "/api/v1/workflows",
    scope="submit",
    body=WorkflowSubmission,
    reads_body=False,
    needs_body=True,
    answers={201: NewWorkflowDocument},
    problems=("batch-too-large", *REFUSED_SUBMISSIONS, *idempotency.PROBLEMS, "draining"),
    headers=idempotency.HEADERS,
    tells=("Location", "Idempotency-Replayed"),
)
async def submit_workflow(request: web.Request, query: NoQuery) -> web.Response:
    """
    Submit a workflow: jobs that wait for each other, and jobs that follow when all of them have ended.

    All of it is stored, or nothing. Its jobs name those that they wait for in `depends_on`, by the `name` that these
    have in the same request or by the id of any job. Each is `blocked` until all of those have ended, and whoever runs
    it is told their results. If one does not complete, `on_parent_failure` says what becomes of it. Of `on_complete`,
    `on_success` and `on_failure`, each is stored at most once ever, in the step that makes it true.
    """
    parts = request.app[PARTS]
    refuse_if_draining(parts)
    body = await read_bytes(request, limit=MAX_BATCH_BODY)
    once = idempotency.read_once(request, "workflow", body)
    told = validate(WorkflowSubmission, parse_json(body, depth=DEPTH))
    field, documents = told.members()
    callbacks = told.callbacks()
    faults = member_faults(documents, f"/{field}")
    for word, document in callbacks.items():
        faults += callback_faults(word, document)
    if faults:
        raise Problem("invalid-job", faults=faults)
    place = _place(field)
    jobs = await read_jobs(documents, parts, place)
    if field == "chain":
        jobs = chained(jobs)
    following: dict[str, Any] = await _read_callbacks(callbacks, parts)
    sends = parts.traces and parts.traces.send([*jobs, *following.values()])
    if sends:
        jobs, later = sends.jobs[: len(jobs)], sends.jobs[len(jobs) :]
        following = dict(zip(following, later, strict=True))
    new = NewWorkflow(jobs=jobs, name=told.name or "", **following)
    try:
        submitted = await parts.store.workflows.submit(new, once)
    except (JobExists, DuplicateJob, ParentNotFound) as error:
        raise refused_by_store(error, place) from None
    if not submitted.replayed:
        told = zip(new.jobs, submitted.stored, strict=True)
        parts.events.submitted(job.type for job, stored in told if not stored.twin)
        if sends:
            ids = [None if stored.twin else stored.id for stored in submitted.stored]
            sends.sent([*ids, *("" for _ in following)], workflow=submitted.id)
    content = _show(await parts.store.workflows.get(submitted.id))
    headers = {"Location": f"/api/v1/workflows/{submitted.id}", **(idempotency.REPLAYED if submitted.replayed else {})}
    return respond({**content, "job_ids": submitted.jobs}, status=201, headers=headers)


async def _read_callbacks(documents: dict[str, Any], parts: Parts) -> dict[str, Any]:
    """Raises Problem with all that is wrong with them."""
    jobs: dict[str, NewJob] = {}
    faults: list[Fault] = []
    catalogue = parts.catalogue
    for word, document in documents.items():
        if catalogue.lacks(document):
            await catalogue.ask()
        job = read_submission(
            document,
            parts.registry,
            parts.settings.worker.max_retries,
            published=catalogue.published,
            allow=parts.settings.webhook.allow,
        )
        if isinstance(job, NewJob):
            jobs[word] = job
        else:
            faults += [{**fault, "pointer": f"/{word}{fault['pointer']}"} for fault in job]
    if faults:
        raise batch_refusal(faults)
    return dict(jobs)


@endpoint("GET", "/api/v1/workflows", scope="read", query=PageQuery, answers={200: WorkflowPageDocument})
async def list_workflows(request: web.Request, query: PageQuery) -> web.Response:
    """List the workflows, the latest first."""
    try:
        page = await request.app[PARTS].store.workflows.list(query.limit, query.cursor)
    except ValueError:
        raise bad_cursor() from None
    return respond({"items": [_show(workflow) for workflow in page.items], "next_cursor": page.next_cursor})


@endpoint(
    "GET",
    "/api/v1/workflows/{workflow_id}",
    scope="read",
    query=WaitQuery,
    answers={200: WorkflowDocument},
    problems=("workflow-not-found",),
)
async def get_workflow(request: web.Request, query: WaitQuery) -> web.Response:
    """Show a workflow; with `wait`, not before it has ended or the wait is over."""
    parts = request.app[PARTS]
    workflow_id = read_workflow_id(request)
    loop = asyncio.get_running_loop()
    end = loop.time() + query.wait / 1000
    workflow = await parts.store.workflows.get(workflow_id)
    while workflow.state == "running" and (left := end - loop.time()) > 0 and not parts.draining.is_set():
        await asyncio.sleep(min(left, LOOK_EVERY))
        workflow = await parts.store.workflows.get(workflow_id)
    return respond(_show(workflow))


@endpoint(
    "GET",
    "/api/v1/workflows/{workflow_id}/jobs",
    scope="read",
    query=PageQuery,
    answers={200: JobPageDocument},
    problems=("workflow-not-found",),
)
async def list_workflow_jobs(request: web.Request, query: PageQuery) -> web.Response:
    """List the jobs of a workflow, those that were stored first before the others."""
    parts = request.app[PARTS]
    try:
        page = await parts.store.workflows.members(read_workflow_id(request), query.limit, query.cursor)
    except ValueError:
        raise bad_cursor() from None
    items = [show_job(job, parts.store.durability) for job in page.items]
    return respond({"items": items, "next_cursor": page.next_cursor})


@endpoint(
    "POST",
    "/api/v1/workflows/{workflow_id}/jobs",
    scope="submit",
    body=JobsOfWorkflow,
    reads_body=False,
    needs_body=True,
    answers={201: JobListDocument},
    problems=("batch-too-large", *REFUSED_SUBMISSIONS, *idempotency.PROBLEMS, "draining"),
    headers=idempotency.HEADERS,
    tells=("Idempotency-Replayed", "Job-Existing"),
)
async def add_jobs(request: web.Request, query: NoQuery) -> web.Response:
    """
    Add jobs to a workflow that still runs: all of them, or none.

    They may wait for each other by name, and for any job by its id. A handler adds jobs to its own workflow with its
    completion, in one step.
    """
    parts = request.app[PARTS]
    refuse_if_draining(parts)
    workflow_id = read_workflow_id(request)
    body = await read_bytes(request, limit=MAX_BATCH_BODY)
    once = idempotency.read_once(request, f"workflow {workflow_id}", body)
    documents = validate(JobsOfWorkflow, parse_json(body, depth=DEPTH)).jobs
    if faults := member_faults(documents, "/jobs", workflow_id):
        raise Problem("invalid-job", faults=faults)
    place = _place("jobs")
    return await store_jobs(await read_jobs(of_workflow(documents, workflow_id), parts, place), parts, once, place)


@endpoint(
    "POST",
    "/api/v1/workflows/{workflow_id}/cancel",
    scope="submit",
    answers={200: WorkflowDocument, 202: WorkflowDocument},
    problems=("workflow-not-found", "invalid-state"),
)
async def cancel_workflow(request: web.Request, query: NoQuery) -> web.Response:
    """
    Cancel all jobs of a workflow that have not ended: 200 if that is done, 202 if some of them are still to stop.

    It takes no more jobs from now on. Told again, it is answered as it is by then.
    """
    workflow = await request.app[PARTS].store.workflows.cancel(read_workflow_id(request))
    return respond(_show(workflow), status=202 if workflow.state == "running" else 200)


def read_workflow_id(request: web.Request) -> str:
    """Raises WorkflowNotFound for what cannot be an id."""
    workflow_id = request.match_info["workflow_id"].lower()
    if not JOB_ID.match(workflow_id):
        raise WorkflowNotFound
    return workflow_id


def _place(field: str) -> Place:
    def place(index: int) -> str:
        return f"/{field}/{index}"

    return place


def _show(workflow: Workflow) -> dict[str, Any]:
    counts = {state.value: workflow.counts.get(state, 0) for state in State}
    return {
        "workflow_id": workflow.id,
        "name": workflow.name or None,
        "status": workflow.state,
        "total": workflow.total,
        "ended": sum(workflow.counts.get(state, 0) for state in State if state.final),
        "counts": counts,
        "callbacks": {word: workflow.callbacks.get(word) for word in ("on_complete", "on_success", "on_failure")},
        "cancel_requested": workflow.cancel_requested,
        "created_at": format_time(workflow.created_ms),
        "finished_at": format_time(workflow.finished_ms),
    }


ENDPOINTS = (submit_workflow, list_workflows, get_workflow, list_workflow_jobs, add_jobs, cancel_workflow)
