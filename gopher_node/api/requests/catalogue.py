"""What the nodes publish of their handlers, so that a job can be taken for a type that only other nodes run."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, Literal, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError

from gopher_node.errors import StoreError
from gopher_node.flow import UNLIMITED
from gopher_node.handlers import Registry
from gopher_node.handlers.builtin import registry as builtin
from gopher_node.handlers.context import MAX_RETRIES
from gopher_node.job import Priority
from gopher_node.limits import show_policy
from gopher_node.store.nodes import Nodes

LOOK_EVERY = 10.0
AGAIN_AFTER = 1.0
"""Seconds until the store is asked again that did not answer, and between questions for types that nobody knows."""
MOST_GONE = 1000
"""Types whose nodes have all gone, and of which is remembered what they said."""


class Published(BaseModel):
    """A handler, as a node that runs it says."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: str
    description: str = ""
    mode: Literal["async", "thread", "process", "push"] | None = None
    endpoint: str | None = None
    timeout: float | None = Field(None, gt=0, allow_inf_nan=False)
    max_retries: int | None = Field(None, ge=0, le=MAX_RETRIES)
    priority: Annotated[
        Priority | None,
        BeforeValidator(lambda value: value if value is None else Priority.parse(value)),
        PlainSerializer(lambda value: None if value is None else value.label),
    ] = None
    concurrency: int | None = None
    policy: dict[str, Any] = Field(default_factory=lambda: show_policy(UNLIMITED))
    payload_schema: dict[str, Any] = {}


class Catalogue:
    """
    The handlers that other nodes publish, by type.

    A handler of the user's that this node has itself counts for more than what others say; one that is built in counts
    for less, for a node that publishes its type has put another in its place. While the store does not answer, and when
    all nodes of a type have gone, the catalogue stays as it was.
    """

    def __init__(self, nodes: Nodes, registry: Registry, on_trouble: Callable[[StoreError], None]) -> None:
        self._nodes = nodes
        self._registry = registry
        self._on_trouble = on_trouble
        self._read = False
        self._looking: asyncio.Task[None] | None = None
        self._asked = self._next = 0.0
        self.published: Mapping[str, Published] = {}

    def lacks(self, document: object) -> bool:
        """Whether a new job is of a type of which nothing is known here."""
        if not isinstance(document, dict):
            return False
        given = cast("dict[str, Any]", document)
        type = given.get("type") or given.get("queue")
        if not isinstance(type, str) or type in self.published:
            return False
        # Until the others have been heard once, they may have put another in the place of a built-in one.
        return not (self._registry.get(type) is not None if self._read else self._has_own(type))

    def _has_own(self, type: str) -> bool:
        handler = self._registry.get(type)
        return handler is not None and not handler.is_like(builtin.get(type))

    async def ask(self) -> None:
        """Look whether somebody has published more since, at most once a second, and wait a second for it at most."""
        now = time.monotonic()
        if (self._looking is None or self._looking.done()) and now >= self._next:
            self._asked, self._next = now, now + AGAIN_AFTER
            self._looking = asyncio.create_task(self._ask(), name="catalogue")
        if self._looking is not None and not self._looking.done() and (left := self._asked + AGAIN_AFTER - now) > 0:
            await asyncio.wait((self._looking,), timeout=left)

    async def _ask(self) -> None:
        if not await self._look():
            # A store that is only just coming up is not held against those who submit next.
            self._next = time.monotonic() + AGAIN_AFTER / 10

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                pause = LOOK_EVERY if await self._look() else AGAIN_AFTER
                await asyncio.sleep(pause * random.uniform(0.8, 1.0))
        finally:
            if self._looking is not None:
                self._looking.cancel()

    async def _look(self) -> bool:
        try:
            self.take(await self._nodes.all())
        except StoreError as error:
            self._on_trouble(error)
            return False
        return True

    def take(self, nodes: Iterable[Mapping[str, Any]]) -> None:
        """Learn from the records of all nodes. Of several that run a type, the one that was started last is right."""
        served: set[str] = set()
        found: dict[str, Published] = {}
        for node in sorted(nodes, key=lambda node: node.get("started_at") or 0, reverse=True):
            served.update(node.get("types") or ())
            for told in node.get("handlers") or ():
                # What a node of another version says may mean nothing here.
                with contextlib.suppress(ValidationError):
                    published = Published.model_validate(told)
                    if published.type not in found and not self._has_own(published.type):
                        found[published.type] = published
        gone = [(type, told) for type, told in self.published.items() if type not in served and type not in found]
        self.published = {**dict(gone[-MOST_GONE:]), **found}
        self._read = True
