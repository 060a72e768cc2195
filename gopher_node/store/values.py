"""What the store is asked with and what it answers, beside jobs themselves."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from gopher_node.job import Job, Lease, Priority, State, Token


@dataclass(frozen=True, slots=True)
class Retention:
    """
    How long finished jobs stay: seconds for completed and cancelled ones, and at most `max_jobs` of each.

    `idempotency` is for how many seconds an idempotency key is remembered, from its first use on.
    """

    completed: float = 24 * 3600.0
    cancelled: float = 24 * 3600.0
    max_jobs: int = 100_000
    idempotency: float = 24 * 3600.0


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
class Once:
    """
    An idempotency key, and a digest of the request that it came with.

    Two submissions with one key are one: the second changes nothing, and is answered as the first was. With another
    digest it is refused. Whoever may not see each other's jobs must not share keys: put the caller's name into them.
    """

    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Submitted:
    """
    What became of a new job. `created` is False when its id was known already; then nothing was changed.

    `replayed` means that the idempotency key was used before: all else is as the first use was answered. `twin` means
    that another job bears its unique key: nothing was stored, and all else is of that job.
    """

    id: str
    state: State
    created: bool
    created_ms: int
    due_ms: int | None
    replayed: bool = False
    twin: bool = False


@dataclass(frozen=True, slots=True)
class Claimed:
    """
    The leases that a claim won, and when a type that had to wait may next be served (epoch ms).

    `spent` is an HTTP claim that has had jobs and holds none of them any more: asked again, it gets no others.
    """

    leases: list[Lease]
    next_ms: int | None
    spent: bool = False


@dataclass(frozen=True, slots=True)
class Beat:
    """A heartbeat of an HTTP lease: for how many seconds it lasts from now on, if not as before, and how far it is."""

    token: Lease | Token
    lease: float | None = None
    progress: bytes | None = None


@dataclass(frozen=True, slots=True)
class Beaten:
    """What a heartbeat is told: when its lease ends (epoch ms), and whether somebody wants its job cancelled."""

    expires_ms: int
    cancel_requested: bool


@dataclass(frozen=True, slots=True)
class Promoted:
    """
    How many due jobs went into their lanes, and in how many seconds the next one is due, the next one expires, and the
    next recurring job fires.
    """

    count: int
    next_due_in: float | None
    next_expiry_in: float | None = None
    next_fire_in: float | None = None
    fans: bool = False  # whether there is something for `Workflows.fan_out`


@dataclass(frozen=True, slots=True)
class Overdue:
    """
    A run that is past the end of its lease, as a survey found it. Times are the store's, in epoch ms.

    `since_ms` is when that end was set. `lease_ms` is for how long the holder had then leave to be silent; 0 if the end
    is the hard deadline.
    """

    id: str
    nonce: str = field(repr=False)
    since_ms: int
    deadline_ms: int
    lease_ms: int = 0


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
class Acted:
    """
    One step of what is done to many jobs.

    `count` were changed, out of `looked_at` that matched; the next step goes on at the cursor.
    """

    count: int
    looked_at: int
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Stats:
    """Jobs by (state, priority, type), and how often each thing happened since the namespace began."""

    counts: dict[tuple[State, Priority, str], int]
    totals: dict[str, int]
    sessions: int
    pools: int


@dataclass(frozen=True, slots=True)
class Minute:
    """
    What happened in one minute: in all, and to the jobs of each type. `at_ms` is when it began (epoch ms).

    `run` and `wait` are p50, p95 and p99 in seconds, of how long runs took and how long jobs were due before their
    first one; None if there were none, and of the last two minutes, for they are not reckoned yet.
    """

    at_ms: int
    totals: dict[str, int]
    types: dict[str, dict[str, int]]
    run: Sequence[float] | None = None
    wait: Sequence[float] | None = None


@dataclass(frozen=True, slots=True)
class Demand:
    """
    How many jobs wait for a worker, will soon, and have one. What is paused waits for none.

    Unless it is `exact`, more jobs are due soon than were looked at: `due_soon` of a type is too low then. That of all,
    of which the paused ones are to be taken off, is too high.
    """

    ready: int
    due_soon: int
    running: int
    exact: bool


@dataclass(frozen=True, slots=True)
class QueueState:
    """
    How the queue of a type stands.

    `depth` has the waiting jobs of each priority, `oldest_ms` for how many ms the longest-waiting of them has waited,
    where one does; of more than a thousand groups, only those are looked at whose turn comes first. `totals` is what
    has happened since the namespace began, and `rates` what of it in the last whole minute, without what did not.
    """

    type: str
    depth: dict[Priority, int]
    oldest_ms: dict[Priority, int]
    states: dict[State, int]
    totals: dict[str, int]
    rates: dict[str, int]
