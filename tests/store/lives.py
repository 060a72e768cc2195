"""Brings a job into any state, by the store's own verbs."""

from __future__ import annotations

from dataclasses import dataclass

from gopher_node.job import Lease, NewJob
from gopher_node.store import Pool, Session, Store
from tests.store.keyspace import Dump, command, dump, prefix, restore

TYPE = "mail"
POOL = Pool.of([TYPE])
FAR = 1000 * 24 * 3600 * 1000
"""Three years in ms: by then everything is due, overdue and over."""

STATES = (
    "absent",
    "scheduled",
    "enqueued",
    "blocked",
    "processing",
    "leased",
    "cancelling",
    "completed",
    "failed",
    "cancelled",
)
"""All that a job can be in; `leased` is processing under an HTTP lease, `cancelling` while it is to be cancelled."""


@dataclass(frozen=True, slots=True)
class Life:
    """
    A job that was brought into a state, and who may say something about it.

    `late` is the lease of its first run, which was reaped; `lease` that of its second, held by `session` if it is
    processing, and by nobody's session if it is leased.
    """

    job: NewJob
    late: Lease
    lease: Lease
    session: Session

    @property
    def id(self) -> str:
        return self.job.id


async def claim_one(store: Store, session: Session, pool: Pool = POOL, *, now: int | None = None) -> Lease:
    """The lease of the one job that is next."""
    (lease,) = (await store.claim(session, pool, 1, now=now)).leases
    return lease


async def live(store: Store, state: str, **options: object) -> Life:
    """A job in that state. It has crashed once before, so that somebody holds a stale lease of it."""
    job = NewJob(type=TYPE, **options)  # type: ignore[arg-type]
    await store.submit(job)
    dead = await store.open_session("dead", 15.0)
    late = await claim_one(store, dead)
    await store.reap_session(dead.id, 0)
    session = await store.open_session("alive", 15.0)
    lease = late
    if state == "leased":
        (lease,) = (await store.leases.claim(POOL, 1)).leases
    elif state not in ("enqueued", "blocked", "absent"):
        lease = await claim_one(store, session)
    match state:
        case "absent":
            await store.delete(job.id)
        case "scheduled":
            await store.retry(lease, b'{"code":"broken","message":""}', 3600.0)
        case "blocked":
            await block(store, job)
        case "cancelling":
            await store.cancel(job.id)
        case "completed":
            await store.complete(lease, b"1")
        case "failed":
            await store.fail(lease, b'{"code":"broken","message":""}')
        case "cancelled":
            await store.cancelled(lease)
        case _:
            assert state in ("enqueued", "processing", "leased")
    return Life(job, late, lease, session)


async def relive(store: Store, state: str) -> tuple[Life, Dump]:
    """As `live`, in an empty namespace, but from what the first such life in this process left; also what that is."""
    if state not in _LIVED:
        _LIVED[state] = await live(store, state), await dump(store)
    else:
        await restore(store, _LIVED[state][1])
    return _LIVED[state]


_LIVED: dict[str, tuple[Life, Dump]] = {}


async def block(store: Store, job: NewJob) -> None:
    """Move an enqueued job into `blocked` by hand, for no verb of the store does it yet."""
    start = prefix(store)
    level = job.priority.value
    lane = f"{start}lane:{level}:{job.type}:{job.group}"
    created = await command(store, "HGET", f"{start}job:{job.id}", "created")
    await command(store, "HSET", f"{start}job:{job.id}", "state", "blocked")
    await command(store, "ZADD", f"{start}blocked", created, job.id)
    await command(store, "ZREM", lane, job.id)
    await command(store, "HINCRBY", f"{start}counts", f"enqueued:{level}:{job.type}", -1)
    await command(store, "HINCRBY", f"{start}counts", f"blocked:{level}:{job.type}", 1)
    if not await command(store, "EXISTS", lane):
        await command(store, "ZREM", f"{start}groups:{level}:{job.type}", job.group)
        for pool in await command(store, "SMEMBERS", f"{start}pools-of:{job.type}"):
            await command(store, "ZREM", f"{start}ready:{level}:{pool.decode()}", job.type)


def state_in(found: Dump, life: Life) -> str:
    """The job's state, as STATES names it."""
    if f"job:{life.id}" not in found:
        return "absent"
    job = found[f"job:{life.id}"].value
    if job["state"] != "processing":
        return job["state"]
    return "cancelling" if "cancel" in job else "leased" if "lease" in job else "processing"
