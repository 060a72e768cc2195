"""Unique, mortal and patiently retried jobs over HTTP."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.api.conftest import Api

ORDER = {"type": "nightly", "payload": {"n": 1}, "unique_key": "order 17"}


async def test_a_twin_is_answered_with_the_job_that_is_there(api: Api) -> None:
    first = await api.post("/api/v1/jobs", ORDER)

    twin = await api.post("/api/v1/jobs", {**ORDER, "payload": {"n": 2}, "priority": "high"})

    assert (first.status, "Job-Existing" in first.headers) == (201, False)
    assert (twin.status, twin.headers["Job-Existing"]) == (200, "true")
    assert twin.headers["Location"] == f"/api/v1/jobs/{first.json['job_id']}"
    assert twin.json == {**first.json, "existing": True}
    assert twin.json["unique_key"] == "order 17"


async def test_a_replay_of_a_twin(api: Api) -> None:
    first = await api.post("/api/v1/jobs", ORDER)
    key = {"Idempotency-Key": "k"}
    twin = await api.post("/api/v1/jobs", ORDER, headers=key)
    await api.call("DELETE", f"/api/v1/jobs/{first.json['job_id']}")

    again = await api.post("/api/v1/jobs", ORDER, headers=key)

    assert (again.status, again.json["job_id"]) == (200, twin.json["job_id"])
    assert (again.headers["Idempotency-Replayed"], again.headers["Job-Existing"]) == ("true", "true")


async def test_a_twin_that_is_refused(api: Api) -> None:
    first = await api.post("/api/v1/jobs", ORDER)

    alone = await api.post("/api/v1/jobs", {**ORDER, "on_duplicate": "reject"})
    bulk = await api.post("/api/v1/jobs/bulk", [{"type": "nightly"}, {**ORDER, "on_duplicate": "reject"}])

    for answer in (alone, bulk):
        assert (answer.status, answer.problem) == (409, "duplicate-job")
        assert (answer.json["job_id"], answer.json["state"]) == (first.json["job_id"], "enqueued")
    assert bulk.json["errors"][0]["pointer"] == "/1/unique_key"
    await api.post(f"/api/v1/jobs/{first.json['job_id']}/cancel")
    await api.post("/api/v1/jobs", ORDER)
    retried = await api.post(f"/api/v1/jobs/{first.json['job_id']}/retry")
    assert (retried.status, retried.problem) == (409, "duplicate-job")


async def test_twins_in_bulk(api: Api) -> None:
    """A twin stands for the other in the answer; lines say so one by one."""
    array = await api.post("/api/v1/jobs/bulk", [ORDER, {**ORDER, "payload": 5, "on_duplicate": "replace"}])
    lines = await api.call(
        "POST",
        "/api/v1/jobs/bulk",
        data="\n".join(json.dumps(job) for job in (ORDER, {**ORDER, "on_duplicate": "reject"})),
        headers={"Content-Type": "application/x-ndjson"},
    )

    one, other = array.json["items"]
    assert (array.status, array.headers["Job-Existing"]) == (201, "true")
    assert (one["job_id"], other["payload"]) == (other["job_id"], 5)
    told = [json.loads(line) for line in lines.body.splitlines()]
    assert [line["status"] for line in told] == [200, 409]
    assert told[0]["job"]["job_id"] == one["job_id"]


@pytest.mark.parametrize(
    ("said", "pointer"),
    [
        ({"unique_key": ""}, "/unique_key"),
        ({"unique_key": "a\nb"}, "/unique_key"),
        ({"unique_until": "started"}, "/unique_until"),
        ({"unique_key": "a", "unique_until": "soon"}, "/unique_until"),
        ({"unique_key": "a", "name": "b"}, "/unique_key"),
        ({"expires_at": "2027-01-01T00:00:00Z", "ttl": 5}, "/ttl"),
        ({"delay": "10s", "ttl": "10s"}, "/ttl"),
        ({"retry": {"strategy": "list"}}, "/retry"),
        ({"retry": {"base": -1}}, "/retry/base"),
        ({"retry": {"bse": 1}}, "/retry/bse"),
        ({"retry": {"only": [""]}}, "/retry/only/0"),
    ],
)
async def test_words_that_do_not_go_together(api: Api, said: dict[str, Any], pointer: str) -> None:
    answer = await api.post("/api/v1/jobs", {"type": "nightly", **said})

    assert answer.status == 422, answer.body
    assert [fault["pointer"] for fault in answer.json["errors"]] == [pointer]
    assert (await api.get("/api/v1/jobs")).json["items"] == []


async def test_what_a_job_says_of_these(api: Api) -> None:
    said = {
        "type": "nightly",
        "ttl": "1h",
        "retry": {"strategy": "list", "delays": ["1s", 60], "never": ["ValueError"]},
    }

    answer = await api.post("/api/v1/jobs", said)
    found = await api.get(f"/api/v1/jobs/{answer.json['job_id']}")

    assert found.json == answer.json
    assert answer.json["expires_at"] > answer.json["created_at"]
    retry = answer.json["retry"]
    assert (retry["delays"], retry["jitter"], retry["never"], retry["only"]) == ([1, 60], False, ["ValueError"], None)
