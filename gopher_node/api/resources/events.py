"""What happens to a job, as a stream of server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import orjson
from aiohttp import web
from aiohttp_sse import EventSourceResponse

from gopher_node.api.answers.documents import EventDocument
from gopher_node.api.answers.views import show_job
from gopher_node.api.endpoint import Header, Stream, endpoint
from gopher_node.api.middleware import explain
from gopher_node.api.parts import PARTS, Parts
from gopher_node.api.requests.queries import NoQuery, read_job_id
from gopher_node.job import Job

MEDIA_TYPE = "text/event-stream"
PING = 15.0
"""Seconds between comments that keep proxies from closing a silent stream."""
ENDED = "ended"
"""The id of the event that is the last one."""


@endpoint(
    "GET",
    "/api/v1/jobs/{job_id}/events",
    scope="read",
    answers={200: Stream(media=MEDIA_TYPE, item=EventDocument), 204: None},
    problems=("job-not-found",),
    headers={
        "Last-Event-ID": Header(
            description="Sent by browsers that connect again.", schema={"type": "string", "examples": [ENDED]}
        )
    },
)
async def follow_job(request: web.Request, query: NoQuery) -> web.StreamResponse:
    """
    Follow a job until it has ended.

    The first event shows the job as it is, and one follows after each change; of changes in quick succession, the last
    is told. An event is named after the job's status, or `progress` if only that is new; its data is the job. The last
    event's id is `ended`: a browser that connects again with it is told by 204 not to come back.
    """
    parts = request.app[PARTS]
    async with aclosing(_until_draining(parts, read_job_id(request))) as changes:
        job = await anext(changes)
        if job is not None and job.state.final and request.headers.get("Last-Event-ID") == ENDED:
            return web.Response(status=204)
        response = EventSourceResponse(ping_interval=PING, send_timeout=parts.settings.server.write_timeout)
        await response.prepare(request)
        async with response:
            try:
                await _send_all(response, parts, job, changes)
            except ConnectionError:
                raise
            except Exception as error:
                # The answer has begun: all that can be said is that it ends here.
                explain(request, error)
                response.force_close()
    return response


async def _send_all(
    response: EventSourceResponse, parts: Parts, job: Job | None, changes: AsyncGenerator[Job | None]
) -> None:
    before: Job | None = None
    while job is not None:
        content = orjson.dumps(show_job(job, parts.store.durability)).decode()
        await response.send(content, event=_name(before, job), id=ENDED if job.state.final else None)
        before = job
        job = await anext(changes, None)


def _name(before: Job | None, job: Job) -> str:
    same = before is not None and (before.state, before.attempt) == (job.state, job.attempt)
    return "progress" if same and before is not None and before.progress != job.progress else job.state


async def _until_draining(parts: Parts, job_id: str) -> AsyncGenerator[Job | None]:
    """The job as it changes. None, and the end, when the node begins to shut down. Raises JobNotFound."""
    draining = asyncio.create_task(parts.draining.wait())
    async with aclosing(parts.store.follow(job_id)) as changes:
        try:
            while True:
                following = asyncio.ensure_future(anext(changes, None))
                try:
                    await asyncio.wait((following, draining), return_when=asyncio.FIRST_COMPLETED)
                finally:
                    if not following.done():
                        following.cancel()
                        await asyncio.gather(following, return_exceptions=True)
                job = None if following.cancelled() else following.result()
                yield job
                if job is None:
                    return
        finally:
            draining.cancel()


ENDPOINTS = (follow_job,)
