"""What a worker says of many runs at once: each item is answered for itself, and none touches its neighbours."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Annotated, Any, TypeVar, cast

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from gopher_node.api.answers.documents import Document, JobId, ProblemDocument
from gopher_node.api.answers.problems import Problem, document
from gopher_node.api.answers.views import respond
from gopher_node.api.endpoint import endpoint, validate
from gopher_node.api.http_work.settling import CompletionItem, FailureItem, HeartbeatItem, ReleaseItem, parse_token
from gopher_node.api.middleware import REQUEST_ID, explain
from gopher_node.api.requests.bodies import read_json
from gopher_node.api.requests.queries import NoQuery
from gopher_node.api.resources.leases import (
    DEPTH,
    BeatDocument,
    CompletedDocument,
    FailedDocument,
    ReleasedDocument,
    desk_of,
)
from gopher_node.job import JOB_ID, Token

MAX_ITEMS = 200
MAX_BATCH_BODY = 8 * 1024 * 1024


Index = Annotated[int, Field(ge=0, description="The item's place in what was sent.")]


class RefusedDocument(Document):
    """What is wrong with one item of several."""

    index: Index
    job_id: JobId | None = Field(description="The job whose run it is about; null if there is no telling.")
    problem: ProblemDocument


class BeatItemDocument(BeatDocument):
    index: Index


class CompletedItemDocument(CompletedDocument):
    index: Index


class FailedItemDocument(FailedDocument):
    index: Index


class ReleasedItemDocument(ReleasedDocument):
    index: Index


class BeatListDocument(Document):
    items: list[BeatItemDocument | RefusedDocument]


class CompletedListDocument(Document):
    items: list[CompletedItemDocument | RefusedDocument]


class FailedListDocument(Document):
    items: list[FailedItemDocument | RefusedDocument]


class ReleasedListDocument(Document):
    items: list[ReleasedItemDocument | RefusedDocument]


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


async def _read_items(request: web.Request, model: type[AnyItem]) -> list[tuple[Token | None, AnyItem | Problem]]:
    """Each item, judged for itself, with its token if that can be read. Raises Problem if there is no list of them."""
    documents = validate(_AnyBatch, await read_json(request, limit=MAX_BATCH_BODY, depth=DEPTH)).items
    if len(documents) > MAX_ITEMS:
        detail = f"At most {MAX_ITEMS} items may be sent at once, and these are {len(documents)}. Nothing was done."
        raise Problem("batch-too-large", detail, limit=MAX_ITEMS)
    return [_read_item(model, content) for content in documents]


def _read_item(model: type[AnyItem], content: Any) -> tuple[Token | None, AnyItem | Problem]:
    try:
        item = validate(model, content)
        return parse_token(item.token), item
    except Problem as problem:
        try:
            return Token.parse(content["token"]), problem
        except (TypeError, LookupError, ValueError):
            return None, problem


def _respond_all(request: web.Request, tokens: Iterable[Token | None], answers: Iterable[Any]) -> web.Response:
    """One answer for each item, in order."""
    items: list[dict[str, Any]] = []
    for index, (token, answer) in enumerate(zip(tokens, answers, strict=True)):
        if isinstance(answer, Exception):
            job_id = token.job_id if token is not None and JOB_ID.match(token.job_id) else None
            problem = document(explain(request, answer), request[REQUEST_ID])
            items.append({"index": index, "job_id": job_id, "problem": problem})
        else:
            items.append({"index": index, **answer})
    return respond({"items": items})


async def _settle_all(
    request: web.Request, model: type[AnyItem], settle: Callable[[Token, AnyItem], Awaitable[dict[str, Any]]]
) -> web.Response:
    async def settle_one(token: Token | None, item: AnyItem | Problem) -> dict[str, Any] | Exception:
        if token is None or isinstance(item, Problem):
            return cast("Problem", item)
        try:
            return await settle(token, item)
        except Exception as error:
            return error

    # The store gathers what is told at the same time, and each is answered for itself.
    items = await _read_items(request, model)
    answers = await asyncio.gather(*(settle_one(*item) for item in items))
    return _respond_all(request, (token for token, _ in items), answers)


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
    sound = [(token, item) for token, item in items if token is not None and not isinstance(item, Problem)]
    answers = iter(await desk_of(request).renew(sound))
    told = [item if isinstance(item, Problem) else next(answers) for _, item in items]
    return _respond_all(request, (token for token, _ in items), told)


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
