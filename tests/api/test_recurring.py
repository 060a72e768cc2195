"""Recurring jobs over HTTP: made, looked at, changed, paused and triggered, and what is refused with which words."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

import pytest

from gopher_node.schedules import fire_id
from tests.api.conftest import Api

NIGHTLY = {
    "name": "nightly",
    "cron_expression": "30 2 * * *",
    "timezone": "Europe/Berlin",
    "type": "report",
    "payload": {"n": 1.5},
    "priority": "high",
    "timeout": "30s",
    "tags": ["red"],
}
PATH = "/api/v1/recurring"


def epoch_ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


async def test_a_recurring_job_is_made_and_shown(api: Api) -> None:
    made = await api.post(PATH, NIGHTLY)

    assert (made.status, made.headers["Location"]) == (201, f"{PATH}/nightly")
    shown = (await api.get(f"{PATH}/nightly")).json
    assert shown == made.json
    expected = {**NIGHTLY, "timeout": 30.0, "missed": "once", "overlap": "allow", "every": None, "max_retries": 2}
    assert {field: shown[field] for field in expected} == expected
    assert shown["in_words"] == "At 02:30 every day (Europe/Berlin)"
    assert len(shown["next_fires"]) == 5
    assert (shown["paused"], shown["fired"], shown["last_fire"], shown["last_skip"]) == (False, 0, None, None)
    (listed,) = (await api.get(PATH)).json["items"]
    assert listed == {**shown, "next_fires": shown["next_fires"][:1]}


async def test_a_type_with_a_handler_gets_its_defaults_and_its_check(api: Api) -> None:
    body = {"name": "a", "every": "1h", "type": "greet", "payload": {"name": "you"}}
    made = (await api.post(PATH, body)).json
    assert (made["max_retries"], made["timeout"], made["priority"], made["every"]) == (7, 40.0, "high", 3600.0)
    wrong = await api.post(PATH, {**body, "name": "b", "payload": {}})
    assert (wrong.problem, wrong.json["errors"][0]["pointer"]) == ("invalid-payload", "/payload/name")


async def test_a_name_is_had_once(api: Api) -> None:
    """The same again is the one there is; the name with another content is refused, and nothing changes."""
    first = await api.post(PATH, NIGHTLY)
    again = await api.post(PATH, NIGHTLY)
    other = await api.post(PATH, {**NIGHTLY, "payload": {"n": 2}})

    assert (again.status, again.json) == (200, first.json)
    assert (other.status, other.problem) == (409, "recurring-exists")
    assert (await api.get(f"{PATH}/nightly")).json == first.json


@pytest.mark.parametrize(
    ("change", "problem", "pointer", "words"),
    [
        ({"cron_expression": "61 * * * *"}, "invalid-schedule", "/cron_expression", 'minute that is none'),
        ({"cron_expression": "0 0 30 2 *"}, "invalid-schedule", "/cron_expression", "day-of-month that is none"),
        ({"cron_expression": "0 0 */31 * MON#5"}, "invalid-schedule", "/cron_expression", "never fires"),
        ({"cron_expression": "every day"}, "invalid-schedule", "/cron_expression", "must be five fields"),
        ({"cron_expression": "@often"}, "invalid-schedule", "/cron_expression", "must be one of @hourly"),
        ({"cron_expression": 5}, "invalid-schedule", "/cron_expression", "must be text"),
        ({"timezone": "Berlin"}, "invalid-schedule", "/timezone", "did you mean Europe/Berlin?"),
        ({"timezone": "../etc"}, "invalid-schedule", "/timezone", 'such as "Europe/Berlin"'),
        ({"cron_expression": None, "timezone": None}, "invalid-body", "/cron_expression", '"every", such as "15m"'),
        ({"every": "5m"}, "invalid-body", "/every", "cannot stand beside cron_expression"),
        ({"cron_expression": None, "every": "5m"}, "invalid-body", "/timezone", "says nothing of an interval"),
        ({"cron_expression": None, "timezone": None, "every": "5ms"}, "out-of-range", "/every", "at least 1s"),
        ({"name": "a/b"}, "invalid-name", "/name", "1 to 100 letters"),
        ({"name": None}, "invalid-name", "/name", "1 to 100 letters"),
        ({"cron_expresion": "* * * * *"}, "unknown-field", "/cron_expresion", "did you mean `cron_expression`?"),
        ({"delay": "5s"}, "unknown-field", "/delay", "no such field"),
        ({"missed": "some"}, "invalid-body", "/missed", "'skip', 'once' or 'all'"),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_said(api: Api, change: Any, problem: str, pointer: str, words: str) -> None:
    """By an edit as by a new one; and nothing is made or changed."""
    answers = [await api.post(PATH, {**NIGHTLY, **change})]
    if not {"name", "cron_expression", "timezone"} & {field for field in change if change[field] is None}:
        await api.post(PATH, NIGHTLY)
        given = {**change, "cron_expression": "0 1 * * *"} if "every" in change else change
        if "name" not in change:
            answers.append(await api.call("PATCH", f"{PATH}/nightly", json=given))

    for answer in answers:
        assert (answer.status, answer.problem) == (422, problem), answer.body
        assert [fault["pointer"] for fault in answer.json["errors"]] == [pointer]
        assert words in answer.json["errors"][0]["detail"]
    assert [one["updated_at"] == one["created_at"] for one in (await api.get(PATH)).json["items"]] in ([], [True])


async def test_an_edit_changes_what_it_names(api: Api) -> None:
    before = (await api.post(PATH, NIGHTLY)).json

    edited = await api.call("PATCH", f"{PATH}/nightly", json={"payload": {"n": 2}, "overlap": "skip", "group": None})
    moved = await api.call("PATCH", f"{PATH}/nightly", json={"cron_expression": "0 5 * * *", "priority": "low"})
    elsewhere = await api.call("PATCH", f"{PATH}/nightly", json={"timezone": "UTC"})
    interval = await api.call("PATCH", f"{PATH}/nightly", json={"every": "1h"})

    same = {"updated_at": edited.json["updated_at"], "payload": {"n": 2}, "overlap": "skip"}
    assert edited.json == {**before, **same}
    assert (moved.json["cron_expression"], moved.json["timezone"], moved.json["priority"]) == (
        *("0 5 * * *", "Europe/Berlin"),
        "low",
    )
    assert (moved.json["timeout"], moved.json["payload"]) == (30.0, {"n": 2})
    assert elsewhere.json["next_fires"][0].endswith("T05:00:00.000Z")
    assert (interval.json["cron_expression"], interval.json["timezone"], interval.json["every"]) == (None, None, 3600.0)
    options = await api.call("PATCH", f"{PATH}/nightly", json={"ttl": "5m", "retry": {"strategy": "fixed", "base": 3}})
    assert (options.json["ttl"], options.json["retry"]["base"], options.json["tags"]) == (300.0, 3.0, ["red"])
    assert (await api.call("PATCH", f"{PATH}/nightly", json={"priority": "high"})).json["ttl"] == 300.0
    assert (await api.call("PATCH", f"{PATH}/nightly", json={})).problem == "invalid-body"


async def test_pause_resume_and_delete(api: Api) -> None:
    before = (await api.post(PATH, NIGHTLY)).json

    paused = await api.post(f"{PATH}/nightly/pause")
    resumed = await api.post(f"{PATH}/nightly/resume")

    assert (paused.json["paused"], paused.json["next_fires"]) == (True, [])
    assert (resumed.json["paused"], resumed.json["next_fires"]) == (False, before["next_fires"])
    assert (await api.call("DELETE", f"{PATH}/nightly")).status == 204
    for method, path in (
        *(("GET", ""), ("DELETE", "")),
        *(("POST", "/pause"), ("POST", "/resume"), ("POST", "/trigger")),
    ):
        answer = await api.call(method, f"{PATH}/nightly{path}")
        assert (answer.status, answer.problem) == (404, "recurring-not-found")
    assert (await api.call("PATCH", f"{PATH}/nightly", json={"every": "1h"})).problem == "recurring-not-found"
    assert (await api.get(f"{PATH}/{'x' * 101}")).problem == "recurring-not-found"


async def test_a_trigger_is_a_job_of_its_own(api: Api) -> None:
    before = (await api.post(PATH, NIGHTLY)).json

    job = await api.post(f"{PATH}/nightly/trigger")

    assert (job.status, job.json["status"], job.json["recurring"]) == (201, "enqueued", "nightly")
    assert (job.json["type"], job.json["payload"], job.json["execute_at"]) == ("report", {"n": 1.5}, None)
    assert (await api.get(job.headers["Location"])).json == job.json
    assert (await api.get(f"{PATH}/nightly")).json == {**before, "triggered": 1}


async def test_lists_go_on_where_they_ended(api: Api) -> None:
    for name in ("c", "a", "b"):
        await api.post(PATH, {**NIGHTLY, "name": name})

    first = (await api.get(f"{PATH}?limit=2")).json
    second = (await api.get(f"{PATH}?limit=2&cursor={first['next_cursor']}")).json

    assert [one["name"] for one in [*first["items"], *second["items"]]] == ["a", "b", "c"]
    assert second["next_cursor"] is None
    assert (await api.get(f"{PATH}?cursor=%20")).problem == "invalid-parameter"


async def test_a_preview_makes_nothing(api: Api) -> None:
    asked = {"cron_expression": "0 12 * * *", "timezone": "America/New_York", "count": 3}
    told = (await api.post(f"{PATH}/preview", asked)).json

    assert told["in_words"] == "At 12:00 every day (America/New_York)"
    assert len(told["next_fires"]) == 3
    assert [epoch_ms(at) for at in told["next_fires"]] == [epoch_ms(at) for at in told["local_fires"]]
    assert all("T12:00:00-0" in at for at in told["local_fires"])
    assert (await api.post(f"{PATH}/preview", {"every": "15m"})).json["in_words"] == "Every 15m"
    assert (await api.post(f"{PATH}/preview", {"cron_expression": "0 0 31 4 *"})).problem == "invalid-schedule"
    assert (await api.get(PATH)).json["items"] == []


# As the submission of a job


async def test_a_submission_that_recurs_is_answered_with_its_first_job(api: Api) -> None:
    """The older systems' spelling: the answer is a job, which is there, scheduled for the first time."""
    body = {"type": "report", "payload": {"n": 1}, "ttl": "5m", "recurring": {"cron_expression": "@hourly"}}
    answer = await api.post("/api/jobs", body)

    job = answer.json
    assert (answer.status, job["status"], job["type"], job["payload"]) == (201, "scheduled", "report", {"n": 1})
    assert job["job_id"] == fire_id(job["recurring"], epoch_ms(job["execute_at"]))
    assert epoch_ms(job["expires_at"]) - epoch_ms(job["execute_at"]) == 300_000
    assert 0 < epoch_ms(job["execute_at"]) - time.time() * 1000 <= 3_600_000
    assert (await api.get(answer.headers["Location"])).json == job
    made = (await api.get(f"{PATH}/{job['recurring']}")).json
    assert (made["next_fires"][0], made["fired"]) == (job["execute_at"], 0)


async def test_a_submission_that_recurs_may_be_told_again(api: Api) -> None:
    """With a name or without: the job that comes next is the answer, and no second one is made."""
    for spec in ({"cron_expression": "@yearly"}, {"cron_expression": "@yearly", "name": "new-year"}):
        body = {"type": "report", "recurring": spec}
        first = await api.post("/api/v1/jobs", body, headers={"Idempotency-Key": "a"})
        again = await api.post("/api/v1/jobs", body)
        assert (again.status, again.headers["Job-Existing"], again.json) == (
            200,
            "true",
            {**first.json, "existing": True},
        )
        assert first.json["recurring"] == spec.get("name", first.json["recurring"])
    other = await api.post("/api/v1/jobs", {**body, "payload": 5})
    assert (other.status, other.problem) == (409, "recurring-exists")
    await api.post(f"{PATH}/new-year/pause")
    assert (await api.post("/api/v1/jobs", body)).problem == "recurring-exists"

    assert len((await api.get(PATH)).json["items"]) == 2


async def test_a_deleted_one_that_was_submitted_takes_its_first_job_along(api: Api) -> None:
    job = (await api.post("/api/v1/jobs", {"type": "report", "recurring": {"every": "1h"}})).json

    await api.call("DELETE", f"{PATH}/{job['recurring']}")

    assert (await api.get(f"/api/v1/jobs/{job['job_id']}")).problem == "job-not-found"


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("jobs", {"type": "a", "recurring": {}}, "/recurring/cron_expression"),
        ("jobs", {"type": "a", "recurring": 5}, "/recurring"),
        ("jobs", {"type": "a", "recurring": {"cron_expression": "x"}}, "/recurring/cron_expression"),
        ("jobs", {"type": "a", "recurring": {"every": "1h", "nme": 1}}, "/recurring/nme"),
        ("jobs", {"type": "a", "delay": 5, "recurring": {"every": "1h"}}, "/delay"),
        ("jobs", {"type": "a", "job_id": str(fire_id("a", 1)), "recurring": {"every": "1h"}}, "/job_id"),
        ("jobs", {"type": "a", "prioriti": 5, "recurring": {"every": "1h"}}, "/prioriti"),
        ("jobs/bulk", [{"type": "a", "recurring": {"every": "1h"}}], "/0/recurring"),
    ],
)
async def test_what_cannot_recur_is_refused(api: Api, path: str, body: Any, pointer: str) -> None:
    answer = await api.post(f"/api/v1/{path}", body)

    assert answer.status == 422, answer.body
    assert [fault["pointer"] for fault in answer.json["errors"]] == [pointer]
    assert await api.stored() == 0
    assert (await api.get(PATH)).json["items"] == []
