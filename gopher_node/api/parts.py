"""What the resources of the API share: the parts of the node that a request is answered from."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web

from gopher_node.api.answers.latencies import RecentLatencies
from gopher_node.api.requests.catalogue import Catalogue
from gopher_node.api.status import NodeStatus
from gopher_node.errors import StoreError
from gopher_node.handlers import Registry
from gopher_node.settings import Settings
from gopher_node.store import Store
from gopher_node.telemetry import Events

if TYPE_CHECKING:
    from gopher_node.telemetry.traces import Traces


class OpenBreakers:
    """The breakers that let no job through, as they were within the last second, however often that is asked."""

    def __init__(self) -> None:
        self._looked = 0.0
        self._found: tuple[str, ...] = ()

    async def look(self, store: Store) -> tuple[str, ...]:
        """Their types and states. While the store does not answer, what it answered last."""
        now = time.monotonic()
        if now - self._looked >= 1.0:
            self._looked = now
            try:
                async with asyncio.timeout(1.0):
                    found = await store.breakers.all()
            except (StoreError, TimeoutError):
                return self._found
            self._found = tuple(f"{each.type} ({each.state})" for each in found if not each.state.endswith("closed"))
        return self._found


@dataclass(frozen=True, slots=True)
class Parts:
    """
    `draining` is set once the node shuts down: no job is taken any more, and nobody is kept waiting. Without `traces`
    there are none.
    """

    store: Store
    registry: Registry
    settings: Settings
    events: Events
    status: NodeStatus
    catalogue: Catalogue
    traces: Traces | None = None
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    open_breakers: OpenBreakers = field(default_factory=OpenBreakers)
    latencies: RecentLatencies = field(default_factory=RecentLatencies)


PARTS: web.AppKey[Parts] = web.AppKey("PARTS", Parts)
