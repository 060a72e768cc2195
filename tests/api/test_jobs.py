"""Looking at jobs, waiting for them, and acting on them."""

import asyncio
import uuid
from datetime import datetime

import pytest

from gopher_node.job import JobError, State
from gopher_node.store import Pool

MISSING = "00000000-0000-4000-8000-000000000000"


async def claim(store, type="unserved"):
    session = await store.open_session("node-1", 15.0)
    (lease,) = (await store.claim(session, Pool.of([type]), 1)).leases
    return lease


@pytest.mark.parametrize("job_id", [MISSING, "bulk", "1", "%00", "..%2f", "%7B1%7D", "é", "x" * 4000, f"{MISSING}0"])
@pytest.mark.parametrize(("method", "act"), [("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("POST", "/retry")])
async def test_no_such_job(api, method, act, job_id):
    """An id that is unknown and one that cannot be get the same answer, but for the request's own id."""
    answer = await api.call(method, f"/api/v1/jobs/{job_id}{act}")
    unknown = await api.call(method, f"/api/v1/jobs/{uuid.uuid4()}{act}")

    assert (answer.status, answer.problem) == (404, "job-not-found")
    assert {**answer.json, "instance": ""} == {**unknown.json, "instance": ""}


async def test_ids_are_the_same_in_capitals(api):
    """A UUID may be written in capitals."""
    job_id = await api.submit()

    assert (await api.get(f"/api/v1/jobs/{job_id.upper()}")).json["job_id"] == job_id


async def test_a_completed_job_shows_its_result(api):
    """A finished job shows when it ran, its result as it was given, and no error."""
    job_id = await api.submit()
    lease = await claim(api.store)
    await api.store.progress(lease, b'{"fraction":0.5}')
    await api.store.complete(lease, b'{"sum":[1,2]}')

    job = (await api.get(f"/api/v1/jobs/{job_id}")).json

    assert (job["status"], job["attempt"], job["node"]) == ("completed", 1, "node-1")
    assert job["result"] == {"sum": [1, 2]}
    assert job["progress"] == {"fraction": 0.5}
    assert job["error"] is None
    assert [(attempt["attempt"], attempt["outcome"]) for attempt in job["attempts"]] == [(1, "completed")]
    assert datetime.fromisoformat(job["created_at"]) <= datetime.fromisoformat(job["started_at"])
    assert datetime.fromisoformat(job["started_at"]) <= datetime.fromisoformat(job["finished_at"])


async def test_a_failed_job_shows_each_attempt(api):
    """A failed job has the error of every attempt, with times as everywhere else."""
    job_id = await api.submit(retries=1)
    await api.store.retry(await claim(api.store), JobError("boom", "first").encode(), 0)
    await api.store.retry(await claim(api.store), JobError("boom", "second").encode(), 0)

    job = (await api.get(f"/api/v1/jobs/{job_id}")).json

    assert (job["status"], job["errors"], job["crashes"]) == ("failed", 2, 0)
    assert job["error"] == {"code": "boom", "message": "second"}
    assert [attempt["error"]["message"] for attempt in job["attempts"]] == ["first", "second"]
    assert [attempt["attempt"] for attempt in job["attempts"]] == [1, 2]
    for attempt in job["attempts"]:
        assert datetime.fromisoformat(attempt["started_at"]) <= datetime.fromisoformat(attempt["finished_at"])


async def test_waiting_ends_with_the_job(api):
    """A long poll answers as soon as the job has ended."""
    job_id = await api.submit()
    lease = await claim(api.store)
    waiting = asyncio.ensure_future(api.get(f"/api/v1/jobs/{job_id}?wait=60s"))

    await api.store.wait_begun.wait()
    await api.store.complete(lease, b"7")
    job = (await asyncio.wait_for(waiting, 10)).json

    assert (job["status"], job["result"]) == ("completed", 7)


async def test_waiting_is_bounded(api):
    """A long poll whose time is up answers with the job as it is."""
    job_id = await api.submit()

    answer = await api.get(f"/api/v1/jobs/{job_id}?wait=50ms")

    assert (answer.status, answer.json["status"]) == (200, "enqueued")


async def test_waiting_for_a_finished_or_missing_job_ends_at_once(api):
    """There is nothing to wait for."""
    job_id = await api.submit()
    await api.store.cancel(job_id)

    assert (await api.get(f"/api/v1/jobs/{job_id}?wait=60")).json["status"] == "cancelled"
    assert (await api.get(f"/api/v1/jobs/{MISSING}?wait=60")).problem == "job-not-found"


async def test_nothing_is_held_for_a_client_that_has_gone(api):
    """A long poll ends when its client disconnects."""
    job_id = await api.submit()
    waiting = asyncio.ensure_future(api.get(f"/api/v1/jobs/{job_id}?wait=60s"))
    await api.store.wait_begun.wait()

    waiting.cancel()

    await asyncio.wait_for(api.store.wait_ended.wait(), 10)


async def test_cancel_a_waiting_job(api):
    """A job that waits is cancelled at once; to say so twice changes nothing."""
    job_id = await api.submit()

    for _ in range(2):
        answer = await api.post(f"/api/v1/jobs/{job_id}/cancel")
        assert (answer.status, answer.json["status"]) == (200, "cancelled")


async def test_cancel_a_running_job(api):
    """A job that runs is asked to stop: 202, for it has not yet."""
    job_id = await api.submit()
    await claim(api.store)

    answer = await api.post(f"/api/v1/jobs/{job_id}/cancel")

    assert (answer.status, answer.json["status"], answer.json["cancel_requested"]) == (202, "processing", True)


async def test_acts_that_the_state_forbids(api):
    """What a job's state does not allow is 409, and the answer names the state."""
    waiting = await api.submit(type="waiting")
    running = await api.submit(type="running")
    done = await api.submit(type="done")
    await claim(api.store, "running")
    await api.store.complete(await claim(api.store, "done"))

    answers = [
        (await api.post(f"/api/v1/jobs/{waiting}/retry"), "enqueued"),
        (await api.post(f"/api/v1/jobs/{running}/retry"), "processing"),
        (await api.call("DELETE", f"/api/v1/jobs/{running}"), "processing"),
        (await api.post(f"/api/v1/jobs/{done}/cancel"), "completed"),
    ]

    for answer, state in answers:
        assert (answer.status, answer.problem, answer.json["state"]) == (409, "invalid-state", state)


async def test_retry_a_finished_job(api):
    """An operator's retry puts a finished job back into its queue."""
    job_id = await api.submit()
    await api.store.fail(await claim(api.store), JobError("no", "never").encode())

    answer = await api.post(f"/api/v1/jobs/{job_id}/retry")

    assert (answer.status, answer.json["status"], answer.json["errors"]) == (200, "enqueued", 0)


async def test_delete(api):
    """A deleted job is gone."""
    job_id = await api.submit()

    answer = await api.call("DELETE", f"/api/v1/jobs/{job_id}")

    assert (answer.status, answer.body) == (204, b"")
    assert (await api.get(f"/api/v1/jobs/{job_id}")).status == 404


async def test_lists_are_filtered(api):
    """Each filter leaves what it names."""
    mail = await api.submit(type="mail", priority="high", group="g", tags=["red"])
    math = await api.submit(type="math", delay=60)
    await api.submit(type="other")
    later = (await api.get(f"/api/v1/jobs/{math}")).json["created_at"]

    async def ids(query):
        answer = await api.get(f"/api/v1/jobs?{query}")
        assert answer.status == 200, answer.body
        return {job["job_id"] for job in answer.json["items"]}

    assert await ids("type=mail") == {mail}
    assert await ids("status=scheduled") == {math}
    assert await ids("status=scheduled,enqueued&type=math") == {math}
    assert await ids("priority=high") == await ids("priority=3") == {mail}
    assert await ids("group=g") == {mail}
    assert await ids("tag=red") == {mail}
    assert await ids("status=failed") == set()
    assert math in await ids(f"created_after={later}")
    assert math not in await ids(f"created_before={later}")


async def test_lists_come_in_pages(api):
    """Cursors lead through all jobs, each once."""
    submitted = {await api.submit() for _ in range(5)}
    seen, cursor = [], ""

    while cursor is not None:
        page = (await api.get(f"/api/v1/jobs?limit=2{cursor and '&cursor=' + cursor}")).json
        assert len(page["items"]) <= 2
        seen += [job["job_id"] for job in page["items"]]
        cursor = page["next_cursor"]

    assert len(seen) == 5
    assert set(seen) == submitted


async def test_purge(api):
    """A purge forgets what waits in a queue or in one priority of it, and nothing else."""
    await api.submit(type="mail", priority="low")
    await api.submit(type="mail", priority="high")
    kept = await api.submit(type="math")

    assert (await api.post("/api/v1/queues/mail/purge?priority=low")).json == {"purged": 1}
    assert (await api.post("/api/v1/queues/mail/purge")).json == {"purged": 1}
    assert (await api.post("/api/v1/queues/nobody-knows/purge")).problem == "queue-not-found"
    assert (await api.post("/api/v1/queues/a%7B/purge")).problem == "queue-not-found"
    assert (await api.store.get(kept)).state is State.ENQUEUED


async def test_handlers(api):
    """The catalogue tells each type's defaults and what its payload looks like."""
    items = (await api.get("/api/v1/handlers")).json["items"]

    greet = next(item for item in items if item["type"] == "greet")
    assert greet["description"] == "Says hello."
    assert (greet["timeout"], greet["max_retries"], greet["priority"]) == (40.0, 7, "high")
    assert greet["payload_schema"]["required"] == ["name"]


async def test_stats(api):
    """The statistics have the seed's fields, each state's count, and each queue's depth."""
    await api.submit(type="mail", priority="urgent")
    await api.submit(type="mail", delay=60)
    await api.submit(type="math")
    await api.store.complete(await claim(api.store, "math"))

    stats = (await api.get("/api/v1/stats")).json

    assert (stats["jobs_submitted"], stats["jobs_completed"], stats["jobs_failed"]) == (3, 1, 0)
    assert (stats["workers_active"], stats["queue_size"], stats["uptime"]) == (0, 1, 12.5)
    assert stats["jobs"] == {**{state.value: 0 for state in State}, "enqueued": 1, "scheduled": 1, "completed": 1}
    mail = next(queue for queue in stats["queues"] if queue["type"] == "mail")
    assert mail["depth"] == {"urgent": 1, "high": 0, "normal": 0, "low": 0}
    assert mail["states"]["scheduled"] == 1
    assert stats["durability"] == api.store.durability
    assert stats["node"]["id"] == "node-1"
    assert stats["node"]["role"] == "all"
