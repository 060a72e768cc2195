"""Submitting one job: what may be said, and what becomes of it."""

import re
from datetime import UTC, datetime, timedelta

import pytest

from gopher_node.job import Priority, State

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\Z")


async def test_answers_the_whole_job_and_where_it_is(api):
    """A submit answers 201 with the job as a later look finds it, and the address of that look."""
    answer = await api.post("/api/v1/jobs", {"type": "mail", "payload": {"to": "a@b.c"}, "tags": ["x", "y", "x"]})

    assert answer.status == 201
    assert answer.headers["Content-Type"] == "application/json"
    job = answer.json
    assert answer.headers["Location"] == f"/api/v1/jobs/{job['job_id']}"
    assert TIME.match(job["created_at"])
    assert (job["status"], job["payload"], job["tags"]) == ("enqueued", {"to": "a@b.c"}, ["x", "y"])
    assert (job["priority"], job["max_retries"], job["attempt"]) == ("normal", 2, 0)
    assert job["durability"] == api.store.durability
    assert job == (await api.get(answer.headers["Location"])).json
    assert api.events.counts["submitted"] == 1


async def test_every_name_that_design_fixes_is_there(api):
    """A job's JSON has all the names that clients and checks agree on."""
    job = (await api.post("/api/v1/jobs", {"type": "mail"})).json

    names = "job_id type payload priority group status attempt max_retries created_at execute_at started_at finished_at"
    names += " result error errors crashes attempts cancel_requested progress tags durability"
    assert set(names.split()) <= job.keys()


async def test_the_seed_spelling_works(api):
    """POST /api/jobs with `retries`, as the first system's users write it, is the same submit."""
    answer = await api.post("/api/jobs", {"type": "email", "payload": {}, "priority": "high", "retries": 5})

    assert answer.status == 201
    assert answer.json["status"] == "enqueued"
    job = await api.store.get(answer.json["job_id"])
    assert (job.type, job.priority, job.max_retries) == ("email", Priority.HIGH, 5)


@pytest.mark.parametrize(
    ("given", "expected"),
    [("urgent", "urgent"), ("HIGH", "high"), (2, "normal"), ("1", "low"), (None, "normal")],
)
async def test_priority_by_name_or_number(api, given, expected):
    """A priority may be its name or its number; null says nothing."""
    answer = await api.post("/api/v1/jobs", {"type": "mail", "priority": given})

    assert answer.json["priority"] == expected


async def test_a_delay_schedules(api):
    """With a delay the job is scheduled, and says until when."""
    job = (await api.post("/api/v1/jobs", {"type": "mail", "delay": "1h30m"})).json

    assert job["status"] == "scheduled"
    waits = datetime.fromisoformat(job["execute_at"]) - datetime.fromisoformat(job["created_at"])
    assert waits == timedelta(minutes=90)


async def test_a_time_with_its_zone_schedules(api):
    """`execute_at` in any zone is kept to the millisecond, and shown in UTC."""
    due = datetime.now(UTC).replace(microsecond=123_000) + timedelta(days=3)
    local = due.astimezone().isoformat()

    job = (await api.post("/api/v1/jobs", {"type": "mail", "execute_at": local})).json

    assert job["status"] == "scheduled"
    assert job["execute_at"].endswith(".123Z")
    assert datetime.fromisoformat(job["execute_at"]) == due


@pytest.mark.parametrize("past", ["2001-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00"])
async def test_a_time_in_the_past_is_now(api, past):
    """A job that should have run already is enqueued."""
    answer = await api.post("/api/v1/jobs", {"type": "mail", "execute_at": past})

    assert answer.json["status"] == "enqueued"


async def test_all_options_reach_the_store(api):
    """What a submit says is what the store keeps."""
    fields = {
        "queue": "mail",
        "payload": [1, "two", None, {"3": 4.5}],
        "priority": 4,
        "max_retries": 0,
        "retries": 0,
        "group": "tenant:7",
        "timeout": "1m",
        "retention": 0.5,
        "tags": ["red"],
        "delay": 0,
    }

    job = await api.store.get(await api.submit(**fields, type=None))

    assert (job.type, job.state, job.priority, job.max_retries) == ("mail", State.ENQUEUED, Priority.URGENT, 0)
    assert (job.group, job.timeout_ms, job.retention_ms, job.tags) == ("tenant:7", 60_000, 500, ("red",))
    assert job.payload == b'[1,"two",null,{"3":4.5}]'


async def test_a_known_type_brings_its_defaults(api):
    """Where the body says nothing, the handler's retries, priority and timeout hold."""
    job = await api.store.get(await api.submit(type="greet", payload={"name": "Ada"}))

    assert (job.max_retries, job.priority, job.timeout_ms) == (7, Priority.HIGH, 40_000)


async def test_the_body_beats_the_handlers_defaults(api):
    """What the body says holds, also against the handler."""
    job = await api.store.get(
        await api.submit(type="greet", payload={"name": "Ada"}, retries=0, priority="low", timeout=1)
    )

    assert (job.max_retries, job.priority, job.timeout_ms) == (0, Priority.LOW, 1000)


async def test_a_payload_that_the_handler_cannot_take_is_refused_at_the_door(api):
    """Where the type is known, every mistake of the payload is told at once, with pointers into the body."""
    answer = await api.post("/api/v1/jobs", {"type": "greet", "payload": {"times": "3", "nmae": "Ada"}})

    assert (answer.status, answer.problem) == (422, "invalid-payload")
    assert {error["pointer"] for error in answer.json["errors"]} == {
        "/payload/name",
        "/payload/times",
        "/payload/nmae",
    }
    assert await api.stored() == 0


async def test_a_type_that_nobody_knows_waits(api):
    """A job of an unknown type is accepted with any payload; some worker may serve it later."""
    assert await api.submit(type="tomorrow's".replace("'", "-"), payload="anything")


async def test_all_mistakes_are_told_at_once(api):
    """One answer names every mistake, those of the fields, between fields and of the payload."""
    content = {
        "type": "greet",
        "queue": "other",
        "priority": 9,
        "retries": True,
        "delay": "soon",
        "execute_at": "2026-01-01T00:00:00",
        "tags": ["ok", "not ok"],
        "payload": {},
        "nonsense": 1,
    }

    answer = await api.post("/api/v1/jobs", content)

    assert (answer.status, answer.problem) == (422, "invalid-job")
    assert {(error["pointer"], error["code"]) for error in answer.json["errors"]} == {
        ("/priority", "out-of-range"),
        ("/retries", "out-of-range"),
        ("/delay", "invalid-duration"),
        ("/delay", "conflict"),
        ("/execute_at", "invalid-run-at"),
        ("/tags/1", "invalid-name"),
        ("/nonsense", "unknown-field"),
        ("/queue", "conflict"),
        ("/payload/name", "missing"),
    }
    assert await api.stored() == 0


async def test_request_ids(api):
    """A client's request id comes back if it can stand in a header and a log; otherwise the node makes one."""
    echoed = await api.get("/api/v1/stats", headers={"X-Request-ID": "abc-123"})
    replaced = await api.get("/api/v1/stats", headers={"X-Request-ID": "<script>" * 20})
    made = await api.get("/api/v1/stats")

    assert echoed.headers["X-Request-ID"] == "abc-123"
    assert re.fullmatch(r"[0-9a-f]+-[0-9a-f]+", replaced.headers["X-Request-ID"])
    assert made.headers["X-Request-ID"] != replaced.headers["X-Request-ID"]


async def test_a_chunked_body_is_read(api):
    """A body without a declared length, in several pieces, is a body."""

    async def pieces():
        yield b'{"type":'
        yield b'"mail"}'

    answer = await api.call("POST", "/api/v1/jobs", data=pieces(), headers={"Content-Type": "application/json"})

    assert answer.status == 201


async def test_an_id_of_ones_own(api):
    """A job may bring its id."""
    own = "b3864208-5177-41ad-8fa2-451fed8ec84f"
    answer = await api.post("/api/v1/jobs", {"type": "mail", "job_id": own})

    assert (answer.status, answer.json["job_id"]) == (201, own)
    assert answer.headers["Location"] == f"/api/v1/jobs/{own}"


async def test_a_callback(api):
    """A callback to a public https address is kept with the job, alone and in a batch."""
    url = "https://example.org/hooks?token=1"
    alone = await api.submit(callback_url=url)
    batch = (await api.post("/api/v1/jobs/bulk", [{"type": "mail", "callback_url": url}])).json["items"]

    assert (await api.store.get(alone)).callback_url == url
    assert (await api.store.get(batch[0]["job_id"])).callback_url == url


async def test_a_callback_that_the_operator_allows(serve):
    """Hosts and networks that the setting names may be called, also over http."""
    api = await serve(webhook_allow="10.0.0.0/8,hooks.internal")

    for url in ("http://10.1.2.3:8080/x", "http://hooks.internal/x"):
        assert (await api.store.get(await api.submit(callback_url=url))).callback_url == url
    for body, path in (
        ({"type": "mail", "callback_url": "http://192.168.0.1/"}, "/api/v1/jobs"),
        ([{"type": "mail", "callback_url": "http://192.168.0.1/"}], "/api/v1/jobs/bulk"),
    ):
        assert (await api.post(path, body)).status == 422
