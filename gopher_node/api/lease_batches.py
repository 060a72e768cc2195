"""What a worker says of many runs at once: each item is answered for itself, and none touches its neighbours."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from gopher_node.api.bodies import read_json
from gopher_node.api.documents import Document, ProblemDocument
from gopher_node.api.endpoint import endpoint, validate
from gopher_node.api.leases import (
    DEPTH,
    BeatDocument,
    CompletedDocument,
    FailedDocument,
    ReleasedDocument,
    desk_of,
)
from gopher_node.api.middleware import REQUEST_ID, explain
from gopher_node.api.problems import Problem, document
from gopher_node.api.queries import NoQuery
from gopher_node.api.settling import CompletionItem, FailureItem, HeartbeatItem, ReleaseItem, parse_token
from gopher_node.api.views import respond
from gopher_node.job import Token

MAX_ITEMS = 200
MAX_BATCH_BODY = 8 * 1024 * 1024


class RefusedDocument(Document):
    """What is wrong with one item of several."""

    problem: ProblemDocument


class BeatListDocument(Document):
    items: list[BeatDocument | RefusedDocument]


class CompletedListDocument(Document):
    items: list[CompletedDocument | RefusedDocument]


class FailedListDocument(Document):
    items: list[FailedDocument | RefusedDocument]


class ReleasedListDocument(Document):
    items: list[ReleasedDocument | RefusedDocument]


class _Batch(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class HeartbeatBatch(_Batch):
    items: list[HeartbeatItem] = Field(max_length=MAX_ITEMS)


class CompletionBatch(_Batch):
    items: list[CompletionItem] = Field(max_length=MAX_ITEMS)


class FailureBatch(_Batch):
    items: list[FailureItem] = Field(max_length=MAX_ITEMS)


class ReleaseBatch(_Batch):
    items: list[ReleaseItem] = Field(max_length=MAX_ITEMS)


class _AnyBatch(_Batch):
    """Any of these; what is wrong with one item is told in its place."""

    items: list[Any]


AnyItem = TypeVar("AnyItem", HeartbeatItem, CompletionItem, FailureItem, ReleaseItem)


async def _read_items(request: web.Request, model: type[AnyItem]) -> list[tuple[Token, AnyItem] | Problem]:
    """Raises Problem if there is no list of items; each of them is judged for itself."""
    documents = validate(_AnyBatch, await read_json(request, limit=MAX_BATCH_BODY, depth=DEPTH)).items
    if len(documents) > MAX_ITEMS:
        detail = f"At most {MAX_ITEMS} items may be sent at once, and these are {len(documents)}. Nothing was done."
        raise Problem("batch-too-large", detail, limit=MAX_ITEMS)
    items: list[tuple[Token, AnyItem] | Problem] = []
    for content in documents:
        try:
            item = validate(model, content)
            items.append((parse_token(item.token), item))
        except Problem as problem:
            items.append(problem)
    return items


def _respond_all(request: web.Request, answers: list[Any]) -> web.Response:
    """One answer for each item, in order."""
    return respond(
        {
            "items": [
                {"problem": document(explain(request, answer), request[REQUEST_ID])}
                if isinstance(answer, Exception)
                else answer
                for answer in answers
            ]
        }
    )


async def _settle_all(
    request: web.Request, model: type[AnyItem], settle: Callable[[Token, AnyItem], Awaitable[dict[str, Any]]]
) -> web.Response:
    async def settle_one(item: tuple[Token, AnyItem] | Problem) -> dict[str, Any] | Exception:
        if isinstance(item, Problem):
            return item
        try:
            return await settle(*item)
        except Exception as error:
            return error

    # The store gathers what is told at the same time, and each is answered for itself.
    items = await _read_items(request, model)
    return _respond_all(request, await asyncio.gather(*map(settle_one, items)))


@endpoint(
    "POST",
    "/api/v1/leases/heartbeat",
    scope="work",
    body=HeartbeatBatch,
    reads_body=False,
    answers={200: BeatListDocument},
    problems=("batch-too-large",),
)
async def heartbeat_batch(request: web.Request, query: NoQuery) -> web.Response:
    """Keep up to 200 leases. Each is answered for itself, in order: as if it were alone, or with a `problem`."""
    items = await _read_items(request, HeartbeatItem)
    answers = iter(await desk_of(request).renew([item for item in items if isinstance(item, tuple)]))
    return _respond_all(request, [item if isinstance(item, Problem) else next(answers) for item in items])


@endpoint(
    "POST",
    "/api/v1/leases/complete",
    scope="work",
    body=CompletionBatch,
    reads_body=False,
    answers={200: CompletedListDocument},
    problems=("batch-too-large",),
)
async def complete_batch(request: web.Request, query: NoQuery) -> web.Response:
    """Tell that up to 200 runs succeeded, in up to 8 MiB. Each is answered for itself, in order."""
    return await _settle_all(request, CompletionItem, desk_of(request).complete)


@endpoint(
    "POST",
    "/api/v1/leases/fail",
    scope="work",
    body=FailureBatch,
    reads_body=False,
    answers={200: FailedListDocument},
    problems=("batch-too-large",),
)
async def fail_batch(request: web.Request, query: NoQuery) -> web.Response:
    """Tell that up to 200 runs failed. Each is answered for itself, in order."""
    return await _settle_all(request, FailureItem, desk_of(request).fail)


@endpoint(
    "POST",
    "/api/v1/leases/release",
    scope="work",
    body=ReleaseBatch,
    reads_body=False,
    answers={200: ReleasedListDocument},
    problems=("batch-too-large",),
)
async def release_batch(request: web.Request, query: NoQuery) -> web.Response:
    """Hand up to 200 unfinished jobs back. Each is answered for itself, in order."""
    return await _settle_all(request, ReleaseItem, desk_of(request).release)


ENDPOINTS = (heartbeat_batch, complete_batch, fail_batch, release_batch)
