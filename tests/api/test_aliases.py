"""The calls that users of older systems know, row by row: each spelling works, and means what it meant there."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from gopher_node.api.answers.documents import JobDocument, JobPageDocument
from gopher_node.api.resources.aliases import ShortAnswer
from gopher_node.api.resources.health import HealthDocument
from gopher_node.api.resources.nodes import WorkersDocument
from gopher_node.job import Priority
from tests.api.conftest import Answer, Api

SOON = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
PAYLOAD = {"name": "Ann"}


def job_of(answer: Answer, status: int = 200) -> dict[str, Any]:
    """The job that an answer shows, as it is documented."""
    assert answer.status == status, answer.body
    JobDocument.model_validate(answer.json)
    return answer.json


async def stored(api: Api, job_id: str) -> Any:
    return await api.store.get(job_id)


# Submitting

SUBMISSIONS = {
    "api-jobs": ("/api/jobs", {"type": "greet", "payload": PAYLOAD, "priority": "high", "retries": 3}, "enqueued", 3),
    "v1": ("/api/v1/jobs", {"type": "greet", "payload": PAYLOAD, "priority": "high", "retries": 3}, "enqueued", 3),
    "max-retries": (
        "/api/v1/jobs",
        {"type": "greet", "payload": PAYLOAD, "priority": 3, "max_retries": 5},
        "enqueued",
        5,
    ),
    "execute-at": (
        "/api/v1/jobs",
        {"type": "greet", "payload": PAYLOAD, "priority": "high", "max_retries": 3, "execute_at": SOON},
        "scheduled",
        3,
    ),
    "create": ("/jobs/create", {"queue": "greet", "payload": PAYLOAD, "priority": "high"}, "enqueued", 7),
    "create-type": ("/jobs/create", {"type": "greet", "payload": PAYLOAD, "priority": "3"}, "enqueued", 7),
}


@pytest.mark.parametrize(("path", "body", "status", "retries"), SUBMISSIONS.values(), ids=SUBMISSIONS)
async def test_a_job_is_submitted(api: Api, path: str, body: dict[str, Any], status: str, retries: int) -> None:
    """The answer has the id, a UUID, and the state; and the job is stored with all that was said."""
    job = job_of(await api.post(path, body), 201)

    assert str(uuid.UUID(job["job_id"])) == job["job_id"]
    assert job["status"] == status
    found = await stored(api, job["job_id"])
    assert (found.type, found.payload, found.priority) == ("greet", b'{"name":"Ann"}', Priority.HIGH)
    assert found.max_retries == retries
    if "execute_at" in body:
        assert job["execute_at"] == SOON.replace("Z", ".000Z")


SHORT = {
    "example": ("?type=mail&priority=high", None, ("mail", Priority.HIGH, b"{}")),
    "payload": ("?type=mail&priority=high", {"to": 1}, ("mail", Priority.HIGH, b'{"to":1}')),
    "low": ("?type=mail&priority=low", None, ("mail", Priority.LOW, b"{}")),
    "urgent": ("?type=mail&priority=urgent", None, ("mail", Priority.URGENT, b"{}")),
    "no-priority": ("?type=mail", None, ("mail", Priority.NORMAL, b"{}")),
    "no-type": ("", None, ("default", Priority.NORMAL, b"{}")),
    "no-type-payload": ("?priority=4", [1], ("default", Priority.URGENT, b"[1]")),
    "handlers-priority": ("?type=greet", PAYLOAD, ("greet", Priority.HIGH, b'{"name":"Ann"}')),
    **{f"number-{n}": (f"?type=mail&priority={n}", None, ("mail", Priority(n), b"{}")) for n in (1, 2, 3, 4)},
}


@pytest.mark.parametrize(("query", "payload", "expected"), SHORT.values(), ids=SHORT)
async def test_a_job_is_submitted_by_its_address(api: Api, query: str, payload: Any, expected: tuple[Any, ...]) -> None:
    """Type and priority stand in the address, and the body is the payload or is not there."""
    body = {} if payload is None else {"json": payload}
    answer = await api.call("POST", f"/jobs{query}", **body)

    assert answer.status == 201, answer.body
    ShortAnswer.model_validate(answer.json)
    assert answer.json == {"job_id": answer.json["job_id"], "status": "submitted"}
    found = await stored(api, answer.json["job_id"])
    assert (found.type, found.priority, found.payload) == expected
    assert answer.headers["Location"] == f"/api/v1/jobs/{found.id}"


@pytest.mark.parametrize(
    "head", [b"", b"Content-Length: 0\r\n", b"Content-Type: application/json\r\nContent-Length: 0\r\n"]
)
async def test_no_body_at_all(api: Api, head: bytes) -> None:
    """As programs send a POST that has nothing to say."""
    answer = await api.exchange(
        b"POST /jobs?type=mail HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n" + head + b"\r\n"
    )

    assert answer.status == 201, answer.body


REFUSED = {
    "priority": ("?type=mail&priority=9", None, "invalid-parameter"),
    "type": ("?type=a:b", None, "invalid-parameter"),
    "misspelt": ("?typ=mail", None, "invalid-parameter"),
    "payload": ("?type=greet", {"name": 1}, "invalid-payload"),
    "no-payload": ("?type=greet", None, "invalid-payload"),
}


@pytest.mark.parametrize(("query", "payload", "problem"), REFUSED.values(), ids=REFUSED)
async def test_a_bad_address_stores_nothing(api: Api, query: str, payload: Any, problem: str) -> None:
    """It is as strict as the API's own submit."""
    answer = await api.call("POST", f"/jobs{query}", **({} if payload is None else {"json": payload}))

    assert (answer.status, answer.problem) == (422, problem)
    assert await api.stored() == 0


async def test_a_body_of_another_kind_stores_nothing(api: Api) -> None:
    answer = await api.call("POST", "/jobs?type=mail", data=b"a=1", headers={"Content-Type": "text/plain"})

    assert (answer.status, answer.problem) == (415, "unsupported-media-type")
    assert await api.stored() == 0


@pytest.mark.parametrize("path", ["/api/jobs", "/jobs/create", "/jobs?type=mail"])
async def test_a_submit_can_be_repeated(api: Api, path: str) -> None:
    """An idempotency key is heeded in every spelling, and what stands in the address is part of the request."""
    headers = {"Idempotency-Key": "k1"}
    first, again = [await api.post(path, {"type": "mail"}, headers=headers) for _ in range(2)]

    assert (first.status, again.status) == (201, 201)
    assert first.json == again.json
    assert ("Idempotency-Replayed" in first.headers, "Idempotency-Replayed" in again.headers) == (False, True)
    assert await api.stored() == 1
    other = await api.post("/jobs?type=other", {"type": "mail"}, headers=headers)
    assert (other.status, other.problem) == (422, "idempotency-key-reused")


async def test_a_draining_node_takes_nothing(api: Api) -> None:
    api.server.drain()
    answer = await api.post("/jobs?type=mail")

    assert (answer.status, answer.problem) == (503, "draining")


# Looking


async def test_a_job_is_shown(api: Api) -> None:
    """At the path of its id, as at the API's own."""
    job_id = await api.submit(type="mail")

    assert job_of(await api.get(f"/jobs/{job_id}")) == job_of(await api.get(f"/api/v1/jobs/{job_id}"))
    missing = await api.get(f"/jobs/{uuid.uuid4()}")
    assert (missing.status, missing.problem) == (404, "job-not-found")


async def test_jobs_of_a_queue_are_listed(api: Api) -> None:
    """A queue is named like the type of its jobs."""
    wanted = [await api.submit(type="mail") for _ in range(3)]
    await api.submit(type="other")

    answer = await api.get("/jobs?queue=mail")

    JobPageDocument.model_validate(answer.json)
    assert {job["job_id"] for job in answer.json["items"]} == set(wanted)
    assert {job["type"] for job in answer.json["items"]} == {"mail"}


async def test_health(api: Api) -> None:
    answer = await api.get("/health")

    assert answer.status == 200
    HealthDocument.model_validate(answer.json)
    assert answer.json["status"] == "healthy"
    told = datetime.fromisoformat(answer.json["timestamp"])
    assert abs(datetime.now(UTC) - told) < timedelta(minutes=1)


async def test_workers(api: Api) -> None:
    """At least the number of them; it is of the nodes that have told of themselves."""
    answer = await api.get("/workers")

    WorkersDocument.model_validate(answer.json)
    assert answer.json == {"workers": 0, "items": []}
