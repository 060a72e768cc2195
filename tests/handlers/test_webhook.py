"""The job types `webhook`, `send_webhook` and `process_payment`, against real servers."""

from __future__ import annotations

import asyncio
import json
import socket
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web
from standardwebhooks.webhooks import Webhook

from gopher_node.errors import Fail, Retry
from gopher_node.handlers import InvalidPayload
from gopher_node.handlers.builtin.delivery import STATE_NAME, Outgoing
from tests.handlers.conftest import JOB, Node
from tests.handlers.receiver import Names, Receiver

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + "A" * 32


@pytest.fixture
async def hooks(node: Node, receiver: Receiver) -> Node:
    """A node whose webhooks are signed and may reach the receiver."""
    node.configure(webhook={"secret": SECRET, "allow": "127.0.0.1"}, payment={"url": receiver.url, "secret": OTHER})
    return node


async def test_call_is_delivered_and_signed(hooks: Node, receiver: Receiver) -> None:
    """A receiver with the same secret can verify it; its id is the job's in every attempt."""
    body = {"order": 7, "note": "Grüße"}

    result = await hooks.call("webhook", {"url": receiver.url + "?a=1", "body": body, "headers": {"X-Mine": "1"}})
    await hooks.call("send_webhook", {"url": receiver.url, "data": body}, attempt=2)

    method, path, headers, content = receiver.requests[0]
    assert result == {"status": 200, "body": "thanks", "truncated": False, "signed": True}
    assert (method, path, headers["x-mine"]) == ("POST", "/hook?a=1", "1")
    assert headers["content-type"] == "application/json"
    assert headers["host"] == f"127.0.0.1:{receiver.port}"
    assert headers["user-agent"].startswith("gopher-node/")
    assert Webhook(SECRET).verify(content, headers) == body
    assert [sent[2]["webhook-id"] for sent in receiver.requests] == [JOB, JOB]


async def test_text_is_sent_as_it_is(hooks: Node, receiver: Receiver) -> None:
    """If the headers say what it is; a method without a body has none."""
    await hooks.call("webhook", {"url": receiver.url, "body": "a=1", "headers": {"content-type": "text/plain"}})
    await hooks.call("webhook", {"url": receiver.url, "method": "DELETE"})

    sent = [(method, headers.get("content-type"), content) for method, _, headers, content in receiver.requests]
    assert sent[0] == ("POST", "text/plain", b"a=1")
    assert (sent[1][0], sent[1][2]) == ("DELETE", b"")
    Webhook(SECRET).verify(b"a=1", receiver.requests[0][2], json_parse=False)


async def test_missing_secret_names_the_setting(hooks: Node, receiver: Receiver) -> None:
    """Unsigned only if the payload says so."""
    hooks.configure(webhook={"allow": "127.0.0.1"})

    with pytest.raises(Fail, match="WEBHOOK_SECRET is not set") as failed:
        await hooks.call("webhook", {"url": receiver.url})
    result = await hooks.call("webhook", {"url": receiver.url, "sign": False})

    assert failed.value.code == "setting-missing"
    assert result["signed"] is False
    assert "webhook-signature" not in receiver.requests[0][2]
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("secret", ["whsec_", "whsec_A"])
async def test_secret_that_is_none_names_the_setting(hooks: Node, receiver: Receiver, secret: str) -> None:
    """Nothing is sent with a broken signature."""
    hooks.configure(webhook={"allow": "127.0.0.1", "secret": secret})

    with pytest.raises(Fail, match="WEBHOOK_SECRET is no secret") as failed:
        await hooks.call("webhook", {"url": receiver.url})
    assert failed.value.code == "setting-invalid"
    assert receiver.requests == []


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "localhost",
        "127.1",
        "2130706433",
        "0x7f000001",
        "017700000001",
        "0.0.0.0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "169.254.169.254",
        "[fe80::1%25lo]",
    ],
)
@pytest.mark.parametrize("type", ["webhook", "send_webhook"])
async def test_private_address_is_never_called(node: Node, receiver: Receiver, type: str, host: str) -> None:
    """In whichever spelling; and it is no failure that a retry could mend."""
    node.configure(webhook={"secret": SECRET})

    with pytest.raises((Fail, Retry)) as failed:
        await node.call(type, {"url": f"http://{host}:{receiver.port}/hook"})

    assert receiver.requests == []
    # A resolver may know no answer for an odd spelling; then nothing was called either.
    if host in ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "0.0.0.0"):
        assert isinstance(failed.value, Fail)
        assert failed.value.code == "address-refused"
        assert "WEBHOOK_ALLOW" in str(failed.value)


async def test_name_is_looked_up_once_and_pinned(hooks: Node, receiver: Receiver) -> None:
    """The connection goes to the address that was checked, with the name in Host; there is no second look-up."""
    names = Names(["127.0.0.1"])
    setattr(hooks.state, STATE_NAME, Outgoing(hooks.settings.webhook.allow, names))

    await hooks.call("webhook", {"url": f"http://hooks.example.org:{receiver.port}/"})

    assert names.asked == ["hooks.example.org"]
    assert receiver.requests[0][2]["host"] == f"hooks.example.org:{receiver.port}"


async def test_rebinding_is_refused(hooks: Node, receiver: Receiver) -> None:
    """A name whose second answer is a private address is refused at the second call."""
    receiver.answer(200, headers={"Connection": "close"})
    names = Names(["127.0.0.1"], ["127.0.0.2"], ["127.0.0.1", "169.254.169.254"], ["::ffff:10.0.0.1"])
    setattr(hooks.state, STATE_NAME, Outgoing(hooks.settings.webhook.allow, names))
    call = {"url": f"http://hooks.example.org:{receiver.port}/"}

    await hooks.call("webhook", call)
    for _ in range(3):
        with pytest.raises(Fail) as failed:
            await hooks.call("webhook", call)
        assert failed.value.code == "address-refused"

    assert (len(names.asked), len(receiver.requests)) == (4, 1)


async def test_host_can_be_allowed_by_name(node: Node, receiver: Receiver) -> None:
    """Then its addresses may be anything; other names still not."""
    node.configure(webhook={"secret": SECRET, "allow": "hooks.internal"})
    names = Names(["127.0.0.1"], ["127.0.0.1"])
    setattr(node.state, STATE_NAME, Outgoing(node.settings.webhook.allow, names))

    await node.call("webhook", {"url": f"http://Hooks.internal:{receiver.port}/"})
    with pytest.raises(Fail, match="is refused"):
        await node.call("webhook", {"url": f"http://other.internal:{receiver.port}/"})

    assert len(receiver.requests) == 1


async def test_redirect_is_not_followed(hooks: Node, receiver: Receiver) -> None:
    """It could lead where the job may not go."""
    receiver.answer(302, headers={"Location": f"http://127.0.0.1:{receiver.port}/inside"})

    with pytest.raises(Fail, match="redirects are not followed") as failed:
        await hooks.call("webhook", {"url": receiver.url})

    assert failed.value.code == "redirect-refused"
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_any_2xx_completes(hooks: Node, receiver: Receiver, status: int) -> None:
    """The status is in the result."""
    receiver.answer(status)

    assert (await hooks.call("webhook", {"url": receiver.url}))["status"] == status


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504, 599])
@pytest.mark.parametrize("type", ["webhook", "process_payment"])
async def test_answer_that_may_change_is_tried_again(hooks: Node, receiver: Receiver, status: int, type: str) -> None:
    """With the receiver's own words in the error."""
    receiver.answer(status, text="not now")

    with pytest.raises(Retry, match=f"answered {status}: not now") as retry:
        await hooks.call(type, CALLS[type] | ({"url": receiver.url} if type == "webhook" else {}))
    assert (retry.value.after, retry.value.code) == (None, "http-error")


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 422])
@pytest.mark.parametrize("type", ["webhook", "process_payment"])
async def test_refusal_is_final(hooks: Node, receiver: Receiver, status: int, type: str) -> None:
    """A request that the receiver calls wrong is not repeated."""
    receiver.answer(status, text="no")

    with pytest.raises(Fail, match=f"answered {status}: no") as failed:
        await hooks.call(type, CALLS[type] | ({"url": receiver.url} if type == "webhook" else {}))
    assert failed.value.code == ("gone" if status == 410 else "http-error")


@pytest.mark.parametrize(
    ("retry_after", "low", "high"),
    [
        ("7", 7, 7),
        ("0", 0, 0),
        ("999999999", 86_400, 86_400),
        (format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True), 3000, 3600),
        (format_datetime(datetime(2020, 1, 1, tzinfo=UTC), usegmt=True), 0, 0),
    ],
    ids=["seconds", "at once", "too long", "a time to come", "a time gone by"],
)
async def test_retry_after_is_honoured(
    hooks: Node, receiver: Receiver, retry_after: str, low: float, high: float
) -> None:
    """In seconds or as a date, and at most a day."""
    receiver.answer(429, headers={"Retry-After": retry_after})

    with pytest.raises(Retry) as retry:
        await hooks.call("webhook", {"url": receiver.url})
    assert isinstance(retry.value.after, float)
    assert low <= retry.value.after <= high


@pytest.mark.parametrize("retry_after", ["soon", "-1", "", "²"])
async def test_senseless_retry_after_is_ignored(hooks: Node, receiver: Receiver, retry_after: str) -> None:
    """The retry policy decides then."""
    receiver.answer(503, headers={"Retry-After": retry_after})

    with pytest.raises(Retry) as retry:
        await hooks.call("webhook", {"url": receiver.url})
    assert retry.value.after is None


async def test_long_answer_is_cut(hooks: Node, receiver: Receiver) -> None:
    """At 64 KiB, without reading what an endless answer still holds."""
    gone = asyncio.Event()

    async def flood(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65_536)
        except ConnectionError:
            gone.set()
        return response

    receiver.respond = flood
    result = await hooks.call("webhook", {"url": receiver.url})
    await gone.wait()

    assert (len(result["body"]), result["truncated"]) == (65_536, True)


async def test_compressed_answer_is_not_unpacked(hooks: Node, receiver: Receiver) -> None:
    """A few bytes could become gigabytes; none were asked for."""
    import gzip

    receiver.answer(200, body=gzip.compress(b"0" * 10_000_000), headers={"Content-Encoding": "gzip"})

    result = await hooks.call("webhook", {"url": receiver.url})

    assert len(result["body"]) < 20_000
    assert receiver.requests[0][2]["accept-encoding"] == "identity"


async def test_silent_receiver_times_out(hooks: Node, receiver: Receiver) -> None:
    """After WEBHOOK_TIMEOUT, also when it keeps the connection."""
    never = asyncio.Event()

    async def wait(request: web.Request) -> web.StreamResponse:
        await never.wait()
        return web.Response()

    receiver.respond = wait
    hooks.configure(webhook={"secret": SECRET, "allow": "127.0.0.1", "timeout": 0.05})

    with pytest.raises(Retry, match=r"did not answer within 0\.05 s") as late:
        await hooks.call("webhook", {"url": receiver.url})
    assert late.value.code == "timeout"
    never.set()


async def test_unreachable_receiver_is_tried_again(hooks: Node) -> None:
    """A refused connection and an unknown name may both pass."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        with pytest.raises(Retry) as refused:
            await hooks.call("webhook", {"url": f"http://127.0.0.1:{port}/"})
    assert str(refused.value) == f"http://127.0.0.1:{port} cannot be reached: Connection refused"
    assert refused.value.code == "unreachable"
    with pytest.raises(Retry, match="cannot be reached") as unknown:
        await hooks.call("webhook", {"url": "http://no-such-host.invalid/"})
    assert "ssl:" not in str(unknown.value)


async def test_error_does_not_show_the_query(hooks: Node, receiver: Receiver) -> None:
    """Addresses of webhooks often carry a secret, and errors are seen by many."""
    receiver.answer(404)

    with pytest.raises(Fail) as failed:
        await hooks.call("webhook", {"url": receiver.url + "/T0P/s3cret?token=s3cret"})
    assert "s3cret" not in str(failed.value)


async def test_one_client_serves_all_jobs(hooks: Node, receiver: Receiver) -> None:
    """Connections are kept, cookies are not, and the shutdown hook closes it."""
    peers: set[Any] = set()

    async def respond(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        return web.Response(headers={"Set-Cookie": "a=1"})

    receiver.respond = respond
    setattr(hooks.state, STATE_NAME, Outgoing(hooks.settings.webhook.allow, Names(["127.0.0.1"])))
    for _ in range(3):
        await hooks.call("webhook", {"url": f"http://hooks.example.org:{receiver.port}/"})
    await hooks.registry.stop(hooks.state)

    assert len(peers) == 1
    assert all("cookie" not in headers for _, _, headers, _ in receiver.requests)
    assert not hasattr(hooks.state, STATE_NAME)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"url": "ftp://example.org"}, "/url"),
        ({"url": "example.org/hook"}, "/url"),
        ({"url": "http://"}, "/url"),
        ({"url": "http://user:secret@example.org"}, "/url"),
        ({"url": "http://example.org:99999"}, "/url"),
        ({"url": "http://example.org/\r\nHost: x"}, "/url"),
        ({"url": "http://[::1"}, "/url"),
        ({"url": "http://example.org\\@127.0.0.1/"}, "/url"),
        ({"url": "http://" + "x" * 2048}, "/url"),
        ({"method": "CONNECT"}, "/method"),
        ({"headers": {"X": "1\r\nY: 2"}}, "/headers"),
        ({"headers": {"X Y": "1"}}, "/headers"),
        ({"headers": {"Host": "internal"}}, "/headers"),
        ({"headers": {"transfer-encoding": "chunked"}}, "/headers"),
        ({"headers": {"Webhook-Signature": "v1,forged"}}, "/headers"),
        ({"headers": {f"X{n}": "1" for n in range(51)}}, "/headers"),
        ({"timeout": 5}, "/timeout"),
    ],
)
async def test_bad_call_is_refused(node: Node, change: dict[str, Any], pointer: str) -> None:
    """Before anything is sent."""
    with pytest.raises(InvalidPayload) as refused:
        await node.call("webhook", {"url": "https://example.org/hook"} | change)

    assert [error["pointer"] for error in refused.value.errors] == [pointer]


PAYMENT = {"amount": "19.99", "currency": "EUR", "order_id": "o-1"}
CALLS: dict[str, dict[str, Any]] = {"webhook": {}, "process_payment": PAYMENT}


async def test_payment_is_told_once_however_often_it_runs(hooks: Node, receiver: Receiver) -> None:
    """Each attempt carries the same key and the payload as it was given, signed."""
    receiver.answer(201, text='{"charge": "c-1"}')

    results = [await hooks.call("process_payment", PAYMENT, attempt=attempt) for attempt in (1, 2)]

    for _, _, headers, content in receiver.requests:
        assert headers["idempotency-key"] == JOB
        assert Webhook(OTHER).verify(content, headers) == PAYMENT
    assert results == [{"status": 201, "order_id": "o-1", "idempotency_key": JOB, "response": {"charge": "c-1"}}] * 2


async def test_payment_without_secret_is_not_signed(hooks: Node, receiver: Receiver) -> None:
    """The operator's endpoint may be inside, for nobody else chose it."""
    hooks.configure(payment={"url": receiver.url})

    await hooks.call("process_payment", PAYMENT | {"amount": 1999, "customer_id": "c", "metadata": {"a": "b"}})

    _, _, headers, content = receiver.requests[0]
    assert "webhook-signature" not in headers
    assert json.loads(content) == PAYMENT | {"amount": 1999, "customer_id": "c", "metadata": {"a": "b"}}


async def test_payment_names_the_missing_setting(node: Node) -> None:
    """A permanent failure."""
    with pytest.raises(Fail, match="PAYMENT_URL") as failed:
        await node.call("process_payment", PAYMENT)
    assert failed.value.code == "setting-missing"


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"amount": 19.99}, "/amount"),
        ({"amount": "19,99"}, "/amount"),
        ({"amount": "0.00"}, "/amount"),
        ({"amount": "-1"}, "/amount"),
        ({"amount": 0}, "/amount"),
        ({"amount": True}, "/amount"),
        ({"currency": "euro"}, "/currency"),
        ({"order_id": ""}, "/order_id"),
        ({"card": "4111"}, "/card"),
    ],
)
async def test_bad_payment_is_refused(node: Node, change: dict[str, Any], pointer: str) -> None:
    """Money is never a floating-point number."""
    with pytest.raises(InvalidPayload) as refused:
        await node.call("process_payment", PAYMENT | change)

    assert {error["pointer"] for error in refused.value.errors} == {pointer}
