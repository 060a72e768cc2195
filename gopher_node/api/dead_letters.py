"""Dead letters: the failed jobs, and their retry all together."""

from __future__ import annotations

from aiohttp import web

from gopher_node.api.documents import Count, Document, JobPageDocument
from gopher_node.api.endpoint import endpoint
from gopher_node.api.jobs import respond_page
from gopher_node.api.parts import PARTS
from gopher_node.api.queries import DeadLettersQuery, TypeQuery
from gopher_node.api.views import respond
from gopher_node.job import State
from gopher_node.store import JobFilter


class RetriedDocument(Document):
    retried: Count


@endpoint("GET", "/api/v1/dead-letters", scope="read", query=DeadLettersQuery, answers={200: JobPageDocument})
async def list_dead_letters(request: web.Request, query: DeadLettersQuery) -> web.Response:
    """List failed jobs, the latest first."""
    return await respond_page(request.app[PARTS], JobFilter(states=(State.FAILED,), type=query.type), query)


@endpoint("POST", "/api/v1/dead-letters/retry", scope="admin", query=TypeQuery, answers={200: RetriedDocument})
async def retry_dead_letters(request: web.Request, query: TypeQuery) -> web.Response:
    """Run all failed jobs, or those of a type, once more."""
    return respond({"retried": await request.app[PARTS].store.requeue_failed(query.type)})


ENDPOINTS = (list_dead_letters, retry_dead_letters)
