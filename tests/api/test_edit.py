"""Changing a job that waits: its priority, its due time, and running it now."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from gopher_node.job import Priority, State
from gopher_node.store import Pool

MISSING = "00000000-0000-4000-8000-000000000000"


async def claim(store, type="unserved"):
    session = await store.open_session("node-1", 15.0)
    (lease,) = (await store.claim(session, Pool.of([type]), 1)).leases
    return lease


async def edit(api, job_id, **changes):
    return await api.call("PATCH", f"/api/v1/jobs/{job_id}", json=changes)


@pytest.mark.parametrize("priority", ["urgent", 4, "4"])
async def test_another_priority(api, priority):
    """A job that waits gets another priority, and is claimed by it."""
    await api.submit()
    job_id = await api.submit()

    answer = await edit(api, job_id, priority=priority)

    assert (answer.status, answer.json["priority"], answer.json["status"]) == (200, "urgent", "enqueued")
    assert answer.json == (await api.get(f"/api/v1/jobs/{job_id}")).json
    assert (await claim(api.store)).job.id == job_id


async def test_another_due_time(api):
    """A due time may be set for jobs in their queue and those that are scheduled; one in the past means now."""
    job_id = await api.submit()
    due = datetime.now(UTC).replace(microsecond=5000) + timedelta(days=1)

    later = await edit(api, job_id, execute_at=due.isoformat())
    sooner = await edit(api, job_id, delay="10s", priority="low")
    now = await edit(api, job_id, execute_at="2001-01-01T00:00:00Z")

    assert (later.status, later.json["status"]) == (200, "scheduled")
    assert datetime.fromisoformat(later.json["execute_at"]) == due
    assert (sooner.json["status"], sooner.json["priority"]) == ("scheduled", "low")
    assert datetime.fromisoformat(sooner.json["execute_at"]) < due
    assert now.json["status"] == "enqueued"
    assert await api.stored() == 1


async def test_no_delay_means_now(api):
    """A delay of nothing puts a scheduled job into its queue."""
    job_id = await api.submit(delay="1h")

    assert (await edit(api, job_id, delay=0)).json["status"] == "enqueued"


@pytest.mark.parametrize(
    ("changes", "problem", "pointer"),
    [
        ({}, "invalid-body", ""),
        ({"priority": None}, "invalid-body", ""),
        ({"priority": 5}, "out-of-range", "/priority"),
        ({"execute_at": "tomorrow"}, "invalid-run-at", "/execute_at"),
        ({"delay": "400d"}, "invalid-run-at", "/delay"),
        ({"delay": -1}, "invalid-duration", "/delay"),
        ({"delay": 1, "execute_at": "2030-01-01T00:00:00Z"}, "invalid-body", "/delay"),
        ({"payload": {}}, "unknown-field", "/payload"),
        ({"state": "completed", "priority": 1}, "unknown-field", "/state"),
    ],
)
async def test_bad_changes(api, changes, problem, pointer):
    """What cannot be changed, or not so, is refused, and nothing is."""
    if changes.get("execute_at", "").startswith("2030"):
        changes = {**changes, "execute_at": (datetime.now(UTC) + timedelta(days=1)).isoformat()}
    job_id = await api.submit()
    before = (await api.get(f"/api/v1/jobs/{job_id}")).json

    answer = await edit(api, job_id, **changes)

    assert (answer.status, answer.problem) == (422, problem)
    assert answer.json["errors"][0]["pointer"] == pointer
    assert (await api.get(f"/api/v1/jobs/{job_id}")).json == before


async def test_an_edit_without_a_body(api):
    """No body at all changes nothing, and says so."""
    answer = await api.call("PATCH", f"/api/v1/jobs/{await api.submit()}")

    assert (answer.status, answer.problem) == (422, "invalid-body")


async def test_only_waiting_jobs_change(api):
    """A job that runs or has ended is left as it is: 409 with its state."""
    running = await api.submit(type="running")
    done = await api.submit(type="done")
    await claim(api.store, "running")
    await api.store.complete(await claim(api.store, "done"))

    for job_id, state in ((running, "processing"), (done, "completed")):
        for answer in [
            await edit(api, job_id, priority="low"),
            await api.post(f"/api/v1/jobs/{job_id}/run-now"),
        ]:
            assert (answer.status, answer.problem, answer.json["state"]) == (409, "invalid-state", state)
        assert (await api.store.get(job_id)).priority is Priority.NORMAL


async def test_run_now(api):
    """A scheduled job is put into its queue; told again, it stays there."""
    job_id = await api.submit(delay="1h")

    for _ in range(2):
        answer = await api.post(f"/api/v1/jobs/{job_id}/run-now")
        assert (answer.status, answer.json["status"]) == (200, "enqueued")
    assert (await claim(api.store)).job.id == job_id
    assert (await api.store.get(job_id)).state is State.PROCESSING


@pytest.mark.parametrize("job_id", [MISSING, "run-now", "%00", "é"])
async def test_no_such_job(api, job_id):
    """An unknown id and one that cannot be have the same answer."""
    unknown = await edit(api, uuid.uuid4(), priority="low")
    for answer in [await edit(api, job_id, priority="low"), await api.post(f"/api/v1/jobs/{job_id}/run-now")]:
        assert (answer.status, answer.problem) == (404, "job-not-found")
        assert {**answer.json, "instance": ""} == {**unknown.json, "instance": ""}
