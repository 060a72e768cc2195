"""A job with a callback: whatever ends it, one job that tells of the end is stored with it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from gopher_node.job import Job, NewJob, Priority, State
from gopher_node.store import JobFilter, Pool, Session, Store
from tests.store.keyspace import differences, dump
from tests.store.lives import FAR, POOL, TYPE, claim_one
from tests.store.test_told_twice import Echo

URL = 'https://example.org/hook?a="b"&c=\\d\nü/'
ERROR = b'{"code":"broken","message":"a \\"quote\\", \\"error\\": and \\u00fc"}'
CALLBACKS = JobFilter(type="job_callback")


async def callbacks(store: Store) -> list[dict[str, Any]]:
    return [orjson.loads(job.payload) for job in (await store.list(CALLBACKS)).items]


async def running(store: Store, *, max_crashes: int = 3) -> tuple[Any, Session]:
    await store.submit(NewJob(type=TYPE, callback_url=URL, max_retries=0, max_crashes=max_crashes))
    session = await store.open_session('a node, "error":', 15.0)
    return await claim_one(store, session), session


async def reap_session(store: Store, lease: Any, session: Session) -> None:
    await store.reap_session(session.id, 0)


async def reap_overdue(store: Store, lease: Any, session: Session) -> None:
    await store.reap_overdue((await store.survey(now=(await store.survey()).now_ms + FAR)).overdue)


async def close_cancelled(store: Store, lease: Any, session: Session) -> None:
    await store.cancel(lease.job.id)
    await store.close_session(session)


async def release_cancelled(store: Store, lease: Any, session: Session) -> None:
    await store.cancel(lease.job.id)
    await store.release(lease)


async def cancel_waiting(store: Store, lease: Any, session: Session) -> None:
    await store.release(lease)
    await store.cancel(lease.job.id)


End = Callable[[Store, Any, Session], Awaitable[Any]]

ENDS: dict[str, tuple[End, str, Any, Any]] = {
    "complete": (lambda store, lease, _: store.complete(lease, b'{"x": 1.50}'), "completed", {"x": 1.5}, None),
    "retry": (lambda store, lease, _: store.retry(lease, ERROR, 1.0), "failed", None, orjson.loads(ERROR)),
    "fail": (lambda store, lease, _: store.fail(lease, ERROR), "failed", None, orjson.loads(ERROR)),
    "cancelled": (lambda store, lease, _: store.cancelled(lease, ERROR), "cancelled", None, orjson.loads(ERROR)),
    "release after a cancel": (release_cancelled, "cancelled", None, None),
    "cancel while it waits": (cancel_waiting, "cancelled", None, None),
    "session reaped": (reap_session, "failed", None, "crashed"),
    "run overdue": (reap_overdue, "failed", None, "lease-expired"),
    "session closed after a cancel": (close_cancelled, "cancelled", None, None),
}


@pytest.mark.parametrize("how", ENDS)
async def test_every_end_is_told_once(store: Store, how: str) -> None:
    """The transition that ends a job stores the job that tells of it, even if it is told twice."""
    end, status, result, error = ENDS[how]
    lease, session = await running(store, max_crashes=0)
    assert await callbacks(store) == []
    echo = Echo(store)

    await end(store, lease, session)

    assert echo.faults == []
    job = await store.get(lease.job.id)
    assert job.callback_url == URL
    (said,) = await callbacks(store)
    told_error = said.pop("error")
    assert (told_error["code"] if isinstance(error, str) else told_error) == error
    assert said == {
        "url": URL,
        "job_id": job.id,
        "type": TYPE,
        "status": status,
        "attempt": 1,
        "created": job.created_ms,
        "finished": job.finished_ms,
        "result": result,
    }
    (callback,) = (await store.list(CALLBACKS)).items
    assert (callback.state, callback.priority, callback.max_retries) == (State.ENQUEUED, Priority.NORMAL, 17)
    assert callback.callback_url == ""


async def test_what_does_not_end_it_is_not_told(store: Store) -> None:
    """Releases, retries, crashes, edits and cancels of running jobs are no ends, nor is forgetting a job."""
    store_job = NewJob(type=TYPE, callback_url=URL)
    await store.submit(store_job)
    session = await store.open_session("node", 15.0)
    await store.release(await claim_one(store, session))
    await store.retry(await claim_one(store, session), ERROR, 0.0)
    dead = await store.open_session("dead", 15.0)
    await claim_one(store, dead)
    await store.reap_session(dead.id, 0)
    await store.edit(store_job.id, delay_ms=60_000)
    await store.run_now(store_job.id)
    await store.delete(store_job.id)
    await store.submit(NewJob(type=TYPE, callback_url=URL))
    await store.purge(TYPE)

    assert await callbacks(store) == []


@pytest.mark.parametrize("size", [1024, 1025, 65_536, 65_537])
async def test_a_large_result_is_left_out(store: Store, size: int) -> None:
    """A result is told up to 64 KiB, and else that it was left out."""
    lease, _ = await running(store)
    await store.complete(lease, b'"' + b"x" * (size - 2) + b'"')

    (said,) = await callbacks(store)

    assert (said["result"] is None, said.get("result_omitted")) == ((False, None) if size <= 65_536 else (True, True))


async def test_each_end_of_one_job(store: Store) -> None:
    """A job that is retried by hand ends again and is told of again, be it within the same millisecond."""
    now = (await store.survey()).now_ms
    (job,) = await store.submit_many([NewJob(type=TYPE, callback_url=URL)], now=now)
    for _ in range(3):
        await store.cancel(job.id, now=now)
        await store.cancel(job.id, now=now)
        await store.requeue(job.id, now=now)

    assert [said["finished"] for said in await callbacks(store)] == [now] * 3


async def test_a_follow_up_may_have_one(store: Store) -> None:
    """Follow-ups have callbacks like any job."""
    await store.submit(NewJob(type=TYPE))
    session = await store.open_session("node", 15.0)
    child = NewJob(type=TYPE, callback_url=URL)
    await store.complete(await claim_one(store, session), b"1", [child])

    await store.fail(await claim_one(store, session), ERROR)

    assert [said["job_id"] for said in await callbacks(store)] == [child.id]


async def test_a_callback_wakes_whoever_serves_it(store: Store) -> None:
    """A node that waits for callbacks hears of one when it is stored, runs it, and that is the end of it."""
    pool = Pool.of(["job_callback"])
    session = await store.open_session("node", 15.0)
    await store.claim(session, pool, 1)
    lease, _ = await running(store)
    await store.complete(lease)

    assert await store.wait_for_work(pool, 0.1)
    await store.complete(await claim_one(store, session, pool))
    assert await callbacks(store) != []
    assert (await store.stats()).totals["submitted"] == 2


async def test_many_ends_in_one_step(store: Store) -> None:
    """A batch of settlements and a walk of cancels store one callback for each end."""
    jobs = [NewJob(type=TYPE, callback_url=URL if n % 2 else "") for n in range(20)]
    await store.submit_many(jobs)
    leases = (await store.claim(await store.open_session("node", 15.0), POOL, 10)).leases
    echo = Echo(store)
    await store._send_settlements([("complete", one.job.id, 1, one.nonce, b"1", 0, 0) for one in leases])
    assert (await store.act("cancel", JobFilter(type=TYPE))).count == 10

    assert echo.faults == []
    ids = {said["job_id"] for said in await callbacks(store)}
    assert ids == {job.id for job in jobs[1::2]}
    assert len(await callbacks(store)) == 10
    before = await dump(store)
    await store.act("cancel", JobFilter(type=TYPE))
    assert differences(before, await dump(store)) == []


async def test_jobs_without_one_bear_no_trace(store: Store) -> None:
    """A job without a callback is stored without the field."""
    await store.submit(NewJob(type=TYPE))
    (job,) = [key.value for name, key in (await dump(store)).items() if name.startswith("job:")]
    assert "callback" not in job
    found: Job = (await store.list()).items[0]
    assert found.callback_url == ""
