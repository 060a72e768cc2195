"""How often a job is run before it is given up: errors and crashes apart, and what is kept of each run."""

from __future__ import annotations

import json

import pytest

from gopher_node.job import JobError, Lease, NewJob, State
from gopher_node.store import Session, Store
from tests.store.lives import FAR, POOL, TYPE, claim_one

ERROR = b'{"code":"broken","message":"it broke"}'


async def start(store: Store, **options: object) -> tuple[NewJob, Session]:
    job = NewJob(type=TYPE, **options)  # type: ignore[arg-type]
    await store.submit(job)
    return job, await store.open_session("node", 15.0)


async def crash(store: Store) -> str:
    """The job is claimed by a node that dies."""
    dead = await store.open_session("dead", 15.0)
    lease = await claim_one(store, dead)
    await store.reap_session(dead.id, 0)
    return (await store.get(lease.job.id)).state.value


@pytest.mark.parametrize("max_retries", [0, 1, 3])
async def test_retries(store: Store, max_retries: int) -> None:
    """A job with three retries is run four times to an error, and then it is a dead letter."""
    job, session = await start(store, max_retries=max_retries)
    leases: list[Lease] = []
    state: State | None = State.ENQUEUED

    while state is State.ENQUEUED:
        leases.append(await claim_one(store, session))
        state = await store.retry(leases[-1], ERROR, 0.0)

    assert state is State.FAILED
    assert [(lease.job.attempt, lease.job.errors) for lease in leases] == [(n + 1, n) for n in range(max_retries + 1)]
    found = await store.get(job.id)
    assert (found.errors, found.crashes, found.error) == (max_retries + 1, 0, json.loads(ERROR))


@pytest.mark.parametrize(("max_crashes", "survived"), [(0, 0), (1, 1), (3, 9)])
async def test_crashes(store: Store, max_crashes: int, survived: int) -> None:
    """A job that may crash once is taken away at the second; one that runs alone by then outlives more nodes."""
    job, _ = await start(store, max_crashes=max_crashes)
    states: list[str] = []

    while not states or states[-1] == "enqueued":
        states.append(await crash(store))

    assert states == ["enqueued"] * survived + ["failed"]
    found = await store.get(job.id)
    assert (found.errors, found.crashes, found.attempt) == (0, survived + 1, survived + 1)
    assert found.error is not None
    assert found.error["code"] == "crashed"


async def test_a_crash_alone_is_charged(store: Store) -> None:
    """A run whose own process died is a crash and no error, and the one that reaches max_crashes is the job's last."""
    job, session = await start(store, max_retries=0, max_crashes=3)
    for _ in range(2):
        await crash(store)
    error = b'{"code":"process-died","message":"signal 9"}'
    lease = await claim_one(store, session)

    states = [await store.crash(lease, error, 60.0) for _ in range(2)]

    found = await store.get(job.id)
    assert states == [State.FAILED] * 2
    assert (found.state, found.errors, found.crashes, found.error) == (State.FAILED, 0, 3, json.loads(error))
    assert [entry["outcome"] for entry in found.attempts] == ["crashed"] * 3
    totals = (await store.stats()).totals
    assert (totals["crashed"], totals["failed"], totals.get("retried")) == (3, 1, None)


async def test_a_crash_alone_may_wait_for_its_next_run(store: Store) -> None:
    """While crashes are left, the job is due after the delay, or stands at the front of its lane at once."""
    job, session = await start(store, max_crashes=9)
    await store.submit(NewJob(type=TYPE))
    assert await store.crash(await claim_one(store, session), ERROR) is State.ENQUEUED
    lease = await claim_one(store, session)
    assert lease.job.id == job.id
    assert await store.crash(lease, ERROR, 60.0) is State.SCHEDULED
    due_ms = (await store.get(job.id)).due_ms
    assert due_ms is not None

    await store.promote(now=due_ms)

    assert (await claim_one(store, session)).job.id == job.id


async def test_suspects_beyond_those_asked_for_hide_nothing(store: Store) -> None:
    """A claim that may take one suspect takes one, puts the others off, and goes on to the jobs behind them."""
    session = await store.open_session("node", 15.0)
    suspects = [NewJob(type=TYPE) for _ in range(3)]
    await store.submit_many(suspects)
    for _ in range(2):
        dead = await store.open_session("dead", 15.0)
        await store.claim(dead, POOL, 3)
        await store.reap_session(dead.id, 0)
    innocents = [NewJob(type=TYPE) for _ in range(2)]
    await store.submit_many(innocents)

    claimed = (await store.claim(session, POOL, 3, suspects=1)).leases

    (alone,) = [lease.job.id for lease in claimed if lease.job.is_suspect]
    assert {lease.job.id for lease in claimed} == {alone, *(job.id for job in innocents)}
    rest = [await store.get(job.id) for job in suspects if job.id != alone]
    assert [(job.state, job.attempt) for job in rest] == [(State.SCHEDULED, 2)] * 2
    await store.promote(now=max(job.due_ms or 0 for job in rest))
    assert len((await store.leases.claim(POOL, 3, waits=False)).leases) == 2  # to HTTP workers they are like any other


async def test_budgets_are_apart(store: Store) -> None:
    """Errors leave the crash budget alone, and crashes that of errors."""
    job, session = await start(store, max_retries=2, max_crashes=2)
    for _ in range(2):
        await crash(store)
        await store.retry(await claim_one(store, session), ERROR, 0.0)

    found = await store.get(job.id)
    assert (found.state, found.errors, found.crashes, found.attempt) == (State.ENQUEUED, 2, 2, 4)
    assert await store.retry(await claim_one(store, session), ERROR, 0.0) is State.FAILED


async def test_an_overdue_run_is_a_crash(store: Store) -> None:
    """A run that outlives its hard deadline spends the crash budget, and its error says why."""
    job, session = await start(store, max_crashes=0)
    await claim_one(store, session)

    await store.reap_overdue((await store.survey(now=(await store.survey()).now_ms + FAR)).overdue)

    found = await store.get(job.id)
    assert (found.state, found.crashes) == (State.FAILED, 1)
    assert found.error is not None
    assert found.error["code"] == "lease-expired"


@pytest.mark.parametrize("way", ["release", "close"])
async def test_a_release_counts_against_nothing(store: Store, way: str) -> None:
    """A run that was handed back, by itself or with its session, costs neither budget."""
    job, session = await start(store, max_retries=0, max_crashes=0)
    for _ in range(5):
        holder = await store.open_session("node", 15.0)
        lease = await claim_one(store, holder)
        await (store.release(lease) if way == "release" else store.close_session(holder))

    found = await store.get(job.id)
    assert (found.state, found.errors, found.crashes, found.attempt) == (State.ENQUEUED, 0, 0, 5)
    assert await store.complete(await claim_one(store, session)) is State.COMPLETED


async def test_a_failure_needs_no_budget(store: Store) -> None:
    """A run may declare its job failed for good at the first error."""
    job, session = await start(store, max_retries=100)

    assert await store.fail(await claim_one(store, session), ERROR) is State.FAILED
    assert (await store.get(job.id)).errors == 1


async def test_an_operators_retry_fills_the_budgets(store: Store) -> None:
    """A requeued job may fail and crash as often as a new one; its past attempts are kept and counted on."""
    job, session = await start(store, max_retries=1, max_crashes=1)
    await crash(store)
    await store.retry(await claim_one(store, session), ERROR, 0.0)
    await store.retry(await claim_one(store, session), ERROR, 0.0)

    requeued = await store.requeue(job.id)

    assert (requeued.state, requeued.errors, requeued.crashes, requeued.attempt) == (State.ENQUEUED, 0, 0, 3)
    assert (requeued.finished_ms, requeued.due_ms, requeued.result, requeued.progress) == (None, None, None, None)
    assert await crash(store) == "enqueued"
    assert await store.retry(await claim_one(store, session), ERROR, 0.0) is State.ENQUEUED
    assert await store.retry(await claim_one(store, session), ERROR, 0.0) is State.FAILED
    assert [entry["attempt"] for entry in (await store.get(job.id)).attempts] == [1, 2, 3, 4, 5, 6]


async def test_a_completed_job_can_be_run_again(store: Store) -> None:
    """Requeueing a completed job takes its result away until it completes again."""
    job, session = await start(store)
    await store.complete(await claim_one(store, session), b'"' + b"x" * 2000 + b'"')

    assert (await store.requeue(job.id)).result is None
    await store.complete(await claim_one(store, session), b'"short"')

    assert (await store.get(job.id)).result == b'"short"'


async def test_every_attempt_is_recorded(store: Store) -> None:
    """What each run came to, where and when, is told in order; a completion is the job's result, and no entry."""
    job, session = await start(store, max_retries=5)
    await crash(store)
    await store.release(await claim_one(store, session))
    await store.retry(await claim_one(store, session), ERROR, 0.0)
    await store.complete(await claim_one(store, session), b"42")

    found = await store.get(job.id)

    told = [(entry["attempt"], entry["outcome"], entry["node"]) for entry in found.attempts]
    assert told == [(1, "crashed", "dead"), (2, "released", "node"), (3, "error", "node")]
    assert [entry.get("error", {}).get("code") for entry in found.attempts] == ["crashed", None, "broken"]
    assert all(found.created_ms <= entry["started_at"] <= entry["finished_at"] for entry in found.attempts)
    assert (found.result, found.error, found.attempt, found.node) == (b"42", None, 4, "node")


async def test_the_last_twenty_attempts_are_kept(store: Store) -> None:
    """A job that runs very often does not grow without bound."""
    job, session = await start(store, max_retries=100)
    for _ in range(25):
        await store.retry(await claim_one(store, session), ERROR, 0.0)

    found = await store.get(job.id)

    assert [entry["attempt"] for entry in found.attempts] == list(range(6, 26))
    assert (found.errors, found.attempt) == (25, 25)


async def test_an_error_is_cut(store: Store) -> None:
    """Of a huge error the store keeps 4 KiB of message and the last 16 KiB of traceback."""
    job, session = await start(store)
    error = JobError("broken", "é" * 10_000, "ValueError", "x" * 100_000 + "the end")
    await store.fail(await claim_one(store, session), error.encode())

    kept = (await store.get(job.id)).error

    assert kept is not None
    assert (len(kept["message"].encode()), len(kept["traceback"])) == (4096, 16384)
    assert kept["traceback"].endswith("the end")


async def test_a_delayed_retry_waits_until_it_is_due(store: Store) -> None:
    """A retry with a delay is scheduled, told to the node's scheduler, and runs when its time has come."""
    job, session = await start(store)
    alarms: list[float] = []
    store.on_scheduled = alarms.append
    await store.retry(await claim_one(store, session), ERROR, 60.0)
    found = await store.get(job.id)
    assert found.due_ms is not None

    assert (await store.promote(now=found.due_ms - 1)).count == 0
    assert (await store.promote(now=found.due_ms)).count == 1

    assert (await claim_one(store, session)).job.attempt == 2
    assert alarms == [60.0]


async def test_a_follow_up_that_is_due_later_sets_the_alarm(store: Store) -> None:
    """The node's scheduler hears of delayed follow-ups as of any job that is stored here and due later."""
    _, session = await start(store)
    alarms: list[float] = []
    store.on_scheduled = alarms.append

    await store.complete(await claim_one(store, session), b"1", [NewJob(type="a"), NewJob(type="b", delay_ms=5000)])

    assert alarms
    assert max(alarms) <= 5.0


@pytest.mark.parametrize("ending", ["release", "retry now", "retry later"])
async def test_what_ends_for_good_was_not_put_back(store: Store, ending: str) -> None:
    """A run that would go back to its lane, but whose job is to be cancelled, counts as an end and as nothing else."""
    job, session = await start(store)
    lease = await claim_one(store, session)
    await store.cancel(job.id)

    state = await (store.release(lease) if ending == "release" else store.retry(lease, ERROR, float("later" in ending)))

    assert state is State.CANCELLED
    assert (await store.stats()).totals == {"submitted": 1, "cancelled": 1}
