"""Log lines of workers over HTTP, and which of their errors are tried again."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import Api


async def claim(api: Api, **fields: Any) -> tuple[str, str]:
    """A running job's id, and its token."""
    id = await api.submit(type="remote", **fields)
    (item,) = (await api.post("/api/v1/leases", {"types": ["remote"]})).json["items"]
    return id, item["token"]


async def test_heartbeats_bring_lines(api: Api) -> None:
    """They can be read while the job runs, and read on; when it has ended there is no more to come."""
    id, token = await claim(api)
    lines = [{"message": "begun"}, {"message": "hm", "level": "warning"}]
    beaten = await api.post(f"/api/v1/leases/{token}/heartbeat", {"log": lines, "progress": 1})
    first = await api.get(f"/api/v1/jobs/{id}/log")
    await api.post("/api/v1/leases/heartbeat", {"items": [{"token": token, "log": [{"message": "done"}]}]})
    second = await api.get(f"/api/v1/jobs/{id}/log?cursor={first.json['next_cursor']}")
    await api.post(f"/api/v1/leases/{token}/complete")
    third = await api.get(f"/api/v1/jobs/{id}/log?cursor={second.json['next_cursor']}")

    assert beaten.status == 200
    told = [(line["level"], line["message"], line["attempt"]) for line in first.json["items"]]
    assert told == [("info", "begun", 1), ("warning", "hm", 1)]
    assert [line["message"] for line in second.json["items"]] == ["done"]
    assert third.json == {"items": [], "next_cursor": None}
    lost = await api.post(f"/api/v1/leases/{token}/heartbeat", {"log": lines})
    assert lost.problem == "lease-lost"


@pytest.mark.parametrize(
    ("log", "pointer"),
    [
        ([{"message": "a", "level": "loud"}], "/log/0/level"),
        ([{}], "/log/0/message"),
        ([{"message": "a"}] * 101, "/log"),
    ],
)
async def test_bad_lines_are_refused(api: Api, log: Any, pointer: str) -> None:
    id, token = await claim(api)

    answer = await api.post(f"/api/v1/leases/{token}/heartbeat", {"log": log})

    assert (answer.status, answer.json["errors"][0]["pointer"]) == (422, pointer)
    assert (await api.get(f"/api/v1/jobs/{id}/log")).json["items"] == []
    assert (await api.get(f"/api/v1/jobs/{id}/log?cursor=x")).problem == "invalid-parameter"
    assert (await api.get("/api/v1/jobs/b3864208-5177-41ad-8fa2-451fed8ec84f/log")).problem == "job-not-found"


async def test_errors_that_are_not_tried_again(api: Api) -> None:
    """By their type or code, unless the worker says when to try again."""
    retry = {"strategy": "fixed", "base": 5, "only": ["ConnectionError", "smtp-421"]}
    told = {
        "final": {"error": {"message": "", "type": "ValueError"}},
        "again": {"error": {"message": "", "type": "urllib3.ConnectionError"}},
        "by code": {"error": {"message": "", "code": "smtp-421"}},
        "asked": {"error": "no", "retry_after": 1},
    }
    states = {}
    for name, failure in told.items():
        _, token = await claim(api, retry=retry)
        answer = await api.post(f"/api/v1/leases/{token}/fail", failure)
        repeat = await api.post(f"/api/v1/leases/{token}/fail", failure)
        assert (answer.status, repeat.json) == (200, answer.json)
        states[name] = answer.json["status"]

    assert states == {"final": "failed", "again": "scheduled", "by code": "scheduled", "asked": "scheduled"}
