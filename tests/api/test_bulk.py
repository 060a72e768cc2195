"""Bulk submits: all or nothing."""

import io
import json

import pytest

JSON = {"Content-Type": "application/json"}


async def test_a_thousand_jobs(api):
    """A thousand jobs are stored in one step, and answered in their order."""
    answer = await api.post("/api/v1/jobs/bulk", [{"type": "mail", "payload": {"n": n}} for n in range(1000)])

    assert answer.status == 201
    items = answer.json["items"]
    assert [item["payload"]["n"] for item in items] == list(range(1000))
    assert len({item["job_id"] for item in items}) == 1000
    assert await api.stored() == 1000
    assert api.events.counts["submitted"] == 1000


async def test_no_jobs(api):
    """An empty batch is no mistake."""
    answer = await api.post("/api/v1/jobs/bulk", [])

    assert (answer.status, answer.json) == (201, {"items": []})


async def test_one_bad_item_refuses_all(api):
    """One bad item stores nothing, and each pointer starts with the item's index."""
    content = [{"type": "mail"}, {"type": "greet", "payload": {}}, 7, {"type": "mail", "priority": "x", "z": 1}]

    answer = await api.post("/api/v1/jobs/bulk", content)

    assert (answer.status, answer.problem) == (422, "invalid-job")
    assert {error["pointer"] for error in answer.json["errors"]} == {"/1/payload/name", "/2", "/3/priority", "/3/z"}
    assert await api.stored() == 0


async def test_one_too_many(api):
    """A batch of 1,001 is refused as a whole."""
    answer = await api.post("/api/v1/jobs/bulk", [{"type": "mail"}] * 1001)

    assert (answer.status, answer.problem) == (413, "batch-too-large")
    assert await api.stored() == 0


async def test_the_list_of_mistakes_is_bounded(api):
    """A batch of nothing but mistakes does not get an endless answer."""
    answer = await api.post("/api/v1/jobs/bulk", [{}] * 1000)

    assert answer.problem == "invalid-job"
    assert len(answer.json["errors"]) == 100


async def test_a_large_item_is_named(api):
    """An item whose payload is too large is pointed at."""
    answer = await api.post("/api/v1/jobs/bulk", [{"type": "mail"}, {"type": "mail", "payload": "x" * 300_000}])

    assert (answer.status, answer.problem) == (413, "job-too-large")
    assert answer.json["errors"][0]["pointer"] == "/1/payload"
    assert await api.stored() == 0


@pytest.mark.parametrize(
    ("body", "status", "problem"),
    [
        (b"", 400, "empty-body"),
        (b'[{"type":"mail"}', 400, "malformed-json"),
        (b'{"type":"mail"}', 422, "invalid-job"),
        (b'[{"type":"mail","payload":' + b"[" * 64 + b"]" * 64 + b"}]", 400, "json-too-deep"),
        (b'[{"type":"mail","payload":1e999}]', 400, "number-out-of-range"),
        (b" " * (8 * 1024 * 1024 + 1), 413, "payload-too-large"),
    ],
    ids=["empty", "truncated", "no array", "too deep", "number", "too large"],
)
async def test_bad_batches(api, body, status, problem):
    """A bad batch has the same answers as a bad job."""
    answer = await api.call("POST", "/api/v1/jobs/bulk", data=io.BytesIO(body), headers=JSON)

    assert (answer.status, answer.problem) == (status, problem)
    assert await api.stored() == 0


async def test_what_is_accepted_alone_is_accepted_in_a_batch(api):
    """The array around the jobs does not count as a level of theirs."""
    deepest = b'{"type":"mail","payload":' + b"[" * 63 + b"]" * 63 + b"}"

    alone = await api.call("POST", "/api/v1/jobs", data=deepest, headers=JSON)
    together = await api.call("POST", "/api/v1/jobs/bulk", data=b"[" + deepest + b"]", headers=JSON)

    assert (alone.status, together.status) == (201, 201)
    assert json.loads(together.body)["items"][0]["payload"] == alone.json["payload"]
