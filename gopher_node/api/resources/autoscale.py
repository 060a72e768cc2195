"""Autoscale: one number that says how much there is to do, for whatever starts and stops nodes and workers."""

from __future__ import annotations

from typing import Annotated

from aiohttp import web
from pydantic import Field

from gopher_node.api.answers.documents import Count, Document
from gopher_node.api.answers.views import respond
from gopher_node.api.endpoint import endpoint
from gopher_node.api.parts import PARTS
from gopher_node.api.requests.fields import TypeName, duration
from gopher_node.api.requests.queries import Query

MAX_WITHIN_MS = 3_600_000


class AutoscaleQuery(Query):
    """`within` is in milliseconds once it is read."""

    type: TypeName | None = Field(None, description="Only jobs of this type. `queue` is another word for it.")
    within: Annotated[int, duration(0, MAX_WITHIN_MS, text=True)] = Field(
        30_000,
        description="Scheduled jobs count that are due by then, up to 1h; 30s unless it is said.",
        examples=["30s", "2m"],
    )


class AutoscaleDocument(Document):
    """How much there is to do."""

    target: Count = Field(description="All of it: `ready`, `due_soon` and `running`.")
    ready: Count = Field(description="Jobs that could run now.")
    due_soon: Count = Field(
        description="Scheduled jobs that will be due soon, or are, and those that will be tried again."
    )
    running: Count
    exact: bool = Field(
        description="False if `due_soon` is not: more than 1,000 jobs of all types are due soon, and only the first of "
        "them were looked at. So many are due at least of a type; at most of all, if something is paused."
    )


@endpoint("GET", "/api/v1/autoscale", scope="read", query=AutoscaleQuery, answers={200: AutoscaleDocument})
async def show_autoscale(request: web.Request, query: AutoscaleQuery) -> web.Response:
    """
    Show how many jobs there are for workers, of a type or of all, as a scaler wants it: divide by what one node runs.

    Made for KEDA's metrics-api, with `valueLocation: "target"`. What waits in a paused type or priority does not count,
    for more workers would not help it; what a rate limit, a cap, a breaker or a paused group holds back counts. A type
    of which nothing is known has zeros, so that its first workers can be started from none.
    """
    found = await request.app[PARTS].store.history.demand(query.type, query.within / 1000)
    return respond(
        {
            "target": found.ready + found.due_soon + found.running,
            "ready": found.ready,
            "due_soon": found.due_soon,
            "running": found.running,
            "exact": found.exact,
        }
    )


ENDPOINTS = (show_autoscale,)
