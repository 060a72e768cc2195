"""Acts on all jobs that match a filter, in bounded steps."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from gopher_node.api.answers.documents import Count, Cursor, Document
from gopher_node.api.answers.views import respond
from gopher_node.api.endpoint import endpoint
from gopher_node.api.parts import PARTS, Parts
from gopher_node.api.requests.queries import DeadLettersActQuery, JobsActQuery, bad_cursor, bad_parameter
from gopher_node.errors import StoreError
from gopher_node.job import State
from gopher_node.store import JobFilter, Verb

WORK_TIME = 5.0
"""Seconds after which an answer hands back where to go on."""


class CancelledDocument(Document):
    cancelled: Count
    next_cursor: Cursor


class RetriedDocument(Document):
    retried: Count
    next_cursor: Cursor


class MovedDocument(Document):
    moved: Count
    next_cursor: Cursor


class DeletedDocument(Document):
    deleted: Count
    next_cursor: Cursor


@endpoint("POST", "/api/v1/jobs/cancel", scope="admin", query=JobsActQuery, answers={200: CancelledDocument})
async def cancel_jobs(request: web.Request, query: JobsActQuery) -> web.Response:
    """
    Cancel all jobs that match: those that wait at once, and of those that run, whoever runs them is asked to stop.

    At least one filter, or `all=true`. After five seconds the answer says how many there were, and where to go on: send
    the same again with its `next_cursor` as `cursor`.
    """
    return respond(await act(request.app[PARTS], "cancel", "cancelled", chosen(query, query.status), query.cursor))


@endpoint("POST", "/api/v1/jobs/retry", scope="admin", query=JobsActQuery, answers={200: RetriedDocument})
async def retry_jobs(request: web.Request, query: JobsActQuery) -> web.Response:
    """
    Run all jobs that match and have ended once more, with full budgets: the failed ones, unless `status` is given.

    At least one filter, or `all=true`. After five seconds the answer says how many there were, and where to go on: send
    the same again with its `next_cursor` as `cursor`.
    """
    return respond(await act(request.app[PARTS], "retry", "retried", chosen(query, query.status), query.cursor))


@endpoint("POST", "/api/v1/jobs/run-now", scope="admin", query=JobsActQuery, answers={200: MovedDocument})
async def run_jobs_now(request: web.Request, query: JobsActQuery) -> web.Response:
    """
    Put all scheduled jobs that match into their queues at once.

    At least one filter, or `all=true`. After five seconds the answer says how many there were, and where to go on: send
    the same again with its `next_cursor` as `cursor`.
    """
    return respond(await act(request.app[PARTS], "run_now", "moved", chosen(query, query.status), query.cursor))


@endpoint("DELETE", "/api/v1/jobs", scope="admin", query=JobsActQuery, answers={200: DeletedDocument})
async def delete_jobs(request: web.Request, query: JobsActQuery) -> web.Response:
    """
    Forget all jobs that match and are not running. There is no way back.

    At least one filter, or `all=true`. After five seconds the answer says how many there were, and where to go on: send
    the same again with its `next_cursor` as `cursor`.
    """
    return respond(await act(request.app[PARTS], "delete", "deleted", chosen(query, query.status), query.cursor))


def chosen(query: JobsActQuery | DeadLettersActQuery, states: tuple[State, ...]) -> JobFilter:
    """Which jobs are meant. Raises Problem unless they are filtered, or else all of them are asked for."""
    wanted = query.filter(states)
    filtered = bool(query.model_fields_set - {"all", "cursor"})
    if filtered == query.all:
        # A filter that got lost on its way here must not mean everything.
        detail = "cannot stand beside a filter" if filtered else "must be true where no filter is given"
        raise bad_parameter("all", "conflict" if filtered else "missing", detail)
    return wanted


async def act(parts: Parts, verb: Verb, done: str, wanted: JobFilter, cursor: str | None) -> dict[str, Any]:
    """
    Apply a verb for up to five seconds. Answers how many jobs it changed, under the name `done`, and the next cursor.

    Raises Problem.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + WORK_TIME
    count, steps = 0, 0
    while True:
        try:
            acted = await parts.store.act(verb, wanted, cursor)
        except ValueError:
            raise bad_cursor() from None
        except StoreError:
            if not steps:
                raise
            # What was done is told; whoever goes on from there learns what is wrong.
            return {done: count, "next_cursor": cursor}
        count += acted.count
        steps += 1
        cursor = acted.next_cursor
        if cursor is None or loop.time() > until or parts.draining.is_set():
            return {done: count, "next_cursor": cursor}


ENDPOINTS = (cancel_jobs, retry_jobs, run_jobs_now, delete_jobs)
