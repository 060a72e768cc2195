"""Workers over HTTP: claim, keep, and settle; each answer as documented, and each told twice, late and wrongly."""

from __future__ import annotations

import asyncio
import io
import json
import re
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from pydantic import TypeAdapter

from gopher_node.api.http_work.http_workers import HTTP_WORKERS, MAX_NAMES, HttpWorkers
from gopher_node.api.resources import leases
from gopher_node.api.resources.lease_batches import CompletedListDocument, FailedListDocument, ReleasedListDocument
from gopher_node.handlers import Registry
from gopher_node.job import RetryPolicy, State, Token
from gopher_node.telemetry import Events
from tests.api.conftest import Answer, Api

LEASES = "/api/v1/leases"
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-8[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


async def claim(api: Api, *types: str, **options: Any) -> list[dict[str, Any]]:
    answer = await api.post(LEASES, {"types": types or ["unserved"], **options})
    assert answer.status == 200, answer.body
    leases.LeaseListDocument.model_validate(answer.json)
    return answer.json["items"]


async def claim_one(api: Api, **fields: Any) -> dict[str, Any]:
    """A new job's lease."""
    await api.submit(**fields)
    (lease,) = await claim(api, fields.get("type", "unserved"))
    return lease


async def tell(api: Api, token: str, verb: str, content: Any = None) -> Answer:
    return await send(api, f"{LEASES}/{token}/{verb}", {} if content is None else content)


async def send(api: Api, path: str, content: Any) -> Answer:
    """A file, for the client does not like to send long bytes."""
    body = io.BytesIO(json.dumps(content).encode())
    return await api.call("POST", path, data=body, headers={"Content-Type": "application/json"})


async def job_of(api: Api, lease: dict[str, Any]) -> dict[str, Any]:
    return (await api.get(f"/api/v1/jobs/{lease['job']['job_id']}")).json


class TestClaim:
    async def test_jobs_come_with_tokens(self, api: Api) -> None:
        id = await api.submit(payload={"n": 1}, tags=["a"])
        (lease,) = await claim(api, worker="crane-1", lease="2m")
        job = await job_of(api, lease)

        assert (lease["job"]["job_id"], lease["job"]["payload"], lease["job"]["attempt"]) == (id, {"n": 1}, 1)
        assert lease["token"].startswith(f"{id}.1.")
        assert (job["status"], job["node"]) == ("processing", "http:crane-1")
        assert lease["job"]["node"] == job["node"]
        assert lease["job"]["started_at"] == job["started_at"] >= job["created_at"]

    async def test_job_that_is_told_again_began_when_it_did(self, api: Api) -> None:
        await api.submit()
        key = {"Idempotency-Key": "k"}
        for _ in range(2):
            (lease,) = (await api.post(LEASES, {"types": ["unserved"]}, headers=key)).json["items"]
            assert lease["job"]["started_at"] == (await job_of(api, lease))["started_at"]

    async def test_as_many_as_wanted_and_of_the_wanted_types(self, api: Api) -> None:
        for type in ("a", "a", "a", "b", "c"):
            await api.submit(type=type)

        assert {lease["job"]["type"] for lease in await claim(api, "a", "b", max_jobs=2)} <= {"a", "b"}
        assert sorted(lease["job"]["type"] for lease in await claim(api, "c", "b", "a", max_jobs=100)) in (
            ["a", "a", "c"],
            ["a", "b", "c"],
        )
        assert await claim(api, "a", "b", "c") == []

    async def test_run_is_given_the_time_of_its_handler(self, api: Api) -> None:
        """A lease ends no later than half a minute after the run's timeout: a job's own, else its type's."""
        await api.submit(type="greet", payload={"name": "you"}, timeout="1s")
        (lease,) = await claim(api, "greet", lease="1h")
        beat = (await tell(api, lease["token"], "heartbeat", {"lease": "1h"})).json

        assert beat["lease_expires_at"] == lease["lease_expires_at"]
        created = lease["job"]["created_at"]
        assert created < lease["lease_expires_at"]

    @pytest.mark.parametrize(
        ("body", "problem"),
        [
            ({}, "invalid-body"),
            ({"types": []}, "out-of-range"),
            ({"types": ["a"] * 101}, "out-of-range"),
            ({"types": "a"}, "invalid-name"),
            ({"types": ["a b"]}, "invalid-name"),
            ({"types": ["a"], "max_jobs": 0}, "out-of-range"),
            ({"types": ["a"], "max_jobs": 101}, "out-of-range"),
            ({"types": ["a"], "max_jobs": True}, "out-of-range"),
            ({"types": ["a"], "wait": "61s"}, "out-of-range"),
            ({"types": ["a"], "wait": "soon"}, "invalid-duration"),
            ({"types": ["a"], "lease": "999ms"}, "out-of-range"),
            ({"types": ["a"], "lease": "61m"}, "out-of-range"),
            ({"types": ["a"], "worker": "a b"}, "invalid-name"),
            ({"types": ["a"], "maxjobs": 1}, "unknown-field"),
        ],
    )
    async def test_bad_claim_takes_nothing(self, api: Api, body: Any, problem: str) -> None:
        await api.submit(type="a")
        answer = await api.post(LEASES, body)

        assert (answer.status, answer.problem) == (422, problem)
        assert len(await claim(api, "a")) == 1

    async def test_too_many_sets_of_types(self, api: Api) -> None:
        """Each makes every submit of its types dearer."""
        answers = [await api.post(LEASES, {"types": ["unserved", f"other{n}"]}) for n in range(65)]

        assert {answer.status for answer in answers[:64]} == {200}
        assert (answers[64].status, answers[64].problem) == (429, "too-many-pools")
        assert int(answers[64].headers["Retry-After"]) > 0

    async def test_claim_with_a_key_is_answered_again(self, api: Api) -> None:
        """With the jobs that it has won and that still run, and with no others."""
        ids = [await api.submit() for _ in range(3)]
        key = {"Idempotency-Key": "k-1"}
        body = {"types": ["unserved"], "max_jobs": 2}
        first = (await api.post(LEASES, body, headers=key)).json["items"]
        again = (await api.post(LEASES, body, headers=key)).json["items"]
        await tell(api, first[0]["token"], "complete")
        later = (await api.post(LEASES, body, headers=key)).json["items"]
        other = (await api.post(LEASES, body, headers={"Idempotency-Key": "k-2"})).json["items"]

        assert [lease["token"] for lease in again] == [lease["token"] for lease in first]
        assert [lease["token"] for lease in later] == [first[1]["token"]]
        assert [lease["job"]["job_id"] for lease in first + other] == ids

    async def test_claim_that_is_used_up_waits_for_nothing(self, api: Api) -> None:
        """Or it would stand in the way of those who can still get something."""
        key = {"Idempotency-Key": "k"}
        body = {"types": ["unserved"], "wait": "30s"}
        await api.submit()
        first = (await api.post(LEASES, body, headers=key)).json["items"]
        await tell(api, first[0]["token"], "complete")
        async with asyncio.timeout(5):
            again = await api.post(LEASES, body, headers=key)

        assert again.json == {"items": []}

    async def test_key_brings_no_jobs_of_other_types(self, api: Api) -> None:
        await api.submit(type="a")
        await api.submit(type="b")
        key = {"Idempotency-Key": "k"}
        one = await api.post(LEASES, {"types": ["a"]}, headers=key)
        other = await api.post(LEASES, {"types": ["b"]}, headers=key)

        assert [answer.json["items"][0]["job"]["type"] for answer in (one, other)] == ["a", "b"]

    @pytest.mark.parametrize("key", ["", "x" * 256, "two words", "é"])
    async def test_bad_key(self, api: Api, key: str) -> None:
        answer = await api.post(LEASES, {"types": ["a"]}, headers={"Idempotency-Key": key})

        assert (answer.status, answer.problem) == (400, "invalid-idempotency-key")


class TestHeartbeat:
    async def test_it_keeps_the_lease_and_tells_progress(self, api: Api) -> None:
        lease = await claim_one(api)
        beat = await tell(api, lease["token"], "heartbeat", {"progress": {"done": 0.5}, "lease": "5m"})

        leases.BeatDocument.model_validate(beat.json)
        assert beat.json["lease_expires_at"] > lease["lease_expires_at"]
        assert beat.json["cancel_requested"] is False
        assert (await job_of(api, lease))["progress"] == {"done": 0.5}

    async def test_body_may_be_left_out(self, api: Api) -> None:
        lease = await claim_one(api)
        answer = await api.call("POST", f"{LEASES}/{lease['token']}/heartbeat")

        assert answer.status == 200

    async def test_cancel_is_told_and_a_release_heeds_it(self, api: Api) -> None:
        lease = await claim_one(api)
        asked = await api.post(f"/api/v1/jobs/{lease['job']['job_id']}/cancel")
        beat = await tell(api, lease["token"], "heartbeat")
        released = await tell(api, lease["token"], "release")

        assert (asked.status, beat.json["cancel_requested"]) == (202, True)
        assert released.json == {"job_id": lease["job"]["job_id"], "status": "cancelled"}

    async def test_worker_that_ignores_the_cancel_loses_its_lease(self, serve: Callable[..., Awaitable[Api]]) -> None:
        api = await serve(cancel_grace=0.05)
        lease = await claim_one(api)
        await tell(api, lease["token"], "heartbeat")
        await api.post(f"/api/v1/jobs/{lease['job']['job_id']}/cancel")
        told: list[bool] = []
        while (beat := await tell(api, lease["token"], "heartbeat")).status == 200:
            told.append(beat.json["cancel_requested"])

        assert (beat.status, beat.problem) == (409, "lease-lost")
        assert set(told) == {True}
        taken = await api.store.reap_overdue((await api.store.survey()).overdue)
        job = await job_of(api, lease)
        assert (taken, job["status"], job["error"]["code"], job["crashes"]) == (1, "cancelled", "cancelled", 0)

    async def test_progress_has_a_limit(self, api: Api) -> None:
        lease = await claim_one(api)
        largest = await tell(api, lease["token"], "heartbeat", {"progress": "x" * (64 * 1024 - 2)})
        too_large = await tell(api, lease["token"], "heartbeat", {"progress": "y" * (64 * 1024 - 1)})

        assert largest.status == 200
        assert (too_large.status, too_large.problem) == (413, "progress-too-large")
        assert (await job_of(api, lease))["progress"][0] == "x"


class TestComplete:
    async def test_result_is_kept(self, api: Api) -> None:
        lease = await claim_one(api)
        answer = await tell(api, lease["token"], "complete", {"result": [1, {"two": 2}]})
        job = await job_of(api, lease)

        leases.CompletedDocument.model_validate(answer.json)
        assert answer.json == {"job_id": lease["job"]["job_id"], "status": "completed", "follow_ups": []}
        assert (job["status"], job["result"], job["attempt"]) == ("completed", [1, {"two": 2}], 1)

    async def test_body_may_be_left_out(self, api: Api) -> None:
        lease = await claim_one(api)
        await api.call("POST", f"{LEASES}/{lease['token']}/complete")

        assert (await job_of(api, lease))["result"] is None

    async def test_told_twice_it_is_answered_twice_and_done_once(self, api: Api) -> None:
        """Its follow-up jobs too: they are the same ones."""
        lease = await claim_one(api)
        body = {
            "result": 1,
            "follow_ups": [{"type": "next", "payload": {"n": n}, "priority": "high"} for n in range(3)],
        }
        first = await tell(api, lease["token"], "complete", body)
        again = await tell(api, lease["token"], "complete", body)
        followers = await claim(api, "next", max_jobs=10)

        assert (again.status, again.json) == (200, first.json)
        assert [job["job"]["job_id"] for job in followers] == first.json["follow_ups"]
        assert [job["job"]["payload"] for job in followers] == [{"n": 0}, {"n": 1}, {"n": 2}]
        assert all(UUID.fullmatch(id) for id in first.json["follow_ups"])
        assert await api.stored() == 4

    @pytest.mark.parametrize(
        "other",
        [
            {"result": 2, "follow_ups": [{"type": "next"}]},
            {"result": 1},
            {"result": 1, "follow_ups": [{"type": "next"}, {"type": "next"}]},
            {"result": 1, "follow_ups": [{"type": "next", "payload": {"n": 1}}]},
            {},
        ],
        ids=["result", "fewer", "more", "payload", "nothing"],
    )
    async def test_another_completion_is_no_repeat(self, api: Api, other: Any) -> None:
        """It names no jobs that were never stored, and changes nothing."""
        lease = await claim_one(api)
        body = {"result": 1, "follow_ups": [{"type": "next"}]}
        first = await tell(api, lease["token"], "complete", body)

        refused = await tell(api, lease["token"], "complete", other)

        assert (refused.status, refused.problem, refused.json["state"]) == (409, "invalid-state", "completed")
        assert "another outcome" in refused.json["detail"]
        assert (await tell(api, lease["token"], "complete", body)).json == first.json
        assert (await job_of(api, lease))["result"] == 1
        assert await api.stored() == 2

    async def test_a_repeat_is_known_when_its_follow_ups_are_gone(self, api: Api) -> None:
        lease = await claim_one(api)
        body = {"follow_ups": [{"type": "next"}]}
        first = await tell(api, lease["token"], "complete", body)
        await api.store.delete(first.json["follow_ups"][0])

        assert (await tell(api, lease["token"], "complete", body)).json == first.json

    async def test_a_follow_up_may_leave_its_id_open(self, api: Api) -> None:
        lease = await claim_one(api)
        answer = await tell(api, lease["token"], "complete", {"follow_ups": [{"type": "next", "job_id": None}]})

        (id,) = answer.json["follow_ups"]
        assert (await api.get(f"/api/v1/jobs/{id}")).json["status"] == "enqueued"

    @pytest.mark.parametrize(
        ("follow_ups", "pointer", "problem"),
        [
            ([{"type": "next"}, {"type": "greet", "payload": {}}], "/follow_ups/1/payload/name", "invalid-job"),
            ([{"type": "a b"}], "/follow_ups/0/type", "invalid-job"),
            ([{"type": "next", "nonsense": 1}], "/follow_ups/0/nonsense", "invalid-job"),
            (
                [{"type": "next"}, {"type": "next", "job_id": str(uuid.UUID(int=7))}],
                "/follow_ups/1/job_id",
                "invalid-job",
            ),
            ([1], "/follow_ups/0", "invalid-job"),
            ({"type": "next"}, "/follow_ups", "invalid-job"),
            ([{"type": "next"}] * 101, "/follow_ups", "out-of-range"),
            ([{"type": "next", "payload": "x" * 200_000}] * 6, "/follow_ups", "job-too-large"),
            ([{"type": "next", "payload": "x" * 270_000}], "/follow_ups/0/payload", "job-too-large"),
        ],
    )
    async def test_bad_follow_up_changes_nothing(self, api: Api, follow_ups: Any, pointer: str, problem: str) -> None:
        lease = await claim_one(api)
        answer = await tell(api, lease["token"], "complete", {"follow_ups": follow_ups})

        assert answer.problem == problem
        assert answer.json["errors"][0]["pointer"] == pointer
        assert await api.stored() == 1
        assert (await job_of(api, lease))["status"] == "processing"

    async def test_result_has_a_limit(self, api: Api) -> None:
        lease = await claim_one(api)
        too_large = await tell(api, lease["token"], "complete", {"result": "x" * (1024 * 1024 - 1)})
        state = (await job_of(api, lease))["status"]
        largest = await tell(api, lease["token"], "complete", {"result": "x" * (1024 * 1024 - 2)})

        assert (too_large.status, too_large.problem, state) == (413, "result-too-large", "processing")
        assert largest.status == 200

    async def test_result_may_be_as_deep_as_a_payload(self, api: Api) -> None:
        lease = await claim_one(api)
        deep: Any = 1
        for _ in range(64):
            deep = [deep]

        assert (await tell(api, lease["token"], "complete", {"result": deep})).status == 200


class TestFail:
    async def test_it_is_tried_again_when_the_worker_says(self, api: Api) -> None:
        lease = await claim_one(api)
        answer = await tell(api, lease["token"], "fail", {"error": "no luck", "retry_after": "1h"})
        job = await job_of(api, lease)

        leases.FailedDocument.model_validate(answer.json)
        assert answer.json == {"job_id": job["job_id"], "status": "scheduled", "execute_at": job["execute_at"]}
        assert (job["errors"], job["attempts"][0]["error"]) == (1, {"code": "error", "message": "no luck"})

    async def test_at_once_if_it_says_so(self, api: Api) -> None:
        lease = await claim_one(api)
        answer = await tell(api, lease["token"], "fail", {"error": "no luck", "retry_after": 0})
        (second,) = await claim(api)

        assert (answer.json["status"], answer.json["execute_at"]) == ("enqueued", None)
        assert (second["job"]["attempt"], second["job"]["errors"]) == (2, 1)

    async def test_policy_decides_else(self, api: Api, registry: Registry) -> None:
        """That of the job's type if it has a handler with one, with the errors that the job has had."""

        @registry.handler("patient", retry=RetryPolicy(base=1e8, cap=1e8))
        def patient() -> None:
            pass

        node = await claim_one(api)
        own = await claim_one(api, type="patient")
        answers = [await tell(api, lease["token"], "fail", {"error": "no luck"}) for lease in (node, own)]
        jobs = [await job_of(api, lease) for lease in (node, own)]

        assert [answer.json["status"] for answer in answers] == ["scheduled"] * 2
        assert jobs[0]["execute_at"] < jobs[1]["execute_at"]

    async def test_not_retryable(self, api: Api) -> None:
        lease = await claim_one(api)
        error = {"code": "gone", "message": "m" * 9000, "type": "KeyError", "traceback": "t" * 99000}
        answer = await tell(api, lease["token"], "fail", {"error": error, "retryable": False})
        job = await job_of(api, lease)

        assert (answer.json["status"], answer.json["execute_at"], job["status"]) == ("failed", None, "failed")
        assert {name: len(value) for name, value in job["error"].items()} == {
            "code": 4,
            "message": 4096,
            "type": 8,
            "traceback": 16384,
        }

    async def test_retries_are_used_up(self, api: Api) -> None:
        lease = await claim_one(api, max_retries=0)
        answer = await tell(api, lease["token"], "fail", {"error": "no luck"})

        assert answer.json["status"] == "failed"

    @pytest.mark.parametrize(
        ("body", "problem"),
        [
            ({}, "invalid-body"),
            ({"error": 1}, "invalid-body"),
            ({"error": {"code": "x"}}, "invalid-body"),
            ({"error": {"message": "x", "more": 1}}, "invalid-body"),
            ({"error": "x", "retryable": "yes"}, "invalid-body"),
            ({"error": "x", "retry_after": -1}, "invalid-duration"),
            ({"error": "x", "retry_after": "400d"}, "invalid-run-at"),
            ({"error": "x", "retry": True}, "unknown-field"),
        ],
    )
    async def test_bad_body_changes_nothing(self, api: Api, body: Any, problem: str) -> None:
        lease = await claim_one(api)
        answer = await tell(api, lease["token"], "fail", body)

        assert (answer.status, answer.problem) == (422, problem)
        assert (await job_of(api, lease))["status"] == "processing"


async def test_released_job_goes_to_the_next(api: Api) -> None:
    lease = await claim_one(api)
    answer = await tell(api, lease["token"], "release")
    (second,) = await claim(api)

    assert answer.json == {"job_id": lease["job"]["job_id"], "status": "enqueued"}
    assert (second["job"]["attempt"], second["job"]["errors"], second["job"]["crashes"]) == (2, 0, 0)


SETTLED = {
    "complete": ({}, "completed"),
    "fail": ({"error": "x", "retry_after": "1h"}, "scheduled"),
    "release": ({}, "enqueued"),
}


@pytest.mark.parametrize("first", SETTLED)
@pytest.mark.parametrize("second", SETTLED)
async def test_settled_in_another_way_before(api: Api, first: str, second: str) -> None:
    """Told twice, the answer is the same; told something else, it is refused with the state that came of it."""
    lease = await claim_one(api)
    told = await tell(api, lease["token"], first, SETTLED[first][0])
    answer = await tell(api, lease["token"], second, SETTLED[second][0])
    job = await job_of(api, lease)

    assert told.json["status"] == job["status"] == SETTLED[first][1]
    if first == second:
        assert (answer.status, answer.json) == (200, told.json)
    else:
        assert (answer.status, answer.problem, answer.json["state"]) == (409, "invalid-state", SETTLED[first][1])


BODIES: dict[str, Any] = {"heartbeat": {"progress": 1}, "fail": {"error": "x"}, "complete": {}, "release": {}}


@pytest.mark.parametrize("verb", BODIES)
class TestToken:
    async def test_lost(self, api: Api, verb: str) -> None:
        """Another worker has the job: the first learns what to do, and changes nothing."""
        lease = await claim_one(api)
        await tell(api, lease["token"], "release")
        (second,) = await claim(api)
        answer = await tell(api, lease["token"], verb, BODIES[verb])

        if verb == "release":
            # It is what it said before.
            assert (answer.status, answer.json["status"]) == (200, "enqueued")
        else:
            assert answer.status == 409
        assert (await job_of(api, second))["status"] == "processing"
        assert (await job_of(api, second))["attempt"] == 2

    async def test_stale(self, api: Api, verb: str) -> None:
        id = await api.submit()
        await claim(api)
        answer = await tell(api, f"{id}.1.0123456789abcdef", verb, BODIES[verb])

        assert (answer.status, answer.problem) == (409, "lease-lost")
        assert answer.json["detail"] == "Stop this run: another worker may have the job."

    async def test_of_a_job_that_is_gone(self, api: Api, verb: str) -> None:
        answer = await tell(api, f"{uuid.uuid4()}.1.0123456789abcdef", verb, BODIES[verb])

        assert (answer.status, answer.problem) == (409, "lease-lost")

    @pytest.mark.parametrize(
        "token", ["x", "a.b.c", "%7B%7D", "1.1.0123456789ABCDEF", "é", "d0af82c6-3803-438f-a475-e0ae973ffdb7.1."]
    )
    async def test_none_at_all(self, api: Api, verb: str, token: str) -> None:
        answer = await tell(api, token, verb, BODIES[verb])

        assert (answer.status, answer.problem) == (404, "lease-not-found")
        assert token not in answer.body.decode()


class TestBatches:
    async def test_each_is_answered_for_itself(self, api: Api) -> None:
        for _ in range(3):
            await api.submit()
        first, second, third = await claim(api, max_jobs=3)
        items = [
            {"token": first["token"], "result": 1, "follow_ups": [{"type": "next"}]},
            {"token": "nonsense"},
            {"token": second["token"], "follow_ups": [{"type": "a b"}]},
            {"token": f"{third['job']['job_id']}.7.0123456789abcdef"},
            {"result": 1},
            "text",
            {"token": third["token"], "result": "x" * 2_000_000},
            {"token": third["token"], "result": 3},
        ]
        answer = await send(api, f"{LEASES}/complete", {"items": items})
        told = answer.json["items"]
        TypeAdapter(CompletedListDocument).validate_python(answer.json)

        assert [item.get("status") or item["problem"]["type"] for item in told] == [
            "completed",
            "/problems/lease-not-found",
            "/problems/invalid-job",
            "/problems/lease-lost",
            "/problems/invalid-body",
            "/problems/invalid-body",
            "/problems/result-too-large",
            "completed",
        ]
        assert told[3]["problem"]["instance"] == answer.headers["X-Request-ID"]
        assert [(await job_of(api, lease))["status"] for lease in (first, second, third)] == [
            "completed",
            "processing",
            "completed",
        ]
        again = await api.post(f"{LEASES}/complete", {"items": [items[0], items[7]]})
        assert again.json["items"] == [told[0], {**told[7], "index": 1}]
        assert [item["index"] for item in told] == list(range(8))
        jobs = [lease["job"]["job_id"] for lease in (first, second, third)]
        assert [item["job_id"] for item in told] == [
            jobs[0],
            None,
            jobs[1],
            jobs[2],
            None,
            None,
            jobs[2],
            jobs[2],
        ]

    async def test_heartbeats(self, api: Api) -> None:
        for _ in range(3):
            await api.submit()
        first, second, third = await claim(api, max_jobs=3)
        await api.post(f"/api/v1/jobs/{second['job']['job_id']}/cancel")
        await tell(api, third["token"], "complete")
        items = [
            {"token": first["token"], "progress": 1, "lease": "9m"},
            {"token": first["token"], "progress": "x" * 70_000},
            {"token": third["token"]},
            {"token": "nonsense"},
            {"token": second["token"]},
        ]
        answer = await api.post(f"{LEASES}/heartbeat", {"items": items})
        told = answer.json["items"]

        assert [item["problem"]["type"] if "problem" in item else item["cancel_requested"] for item in told] == [
            False,
            "/problems/progress-too-large",
            "/problems/lease-lost",
            "/problems/lease-not-found",
            True,
        ]
        assert told[0]["lease_expires_at"] > told[4]["lease_expires_at"]
        assert (await job_of(api, first))["progress"] == 1

    async def test_failures_and_releases(self, api: Api) -> None:
        for _ in range(4):
            await api.submit()
        held = await claim(api, max_jobs=4)
        tokens = [{"token": lease["token"]} for lease in held]
        failures = [{**tokens[0], "error": "x", "retryable": False}, {**tokens[1], "error": "x", "retry_after": 9}]
        failed = await api.post(f"{LEASES}/fail", {"items": failures})
        released = await api.post(f"{LEASES}/release", {"items": tokens})
        TypeAdapter(FailedListDocument).validate_python(failed.json)
        TypeAdapter(ReleasedListDocument).validate_python(released.json)

        assert [item["status"] for item in failed.json["items"]] == ["failed", "scheduled"]
        assert [item.get("status") or item["problem"]["state"] for item in released.json["items"]] == [
            "failed",
            "scheduled",
            "enqueued",
            "enqueued",
        ]

    @pytest.mark.parametrize("verb", ["heartbeat", "complete", "fail", "release"])
    @pytest.mark.parametrize(
        ("body", "status", "problem"),
        [
            ({}, 422, "invalid-body"),
            ([], 422, "invalid-body"),
            ({"items": {}}, 422, "invalid-body"),
            ({"items": [], "more": 1}, 422, "unknown-field"),
            ({"items": [{}] * 201}, 413, "batch-too-large"),
        ],
    )
    async def test_bad_batch(self, api: Api, verb: str, body: Any, status: int, problem: str) -> None:
        answer = await api.post(f"{LEASES}/{verb}", body)

        assert (answer.status, answer.problem) == (status, problem)

    @pytest.mark.parametrize("verb", ["heartbeat", "complete", "fail", "release"])
    async def test_empty_batch(self, api: Api, verb: str) -> None:
        assert (await api.post(f"{LEASES}/{verb}", {"items": []})).json == {"items": []}

    async def test_two_hundred_at_once(self, api: Api) -> None:
        jobs = [{"type": "many", "payload": n} for n in range(200)]
        await api.post("/api/v1/jobs/bulk", jobs)
        held = await claim(api, "many", max_jobs=100) + await claim(api, "many", max_jobs=100)
        items = [{"token": lease["token"], "result": lease["job"]["payload"]} for lease in held]
        answer = await api.post(f"{LEASES}/complete", {"items": items})

        assert [item["status"] for item in answer.json["items"]] == ["completed"] * 200
        assert (await api.store.stats()).totals["completed"] == 200


async def test_tokens_are_not_logged(
    serve: Callable[..., Awaitable[Api]], capfd: pytest.CaptureFixture[str], store: Any
) -> None:
    """Not in access lines, nor with an error that nobody foresaw."""
    api = await serve(log_level="debug")
    lease = await claim_one(api)
    nonce = lease["token"].rpartition(".")[2]
    await tell(api, lease["token"], "heartbeat")

    async def complete(*_: Any) -> None:
        raise RuntimeError("unforeseen")

    store.complete = complete
    assert (await tell(api, lease["token"], "complete")).status == 500
    await api.post(f"{LEASES}/release", {"items": [{"token": lease["token"]}]})
    written = capfd.readouterr()

    assert "/api/v1/leases/{token}/complete" in written.err + written.out
    assert nonce not in written.err + written.out


class TestStatistics:
    async def test_what_each_worker_has_done(self, api: Api) -> None:
        workers: HttpWorkers = api.server._app[HTTP_WORKERS]
        for _ in range(6):
            await api.submit()
        held = await claim(api, worker="crane", max_jobs=5)
        (other,) = await claim(api)
        await tell(api, held[0]["token"], "complete")
        await tell(api, held[0]["token"], "complete")
        await tell(api, held[1]["token"], "fail", {"error": "x"})
        await tell(api, held[2]["token"], "release")
        await tell(api, held[2]["token"], "complete")
        crane, nameless = workers.all()

        assert (crane.name, nameless.name) == ("crane", "http")
        assert (crane.claimed, crane.completed, crane.failed, crane.released, crane.active) == (5, 1, 1, 1, 2)
        assert (nameless.claimed, nameless.active) == (1, 1)
        assert crane.last_seen_ms > 0
        assert api.events.counts["claimed"] == 6
        assert api.events.measures.types["unserved"].ended == {"completed": 1, "retried": 1, "released": 1}
        assert other["job"]["attempt"] == 1

    async def test_lease_that_has_ended_is_not_active(self, api: Api) -> None:
        await claim_one(api)
        workers = api.server._app[HTTP_WORKERS]

        assert [worker.active for worker in workers.all()] == [1]
        assert [worker.active for worker in workers.all(now_ms=2**60)] == [0]

    def test_names_are_bounded(self) -> None:
        """Those who have not been seen for longest go."""
        workers = HttpWorkers(Events())
        for n in range(MAX_NAMES):
            workers.seen(f"w{n}")
        workers.seen("w0")
        workers.settled(Token("a", 1, "0" * 16), "new", "completed", State.COMPLETED)
        names = {worker.name for worker in workers.all()}

        assert len(names) == MAX_NAMES
        assert {"w0", "new"} <= names
        assert "w1" not in names


async def test_settlements_of_many_share_requests(api: Api) -> None:
    """A hundred workers that tell their ends at once do not take a hundred round trips."""
    for _ in range(100):
        await api.submit()
    held = await claim(api, max_jobs=100)
    answers = await asyncio.gather(*(tell(api, lease["token"], "complete") for lease in held))

    assert {answer.status for answer in answers} == {200}
