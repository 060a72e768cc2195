"""Claiming and settling: what a worker in Python sends, and that a token stays where it belongs."""

from __future__ import annotations

import logging
from typing import Any

import httpx2
import orjson
import pytest

from gopher_node.client import Client, LeaseLost, LeaseNotFound, NodeNotReady, calls
from gopher_node.client.wire import Pause, Wire

ID = "7f7a2b1e-6f0e-4d7a-9a55-0d9a9f3ad001"
TOKEN = f"{ID}.1.0123456789abcdef"
LEASE = {
    "job": {"job_id": ID, "type": "email", "status": "processing", "payload": {"a": 1}, "field_of_tomorrow": 1},
    "token": TOKEN,
    "lease_expires_at": "2030-01-01T00:00:30.000Z",
}
SETTLED = {"job_id": ID, "status": "completed"}


def body_of(call: Any) -> Any:
    return orjson.loads(call.body)["items"][0]


def problem(status: int, name: str, **more: Any) -> dict[str, Any]:
    return {"problem": {"type": f"/problems/{name}", "title": "A title.", "status": status, **more}}


async def test_a_lease_is_typed(stage: Any, connect: Any) -> None:
    """The job in it is a view like any other, with its own answer."""
    stage.answer({"items": [LEASE]})

    (lease,) = await connect(stage.url).lease(["email", "sms"])

    assert lease.job.payload == {"a": 1}
    assert lease.job.raw["field_of_tomorrow"] == 1
    assert lease.lease_expires_at.isoformat() == "2030-01-01T00:00:30+00:00"
    assert stage.headers[0]["Idempotency-Key"]


async def test_none_may_come(stage: Any, connect: Any) -> None:
    """A wait that ends without a job is no error."""
    stage.answer({"items": []})

    assert await connect(stage.url).lease("email", wait="1s") == ()


def test_a_claim_is_given_time_to_wait() -> None:
    """The node holds its answer back for so long, and the client does not give up before."""
    call = calls.leases.lease("a", 1, "20s", None, None)

    assert Wire("http://node.example", 10, 0).request_options(call)["timeout"].read == 30.0


@pytest.mark.parametrize(
    ("refusal", "error"),
    [(problem(409, "lease-lost"), LeaseLost), (problem(404, "lease-not-found"), LeaseNotFound)],
)
@pytest.mark.parametrize("method", ["heartbeat", "complete", "release"])
async def test_who_has_lost_the_lease_learns_it(
    stage: Any, connect: Any, method: str, refusal: Any, error: type[Exception]
) -> None:
    """The answer for the one lease of the batch is the answer."""
    stage.answer({"items": [refusal]})

    with pytest.raises(error):
        await getattr(connect(stage.url), method)(TOKEN)
    assert len(stage.asked) == 1


def test_what_passes_is_told_once_more() -> None:
    """A store that was away for a moment is no reason to lose a result; the token makes a second telling harmless."""
    wire = Wire("http://node.example", 10, 1)
    flow = wire.exchange(calls.leases.complete(TOKEN, 1, ()))
    away = {"items": [problem(503, "store-timeout", outcome="unknown")]}

    next(flow)
    assert isinstance(flow.send(httpx2.Response(200, content=orjson.dumps(away))), Pause)
    flow.send(None)
    with pytest.raises(NodeNotReady):
        flow.send(httpx2.Response(200, content=orjson.dumps(away)))


def test_an_exception_is_told_with_its_kind_and_traceback() -> None:
    """What a Python handler raised can be handed over as it is."""
    try:
        raise KeyError("colour")
    except KeyError as error:
        caught = error

    told = body_of(calls.leases.fail(TOKEN, caught, "no-colour", True, "5s"))

    assert told["error"]["message"] == "'colour'"
    assert told["error"]["type"] == "KeyError"
    assert told["error"]["code"] == "no-colour"
    assert 'raise KeyError("colour")' in told["error"]["traceback"]
    assert (told["retryable"], told["retry_after"]) == (True, "5s")


def test_an_error_may_be_described() -> None:
    """The members are those of the API."""
    told = body_of(calls.leases.fail(TOKEN, {"message": "no", "type": "Oops"}, None, False, None))

    assert told == {"token": TOKEN, "error": {"message": "no", "type": "Oops"}, "retryable": False}


def test_a_follow_up_is_checked_like_a_submit() -> None:
    """A slip in one of them is not sent."""
    with pytest.raises(TypeError, match="no option priorty"):
        calls.leases.complete(TOKEN, None, [{"type": "a", "priorty": 1}])  # type: ignore[typeddict-unknown-key]


def test_a_token_enters_no_log_and_no_message(caplog: pytest.LogCaptureFixture) -> None:
    """Not the address of a request, which httpx2 logs, nor a view's or a call's text, nor an error."""
    answers = iter([{"items": [LEASE]}, {"items": [SETTLED]}, {"items": ["nonsense"]}])

    def answer(_request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, json=next(answers))

    with caplog.at_level(logging.DEBUG), Client(transport=httpx2.MockTransport(answer)) as client:
        (lease,) = client.lease("email")
        client.complete(lease.token, 3)
        with pytest.raises(Exception, match="form that this client does not know") as caught:
            client.release(lease.token)

    call = calls.leases.complete(TOKEN, 3, ())
    seen = f"{caplog.text} {lease!r} {lease} {call!r} {caught.value!r} {caught.value}"
    assert "/leases/complete" in seen
    assert TOKEN not in seen
    assert TOKEN[-16:] not in seen
