"""One declaration for each address, from which follow its route, who may call it, and its documentation."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from gopher_node.api.access.auth import Scope, authorize
from gopher_node.api.requests.bodies import MAX_BODY, read_json
from gopher_node.api.requests.models import faults_of, refusal
from gopher_node.api.requests.queries import NoQuery, Query, read_query

AnyBody = TypeVar("AnyBody", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Text of a media type that comes piece by piece, with what each piece looks like."""

    media: str
    item: type[BaseModel]
    example: str = ""


Content = type[BaseModel] | Stream | str
"""JSON of this model, a stream, or content of this media type."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """A request header that an endpoint understands, with the JSON schema of its value."""

    description: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """
    What is answered at an address.

    `scope` is what a key must allow, None for addresses open to all. `answers` are contents by status, None for
    nothing and several if the client chooses. `problems` are the names of those that this endpoint has beyond the ones
    that any may have. `aliases` are older spellings of the path. `headers` are the request headers that it understands
    beyond the usual, `tells` the headers that its answers may have. `needs_body` says whether the body may be left
    out, if the model does not say it; `stream` is another form in which it may come.
    """

    method: str
    path: str
    handle: Callable[..., Awaitable[web.StreamResponse]]
    scope: Scope | None
    answers: Mapping[int, Content | tuple[Content, ...] | None]
    query: type[Query] = NoQuery
    body: type[BaseModel] | None = None
    reads_body: bool = True
    needs_body: bool | None = None
    stream: Stream | None = None
    problems: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    headers: Mapping[str, Header] = field(default_factory=dict[str, Header])
    tells: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.handle.__name__

    @property
    def title(self) -> str:
        """How logs call it: method and path."""
        return f"{self.method} {self.path}"

    @property
    def module(self) -> str:
        return self.handle.__module__.rpartition(".")[2]

    @property
    def description(self) -> str:
        return inspect.cleandoc(self.handle.__doc__ or "")

    def routes(self, base: str = "") -> list[web.RouteDef]:
        """`base` is the prefix of every address."""
        return [web.route(self.method, base + _pattern(path), self._answer) for path in (self.path, *self.aliases)]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        # Each request has a task of its own. Should it hold up the loop, whoever watches that finds this name.
        task = asyncio.current_task()
        if task is not None:
            task.set_name(self.title)
        if self.scope is not None:
            await authorize(request, self.scope)
        query = read_query(request, self.query)
        if self.body is None or not self.reads_body:
            return await self.handle(request, query)
        return await self.handle(request, query, await read_body(request, self.body))


def endpoint(
    method: str,
    path: str,
    *,
    scope: Scope | None,
    answers: Mapping[int, Content | tuple[Content, ...] | None],
    query: type[Query] = NoQuery,
    body: type[BaseModel] | None = None,
    reads_body: bool = True,
    needs_body: bool | None = None,
    stream: Stream | None = None,
    problems: tuple[str, ...] = (),
    aliases: tuple[str, ...] = (),
    headers: Mapping[str, Header] | None = None,
    tells: tuple[str, ...] = (),
) -> Callable[[Callable[..., Awaitable[web.StreamResponse]]], Endpoint]:
    """
    Make a function the endpoint of an address. Its docstring is the documentation, the first line as the summary.

    It is called with the request, the parameters as `query`, and what was sent as `body` if one is named. With
    `reads_body=False` the body is only documented so, and the function reads it in its own way.
    """

    def declare(handle: Callable[..., Awaitable[web.StreamResponse]]) -> Endpoint:
        return Endpoint(
            method=method,
            path=path,
            handle=handle,
            scope=scope,
            answers=answers,
            query=query,
            body=body,
            reads_body=reads_body,
            needs_body=needs_body,
            stream=stream,
            problems=problems,
            aliases=aliases,
            headers=headers or {},
            tells=tells,
        )

    return declare


def _pattern(path: str) -> str:
    # Whatever stands in a variable's place is for the endpoint to judge, braces too.
    return re.sub(r"\{(\w+)\}", r"{\1:[^/]+}", path)


def needs_body(model: type[BaseModel]) -> bool:
    """Whether there must be a body, or all of it is optional."""
    return any(field.is_required() for field in model.model_fields.values())


async def read_body(request: web.Request, model: type[AnyBody], *, limit: int = MAX_BODY) -> AnyBody:
    """The body as this model says. It may be left out where all of it is optional. Raises Problem."""
    if not request.body_exists and not needs_body(model):
        return model()
    return validate(model, await read_json(request, limit=limit))


def validate(model: type[AnyBody], document: Any) -> AnyBody:
    """Raises Problem with all that is wrong with a document."""
    try:
        return model.model_validate(document)
    except ValidationError as error:
        raise refusal(faults_of(error, model), "invalid-body") from None
