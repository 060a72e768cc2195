"""Recurring jobs: make them, look when they fire, change, pause and trigger them."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import islice
from typing import Any, Literal, TypeGuard, cast

import orjson
from aiohttp import web
from pydantic import Field

from gopher_node.api.answers.documents import (
    Count,
    Cursor,
    Document,
    JobDocument,
    JobId,
    Moment,
    Priority,
    RetryDocument,
    Seconds,
)
from gopher_node.api.answers.problems import Problem
from gopher_node.api.answers.views import format_time, respond, show_job, show_submitted
from gopher_node.api.endpoint import endpoint
from gopher_node.api.parts import PARTS, Parts
from gopher_node.api.requests.bodies import parse_json, read_bytes
from gopher_node.api.requests.queries import NoQuery, PageQuery, bad_cursor
from gopher_node.api.requests.recurring import (
    NewRecurring,
    RecurringEdit,
    read_edit,
    read_new,
    read_preview,
    read_submitted,
)
from gopher_node.api.requests.schedules import Preview
from gopher_node.errors import JobNotFound
from gopher_node.job import TYPE_NAME, State
from gopher_node.schedules import Missed, Overlap, ScheduleError, fire_id
from gopher_node.store import Definition, Recurring, Submitted

REFUSED = (
    "invalid-body",
    "invalid-schedule",
    "invalid-name",
    "invalid-payload",
    "invalid-duration",
    "callback-not-allowed",
    "job-too-large",
    "out-of-range",
    "unknown-field",
)
FIRES_SHOWN = 5
PREVIEWED = 10


class FireDocument(Document):
    """A time for which a job came."""

    at: Moment
    job_id: JobId


class SkipDocument(Document):
    """A time for which none came."""

    at: Moment
    reason: Literal["missed", "overlapped"] = Field(
        description="Nobody was there in time; or the last job had not ended."
    )


class RecurringDocument(Document):
    """A recurring job, as it is at the time of the answer."""

    name: str = Field(examples=["nightly-report"])
    cron_expression: str | None
    every: Seconds | None = Field(description="Seconds between two fires, if it has no expression.")
    timezone: str | None = Field(description="Of the expression.")
    in_words: str = Field(examples=["At 07:30 on Monday through Friday (Europe/Berlin)"])
    missed: Missed
    overlap: Overlap
    type: str = Field(examples=["report"])
    payload: Any = Field(description="That of each of its jobs; and so the following.")
    priority: Priority
    group: str | None
    max_retries: Count
    timeout: Seconds | None
    retention: Seconds | None
    tags: list[str]
    callback_url: str | None
    ttl: Seconds | None = Field(description="Seconds after its fire within which a job has to start.")
    retry: RetryDocument | None
    paused: bool
    next_fires: list[Moment] = Field(description="The next five, or in a list the next one; none while it is paused.")
    last_fire: FireDocument | None
    last_skip: SkipDocument | None
    fired: Count = Field(description="How often it brought a job at its time.")
    missed_fires: Count = Field(description="How many fires were given up, counted up to a thousand at a time.")
    overlapped: Count = Field(description="How many did not come, as its last job had not ended.")
    triggered: Count = Field(description="How often somebody triggered it.")
    created_at: Moment
    updated_at: Moment


class RecurringPageDocument(Document):
    """Some of the recurring jobs, by name, and where to go on."""

    items: list[RecurringDocument]
    next_cursor: Cursor


class PreviewDocument(Document):
    """When a schedule would fire, from now on."""

    in_words: str
    next_fires: list[Moment]
    local_fires: list[str] = Field(
        description="The same as the clocks of the time zone show it.", examples=[["2027-01-04T07:30:00+01:00"]]
    )


@endpoint(
    "POST",
    "/api/v1/recurring",
    scope="submit",
    body=NewRecurring,
    reads_body=False,
    needs_body=True,
    answers={201: RecurringDocument, 200: RecurringDocument},
    problems=("recurring-exists", *REFUSED),
    tells=("Location",),
)
async def create_recurring(request: web.Request, query: NoQuery) -> web.Response:
    """
    Make a recurring job, under a name of its own.

    Told again it is answered with 200 and as it is now; with another content for a name that is taken it is refused,
    and changed with PATCH. An interval counts from now.
    """
    parts = request.app[PARTS]
    definition = await read_new(parts, parse_json(await read_bytes(request)))
    found, new = await parts.store.recurring.create(definition)
    headers = {"Location": f"/api/v1/recurring/{found.name}"}
    return respond(show_recurring(found, FIRES_SHOWN), status=201 if new else 200, headers=headers)


def is_recurring(document: Any) -> TypeGuard[dict[str, Any]]:
    """Whether a submission asks for a recurring job."""
    return isinstance(document, dict) and cast("dict[str, Any]", document).get("recurring") is not None


async def submit_recurring(parts: Parts, document: dict[str, Any]) -> web.Response:
    """
    What a submission with `recurring` makes: the definition, and the job of its first fire, which is the answer.

    Told again it is answered with the job that it brings next or brought last. Raises Problem and GopherError.
    """
    definition = await read_submitted(parts, document)
    sends = parts.traces and parts.traces.send((definition.job,), recurring=definition.name)
    found, new = await parts.store.recurring.create(definition, ahead=True, trace=sends.trace if sends else "")
    content = await _job_of(parts, definition, found)
    headers = {"Location": f"/api/v1/jobs/{content['job_id']}"}
    if new:
        parts.events.submitted((definition.job.type,))
        if sends:
            sends.sent((content["job_id"],))
        return respond(content, status=201, headers=headers)
    return respond({**content, "existing": True}, status=200, headers={**headers, "Job-Existing": "true"})


async def _job_of(parts: Parts, definition: Definition, found: Recurring) -> dict[str, Any]:
    """The job that a recurring one brings next, if it is stored already, else the one that it brought last, or will."""
    next_ms = found.next_ms
    ids = [] if next_ms is None else [fire_id(found.name, next_ms)]
    for id in [*ids, *([found.last_job] if found.last_job else [])]:
        try:
            return show_job(await parts.store.get(id), parts.store.durability)
        except JobNotFound:
            continue
    if next_ms is None:
        raise Problem("recurring-exists", "It is there with this content, and paused.")
    job = definition.job_at(next_ms)
    coming = Submitted(job.id, State.SCHEDULED, False, found.created_ms, next_ms)
    return show_submitted(job, coming, parts.store.durability)


@endpoint("GET", "/api/v1/recurring", scope="read", query=PageQuery, answers={200: RecurringPageDocument})
async def list_recurring(request: web.Request, query: PageQuery) -> web.Response:
    """List the recurring jobs, by name."""
    if query.cursor is not None and not TYPE_NAME.match(query.cursor):
        raise bad_cursor()
    found = await request.app[PARTS].store.recurring.all(query.limit + 1, query.cursor or "")
    items = found[: query.limit]
    cursor = items[-1].name if len(found) > query.limit else None
    return respond({"items": [show_recurring(one, 1) for one in items], "next_cursor": cursor})


@endpoint(
    "POST",
    "/api/v1/recurring/preview",
    scope="read",
    body=Preview,
    needs_body=True,
    answers={200: PreviewDocument},
    problems=("invalid-body", "invalid-schedule", "invalid-duration", "out-of-range", "unknown-field"),
)
async def preview_recurring(request: web.Request, query: NoQuery, body: Preview) -> web.Response:
    """Tell when a schedule would fire, and what it says in words. Nothing is made."""
    now_ms = round(time.time() * 1000)
    schedule = replace(read_preview(body), anchor_ms=now_ms // 1000 * 1000)
    fires = list(islice(schedule.fires_after(now_ms), body.count or PREVIEWED))
    return respond(
        {
            "in_words": schedule.in_words(),
            "next_fires": [format_time(at) for at in fires],
            "local_fires": [schedule.local(at) for at in fires],
        }
    )


@endpoint(
    "GET",
    "/api/v1/recurring/{name}",
    scope="read",
    answers={200: RecurringDocument},
    problems=("recurring-not-found",),
)
async def get_recurring(request: web.Request, query: NoQuery) -> web.Response:
    """Show a recurring job, and when it fires next."""
    return respond(show_recurring(await request.app[PARTS].store.recurring.get(_name(request)), FIRES_SHOWN))


@endpoint(
    "PATCH",
    "/api/v1/recurring/{name}",
    scope="admin",
    body=RecurringEdit,
    reads_body=False,
    needs_body=True,
    answers={200: RecurringDocument},
    problems=("recurring-not-found", "recurring-changed", *REFUSED),
)
async def edit_recurring(request: web.Request, query: NoQuery) -> web.Response:
    """
    Change when a recurring job fires, or what its jobs are; jobs that it has brought stay as they are.

    It goes on at its next fire, unless its schedule changes: that holds from now on.
    """
    parts = request.app[PARTS]
    change = await read_edit(parts, parse_json(await read_bytes(request)))
    return respond(show_recurring(await parts.store.recurring.edit(_name(request), change), FIRES_SHOWN))


@endpoint(
    "DELETE",
    "/api/v1/recurring/{name}",
    scope="admin",
    answers={204: None},
    problems=("recurring-not-found",),
)
async def delete_recurring(request: web.Request, query: NoQuery) -> web.Response:
    """
    Forget a recurring job.

    The jobs that it has brought stay, but for the first one of a submission with `recurring`, if its time has not come.
    """
    await request.app[PARTS].store.recurring.delete(_name(request))
    return web.Response(status=204)


@endpoint(
    "POST",
    "/api/v1/recurring/{name}/pause",
    scope="admin",
    answers={200: RecurringDocument},
    problems=("recurring-not-found", "recurring-changed"),
)
async def pause_recurring(request: web.Request, query: NoQuery) -> web.Response:
    """Let a recurring job not fire until it is resumed."""
    return respond(show_recurring(await request.app[PARTS].store.recurring.pause(_name(request)), FIRES_SHOWN))


@endpoint(
    "POST",
    "/api/v1/recurring/{name}/resume",
    scope="admin",
    answers={200: RecurringDocument},
    problems=("recurring-not-found", "recurring-changed"),
)
async def resume_recurring(request: web.Request, query: NoQuery) -> web.Response:
    """Let a paused recurring job fire again, from now on: what it did not fire meanwhile is not made up for."""
    return respond(show_recurring(await request.app[PARTS].store.recurring.resume(_name(request)), FIRES_SHOWN))


@endpoint(
    "POST",
    "/api/v1/recurring/{name}/trigger",
    scope="submit",
    answers={201: JobDocument},
    problems=("recurring-not-found", "recurring-changed", "draining"),
    tells=("Location",),
)
async def trigger_recurring(request: web.Request, query: NoQuery) -> web.Response:
    """Submit a job as a recurring one would bring it, now, also while it is paused. Its schedule does not move."""
    parts = request.app[PARTS]
    if parts.draining.is_set():
        raise Problem("draining", "Nothing was stored. Try again, at another node.", outcome="not-done")
    name, sends = _name(request), None
    if parts.traces is not None:
        template = (await parts.store.recurring.get(name)).definition.job
        sends = parts.traces.send((template,), recurring=name)
    job_id = await parts.store.recurring.trigger(name, trace=sends.trace if sends else "")
    job = await parts.store.get(job_id)
    parts.events.submitted((job.type,))
    if sends:
        sends.sent((job_id,))
    return respond(show_job(job, parts.store.durability), status=201, headers={"Location": f"/api/v1/jobs/{job_id}"})


def _name(request: web.Request) -> str:
    """Raises Problem for what cannot be a name."""
    name = request.match_info["name"]
    if not TYPE_NAME.match(name):
        raise Problem("recurring-not-found")
    return name


def show_recurring(found: Recurring, fires: int) -> dict[str, Any]:
    definition, schedule, job = found.definition, found.definition.schedule, found.definition.job
    next_fires, in_words = [], schedule.cron
    try:
        in_words = schedule.in_words()
        if found.next_ms is not None:
            next_fires = [found.next_ms, *islice(schedule.fires_after(found.next_ms), fires - 1)]
    except ScheduleError:
        # This node lacks its time zone, which others have.
        next_fires = [] if found.next_ms is None else [found.next_ms]
    shown = show_submitted(job, Submitted("", State.SCHEDULED, False, 0, None), "")
    names = ("type", "priority", "group", "max_retries", "timeout", "retention", "tags", "callback_url", "retry")
    return {
        "name": found.name,
        "cron_expression": schedule.cron or None,
        "every": schedule.every_ms / 1000 if schedule.every_ms else None,
        "timezone": schedule.timezone if schedule.cron else None,
        "in_words": in_words,
        "missed": definition.missed,
        "overlap": definition.overlap,
        "payload": orjson.Fragment(job.payload),
        **{name: shown[name] for name in names},
        "ttl": None if job.options.ttl_ms is None else job.options.ttl_ms / 1000,
        "paused": found.paused,
        "next_fires": [format_time(at) for at in next_fires],
        "last_fire": {"at": format_time(found.last_ms), "job_id": found.last_job} if found.last_job else None,
        "last_skip": {"at": format_time(found.skipped_ms), "reason": found.why} if found.why else None,
        "fired": found.fired,
        "missed_fires": found.missed,
        "overlapped": found.overlapped,
        "triggered": found.triggered,
        "created_at": format_time(found.created_ms),
        "updated_at": format_time(found.updated_ms),
    }


ENDPOINTS = (
    list_recurring,
    create_recurring,
    preview_recurring,
    get_recurring,
    edit_recurring,
    delete_recurring,
    pause_recurring,
    resume_recurring,
    trigger_recurring,
)
