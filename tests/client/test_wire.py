"""The conversations of both clients, held without a network: what is repeated, and for how long is waited."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import Any

import httpx2
import orjson
import pytest
import time_machine

from gopher_node.client import (
    ApiError,
    InvalidRequest,
    NoAnswer,
    NodeNotReady,
    ServerUnavailable,
    TooManyRequests,
    UnexpectedAnswer,
    WaitTimeout,
    calls,
)
from gopher_node.client.calls.call import Call
from gopher_node.client.wire import LONGEST_POLL, Outcome, Pause, Wire
from gopher_node.errors import GopherError

JOB = {"job_id": "7f7a2b1e-6f0e-4d7a-9a55-0d9a9f3ad001", "type": "email", "status": "enqueued"}
READ = calls.jobs.get(JOB["job_id"])
SUBMIT = calls.jobs.submit("email", {}, {})
ACT = calls.jobs.cancel(JOB["job_id"])


def good(**changes: Any) -> httpx2.Response:
    return httpx2.Response(200, content=orjson.dumps({**JOB, **changes}))


def refusal(status: int, name: str, retry_after: str | None = None, **more: Any) -> httpx2.Response:
    headers = {"content-type": "application/problem+json", **({"retry-after": retry_after} if retry_after else {})}
    content = {"type": f"/problems/{name}", "title": "A title.", "status": status, **more}
    return httpx2.Response(status, headers=headers, content=orjson.dumps(content))


def hold(flow: Generator[Call[Any] | Pause, Outcome, Any], outcomes: Iterable[Outcome]) -> tuple[Any, list[float]]:
    """Feed a conversation these outcomes. Answers how it ended, an error being an end too, and its pauses."""
    supply, pauses = iter(outcomes), []
    step = next(flow)
    try:
        while True:
            if isinstance(step, Pause):
                pauses.append(step.seconds)
                step = flow.send(None)
            else:
                step = flow.send(next(supply))
    except StopIteration as end:
        result = end.value
    except GopherError as error:
        result = error
    assert list(supply) == []
    return result, pauses


@pytest.fixture
def wire() -> Wire:
    return Wire("http://node.example:8080", 10.0, 2)


NEVER_SENT = httpx2.ConnectError("[Errno 111] Connection refused")
LOST = httpx2.ReadTimeout("")


@pytest.mark.parametrize("call", [READ, SUBMIT], ids=["read", "submit"])
@pytest.mark.parametrize(
    "failure",
    [
        NEVER_SENT,
        httpx2.ConnectTimeout(""),
        httpx2.PoolTimeout(""),
        refusal(429, "rate-limited"),
        refusal(503, "draining"),
        refusal(503, "store-unavailable", outcome="not-done"),
    ],
    ids=["refused", "connect-timeout", "pool-timeout", "429", "draining", "not-done"],
)
def test_what_was_not_done_is_asked_again(wire: Wire, call: Call[Any], failure: Outcome) -> None:
    """Where nothing was stored, a submit is repeated as a read is."""
    job, pauses = hold(wire.exchange(call), [failure, failure, good()])

    assert job.job_id == JOB["job_id"]
    assert len(pauses) == 2


UNKNOWN = {
    "read-timeout": (LOST, NoAnswer),
    "write-error": (httpx2.WriteError("cut"), NoAnswer),
    "cut": (httpx2.RemoteProtocolError("Server disconnected"), NoAnswer),
    "store-timeout": (refusal(503, "store-timeout", "2", outcome="unknown"), NodeNotReady),
    "unheard-of": (refusal(503, "meteor"), NodeNotReady),
    "proxy-502": (httpx2.Response(502, content=b"<html>"), NoAnswer),
    "proxy-504": (httpx2.Response(504), NoAnswer),
}


@pytest.mark.parametrize(("failure", "error"), UNKNOWN.values(), ids=UNKNOWN)
def test_an_act_of_unknown_outcome_is_not_repeated(wire: Wire, failure: Outcome, error: type[Exception]) -> None:
    """What was asked may have been done, and doing it twice could be more than once; the caller is told."""
    result, pauses = hold(wire.exchange(ACT), [failure])

    assert isinstance(result, error)
    assert result.outcome_unknown
    assert pauses == []


@pytest.mark.parametrize(("failure", "error"), UNKNOWN.values(), ids=UNKNOWN)
def test_a_submit_of_unknown_outcome_is_repeated_under_its_key(
    wire: Wire, failure: Outcome, error: type[Exception]
) -> None:
    """The job may have been stored; the key makes that the answer, and no second job of it."""
    assert hold(wire.exchange(SUBMIT), [failure, good()])[0].job_id == JOB["job_id"]
    assert isinstance(hold(wire.exchange(SUBMIT), [failure] * 3)[0], error)


def test_the_same_key_goes_with_each_repeat(wire: Wire) -> None:
    """The key belongs to the call and not to the request."""
    flow = wire.exchange(SUBMIT)
    first = next(flow)
    assert isinstance(flow.send(LOST), Pause)
    again = flow.send(None)

    assert isinstance(first, Call)
    assert first == again
    assert wire.request_options(first)["headers"]["Idempotency-Key"] == SUBMIT.key


def test_a_submit_without_an_answer_tells_its_key(wire: Wire) -> None:
    """Whoever catches the error can submit once more without fear of a second job."""
    result, _ = hold(wire.exchange(SUBMIT), [LOST] * 3)

    assert isinstance(result, NoAnswer)
    assert result.idempotency_key == SUBMIT.key


def test_patience_outlives_the_retries(wire: Wire) -> None:
    """With patience, what passes is waited for by time and not by count; what does not pass is raised at once."""
    assert hold(wire.exchange(SUBMIT, 30.0), [NEVER_SENT] * 9 + [good()])[0].job_id == JOB["job_id"]
    assert isinstance(hold(wire.exchange(SUBMIT, 30.0), [refusal(422, "invalid-job")])[0], InvalidRequest)


def test_patience_ends() -> None:
    """After its time, the next failure is the answer."""
    now = 100.0
    flow = Wire("http://node.example", 1, 0).exchange(SUBMIT, 30.0, clock=lambda: now)
    next(flow)
    assert isinstance(flow.send(NEVER_SENT), Pause)
    flow.send(None)
    now += 31.0

    with pytest.raises(ServerUnavailable):
        flow.send(NEVER_SENT)


@pytest.mark.parametrize(("failure", "error"), UNKNOWN.values(), ids=UNKNOWN)
def test_a_read_without_an_answer_is_repeated(wire: Wire, failure: Outcome, error: type[Exception]) -> None:
    """Reading twice changes nothing; at last the failure is told all the same."""
    assert hold(wire.exchange(READ), [failure, good()])[0].job_id == JOB["job_id"]
    assert isinstance(hold(wire.exchange(READ), [failure] * 3)[0], error)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 413, 415, 422, 500])
def test_a_refusal_is_final(wire: Wire, status: int) -> None:
    """What the node refuses for what it is would be refused again."""
    result, pauses = hold(wire.exchange(READ), [refusal(status, "no")])

    assert isinstance(result, ApiError)
    assert result.status == status
    assert pauses == []


def test_repeats_are_bounded(wire: Wire) -> None:
    """After the retries, the last failure is raised."""
    result, pauses = hold(wire.exchange(READ), [NEVER_SENT, refusal(429, "rate-limited"), NEVER_SENT])

    assert isinstance(result, ServerUnavailable)
    assert len(pauses) == 2
    assert all(pause <= 0.4 for pause in pauses)


def test_no_retries_means_none() -> None:
    """A client can be told to leave all repeating to its caller."""
    result, pauses = hold(Wire("http://node.example", 1, 0).exchange(READ), [NEVER_SENT])

    assert isinstance(result, ServerUnavailable)
    assert pauses == []


@pytest.mark.parametrize("name", [(429, "queue-full"), (503, "store-unavailable")])
def test_the_node_says_when_to_come_back(wire: Wire, name: tuple[int, str]) -> None:
    """Retry-After replaces the client's own pause."""
    _, pauses = hold(wire.exchange(READ), [refusal(*name, retry_after="3"), good()])

    assert pauses == [3.0]


@time_machine.travel("2030-01-01 00:00:00 +0000", tick=False)
def test_the_node_may_say_it_as_a_date(wire: Wire) -> None:
    """Both forms that HTTP has for Retry-After are understood, and one in the past means now."""
    later, earlier = "Tue, 01 Jan 2030 00:00:04 GMT", "Tue, 01 Jan 2030 00:00:00 GMT"

    _, pauses = hold(
        wire.exchange(READ), [refusal(429, "rate-limited", later), refusal(429, "rate-limited", earlier), good()]
    )

    assert pauses == [4.0, 0.0]


def test_an_unreadable_retry_after_is_ignored(wire: Wire) -> None:
    """Nonsense in that header leaves the client's own pause."""
    _, pauses = hold(wire.exchange(READ), [refusal(429, "rate-limited", "soon"), good()])

    assert 0 <= pauses[0] <= 0.2


def test_nobody_is_kept_waiting_for_long(wire: Wire) -> None:
    """A pause that is too long for a call is left to the caller, who learns how long it is."""
    result, pauses = hold(wire.exchange(READ), [refusal(429, "queue-full", "60")])

    assert isinstance(result, TooManyRequests)
    assert result.retry_after == 60.0
    assert pauses == []


@pytest.mark.parametrize(
    "answer",
    [
        httpx2.Response(200, content=b"<html>hello</html>"),
        httpx2.Response(200, content=b""),
        httpx2.Response(200, content=b"[]"),
        httpx2.Response(200, content=b'{"status": "enqueued"}'),
        httpx2.Response(200, content=b'{"job_id": "1", "type": "a", "status": "dancing"}'),
        httpx2.Response(404, content=b"404: Not Found"),
        httpx2.Response(404, headers={"content-type": "application/problem+json"}, content=b"oops"),
        httpx2.Response(404, headers={"content-type": "application/problem+json"}, content=b"[]"),
        httpx2.Response(301, headers={"location": "https://elsewhere.example/"}),
    ],
)
def test_what_is_no_gopher_node_is_named_as_such(wire: Wire, answer: httpx2.Response) -> None:
    """Another server's answers become one clear error that names the address."""
    result, _ = hold(wire.exchange(READ), [answer])

    assert isinstance(result, UnexpectedAnswer)
    assert "http://node.example:8080" in str(result)


def test_a_redirect_says_where_it_leads(wire: Wire) -> None:
    """Redirects are not followed, for they could lead a payload elsewhere, but they are told."""
    result, _ = hold(wire.exchange(SUBMIT), [httpx2.Response(308, headers={"location": "https://elsewhere.example/"})])

    assert "https://elsewhere.example/" in str(result)


def test_being_unhealthy_is_an_answer(wire: Wire) -> None:
    """The health of a sick node comes with status 503 and raises nothing."""
    content = {"status": "unhealthy", "checks": {"store": "It is away."}}

    result, _ = hold(wire.exchange(calls.nodes.health()), [httpx2.Response(503, content=orjson.dumps(content))])

    assert result.status == "unhealthy"
    assert result.checks == {"store": "It is away."}


def test_a_problem_in_place_of_health_is_a_problem(wire: Wire) -> None:
    """A 503 that is not about health keeps its own meaning."""
    result, _ = hold(wire.exchange(calls.nodes.health()), [refusal(503, "store-timeout", "60")])

    assert isinstance(result, NodeNotReady)


def test_faults_are_read_one_by_one(wire: Wire) -> None:
    """The entries of `errors` arrive as values, whether they are about the body or about a parameter."""
    faults = [
        {"pointer": "/delay", "code": "invalid-duration", "detail": "must be a duration"},
        {"parameter": "limit", "code": "out-of-range", "detail": "must be from 1 to 200"},
        "nonsense",
    ]

    result, _ = hold(wire.exchange(SUBMIT), [refusal(422, "invalid-job", errors=faults)])

    assert isinstance(result, InvalidRequest)
    assert [(fault.pointer, fault.code) for fault in result.errors] == [
        ("/delay", "invalid-duration"),
        ("limit", "out-of-range"),
    ]
    assert str(result) == "A title: /delay: must be a duration; limit: must be from 1 to 200."


def test_waiting_ends_with_the_job(wire: Wire) -> None:
    """A job is asked for again and again, each time for as long as the node may hold the answer back."""
    flow = wire.wait("i", None)
    first = next(flow)
    assert isinstance(first, Call)

    assert first.wait == LONGEST_POLL
    assert dict(first.params) == {"wait": "30s"}
    result, pauses = hold(wire.wait("i", None), [good(), good(status="processing"), good(status="failed")])

    assert result.status == "failed"
    assert pauses == [0.25, 0.25]


def test_waiting_ends_with_the_time(wire: Wire) -> None:
    """When the time is over, the error holds the job as it was."""
    result, pauses = hold(wire.wait("i", 0), [good(status="processing")])

    assert isinstance(result, WaitTimeout)
    assert isinstance(result, TimeoutError)
    assert result.job.status == "processing"
    assert "still processing" in str(result)
    assert pauses == []


def test_waiting_asks_for_no_longer_than_is_left(wire: Wire) -> None:
    """The node is not asked to hold its answer back beyond the caller's own limit."""
    now = 100.0
    flow = wire.wait("i", "45s", clock=lambda: now)
    first = next(flow)
    now += 30.0
    second = flow.send(good())

    assert isinstance(first, Call)
    assert isinstance(second, Call)
    assert first.wait == 30.0
    assert second.wait == 15.0


def test_waiting_outlives_a_restart_of_the_node(wire: Wire) -> None:
    """A node that has answered may be away for a while, longer than the retries of one question last."""
    away: list[Outcome] = [NEVER_SENT] * 9

    result, _ = hold(wire.wait("i", None), [good(), *away, good(status="completed")])

    assert result.status == "completed"


def test_waiting_for_a_node_that_never_was_there_ends(wire: Wire) -> None:
    """Without a first answer nothing says that there will be one."""
    result, _ = hold(wire.wait("i", None), [NEVER_SENT] * 3)

    assert isinstance(result, ServerUnavailable)


@pytest.mark.parametrize("timeout", [None, 20])
def test_waiting_for_a_node_that_stays_away_ends(wire: Wire, timeout: float | None) -> None:
    """After the outage that is allowed, or with the caller's limit, the failure is told."""
    now = 100.0
    flow = wire.wait("i", timeout, clock=lambda: now)
    next(flow)
    flow.send(good())
    now += 30.0

    def go_on() -> None:
        step = flow.send(None)
        while True:
            step = flow.send(None if isinstance(step, Pause) else NEVER_SENT)

    with pytest.raises(ServerUnavailable):
        go_on()


def test_a_job_that_is_gone_ends_the_wait(wire: Wire) -> None:
    """An error of any poll is the wait's error."""
    result, _ = hold(wire.wait("i", 10), [good(), refusal(404, "job-not-found")])

    assert isinstance(result, ApiError)
    assert result.status == 404


def test_requests_always_have_time_limits(wire: Wire) -> None:
    """Every step of an exchange is bounded, and a poll by as much longer as it may take."""
    assert wire.request_options(READ)["timeout"] == httpx2.Timeout(10.0)
    assert wire.request_options(calls.jobs.get("i", wait=30.0))["timeout"] == httpx2.Timeout(10.0, read=40.0)
    with pytest.raises(ValueError, match="more than 0"):
        Wire("http://node.example", 0, 2)


@pytest.mark.parametrize(
    "text", ["node.example:8080", "ftp://node.example", "http://", "/jobs", "http://[::1", "http://host:port", " "]
)
def test_an_address_must_be_one(text: str) -> None:
    """What is no http address is refused before anything is sent, with an example of one."""
    with pytest.raises(ValueError, match=r"http://127\.0\.0\.1:8080"):
        Wire(text, 10, 2)


def test_the_address_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """GOPHER_URL holds where no address is given, and an empty one is none."""
    monkeypatch.setenv("GOPHER_URL", "https://node.example/base/")
    assert Wire(None, 10, 2).url == "https://node.example/base"
    monkeypatch.setenv("GOPHER_URL", "")
    assert Wire(None, 10, 2).url == "http://127.0.0.1:8080"


@pytest.mark.parametrize(
    ("url", "through_proxy"),
    [
        ("http://127.0.0.1:8080", False),
        ("http://localhost", False),
        ("http://[::1]:1", False),
        ("http://node.example", True),
    ],
)
def test_this_machine_is_not_asked_through_a_proxy(url: str, through_proxy: bool) -> None:
    """HTTP_PROXY is for other machines."""
    assert Wire(url, 10, 2).client_options()["trust_env"] is through_proxy
