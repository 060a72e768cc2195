"""Acting on all jobs that match a filter, and never on more."""

import asyncio

import pytest

from gopher_node.errors import StoreUnavailable
from gopher_node.job import JobError, State
from gopher_node.store import Pool

ACTS = [
    ("POST", "/api/v1/jobs/cancel", "cancelled"),
    ("POST", "/api/v1/jobs/retry", "retried"),
    ("POST", "/api/v1/jobs/run-now", "moved"),
    ("DELETE", "/api/v1/jobs", "deleted"),
]


async def claim(store, type):
    session = await store.open_session("node-1", 15.0)
    (lease,) = (await store.claim(session, Pool.of([type]), 1)).leases
    return lease


@pytest.fixture
async def jobs(api):
    """A job of type mail in each state that there is, and one of another type."""
    ids = {"processing": await api.submit(type="mail", tags=["red"])}
    await claim(api.store, "mail")
    for state in ("completed", "failed", "cancelled"):
        ids[state] = await api.submit(type="mail")
        if state == "cancelled":
            await api.store.cancel(ids[state])
            continue
        lease = await claim(api.store, "mail")
        if state == "completed":
            await api.store.complete(lease)
        else:
            await api.store.fail(lease, JobError("no", "never").encode())
    ids["enqueued"] = await api.submit(type="mail", group="g", tags=["red"], priority="high")
    ids["scheduled"] = await api.submit(type="mail", delay="1h", tags=["red"])
    ids["other"] = await api.submit(type="other")
    return ids


async def states(api, jobs):
    found = {}
    for name, job_id in jobs.items():
        answer = await api.get(f"/api/v1/jobs/{job_id}")
        found[name] = answer.json["status"] if answer.status == 200 else None
    return found


@pytest.mark.parametrize(
    ("method", "path", "done", "changed"),
    [
        ("POST", "cancel?type=mail", "cancelled", {"enqueued": "cancelled", "scheduled": "cancelled"}),
        ("POST", "retry?type=mail", "retried", {"failed": "enqueued"}),
        (
            "POST",
            "retry?type=mail&status=completed,cancelled",
            "retried",
            {"completed": "enqueued", "cancelled": "enqueued"},
        ),
        ("POST", "run-now?tag=red", "moved", {"scheduled": "enqueued"}),
        ("POST", "cancel?group=g", "cancelled", {"enqueued": "cancelled"}),
        ("POST", "cancel?priority=high&status=enqueued", "cancelled", {"enqueued": "cancelled"}),
        ("POST", "cancel?created_before=2001-01-01T00:00:00Z", "cancelled", {}),
        ("POST", "run-now?status=failed", "moved", {}),
        (
            "DELETE",
            "?type=mail",
            "deleted",
            dict.fromkeys(["completed", "failed", "cancelled", "enqueued", "scheduled"]),
        ),
        ("DELETE", "?status=failed", "deleted", {"failed": None}),
    ],
)
async def test_what_matches_is_changed(api, jobs, method, path, done, changed):
    """Of the jobs that match, those whose state allows it are changed, and no others."""
    before = await states(api, jobs)
    address = f"/api/v1/jobs{path}" if path.startswith("?") else f"/api/v1/jobs/{path}"
    answer = await api.call(method, address)

    asked = 1 if path == "cancel?type=mail" else 0  # the one that runs is asked to stop
    assert answer.status == 200, answer.body
    assert answer.json == {done: len(changed) + asked, "next_cursor": None}
    assert await states(api, jobs) == {**before, **changed}
    assert (await api.store.get(jobs["processing"])).cancel_requested == bool(asked)


@pytest.mark.parametrize(("method", "path", "done"), ACTS)
async def test_no_filter_is_no_wish(api, jobs, method, path, done):
    """Without any filter nothing is changed, unless all=true says that everything is meant."""
    before = await states(api, jobs)
    refused = [
        await api.call(method, path),
        await api.call(method, f"{path}?all=false"),
        await api.call(method, f"{path}?all=yes"),
        await api.call(method, f"{path}?all=true&type=mail"),
        await api.call(method, f"{path}?typ=mail"),
        await api.call(method, f"{path}?limit=5&type=mail"),
        await api.call(method, f"{path}?type=mail&cursor=nonsense"),
        await api.call(method, f"{path}?type=mail&type=other"),
    ]

    for answer in refused:
        assert (answer.status, answer.problem) == (422, "invalid-parameter")
    assert await states(api, jobs) == before
    everything = await api.call(method, f"{path}?all=true")
    assert everything.status == 200
    assert everything.json[done] >= 1


async def test_many_jobs_in_one_call(api):
    """One call takes all steps that its time allows."""
    await api.post("/api/v1/jobs/bulk", [{"type": "mail", "delay": "1h"}] * 1000)

    assert (await api.post("/api/v1/jobs/run-now?type=mail")).json == {"moved": 1000, "next_cursor": None}
    assert (await api.post("/api/v1/jobs/cancel?type=mail")).json == {"cancelled": 1000, "next_cursor": None}
    assert (await api.call("DELETE", "/api/v1/jobs?type=mail")).json == {"deleted": 1000, "next_cursor": None}


async def test_when_time_is_up_a_cursor_leads_on(api, monkeypatch):
    """A call whose time is up says how far it came, and where to go on; all calls together change each job once."""
    monkeypatch.setattr("gopher_node.api.resources.selections.WORK_TIME", 0.0)
    await api.post("/api/v1/jobs/bulk", [{"type": "mail"}] * 700)
    counts, cursor = [], ""
    while cursor is not None:
        content = (await api.post(f"/api/v1/jobs/cancel?type=mail{cursor and '&cursor=' + cursor}")).json
        counts.append(content["cancelled"])
        cursor = content["next_cursor"]

    assert len(counts) > 3
    assert max(counts) <= 200
    assert sum(counts) == 700
    assert len((await api.get("/api/v1/jobs?status=cancelled&limit=200")).json["items"]) == 200


async def test_a_store_that_fails_on_the_way(api, monkeypatch):
    """What was done before the store failed is told, with the cursor of what is left; going on tells the failure."""
    await api.post("/api/v1/jobs/bulk", [{"type": "mail"}] * 300)
    real, calls = api.store.act, []

    async def act(*arguments):
        calls.append(arguments)
        if len(calls) in (2, 3):
            raise StoreUnavailable
        return await real(*arguments)

    monkeypatch.setattr(api.store, "act", act)
    first = await api.post("/api/v1/jobs/cancel?type=mail")
    path = f"/api/v1/jobs/cancel?type=mail&cursor={first.json['next_cursor']}"
    second = await api.post(path)
    third = await api.post(path)

    assert 0 < first.json["cancelled"] <= 200
    assert (second.status, second.problem, second.json["outcome"]) == (503, "store-unavailable", "not-done")
    assert first.json["cancelled"] + third.json["cancelled"] == 300


async def test_draining_hands_back_a_cursor(api, monkeypatch):
    """A node that shuts down does one step more and hands the rest back."""
    await api.post("/api/v1/jobs/bulk", [{"type": "mail"}] * 700)
    api.server.drain()

    content = (await api.post("/api/v1/jobs/cancel?type=mail")).json

    assert 0 < content["cancelled"] <= 200
    assert content["next_cursor"]


async def test_two_operators_at_once(api):
    """Two who do the same at the same time change each job once between them."""
    await api.post("/api/v1/jobs/bulk", [{"type": "mail"}] * 1000)

    answers = await asyncio.gather(*(api.call("DELETE", "/api/v1/jobs?type=mail") for _ in range(2)))

    assert sum(answer.json["deleted"] for answer in answers) == 1000
    assert (await api.store.stats()).counts.get((State.ENQUEUED, 2, "mail"), 0) == 0
