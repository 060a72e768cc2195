"""Dead letters: what failed for good, until somebody runs it once more or deletes it."""

import uuid

import pytest

from gopher_node.job import JobError, State
from gopher_node.store import Pool


async def fail(api, type="mail", **fields):
    job_id = await api.submit(type=type, **fields)
    session = await api.store.open_session("node-1", 15.0)
    (lease,) = (await api.store.claim(session, Pool.of([type]), 1)).leases
    await api.store.fail(lease, JobError("no", "never").encode())
    return job_id


async def state(api, job_id):
    answer = await api.get(f"/api/v1/jobs/{job_id}")
    return answer.json["status"] if answer.status == 200 else None


async def test_listed_with_their_errors(api):
    """Failed jobs are listed, the latest first, in pages; other jobs are not."""
    first, second = await fail(api), await fail(api, type="math")
    await api.submit(type="mail")

    listed = (await api.get("/api/v1/dead-letters")).json
    page = (await api.get("/api/v1/dead-letters?limit=1")).json

    assert [job["job_id"] for job in listed["items"]] == [second, first]
    assert listed["items"][0]["error"]["message"] == "never"
    assert [attempt["outcome"] for attempt in listed["items"][0]["attempts"]] == ["error"]
    rest = (await api.get(f"/api/v1/dead-letters?limit=1&cursor={page['next_cursor']}")).json
    assert [job["job_id"] for job in rest["items"]] == [first]


@pytest.mark.parametrize("query", ["type=mail", "group=g", "tag=red", "priority=high"])
@pytest.mark.parametrize("act", ["list", "retry", "delete"])
async def test_filters(api, query, act):
    """Each filter leaves what it names, for looking and for acting."""
    wanted = await fail(api, type="mail", group="g", tags=["red"], priority="high")
    other = await fail(api, type="math")

    if act == "list":
        items = (await api.get(f"/api/v1/dead-letters?{query}")).json["items"]
        assert [job["job_id"] for job in items] == [wanted]
    elif act == "retry":
        assert (await api.post(f"/api/v1/dead-letters/retry?{query}")).json == {"retried": 1, "next_cursor": None}
        assert (await state(api, wanted), await state(api, other)) == ("enqueued", "failed")
    else:
        answer = await api.call("DELETE", f"/api/v1/dead-letters?{query}")
        assert answer.json == {"deleted": 1, "next_cursor": None}
        assert (await state(api, wanted), await state(api, other)) == (None, "failed")


async def test_all_of_them(api):
    """All are retried where nobody says which; all are deleted only where somebody says all."""
    for _ in range(3):
        await fail(api)
    refused = await api.call("DELETE", "/api/v1/dead-letters")

    assert (refused.status, refused.problem) == (422, "invalid-parameter")
    assert (await api.post("/api/v1/dead-letters/retry")).json == {"retried": 3, "next_cursor": None}
    assert (await api.get("/api/v1/dead-letters")).json == {"items": [], "next_cursor": None}
    await fail(api, type="math")
    assert (await api.call("DELETE", "/api/v1/dead-letters?all=true")).json == {"deleted": 1, "next_cursor": None}


@pytest.mark.parametrize(("method", "path"), [("POST", "/retry"), ("DELETE", "")])
async def test_by_their_ids(api, method, path):
    """Those that a body names are retried or deleted; ids of other jobs, or of none, are passed over."""
    failed = [await fail(api) for _ in range(3)]
    waiting = await api.submit(type="mail")
    ids = [failed[0], failed[1].upper(), failed[0], waiting, str(uuid.uuid4())]

    answer = await api.call(method, f"/api/v1/dead-letters{path}", json={"job_ids": ids})

    assert answer.json == {"retried" if path else "deleted": 2, "next_cursor": None}
    now = "enqueued" if path else None
    assert [await state(api, job_id) for job_id in (*failed, waiting)] == [now, now, "failed", "enqueued"]


async def test_a_thousand_ids(api):
    """A body may name a thousand jobs."""
    ids = [str(uuid.uuid4()) for _ in range(1000)]
    answer = await api.post("/api/v1/dead-letters/retry", {"job_ids": [*ids[1:], await fail(api)]})

    assert answer.json == {"retried": 1, "next_cursor": None}


@pytest.mark.parametrize(("method", "path"), [("POST", "/retry"), ("DELETE", "")])
@pytest.mark.parametrize(
    ("query", "content", "problem"),
    [
        ("", {"job_ids": ["nonsense"]}, "invalid-name"),
        ("", {"job_ids": "x"}, "invalid-name"),
        ("", {"job_ids": []}, "out-of-range"),
        ("", {"job_ids": [str(uuid.uuid4())] * 1001}, "out-of-range"),
        ("", {"ids": []}, "invalid-body"),
        ("", [], "invalid-body"),
        ("?type=mail", {"job_ids": [str(uuid.uuid4())]}, "invalid-body"),
        ("?typ=mail", {"job_ids": [str(uuid.uuid4())]}, "invalid-parameter"),
    ],
)
async def test_bad_wishes(api, method, path, query, content, problem):
    """What is not understood changes nothing."""
    job_id = await fail(api)
    answer = await api.call(method, f"/api/v1/dead-letters{path}{query}", json=content)

    assert (answer.status, answer.problem) == (422, problem)
    assert await state(api, job_id) == "failed"


async def test_one(api):
    """A dead letter has an address of its own, for looking, retrying and deleting."""
    job_id = await fail(api)
    path = f"/api/v1/dead-letters/{job_id}"

    shown = await api.get(path)
    retried = await api.post(f"{path}/retry")
    gone = [await api.get(path), await api.post(f"{path}/retry"), await api.call("DELETE", path)]

    assert (shown.status, shown.json["status"], shown.json["error"]["message"]) == (200, "failed", "never")
    assert (retried.status, retried.json["status"], retried.json["errors"]) == (200, "enqueued", 0)
    for answer in gone:
        assert (answer.status, answer.problem) == (404, "job-not-found")
    assert (await api.store.get(job_id)).state is State.ENQUEUED


async def test_delete_one(api):
    """A dead letter is deleted; what is none is not."""
    job_id, waiting = await fail(api), await api.submit(type="mail")

    assert (await api.call("DELETE", f"/api/v1/dead-letters/{job_id}")).status == 204
    assert (await api.call("DELETE", f"/api/v1/dead-letters/{waiting}")).problem == "job-not-found"
    assert await state(api, job_id) is None
    assert await state(api, waiting) == "enqueued"


@pytest.mark.parametrize("job_id", ["retry", "%00", "1", "00000000-0000-4000-8000-000000000000"])
async def test_no_such_dead_letter(api, job_id):
    """Unknown ids and those that cannot be have the same answer."""
    for method, path in (("GET", ""), ("POST", "/retry"), ("DELETE", "")):
        answer = await api.call(method, f"/api/v1/dead-letters/{job_id}{path}")
        assert (answer.status, answer.problem) == (404, "job-not-found")
