"""The metrics of the whole system, which are the same from every node: queues, breakers, limits, nodes, the store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gopher_node.job import Priority, State
from gopher_node.telemetry.families import Family, gauge
from gopher_node.telemetry.measures import OTHER

if TYPE_CHECKING:
    from gopher_node.store.snapshot import QueueSnapshot, Snapshot

BREAKER_STATES = ("closed", "open", "half-open", "forced-open", "forced-closed")
ROLES = ("all", "api", "worker")

DEPTH = gauge("gopher_queue_depth", "Jobs that could run now.", "priority", "queue")
JOBS = gauge("gopher_queue_jobs", "Jobs by their state, finished ones as long as they are kept.", "queue", "state")
OLDEST = gauge(
    "gopher_queue_oldest_age_seconds", "For how long the longest-waiting job that could run now waits.", "queue"
)
DEAD_LETTERS = gauge("gopher_dead_letters", "Failed jobs that nobody has retried or deleted.", "queue")
PAUSED = gauge("gopher_queue_paused", "Whether an operator holds back all jobs of the type.", "queue")
WORKERS = gauge("gopher_queue_workers", "How many run the type: nodes, and workers over HTTP.", "queue")
BREAKER = gauge(
    "gopher_breaker_state", "1 for the state of the type's circuit breaker, 0 for the others.", "queue", "state"
)
RATE = gauge("gopher_rate_limit_per_second", "How many jobs a second may begin.", "queue")
LIMITED = gauge("gopher_rate_limited", "Whether the next job has to wait for the rate limit.", "queue")
MAX_RUNNING = gauge("gopher_queue_max_running", "How many jobs may run at the same time.", "queue")
NODES = gauge("gopher_nodes", "Nodes that have told of themselves within a minute.", "role")
OVERDUE = gauge("gopher_scheduled_overdue_seconds", "For how long the first scheduled job is due and not promoted.")
MEMORY = gauge("gopher_store_memory_bytes", "Memory that the store's server uses.")
MEMORY_MAX = gauge("gopher_store_memory_max_bytes", "Memory that it may use; 0 is without limit.")
CLIENTS = gauge("gopher_store_clients", "Connections that it has.")
DURABILITY = gauge("gopher_store_durability", "What it means that a job was accepted; always 1.", "level")
AGE = gauge("gopher_snapshot_age_seconds", "How long ago the numbers of the whole system were read from the store.")

FAMILIES = (
    *(DEPTH, JOBS, OLDEST, DEAD_LETTERS, PAUSED, WORKERS, BREAKER, RATE, LIMITED, MAX_RUNNING),
    *(NODES, OVERDUE, MEMORY, MEMORY_MAX, CLIENTS, DURABILITY, AGE),
)


@dataclass(frozen=True, slots=True)
class Seen:
    """The whole system as it was `age` seconds ago, and who runs which type, by the names of workers over HTTP."""

    snapshot: Snapshot
    age: float
    durability: str
    http_workers: Mapping[str, set[str]] = field(default_factory=dict[str, set[str]])


def collect(seen: Seen) -> Iterator[Family]:
    snapshot = seen.snapshot
    yield from _of_queues(snapshot)
    yield from _of_limits(snapshot)
    served = Counter(type for node in snapshot.nodes for type in node.get("types", ()))
    served.update({type: len(names) for type, names in seen.http_workers.items()})
    yield WORKERS(*(((queue.type,), served[queue.type]) for queue in snapshot.queues))
    roles = Counter(node.get("role") for node in snapshot.nodes)
    yield NODES(*(((role,), roles[role]) for role in ROLES))
    yield OVERDUE(((), snapshot.overdue))
    if snapshot.server is not None:
        yield MEMORY(((), snapshot.server.memory))
        yield MEMORY_MAX(((), snapshot.server.memory_max))
        yield CLIENTS(((), snapshot.server.clients))
    yield DURABILITY(((seen.durability,), 1))
    yield AGE(((), seen.age))


def _of_queues(snapshot: Snapshot) -> Iterator[Family]:
    depth, jobs, oldest, dead = Family(DEPTH), Family(JOBS), Family(OLDEST), Family(DEAD_LETTERS)
    for name, queue in _named(snapshot):
        for priority in Priority:
            depth.add(queue.depth[priority], priority.label, name)
        for state in State:
            jobs.add(queue.states[state], name, state.value)
        oldest.add(queue.oldest or 0, name)
        dead.add(queue.states[State.FAILED], name)
    yield from (depth, jobs, oldest, dead)


def _named(snapshot: Snapshot) -> Iterator[tuple[str, QueueSnapshot]]:
    """The queues by what they are called here. A type may really be called `other`: then it is counted with them."""
    others = snapshot.others
    for queue in snapshot.queues:
        if queue.type == OTHER and others is not None:
            others = others.plus(queue)
        else:
            yield queue.type, queue
    if others is not None:
        yield OTHER, others


def _of_limits(snapshot: Snapshot) -> Iterator[Family]:
    """Only of the types that have a name here."""
    paused, rate, limited, cap, breaker = (Family(told) for told in (PAUSED, RATE, LIMITED, MAX_RUNNING, BREAKER))
    for queue in snapshot.queues:
        type, policy = queue.type, queue.policy
        paused.add(int(policy.paused), type)
        if policy.rate is not None:
            rate.add(policy.rate.limit / policy.rate.per, type)
            limited.add(int(queue.limited), type)
        if policy.max_running is not None:
            cap.add(policy.max_running, type)
        if queue.breaker is not None:
            for state in BREAKER_STATES:
                breaker.add(int(queue.breaker == state), type, state.replace("-", "_"))
    yield from (paused, rate, limited, cap, breaker)
