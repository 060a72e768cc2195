"""What the client sends, as values: bodies, parameters, paths, and the walk through a list."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest

from gopher_node.client import calls
from gopher_node.client.calls.call import Call
from gopher_node.client.calls.jobs import Listing
from gopher_node.client.problems import JobNotFound
from gopher_node.client.views import Page
from gopher_node.job import Priority, RetryPolicy, State

JOB = {"job_id": "7f7a2b1e-6f0e-4d7a-9a55-0d9a9f3ad001", "type": "email", "status": "enqueued"}


def body_of(call: Call[Any]) -> Any:
    assert call.body is not None
    return orjson.loads(call.body)


def test_a_submit_leaves_to_the_node_what_the_caller_does_not_say() -> None:
    """Options that are missing or None, and a payload of None, are not in the body."""
    call = calls.jobs.submit("email", None, {"priority": None, "delay": None})

    assert (call.method, call.path) == ("POST", "/api/v1/jobs")
    assert body_of(call) == {"type": "email"}


@pytest.mark.parametrize(
    ("name", "value", "sent"),
    [
        ("priority", Priority.HIGH, "high"),
        ("priority", "urgent", "urgent"),
        ("priority", 4, 4),
        ("max_retries", 0, 0),
        ("delay", "30s", "30s"),
        ("delay", 1.5, 1.5),
        ("delay", timedelta(minutes=2), 120.0),
        ("execute_at", "2030-01-01T00:00:00Z", "2030-01-01T00:00:00Z"),
        ("execute_at", datetime(2030, 1, 1, tzinfo=UTC), "2030-01-01T00:00:00+00:00"),
        ("group", "acme", "acme"),
        ("timeout", timedelta(milliseconds=250), 0.25),
        ("tags", ("a", "b"), ["a", "b"]),
        ("retention", "24h", "24h"),
        ("job_id", UUID("7f7a2b1e-6f0e-4d7a-9a55-0d9a9f3ad001"), "7f7a2b1e-6f0e-4d7a-9a55-0d9a9f3ad001"),
        ("callback_url", "https://example.org/ended", "https://example.org/ended"),
        ("unique_key", "order-17", "order-17"),
        ("unique_until", timedelta(minutes=10), 600.0),
        ("on_duplicate", "replace", "replace"),
        ("expires_at", datetime(2030, 1, 1, tzinfo=UTC), "2030-01-01T00:00:00+00:00"),
        ("ttl", "1h", "1h"),
        ("retry", {"strategy": "fixed"}, {"strategy": "fixed"}),
        (
            "retry",
            RetryPolicy(strategy="list", delays=[1, 5], never=[OSError]),
            {"strategy": "list", "base": 2.0, "cap": 600.0, "factor": 2.0, "delays": [1, 5], "never": ["OSError"]},
        ),
    ],
)
def test_options_are_sent_as_json_has_them(name: str, value: Any, sent: Any) -> None:
    """Each option is under its own name, and what JSON has no form for is sent in the API's."""
    call = calls.jobs.submit("email", {"to": "a@example.org"}, {name: value})  # type: ignore[misc]

    assert body_of(call) == {"type": "email", "payload": {"to": "a@example.org"}, name: sent}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"priorty": "high"}, TypeError, "no option priorty"),
        ({"tags": "monthly"}, TypeError, "tags is a list"),
        ({"execute_at": datetime(2030, 1, 1)}, ValueError, "time zone"),  # noqa: DTZ001
    ],
)
def test_a_slip_of_the_caller_is_not_sent(options: Any, error: type[Exception], message: str) -> None:
    """Options that do not exist or cannot be meant are the caller's error, at once."""
    with pytest.raises(error, match=message):
        calls.jobs.submit("email", {}, options)


@pytest.mark.parametrize("payload", [{1, 2}, {"text": "\ud800"}, {"number": 2**70}])
def test_a_payload_that_is_no_json_is_not_sent(payload: Any) -> None:
    """What JSON, as the node reads it, cannot hold is refused with a word about the payload."""
    with pytest.raises(TypeError, match="payload cannot be written as JSON"):
        calls.jobs.submit("email", payload, {})


def test_many_jobs_are_one_body() -> None:
    """Each job of a batch has the same form as a single one."""
    call = calls.jobs.submit_many([{"type": "a", "payload": [1], "priority": Priority.LOW}, {"type": "b"}])

    assert (call.method, call.path) == ("POST", "/api/v1/jobs/bulk")
    assert body_of(call) == [{"type": "a", "payload": [1], "priority": "low"}, {"type": "b"}]


def test_a_job_id_cannot_name_another_resource() -> None:
    """Whatever an id holds, it stays one step of the path."""
    assert calls.jobs.get("a/../b?c=d#e").path == "/api/v1/jobs/a%2F..%2Fb%3Fc%3Dd%23e"


@pytest.mark.parametrize("job_id", ["", ".", ".."])
def test_what_is_no_step_of_a_path_is_no_job(job_id: str) -> None:
    """An id that would vanish from the path is answered like an unknown one."""
    with pytest.raises(JobNotFound):
        calls.jobs.delete(job_id)


@pytest.mark.parametrize("queue", ["", "..", "a/b", "a b", "{a}"])
def test_a_purge_needs_the_name_of_a_queue(queue: str) -> None:
    """A purge cannot be led to another address by its name."""
    with pytest.raises(ValueError, match="name of a queue"):
        calls.queues.purge(queue, None)


REPEATABLE = {
    "get": calls.jobs.get("i"),
    "jobs": calls.jobs.jobs().call,
    "dead-letters": calls.dead_letters.dead_letters().call,
    "stats": calls.nodes.stats(),
    "health": calls.nodes.health(),
    "handlers": calls.nodes.handlers(),
    "queue": calls.queues.queue("a"),
    "keys": calls.keys.keys(),
    "limit": calls.flow.limit("a", {"max_running": 1}),
    "pause": calls.flow.pause("a", None, None),
    "submit": calls.jobs.submit("a", None, {}),
    "submit-many": calls.jobs.submit_many([]),
    "lease": calls.leases.lease(["a"], 1, 0, None, None),
    "heartbeat": calls.leases.heartbeat("t", None, None),
    "complete": calls.leases.complete("t", None, ()),
    "fail": calls.leases.fail("t", "e", None, True, None),
    "release": calls.leases.release("t"),
}
NOT_REPEATABLE = {
    "cancel": calls.jobs.cancel("i"),
    "retry": calls.jobs.retry("i"),
    "run-now": calls.jobs.run_now("i"),
    "edit": calls.jobs.edit("i", "low", None, None),
    "delete": calls.jobs.delete("i"),
    "cancel-many": calls.jobs.act_on_many("cancel", {}, all=True),
    "retry-all": next(calls.dead_letters.retry({}, None)),
    "purge": calls.queues.purge("a", None),
    "reset-breaker": calls.flow.reset_breaker("a"),
    "create-key": calls.keys.create("a", ["read"], None, None),
    "revoke-key": calls.keys.revoke("a"),
    "rotate-key": calls.keys.rotate("a", None),
}


@pytest.mark.parametrize("call", REPEATABLE.values(), ids=REPEATABLE)
def test_what_the_node_does_only_once_is_repeatable(call: Call[Any]) -> None:
    """Reads, and what carries an idempotency key or a token, may be asked again after a lost answer."""
    assert call.repeatable


@pytest.mark.parametrize("call", NOT_REPEATABLE.values(), ids=NOT_REPEATABLE)
def test_an_act_that_could_be_done_twice_is_not_repeatable(call: Call[Any]) -> None:
    """An operator's act without an answer is left to the operator."""
    assert not call.repeatable


def test_every_submit_has_a_key_of_its_own() -> None:
    """Two submits of the same job are two jobs; one submit keeps its key however often it is sent."""
    keys = [calls.jobs.submit("a", None, {}).key, calls.jobs.submit("a", None, {}).key]
    keys += [calls.jobs.submit_many([{"type": "a"}]).key, calls.jobs.submit_many([{"type": "a"}]).key]

    assert len(set(keys)) == 4
    assert all(keys)


def test_the_caller_may_choose_the_key() -> None:
    """A program that repeats itself can make its submit the same one; the key is no part of the job."""
    call = calls.jobs.submit("a", None, {"idempotency_key": "order-17"})

    assert call.key == "order-17"
    assert body_of(call) == {"type": "a"}
    assert calls.jobs.submit_many([{"type": "a"}], "order-17").key == "order-17"


@pytest.mark.parametrize("key", ["", "a b", "ä", "a\nb", "x" * 256])
def test_a_key_that_no_header_holds_is_not_sent(key: str) -> None:
    """A slip that would break the request is told at once."""
    with pytest.raises(ValueError, match="1 to 255 visible ASCII"):
        calls.jobs.submit("a", None, {"idempotency_key": key})


def test_filters_are_parameters() -> None:
    """Several states are one parameter; what is not given is none."""
    call = calls.jobs.jobs(
        status=[State.FAILED, "cancelled"],
        type="email",
        priority=Priority.LOW,
        group=None,
        created_after=datetime(2030, 1, 1, tzinfo=UTC),
    ).call

    assert call is not None
    assert dict(call.params) == {
        "status": "failed,cancelled",
        "type": "email",
        "priority": "low",
        "created_after": "2030-01-01T00:00:00+00:00",
        "limit": "200",
    }


def test_an_unknown_filter_is_not_sent() -> None:
    """A misspelt filter would otherwise match every job."""
    with pytest.raises(TypeError, match="statuss"):
        calls.jobs.jobs(statuss="failed")  # type: ignore[call-arg]


def walk(listing: Listing, pages: dict[str | None, Page]) -> tuple[list[str], list[dict[str, str]]]:
    found: list[str] = []
    asked: list[dict[str, str]] = []
    while listing.call:
        asked.append(dict(listing.call.params))
        found += [job.job_id for job in listing.take(pages[asked[-1].get("cursor")])]
    return found, asked


def page(ids: str, cursor: str | None) -> Page:
    return Page.read({"items": [{**JOB, "job_id": each} for each in ids], "next_cursor": cursor})


def test_a_list_is_read_to_its_end() -> None:
    """Pages follow one another by their cursors, and an empty page in between ends nothing."""
    pages = {None: page("ab", "1"), "1": page("", "2"), "2": page("c", None)}

    found, asked = walk(calls.jobs.jobs(type="email"), pages)

    assert found == ["a", "b", "c"]
    assert asked == [
        {"type": "email", "limit": "200"},
        {"type": "email", "limit": "200", "cursor": "1"},
        {"type": "email", "limit": "200", "cursor": "2"},
    ]


def test_a_list_is_read_to_its_limit() -> None:
    """No page is asked for once there are enough jobs, and no more jobs than are still wanted."""
    pages = {None: page("ab", "1"), "1": page("cd", "2")}

    found, asked = walk(calls.dead_letters.dead_letters(limit=3), pages)

    assert found == ["a", "b", "c"]
    assert [params["limit"] for params in asked] == ["3", "1"]


def test_a_limit_is_at_least_one() -> None:
    """A limit that allows nothing is a slip."""
    with pytest.raises(ValueError, match="at least 1"):
        calls.jobs.jobs(limit=0)
