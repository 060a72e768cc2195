"""What the resources of the API share: the parts of the node that a request is answered from."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from aiohttp import web

from gopher_node.api.requests.catalogue import Catalogue
from gopher_node.api.status import NodeStatus
from gopher_node.handlers import Registry
from gopher_node.settings import Settings
from gopher_node.store import Store
from gopher_node.telemetry import Events


@dataclass(frozen=True, slots=True)
class Parts:
    """`draining` is set once the node shuts down: no job is taken any more, and nobody is kept waiting."""

    store: Store
    registry: Registry
    settings: Settings
    events: Events
    status: NodeStatus
    catalogue: Catalogue
    draining: asyncio.Event = field(default_factory=asyncio.Event)


PARTS: web.AppKey[Parts] = web.AppKey("PARTS", Parts)
