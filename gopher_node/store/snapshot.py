"""How the queues, the nodes and the server stand at a time, at a cost that many types do not raise without end."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from gopher_node.errors import StoreError, StoreUnavailable
from gopher_node.flow import UNLIMITED, FlowPolicy
from gopher_node.job import Priority, State
from gopher_node.store.connections import Connections, PoolUse
from gopher_node.store.history import queues_of
from gopher_node.store.nodes import Nodes
from gopher_node.store.scripts import Run

AGED = 100
"""Of so many further types, those with most waiting jobs, it is found out how long these wait."""
_OVER = frozenset((b"completed", b"cancelled"))
_OPEN = frozenset(state.value.encode() for state in State) - _OVER
_WAITING = frozenset((b"enqueued",))
_Part = tuple[bytes, bytes, int]
"""So many jobs of a state and a priority."""
_STEPS = 500  # of a thousand counters each


@dataclass(slots=True)
class QueueSnapshot:
    """
    How the queue of a type stands.

    `oldest` is for how many seconds its longest-waiting job waits, `breaker` the state of its breaker, if it has one,
    and `limited` whether its next job has to wait for its rate.
    """

    type: str
    depth: Counter[Priority] = field(default_factory=Counter[Priority])
    states: Counter[State] = field(default_factory=Counter[State])
    oldest: float | None = None
    policy: FlowPolicy = UNLIMITED
    breaker: str | None = None
    limited: bool = False

    def plus(self, *queues: QueueSnapshot) -> QueueSnapshot:
        """The jobs of all of them; of limits nothing."""
        whole = QueueSnapshot(self.type)
        for queue in (self, *queues):
            whole.depth.update(queue.depth)
            whole.states.update(queue.states)
        whole.oldest = max((queue.oldest for queue in (self, *queues) if queue.oldest is not None), default=None)
        return whole


@dataclass(frozen=True, slots=True)
class ServerUse:
    """What the server uses: bytes, 0 for a memory without limit, and connections of all its clients."""

    memory: int
    memory_max: int
    clients: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """
    Of the types with most jobs each one's queue, and of all others the sum, or None if there are none.

    `overdue` is for how many seconds the first scheduled job has been due. `server` is None where it hides its use.
    """

    queues: Sequence[QueueSnapshot]
    others: QueueSnapshot | None
    overdue: float
    nodes: Sequence[dict[str, Any]]
    server: ServerUse | None


class Snapshots:
    """Looks at the whole store, and at the connections to it."""

    def __init__(self, run: Run, nodes: Nodes, connections: Connections) -> None:
        self._run = run
        self._nodes = nodes
        self._connections = connections

    async def take(self, most: int, *, now: int | None = None) -> Snapshot:
        """
        How all stands: of the `most` types with most jobs each one's queue, and of all others the sum.

        It is taken in short steps, and so not all of one moment. Raises StoreError.
        """
        run = self._run
        counted = await _counts(run, now)
        named = [name.decode() for name in await run("snapshot", "policies", now=now)]
        # With ten thousand types this takes a while, which the loop has no time for.
        queues, further, others = await asyncio.to_thread(_rank, counted, named, most)
        overdue, *answers = await run("snapshot", "types", *(queue.type for queue in queues), now=now)
        for queue, (policy, breaker, waits) in zip(queues, answers, strict=True):
            queue.policy = FlowPolicy.decode(orjson.loads(policy)) if policy else UNLIMITED
            queue.breaker = breaker.decode() or None
            queue.limited = bool(waits)
        waiting = {queue.type: queue for queue in (*queues, *further) if queue.depth}
        for state in await queues_of(run, list(waiting), now):
            ages = state.oldest_ms.values()
            waiting[state.type].oldest = max(ages) / 1000 if ages else None
        if others is not None:
            others.oldest = max((queue.oldest for queue in further if queue.oldest is not None), default=None)
        nodes = await self._nodes.all(now=now)
        return Snapshot(queues, others, overdue / 1000, nodes, await _server_use(self._connections))

    @property
    def connections(self) -> Mapping[str, PoolUse]:
        """How this node's connections are used: those for requests, and those that wait for something to happen."""
        return self._connections.use

    @property
    def away(self) -> bool:
        """Whether the store is known to be away."""
        return self._connections.outage.lasts


async def _counts(run: Run, now: int | None) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    cursor: Any = b"0"
    for _ in range(_STEPS):
        cursor, flat = await run("snapshot", "counts", cursor, now=now)
        found.update(zip(flat[::2], flat[1::2], strict=True))
        if cursor == b"0":
            break
    return found


def _rank(
    counted: Mapping[bytes, bytes], named: Iterable[str], most: int
) -> tuple[list[QueueSnapshot], list[QueueSnapshot], QueueSnapshot | None]:
    """
    The queues of which each is told of; of the others those that are looked at too; and the sum of the others.

    Those with most jobs come first, and of all jobs those count most that somebody or something waits for.
    """
    parts: dict[bytes, list[_Part]] = {name.encode(): [] for name in named}
    for key, value in counted.items():
        state, priority, type = key.split(b":", 2)
        parts.setdefault(type, []).append((state, priority, int(value)))
    ranks = {type: (-_sum(found, _OPEN), -_sum(found, _OVER), type) for type, found in parts.items()}
    ordered = sorted(parts, key=ranks.__getitem__)
    chosen, left = ordered[:most], ordered[most:]
    waiting = {type: count for type in left if (count := _sum(parts[type], _WAITING))}
    further = sorted(waiting, key=lambda type: -waiting[type])[:AGED]
    sums = Counter[tuple[bytes, bytes]]()
    for type in left:
        for state, priority, number in parts[type]:
            sums[state, priority] += number
    others = _queue("", [(*place, number) for place, number in sums.items()]) if left else None
    told, aged = ([_queue(type.decode(), parts[type]) for type in types] for types in (chosen, further))
    return told, aged, others


def _sum(parts: Iterable[_Part], states: frozenset[bytes]) -> int:
    return sum(number for state, _, number in parts if state in states)


def _queue(type: str, parts: Iterable[_Part]) -> QueueSnapshot:
    queue = QueueSnapshot(type)
    for state, priority, number in parts:
        queue.states[State(state.decode())] += number
        if state in _WAITING and number:
            queue.depth[Priority(int(priority))] = number
    return queue


async def _server_use(connections: Connections) -> ServerUse | None:
    try:
        answer = await connections.request("INFO", "memory", "clients")
    except StoreUnavailable:
        raise
    except StoreError:
        return None  # a managed server may forbid it
    text = answer.decode() if isinstance(answer, bytes) else str(answer)
    told = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    try:
        return ServerUse(int(told["used_memory"]), int(told["maxmemory"]), int(told["connected_clients"]))
    except (KeyError, ValueError):
        return None
