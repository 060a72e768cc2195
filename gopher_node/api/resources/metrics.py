"""What Prometheus reads of a node, and through any node of the whole system."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import Mapping

from aiohttp import web
from prometheus_client.exposition import choose_encoder, gzip_accepted
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST

from gopher_node.api.endpoint import endpoint
from gopher_node.api.parts import PARTS, Parts
from gopher_node.api.requests.queries import FreeQuery
from gopher_node.api.resources.health import is_ready
from gopher_node.api.resources.nodes import http_workers_by_type
from gopher_node.errors import StoreError
from gopher_node.store.snapshot import Snapshot
from gopher_node.telemetry.cluster_metrics import Seen
from gopher_node.telemetry.measures import MAX_TYPES
from gopher_node.telemetry.metrics import Metrics, Reading

FRESH = 5.0
"""Seconds for which what was read of the store is not read anew."""
KEPT = 60.0
"""Seconds for which it is told while the store does not answer; its age is told with it."""
PATIENCE = 2.0
"""Seconds that the store is given."""

TEXT, OPENMETRICS = "text/plain", "application/openmetrics-text"
Form = tuple[bool, bool]
"""Whether it is OpenMetrics, and whether it is zipped."""


class Scrapes:
    """
    Makes what a scrape is answered, one at a time and off the loop.

    Scrapes that come while one is made wait for it, and get the same text if it was begun after they came.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._metrics = Metrics(parts.events, parts.settings.role)
        self._turn = asyncio.Lock()
        self._made: dict[Form, tuple[float, bytes]] = {}
        self._snapshot: Snapshot | None = None
        self._read_at = 0.0
        # Once: reckoned anew each time it would differ in the last digits, and look like a restart.
        self._node_began = time.time() - parts.status.uptime

    async def make(self, request: web.Request, form: Form) -> bytes:
        # A thread goes on when nobody waits for it any more, and nobody else's turn is before it has ended.
        return await asyncio.shield(asyncio.create_task(self._make(request, form, time.monotonic()), name="metrics"))

    async def _make(self, request: web.Request, form: Form, came: float) -> bytes:
        async with self._turn:
            if form in self._made and self._made[form][0] >= came:
                return self._made[form][1]
            await self._refresh()
            began = time.monotonic()
            self._metrics.reading = self._read(request)
            text = await asyncio.to_thread(self._render, form)
            self._made = {kept: made for kept, made in self._made.items() if made[0] >= came}
            self._made[form] = began, text
            return text

    async def _refresh(self) -> None:
        if self._snapshot is not None and time.monotonic() - self._read_at < FRESH:
            return
        began = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE):
                self._snapshot = await self._parts.store.snapshots.take(MAX_TYPES)
        except (StoreError, TimeoutError):
            if began - self._read_at > KEPT:
                self._snapshot = None
        else:
            self._read_at = began

    def _read(self, request: web.Request) -> Reading:
        parts, snapshot = self._parts, self._snapshot
        snapshots = parts.store.snapshots
        numbers: Mapping[str, float] = {
            **parts.status.numbers(),
            "gopher_redis_up": int(not snapshots.away and parts.status.store_failure() is None),
            "gopher_http_requests_in_progress": parts.events.measures.http_in_progress,
            "gopher_node_draining": int(parts.draining.is_set()),
            "gopher_node_ready": int(is_ready(parts)),
            "gopher_node_start_time_seconds": self._node_began,
        }
        use = {pool: (use.busy, use.idle, use.most) for pool, use in snapshots.connections.items()}
        if snapshot is None:
            return Reading(numbers, use)
        workers = http_workers_by_type(request, snapshot.nodes)
        age = time.monotonic() - self._read_at
        return Reading(numbers, use, Seen(snapshot, age, parts.store.durability, workers))

    def _render(self, form: Form) -> bytes:
        openmetrics, zipped = form
        text = self._metrics.render(openmetrics=openmetrics)
        # The fastest level: a scraper is near, and another one comes soon.
        return gzip.compress(text, 1) if zipped else text


SCRAPES: web.AppKey[Scrapes] = web.AppKey("SCRAPES", Scrapes)


@endpoint("GET", "/metrics", scope="read", query=FreeQuery, answers={200: (TEXT, OPENMETRICS)})
async def metrics(request: web.Request, query: FreeQuery) -> web.Response:
    """
    Show what the node has done and how it and the whole system stand, for Prometheus.

    With METRICS_ANONYMOUS=true it is open to all. Numbers of queues and nodes are the same from every node, and at most
    some seconds old.
    """
    _, media = choose_encoder(request.headers.get("Accept", ""))
    openmetrics = media.startswith(OPENMETRICS)
    zipped = gzip_accepted(request.headers.get("Accept-Encoding", ""))
    headers = {"Content-Type": CONTENT_TYPE_LATEST if openmetrics else media, "Vary": "Accept, Accept-Encoding"}
    if zipped:
        headers["Content-Encoding"] = "gzip"
    return web.Response(body=await request.app[SCRAPES].make(request, (openmetrics, zipped)), headers=headers)


ENDPOINTS = (metrics,)


def prepare(app: web.Application) -> None:
    """Give the application what its scrapes share."""
    app[SCRAPES] = Scrapes(app[PARTS])
