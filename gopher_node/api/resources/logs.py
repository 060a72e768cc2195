"""What the runs of a job said."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from aiohttp import web
from pydantic import Field

from gopher_node.api.answers.documents import Count, Document, Moment
from gopher_node.api.answers.views import format_time, respond
from gopher_node.api.endpoint import endpoint
from gopher_node.api.parts import PARTS
from gopher_node.api.requests.queries import Query, read_job_id, whole
from gopher_node.handlers.log_lines import Level


class LogQuery(Query):
    cursor: Annotated[int, whole(0, 999_999_999)] = Field(
        0, description="The `next_cursor` of the answer that this goes on from."
    )


class LogLineDocument(Document):
    """One line of a job's log."""

    at: Moment
    level: Level
    attempt: Count = Field(description="The run that wrote it.")
    message: str


class LogDocument(Document):
    """Lines of a job's log, the oldest first."""

    items: list[LogLineDocument]
    next_cursor: str | None = Field(
        description="Sent back as `cursor`, it goes on from there, now or later; null if no more lines will come."
    )


@endpoint(
    "GET",
    "/api/v1/jobs/{job_id}/log",
    scope="read",
    query=LogQuery,
    answers={200: LogDocument},
    problems=("job-not-found",),
)
async def get_log(request: web.Request, query: LogQuery) -> web.Response:
    """
    Read what the runs of a job said, while it runs and after.

    The latest 1,000 lines are kept, and of long ones 64 KiB. Handlers write them with `ctx.log`, workers over HTTP with
    their heartbeats.
    """
    page = await request.app[PARTS].store.logs.read(read_job_id(request), query.cursor)
    items = [_show(orjson.loads(line)) for line in page.lines]
    return respond({"items": items, "next_cursor": None if page.ended else str(page.next)})


def _show(line: dict[str, Any]) -> dict[str, Any]:
    return {**line, "at": format_time(line["at"])}


ENDPOINTS = (get_log,)
