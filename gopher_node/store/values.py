"""What the store is asked with and what it answers, beside jobs themselves."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field

from gopher_node.job import Job, Lease, Priority, State


@dataclass(frozen=True, slots=True)
class Retention:
    """How long finished jobs stay: seconds for completed and cancelled ones, and at most `max_jobs` of each."""

    completed: float = 24 * 3600.0
    cancelled: float = 24 * 3600.0
    max_jobs: int = 100_000


@dataclass(frozen=True, slots=True)
class Pool:
    """A set of types that a node or a lease call can run. Equal sets are one pool, whoever asks."""

    types: tuple[str, ...]
    key: str

    @classmethod
    def of(cls, types: Iterable[str]) -> Pool:
        ordered = tuple(sorted(set(types)))
        # Not for secrecy: it only has to name the set, in few bytes.
        return cls(ordered, hashlib.sha256("\n".join(ordered).encode()).hexdigest()[:16])


@dataclass(frozen=True, slots=True)
class Session:
    """A holder's proof of life: whoever stops renewing it for `lease` seconds loses the jobs that it holds."""

    node: str
    lease: float
    id: str = field(default_factory=lambda: uuid.uuid4().hex)


@dataclass(frozen=True, slots=True)
class Submitted:
    """What became of a new job. `created` is False when its id was known already; then nothing was changed."""

    id: str
    state: State
    created: bool
    created_ms: int
    due_ms: int | None


@dataclass(frozen=True, slots=True)
class Claimed:
    """The leases that a claim won, and when a type that had to wait may next be served (epoch ms)."""

    leases: list[Lease]
    next_ms: int | None


@dataclass(frozen=True, slots=True)
class Promoted:
    """How many due jobs went into their lanes, and in how many seconds the next one is due."""

    count: int
    next_due_in: float | None


@dataclass(frozen=True, slots=True)
class Overdue:
    """A run that is past its hard deadline, as a survey found it. Times are the store's, in epoch ms."""

    id: str
    nonce: str = field(repr=False)
    started_ms: int
    deadline_ms: int


@dataclass(frozen=True, slots=True)
class Pulse:
    """A session's sign of life: how often it was renewed, its lease in seconds, and whose it is."""

    renewals: int
    lease: float
    node: str


@dataclass(frozen=True, slots=True)
class Survey:
    """What a reaper looks at: the store's time, each session's pulse, and the overdue runs."""

    now_ms: int
    sessions: dict[str, Pulse]
    overdue: list[Overdue]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs are meant; what is unset matches all."""

    states: tuple[State, ...] = ()
    type: str | None = None
    priority: Priority | None = None
    group: str | None = None
    tag: str | None = None
    created_after_ms: int | None = None
    created_before_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Jobs of a list, and the cursor of the next page. A page may be short, or empty, and still have a next one."""

    items: list[Job]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Stats:
    """Jobs by (state, priority, type), and how often each thing happened since the namespace began."""

    counts: dict[tuple[State, Priority, str], int]
    totals: dict[str, int]
    sessions: int
    pools: int
