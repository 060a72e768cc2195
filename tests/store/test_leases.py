"""HTTP leases: kept by heartbeats, taken back when those stay away."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import pytest

from gopher_node.job import Job, Lease, NewJob, State, Token
from gopher_node.store import Beat, Beaten, Pool, Store
from tests.store.keyspace import differences, dump
from tests.store.lives import POOL, TYPE, claim_one
from tests.store.test_told_twice import Echo

ERROR = b'{"code":"broken","message":""}'


async def time(store: Store) -> int:
    return (await store.survey()).now_ms


async def lease_one(store: Store, pool: Pool = POOL, *, now: int | None = None, **options: object) -> Lease:
    """The HTTP lease of the one job that is next."""
    (lease,) = (await store.leases.claim(pool, 1, now=now, **options)).leases  # type: ignore[arg-type]
    return lease


async def beat(store: Store, held: Lease, now: int, *, lease: float | None = None) -> Beaten | None:
    (beaten,) = await store.leases.heartbeat([Beat(held, lease)], now=now)
    return beaten


async def lapse(store: Store, now: int) -> int:
    """Take back what is over at this time."""
    return await store.reap_overdue((await store.survey(now=now)).overdue, now=now)


def story(job: Job) -> list[tuple[str, str]]:
    """How each attempt ended, and what was said of it."""
    return [(one["outcome"], one.get("error", {}).get("message", "")) for one in job.attempts]


UNHEARD = "The worker's lease ended without a heartbeat."
SILENT = "The worker stopped renewing its lease."
TOO_LONG = "The run outlived its hard deadline and was not settled."

# The end of a lease


async def test_a_lease_that_ends_before_its_first_heartbeat_is_a_release(store: Store) -> None:
    """A worker that was never heard of may never have got the job: it goes back to the front, and no crash counts."""
    now = await time(store)
    first, second = NewJob(type=TYPE), NewJob(type=TYPE)
    await store.submit_many([first, second])
    lease = await lease_one(store, lease=10.0, now=now)

    assert await lapse(store, now + 9_999) == 0
    assert await lapse(store, now + 10_000) == 1

    job = await store.get(first.id)
    assert (job.state, job.crashes, job.errors, story(job)) == (State.ENQUEUED, 0, 0, [("released", UNHEARD)])
    assert await store.complete(lease) is None
    assert (await lease_one(store)).job.id == first.id


async def test_a_lease_is_not_released_for_ever(store: Store) -> None:
    """After max_crashes such releases in a row each further one is a crash, so a job that kills its workers fails."""
    now = await time(store)
    job = NewJob(type=TYPE, max_crashes=1)
    await store.submit(job)
    for n in range(3):
        await lease_one(store, lease=10.0, now=now + n * 10_000)
        assert await lapse(store, now + n * 10_000 + 10_000) == 1

    found = await store.get(job.id)
    assert (found.state, found.crashes) == (State.FAILED, 2)
    assert story(found) == [("released", UNHEARD), ("crashed", UNHEARD), ("crashed", UNHEARD)]


@pytest.mark.parametrize(
    "sign",
    [
        "heartbeat",
        "release",
        "retry",
        "a node's release",
        "a node's end",
        "a node's death",
        "a node's delay",
        "requeue",
    ],
)
async def test_a_sign_of_life_begins_the_row_anew(store: Store, sign: str) -> None:
    """Once a worker of the job was heard of, or an operator retried it, leases may end unheard again."""
    now = await time(store)
    job = NewJob(type=TYPE, max_crashes=1)
    await store.submit(job)
    await lease_one(store, now=now)
    await lapse(store, now + 30_000)
    match sign:
        case "heartbeat":
            lease = await lease_one(store, now=now)
            await beat(store, lease, now)
            await lapse(store, now + 30_000)
        case "release":
            await store.release(await lease_one(store))
        case "retry":
            await store.retry(await lease_one(store), ERROR, 0.0)
        case "a node's release":
            await store.release(await claim_one(store, await store.open_session("node", 15.0)))
        case "a node's end" | "a node's death":
            session = await store.open_session("node", 15.0)
            await claim_one(store, session)
            await (store.close_session(session) if sign == "a node's end" else store.reap_session(session.id, 0))
        case "a node's delay":
            await claim_one(store, await store.open_session("node", 15.0), now=now)
            await lapse(store, now + 1_000_000)
        case _:
            await store.cancel(job.id)
            await store.requeue(job.id)
    crashes = (await store.get(job.id)).crashes
    await lease_one(store, now=now)

    await lapse(store, now + 30_000)

    found = await store.get(job.id)
    assert (found.state, found.crashes, story(found)[-1]) == (State.ENQUEUED, crashes, ("released", UNHEARD))


async def test_a_lease_that_ends_after_a_heartbeat_is_a_crash(store: Store) -> None:
    """A worker that was heard of and fell silent has crashed; with no crashes left, its job fails."""
    now = await time(store)
    job = NewJob(type=TYPE, max_crashes=1)
    await store.submit(job)
    for n in range(2):
        lease = await lease_one(store, lease=10.0, now=now)
        assert await beat(store, lease, now + 9_000) == Beaten(now + 19_000, False)
        assert await lapse(store, now + 18_999) == 0
        assert await lapse(store, now + 19_000) == 1
        found = await store.get(job.id)
        assert (found.crashes, story(found)[-1]) == (n + 1, ("crashed", SILENT))

    assert (await store.get(job.id)).state is State.FAILED


async def test_no_heartbeat_moves_the_hard_deadline(store: Store) -> None:
    """A lease ends at its job's timeout and grace at the latest, and a run that is still renewed then has crashed."""
    now = await time(store)
    jobs = [NewJob(type=TYPE), NewJob(type=TYPE, timeout_ms=5000), NewJob(type="other")]
    await store.submit_many(jobs)
    pool = Pool.of([TYPE, "other"])
    claimed = await store.leases.claim(
        pool, 3, lease=3600.0, timeout=10.0, grace=2.0, timeouts={"other": 20.0}, now=now
    )
    ends = {lease.job.id: lease.expires_ms for lease in claimed.leases}
    assert ends == {jobs[0].id: now + 12_000, jobs[1].id: now + 7000, jobs[2].id: now + 22_000}

    beats = [Beat(lease, lease=8.0) for lease in claimed.leases]
    beaten = await store.leases.heartbeat(beats, now=now + 6000)

    assert {lease.job.id: one.expires_ms for lease, one in zip(claimed.leases, beaten, strict=True) if one} == {
        jobs[0].id: now + 12_000,
        jobs[1].id: now + 7000,
        jobs[2].id: now + 14_000,
    }
    assert await lapse(store, now + 12_000) == 2
    found = await store.get(jobs[0].id)
    assert (found.state, found.crashes, story(found)) == (State.ENQUEUED, 1, [("crashed", TOO_LONG)])


async def test_a_lease_renewed_since_it_was_judged_stays(store: Store) -> None:
    """A reaper that comes with an old judgement takes nothing of a worker whose heartbeat was quicker."""
    now = await time(store)
    await store.submit(NewJob(type=TYPE))
    lease = await lease_one(store, lease=10.0, now=now)
    judged = (await store.survey(now=now + 10_000)).overdue
    assert [(run.since_ms, run.deadline_ms, run.lease_ms) for run in judged] == [(now, now + 10_000, 10_000)]
    await beat(store, lease, now + 10_001)
    before = await dump(store)

    assert await store.reap_overdue(judged) == 0

    assert differences(before, await dump(store)) == []
    judged = (await store.survey(now=now + 99_000)).overdue
    assert [(run.since_ms, run.deadline_ms) for run in judged] == [(now + 10_001, now + 20_001)]
    assert await store.reap_overdue(judged) == 1
    assert await store.reap_overdue(judged) == 0


async def test_a_lease_that_ended_but_was_not_taken_back_is_good(store: Store) -> None:
    """The token decides, not the clock: whoever still holds it may renew it and settle."""
    now = await time(store)
    await store.submit(NewJob(type=TYPE))
    lease = await lease_one(store, lease=1.0, now=now)

    assert await beat(store, lease, now + 60_000) == Beaten(now + 61_000, False)
    assert await store.complete(lease) is State.COMPLETED


async def test_at_its_hard_deadline_a_run_is_told_by_its_start(store: Store) -> None:
    """The survey tells since when an end holds: a hard deadline since the claim, whatever heartbeats came since."""
    now = await time(store)
    await store.submit(NewJob(type=TYPE))
    lease = await lease_one(store, timeout=5.0, grace=1.0, lease=4.0, now=now)
    await beat(store, lease, now + 3000)

    (run,) = (await store.survey(now=now + 6000)).overdue

    assert (run.since_ms, run.deadline_ms, run.lease_ms) == (now, now + 6000, 0)


# Heartbeats


async def test_a_batch_of_heartbeats(store: Store) -> None:
    """Each of many heartbeats is answered for itself: renewed, to be cancelled, or stale."""
    now = await time(store)
    await store.submit_many([NewJob(type=TYPE) for _ in range(4)])
    plain, moved, wanted, stale = (await store.leases.claim(POOL, 4, lease=10.0, now=now)).leases
    await store.cancel(wanted.job.id)
    await store.release(stale)
    beats = [
        Beat(plain.token),
        Beat(Token(plain.job.id, 1, "0" * 16), progress=b"9"),
        Beat(moved, lease=60.0, progress=b'{"of":2}'),
        Beat(wanted),
        Beat(stale, progress=b"9"),
    ]
    echo = Echo(store)

    beaten = await store.leases.heartbeat(beats, now=now + 1000)

    assert beaten == [
        Beaten(now + 11_000, False),
        None,
        Beaten(now + 61_000, False),
        Beaten(now + 11_000, True),
        None,
    ]
    assert echo.faults == []
    progress = [(await store.get(lease.job.id)).progress for lease in (plain, moved, wanted, stale)]
    assert progress == [None, b'{"of":2}', None, None]
    # The new length holds from then on.
    assert await beat(store, moved, now + 2000) == Beaten(now + 62_000, False)


async def test_heartbeats_are_bounded(store: Store) -> None:
    """At most two hundred leases are renewed in one step, and none is no step."""
    await store.submit_many([NewJob(type=TYPE) for _ in range(200)])
    leases = (await store.leases.claim(POOL, 200)).leases
    beats = [Beat(lease) for lease in leases]

    assert None not in await store.leases.heartbeat(beats)
    assert await store.leases.heartbeat([]) == []
    with pytest.raises(ValueError, match="200"):
        await store.leases.heartbeat([*beats, beats[0]])


async def test_a_nodes_own_lease_lives_by_its_session(store: Store) -> None:
    """A heartbeat with a node's token is told of a cancel, but moves no deadline."""
    now = await time(store)
    session = await store.open_session("node", 15.0)
    await store.submit(NewJob(type=TYPE))
    lease = await claim_one(store, session, now=now)
    assert lease.expires_ms is None

    assert await beat(store, lease, now + 1000, lease=3600.0) == Beaten(now + 330_000, False)
    await store.cancel(lease.job.id)
    assert await beat(store, lease, now + 2000) == Beaten(now + 330_000, True)


@pytest.mark.parametrize("end", ["release", "retry", "lapse", "complete"])
async def test_a_cancel_reaches_the_worker(store: Store, end: str) -> None:
    """The next heartbeat tells of it, and any end but completion is then final."""
    now = await time(store)
    await store.submit(NewJob(type=TYPE))
    lease = await lease_one(store, now=now)
    assert (await store.cancel(lease.job.id)).cancel_requested
    match end:
        case "release":
            await store.release(lease)
        case "retry":
            await store.retry(lease, ERROR, 5.0)
        case "lapse":
            assert await lapse(store, now + 30_000) == 1
        case _:
            await store.complete(lease)

    found = await store.get(lease.job.id)
    assert (found.state, found.crashes) == (State.COMPLETED if end == "complete" else State.CANCELLED, 0)


@pytest.mark.parametrize("ends", ["by itself", "with the run's time"])
async def test_a_worker_that_ignores_its_cancel_loses_the_lease(store: Store, ends: str) -> None:
    """From the first heartbeat that tells of it, a run has the grace; then its lease is gone, reaper or not."""
    now = await time(store)
    job = NewJob(type=TYPE, timeout_ms=None if ends == "by itself" else 5000)
    await store.submit(job)
    lease = await lease_one(store, lease=10.0, grace=0.0, now=now)
    await store.cancel(job.id)
    last = now + (9000 if ends == "by itself" else 5000)

    for at in (3000, 3000, 4000, 4999):
        beats = [Beat(lease, lease=60.0)]
        (beaten,) = await store.leases.heartbeat(beats, cancel_grace=6.0, now=now + at)
        assert beaten == Beaten(last, True)
    assert await beat(store, lease, last) is None
    before = await dump(store)
    assert await beat(store, lease, last) is None
    assert differences(before, await dump(store)) == []
    assert await lapse(store, last - 1) == 0
    assert await lapse(store, last) == 1
    assert await lapse(store, last) == 0

    found = await store.get(job.id)
    message = "The worker went on although the job was cancelled, and lost its lease."
    assert (found.state, found.crashes, story(found)) == (State.CANCELLED, 0, [("cancelled", message)])
    assert (found.error or {})["code"] == "cancelled"
    assert await store.complete(lease) is None


async def test_a_completion_beats_a_cancel_until_the_lease_is_taken(store: Store) -> None:
    """Past the grace the run may still complete, as long as nobody has taken its job back."""
    now = await time(store)
    await store.submit(NewJob(type=TYPE))
    lease = await lease_one(store, now=now)
    await store.cancel(lease.job.id)
    await store.leases.heartbeat([Beat(lease)], cancel_grace=1.0, now=now)
    assert await beat(store, lease, now + 1000) is None

    assert await store.complete(lease) is State.COMPLETED
    assert await lapse(store, now + 1_000_000) == 0


# Beside nodes


@pytest.mark.parametrize("end", ["release", "retry", "lapse"])
async def test_the_next_run_may_be_a_nodes(store: Store, end: str) -> None:
    """Nothing of an HTTP lease stays with its job: what a node claims next lives by the node's session."""
    now = await time(store)
    session = await store.open_session("node", 15.0)
    await store.submit(NewJob(type=TYPE))
    lease = await lease_one(store, now=now)
    await beat(store, lease, now)
    match end:
        case "release":
            await store.release(lease)
        case "retry":
            await store.retry(lease, ERROR, 0.0)
        case _:
            await lapse(store, now + 30_000)

    second = await claim_one(store, session)

    (job,) = [key.value for name, key in (await dump(store)).items() if name.startswith("job:")]
    assert not {"lease", "deadline", "renewed", "open"} & job.keys()
    assert await store.complete(lease) is {"release": State.ENQUEUED, "retry": State.ENQUEUED, "lapse": None}[end]
    assert await store.reap_session(session.id, 0) == 1
    assert await store.complete(second) is None


async def test_nodes_and_http_workers_share_a_queue(store: Store) -> None:
    """A node and a lease call of one type get different jobs, and each end touches only its own."""
    session = await store.open_session("node", 15.0)
    await store.submit_many([NewJob(type=TYPE) for _ in range(6)])
    by_node = (await store.claim(session, POOL, 3)).leases
    by_http = (await store.leases.claim(POOL, 3)).leases
    assert len({lease.job.id for lease in by_node + by_http}) == 6
    words = [("complete", lease.job.id, 1, lease.nonce, b"1", 0, 0) for lease in (by_node[0], by_http[0])]

    assert await store._send_settlements(words) == [b"completed"] * 2
    await store.close_session(session)

    states = [(await store.get(lease.job.id)).state for lease in by_node + by_http]
    assert states == [State.COMPLETED, State.ENQUEUED, State.ENQUEUED, State.COMPLETED] + [State.PROCESSING] * 2


async def test_an_end_that_the_clock_was_set_back_before(store: Store) -> None:
    """A survey tells of leases that end after its time when it is asked to look ahead, and they can be taken back."""
    now = await time(store)
    await store.submit_many([NewJob(type=TYPE) for _ in range(3)])
    await store.leases.claim(POOL, 2, now=now + 3_600_000, timeout=7200.0)
    await store.leases.claim(POOL, 1, now=now + 3_700_000, timeout=7200.0)

    assert (await store.survey(now=now + 40_000)).overdue == []
    first = (await store.survey(1, 3_600_000, now=now + 40_000)).overdue
    others = (await store.survey(5, 3_600_000, 1, now=now + 40_000)).overdue

    assert [run.deadline_ms for run in first + others] == [now + 3_630_000] * 2
    assert await store.reap_overdue([*first, *others], now=now + 40_000) == 2
