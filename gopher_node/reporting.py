"""What a node says of itself in the store, for whoever asks any node which others there are and what they do."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import orjson

from gopher_node.errors import StoreError
from gopher_node.flow import UNLIMITED, FlowPolicy
from gopher_node.handlers import Registry
from gopher_node.handlers.builtin import registry as builtin
from gopher_node.store import Store
from gopher_node.telemetry import Events
from gopher_node.telemetry.took import Shares
from gopher_node.worker.status import WorkerStatus

REPORT_EVERY = 10.0
"""Seconds; the store forgets a node after six times as long without a report."""

MAX_SCHEMA = 16 * 1024
"""Bytes of JSON; the payload schema of a handler that has more is not published."""
MAX_HANDLERS = 256 * 1024
"""Bytes of JSON of all published handlers; if they have more, none is published with its schema."""
MAX_DESCRIPTION = 500

_COUNTED = ("completed", "failed", "cancelled", "crashed")


def publish(registry: Registry, types: Iterable[str]) -> list[dict[str, Any]]:
    """What a node that runs these types tells the others of its handlers, leaving out those that are built in."""
    told: list[dict[str, Any]] = []
    for type in types:
        handler = registry.get(type)
        if handler is None or handler.is_like(builtin.get(type)):
            continue
        entry = handler.describe()
        entry["description"] = entry["description"][:MAX_DESCRIPTION]
        if not _is_small(entry["payload_schema"]):
            entry["payload_schema"] = {}
        told.append(entry)
    if len(orjson.dumps(told)) > MAX_HANDLERS:
        told = [{**entry, "payload_schema": {}} for entry in told]
    return told


def _is_small(schema: dict[str, Any]) -> bool:
    try:
        return len(orjson.dumps(schema)) <= MAX_SCHEMA
    except orjson.JSONEncodeError:
        return False  # a bound beyond 64 bits, say, must not keep the node from starting


def policies_of(registry: Registry, types: Iterable[str], settings: Mapping[str, FlowPolicy]) -> dict[str, FlowPolicy]:
    """What a node that runs these types declares of them, and of others that its settings name."""
    declared: dict[str, FlowPolicy] = {}
    for type in {*types, *settings}:
        # A handler's is overlaid by the setting already.
        handler = registry.get(type)
        declared[type] = settings.get(type, UNLIMITED) if handler is None else handler.policy
    return declared


class Declaration:
    """
    Declares to the store what bounds the jobs of a node's types, once the store answers, and again after an outage.

    Of a type for which the node has no limits, it takes away what was declared, unless another node, by its record, has
    some: it may have other settings, or be of a version that is about to be replaced.
    """

    def __init__(self, store: Store, node_id: str, policies: Mapping[str, FlowPolicy]) -> None:
        self._store = store
        self._node_id = node_id
        self._policies = policies
        self.due = True
        """Whether the store does not know it yet, or may have lost it."""

    def limited(self) -> list[str]:
        """The types of which the node declares limits."""
        return sorted(type for type, policy in self._policies.items() if policy.limits())

    async def make(self) -> None:
        """Raises StoreError; then it is still due."""
        limited = set(self.limited())
        others: set[str] = set()
        if len(limited) < len(self._policies):
            for node in await self._store.nodes.all():
                if node.get("id") != self._node_id:
                    others.update(node.get("limited") or ())
        told = {type: policy for type, policy in self._policies.items() if type in limited or type not in others}
        if told:
            await self._store.flow.declare(told)
        self.due = False


class Rates:
    """What was done, and how busy the slots were, within the last minute. `look` takes it down once a second."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looks: deque[tuple[float, Mapping[str, int], float]] = deque(maxlen=61)

    def look(self, counts: Mapping[str, int], busy: float) -> None:
        """`counts` only ever grow; `busy` is the part of the slots that is taken."""
        self._looks.append((self._clock(), {what: counts[what] for what in _COUNTED}, busy))

    def per_minute(self) -> dict[str, float]:
        if len(self._looks) < 2:
            return dict.fromkeys(_COUNTED, 0.0)
        (began, before, _), (ended, after, _) = self._looks[0], self._looks[-1]
        # What a node did in its first seconds is no rate yet, so a shorter time counts as a minute.
        minutes = max(ended - began, 60.0) / 60
        return {what: round((after[what] - before[what]) / minutes, 1) for what in _COUNTED}

    @property
    def utilisation(self) -> float:
        return round(sum(busy for _, _, busy in self._looks) / len(self._looks), 4) if self._looks else 0.0


class Reporter:
    """
    Reports the node at its start, every ten seconds, and when it begins to drain; a clean stop takes it back.

    `fixed` is what stays the same; `worker` tells how the worker is, where there is one, and `http_workers` who else
    works through this node; what came of those runs, `ended_over_http`, is none of the node's own counts. A node
    without a worker drains too: `draining` tells. `declaration` is made where it is due. With the report goes how long
    the jobs of each type took here in each minute, if any did.
    """

    def __init__(
        self,
        store: Store,
        events: Events,
        fixed: Mapping[str, Any],
        worker: Callable[[], WorkerStatus] | None,
        http_workers: Callable[[], Sequence[Mapping[str, Any]]] = lambda: (),
        ended_over_http: Callable[[], Mapping[str, int]] = lambda: {},
        *,
        draining: Callable[[], bool] = lambda: False,
        declaration: Declaration | None = None,
        every: float = REPORT_EVERY,
    ) -> None:
        self._declaration = declaration
        self._store = store
        self._events = events
        self._fixed = fixed
        self._worker = worker
        self._http_workers = http_workers
        self._ended_over_http = ended_over_http
        self._draining = draining
        self._every = every
        self._rates = Rates()
        self._shares = Shares(events.measures.types)

    async def run(self) -> None:
        """Until cancelled."""
        reported, draining = -self._every, False
        try:
            while True:
                status = self._worker() if self._worker is not None else None
                # More may run than there are slots, if these have just become fewer.
                busy = min(1.0, status.busy / status.slots) if status and status.slots else 0.0
                self._rates.look(self.counts(), busy)
                self._shares.look()
                begins_to_drain = self._drains(status) and not draining
                if time.monotonic() - reported >= self._every or begins_to_drain:
                    reported, draining = time.monotonic(), self._drains(status)
                    await self._report(status)
                await asyncio.sleep(min(1.0, self._every))
        finally:
            # Whoever is cut off here is forgotten a minute later.
            with contextlib.suppress(StoreError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._report_shares()
                    await self._store.nodes.forget(self._fixed["id"])

    def _drains(self, status: WorkerStatus | None) -> bool:
        return self._draining() or (status is not None and status.draining)

    async def _report(self, status: WorkerStatus | None) -> None:
        try:
            self._shares.set_clock(await self._store.nodes.report(self._fixed["id"], orjson.dumps(self.record(status))))
            await self._report_shares()
            if self._declaration is not None and self._declaration.due:
                await self._declaration.make()
        except StoreError as error:
            if self._declaration is not None:
                self._declaration.due = True
            self._events.store_down(error)

    async def _report_shares(self) -> None:
        """What the store has no knowledge of; that is nothing if no job has run. Raises StoreError."""
        due = self._shares.due()
        if due:
            await self._store.latencies.report(self._fixed["id"], due)
            self._shares.told(due)

    @property
    def utilisation(self) -> float:
        """The part of the slots that was busy in the last minute."""
        return self._rates.utilisation

    def counts(self) -> dict[str, int]:
        """What came of the runs in the node's own slots."""
        counts, others = self._events.counts, self._ended_over_http()
        return {what: counts[what] - others.get(what, 0) for what in _COUNTED}

    def record(self, status: WorkerStatus | None) -> dict[str, Any]:
        return {
            **self._fixed,
            "slots": status.slots if status else 0,
            "running": status.busy if status else 0,
            "stuck": status.stuck if status else 0,
            "draining": self._drains(status),
            "session": status.session if status else None,
            **self.counts(),
            "per_minute": self._rates.per_minute(),
            "utilisation": self._rates.utilisation,
            "http_workers": self._http_workers(),
        }
