"""Job types that are pushed to an endpoint of the user's: against a real server, and what stops the start."""

from __future__ import annotations

import asyncio
import gzip
from base64 import b64encode
from collections.abc import Mapping
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any

import orjson
import pytest
from aiohttp import web
from standardwebhooks.webhooks import Webhook

from gopher_node.errors import Fail, Retry, SettingError
from gopher_node.handlers import Handler, Registry
from gopher_node.handlers.builtin.delivery import MAX_ANSWER_BYTES, STATE_NAME, Outgoing
from gopher_node.handlers.parents import ParentResult
from gopher_node.handlers.push import MAX_RESULT_BYTES, register_push
from gopher_node.job import State
from gopher_node.settings import Settings
from tests.handlers.conftest import JOB, Node
from tests.handlers.receiver import Names, Receiver

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + "A" * 32
PUBLIC = "https://example.org/hooks/T0P?token=s3cret"


def push(node: Node, target: Any, *, secret: str | None = SECRET, allow: str = "127.0.0.1") -> None:
    """Bind the type `resize`, as a node does when it starts."""
    node.configure(webhook={"secret": secret, "allow": allow}, push={"resize": target})
    register_push(node.registry, node.settings)


@pytest.fixture
async def pushing(node: Node, receiver: Receiver) -> Node:
    """A node that pushes the type `resize` to the receiver."""
    push(node, receiver.url)
    return node


def handler_of(node: Node, type: str = "resize") -> Handler:
    handler = node.registry.get(type)
    assert handler is not None
    return handler


async def test_endpoint_is_sent_the_job(pushing: Node, receiver: Receiver) -> None:
    """In one signed message; the id is the job's in every attempt, the attempt is not."""
    payload = {"picture": "Grüße.jpg", "sizes": [1, 2.5, None]}

    await pushing.call("resize", payload, max_retries=5, group="shop-1", tags=("a", "b"))
    await pushing.call("resize", payload, attempt=2)

    messages: list[Any] = []
    for method, path, headers, content in receiver.requests:
        assert (method, path, headers["content-type"]) == ("POST", "/hook", "application/json")
        assert (headers["webhook-id"], headers["accept-encoding"]) == (JOB, "identity")
        messages.append(Webhook(SECRET).verify(content, headers))
    told = {
        "job_id": JOB,
        "type": "resize",
        "payload": payload,
        "attempt": 1,
        "max_retries": 5,
        "group": "shop-1",
        "tags": ["a", "b"],
    }
    assert messages[0]["data"] == told
    assert messages[1]["data"] == told | {"attempt": 2, "max_retries": 3, "group": None, "tags": []}
    assert {message["type"] for message in messages} == {"job.run"}
    sent = datetime.fromisoformat(messages[0]["timestamp"])
    assert abs(datetime.now(UTC) - sent) < timedelta(minutes=1)


async def test_endpoint_is_sent_what_the_job_has_waited_for(pushing: Node, receiver: Receiver) -> None:
    """How each of those jobs ended; of a job that waited for none, nothing is said."""

    def parents() -> Future[Mapping[str, ParentResult]]:
        told: Future[Mapping[str, ParentResult]] = Future()
        told.set_result({"fetch": ParentResult(State.COMPLETED, {"n": 1}), "x": ParentResult(State.FAILED, None, {})})
        return told

    await pushing.call("resize", {}, parents=parents)

    assert receiver.messages()[0]["data"]["parents"] == {
        "fetch": {"status": "completed", "result": {"n": 1}, "error": None},
        "x": {"status": "failed", "result": None, "error": {}},
    }


@pytest.mark.parametrize("payload", [None, 0, "text", [], {"deep": [{}]}, 1e300, 2**63])
async def test_any_payload_is_sent_as_it_is(pushing: Node, receiver: Receiver, payload: Any) -> None:
    """The type has no schema here; the endpoint judges."""
    await pushing.call("resize", payload)

    assert receiver.messages()[0]["data"]["payload"] == payload
    assert handler_of(pushing).payload_schema() == {}


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "application/x.shop+json"])
@pytest.mark.parametrize("content", [{"ok": True}, [1, 2], None, "text", 0])
async def test_json_answer_is_the_result(pushing: Node, receiver: Receiver, kind: str, content: Any) -> None:
    """Whatever it is, and whatever 2xx it comes with."""
    receiver.answer(202, body=orjson.dumps(content), headers={"Content-Type": kind})
    assert await pushing.call("resize", {}) == content


@pytest.mark.parametrize(
    ("status", "options", "result"),
    [
        (204, {}, {"status": 204}),
        (200, {"body": b"", "content_type": "application/json"}, {"status": 200}),
        (201, {"text": '{"a": 1}'}, {"status": 201, "body": '{"a": 1}', "truncated": False}),
        (200, {"body": b"{", "content_type": "application/json"}, {"status": 200, "body": "{", "truncated": False}),
        (200, {"body": b"\xff", "content_type": "text/plain"}, {"status": 200, "body": "\ufffd", "truncated": False}),
    ],
    ids=["nothing", "no JSON", "text", "broken JSON", "no text"],
)
async def test_other_answer_is_told_with_its_status(
    pushing: Node, receiver: Receiver, status: int, options: dict[str, Any], result: Any
) -> None:
    """An answer that is no JSON completes the job too."""
    receiver.answer(status, **options)
    assert await pushing.call("resize", {}) == result


async def test_long_answers(pushing: Node, receiver: Receiver) -> None:
    """JSON may be as large as any result, and what is larger is a failure; text is cut at 64 KiB."""
    json = {"content_type": "application/json"}
    receiver.answer(200, body=b'"' + b"x" * (MAX_RESULT_BYTES - 2) + b'"', **json)
    assert len(await pushing.call("resize", {})) == MAX_RESULT_BYTES - 2

    receiver.answer(200, body=b'"' + b"x" * (MAX_RESULT_BYTES - 1) + b'"', **json)
    with pytest.raises(Fail, match="more than 1 MiB") as failed:
        await pushing.call("resize", {})
    assert failed.value.code == "result-too-large"

    receiver.answer(200, text="x" * (MAX_ANSWER_BYTES + 1))
    result = await pushing.call("resize", {})
    assert (len(result["body"]), result["truncated"]) == (MAX_ANSWER_BYTES, True)


async def test_endless_answer_is_left(pushing: Node, receiver: Receiver) -> None:
    """Without reading what it still holds."""
    gone = asyncio.Event()

    async def flood(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        try:
            while True:
                await response.write(b"0" * 65_536)
        except ConnectionError:
            gone.set()
        return response

    receiver.respond = flood
    with pytest.raises(Fail, match="more than 1 MiB"):
        await pushing.call("resize", {})
    await gone.wait()


async def test_compressed_answer_is_not_unpacked(pushing: Node, receiver: Receiver) -> None:
    """A few bytes could become gigabytes; none were asked for."""
    bomb = gzip.compress(b" " * 10_000_000 + b"{}")
    receiver.answer(200, body=bomb, headers={"Content-Encoding": "gzip", "Content-Type": "application/json"})

    assert len((await pushing.call("resize", {}))["body"]) <= len(bomb)


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504])
async def test_what_may_pass_is_tried_again(pushing: Node, receiver: Receiver, status: int) -> None:
    """When the endpoint says, and else by the retry policy."""
    for headers, after in (({"Retry-After": "7"}, 7.0), ({}, None)):
        receiver.answer(status, text="busy", headers=headers)
        with pytest.raises(Retry, match=f"answered {status}: busy") as retry:
            await pushing.call("resize", {})
        assert retry.value.after == after


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "http-error"), (401, "http-error"), (404, "http-error"), (422, "http-error"), (410, "gone")],
)
async def test_refusal_is_final(pushing: Node, receiver: Receiver, status: int, code: str) -> None:
    """A job that the endpoint calls wrong, or an endpoint that is no more."""
    receiver.answer(status, text="no")
    with pytest.raises(Fail, match=f"answered {status}: no") as failed:
        await pushing.call("resize", {})
    assert failed.value.code == code


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_is_not_followed(pushing: Node, receiver: Receiver, status: int) -> None:
    """It could lead where no job may go."""
    receiver.answer(status, headers={"Location": f"http://127.0.0.1:{receiver.port}/inside"})
    with pytest.raises(Fail) as failed:
        await pushing.call("resize", {})
    assert failed.value.code == "redirect-refused"
    assert len(receiver.requests) == 1


async def test_cancelled_run_aborts_the_request(node: Node) -> None:
    """The endpoint sees its caller go, and may stop too."""
    asked, gone = asyncio.Event(), asyncio.Event()

    async def work(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await reader.read()
        gone.set()
        writer.close()

    async with await asyncio.start_server(work, "127.0.0.1", 0) as server:
        push(node, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/")
        run = asyncio.ensure_future(node.call("resize", {}))
        await asked.wait()
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        await gone.wait()


async def test_address_is_checked_and_pinned(node: Node, receiver: Receiver) -> None:
    """The connection goes to the address that was checked; a name that changes its mind is refused at the next run."""
    receiver.answer(200, headers={"Connection": "close"})
    push(node, f"http://hooks.example.org:{receiver.port}/", allow="hooks.example.org")
    names = Names(["127.0.0.1"], ["127.0.0.2"], ["127.0.0.1", "169.254.169.254"])
    # The name may be called at all, as one of https may; what it stands for must be in this network.
    setattr(node.state, STATE_NAME, Outgoing([ip_network("127.0.0.1")], names))

    await node.call("resize", {})
    assert (names.asked, len(receiver.requests)) == (["hooks.example.org"], 1)
    assert receiver.requests[0][2]["host"] == f"hooks.example.org:{receiver.port}"
    for _ in range(2):
        with pytest.raises(Fail, match="WEBHOOK_ALLOW") as failed:
            await node.call("resize", {})
        assert failed.value.code == "address-refused"
    assert (len(names.asked), len(receiver.requests)) == (3, 1)


async def test_secret_of_its_own(node: Node, receiver: Receiver) -> None:
    """Comes before WEBHOOK_SECRET."""
    push(node, {"url": receiver.url, "secret": OTHER})
    await node.call("resize", {})
    _, _, headers, content = receiver.requests[0]
    assert Webhook(OTHER).verify(content, headers)


async def test_unsigned_only_if_that_is_said(node: Node, receiver: Receiver) -> None:
    """The id is sent all the same."""
    push(node, {"url": receiver.url, "sign": False})
    await node.call("resize", {})
    headers = receiver.requests[0][2]
    assert "webhook-signature" not in headers
    assert headers["webhook-id"] == JOB


# What a node refuses to start with


@pytest.mark.parametrize(
    "secret",
    ["whsec_", "whsec_" + "A" * 30, "whsec_" + "A" * 88, "whsk_" + "A" * 40, "A" * 40, "whsec_" + "-" * 40, "hunter2"],
)
@pytest.mark.parametrize("own", [True, False])
async def test_bad_secret_stops_the_start(node: Node, secret: str, own: bool) -> None:
    """And the message says how to make a good one, and does not repeat the bad one."""
    with pytest.raises(SettingError, match="is no secret of Standard Webhooks") as refused:
        push(node, {"url": PUBLIC, "secret": secret} if own else PUBLIC, secret=None if own else secret)
    assert ("push.resize.secret" if own else "WEBHOOK_SECRET") in str(refused.value)
    assert "openssl rand -base64 32" in str(refused.value)
    assert secret == "whsec_" or secret not in str(refused.value)


@pytest.mark.parametrize("size", [24, 32, 64])
async def test_every_size_of_secret_will_do(node: Node, size: int) -> None:
    """From 24 to 64 bytes, with and without the padding of base64."""
    encoded = "whsec_" + b64encode(b"\xfb" * size).decode()
    push(node, PUBLIC, secret=encoded)
    push(node, PUBLIC, secret=encoded.rstrip("="))


async def test_missing_secret_stops_the_start(node: Node) -> None:
    """Except of a node that runs no jobs."""
    with pytest.raises(SettingError, match=r"WEBHOOK_SECRET is not set.*sign = false"):
        push(node, PUBLIC, secret=None)
    node.settings = Settings(role="api", data_dir=node.settings.data_dir, push={"resize": PUBLIC})
    register_push(node.registry, node.settings)
    assert handler_of(node).describe()["mode"] == "push"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://example.org/", "must be an https URL"),
        ("https://10.0.0.1/?token=s3cret", "must not lead to 10.0.0.1"),
        ("https://localhost/s3cret", "must not lead to localhost"),
        ("https://user:s3cret@example.org/", "must hold no user and password"),
    ],
)
async def test_refused_endpoint_stops_the_start(node: Node, url: str, reason: str) -> None:
    """By the rule that holds for callbacks, and without showing what may be secret in it."""
    with pytest.raises(SettingError, match="resize") as refused:
        push(node, url, allow="127.0.0.1")
    assert reason in str(refused.value)
    assert "s3cret" not in str(refused.value)


async def test_clash_with_a_handler_of_the_users_stops_the_start() -> None:
    """And the message says what to do."""
    registry = Registry()
    registry.load_builtin()

    @registry.handler("resize")
    def resize(payload: Any) -> None: ...

    settings = Settings(push={"resize": {"url": PUBLIC, "sign": False}})
    with pytest.raises(SettingError, match=r"has a handler, .*resize.*remove the handler.*or remove resize from"):
        register_push(registry, settings)


async def test_built_in_handler_gives_way() -> None:
    """In this node's registry alone."""
    registry, untouched = Registry(), Registry()
    for each in (registry, untouched):
        each.load_builtin()

    target = {"url": PUBLIC, "sign": False, "timeout": "90s", "concurrency": 7}
    register_push(registry, Settings(push={"email": target}))

    assert registry.types() == untouched.types()
    shown = {handler.type: handler.describe() for handler in registry.handlers()}["email"]
    assert shown == {
        "type": "email",
        "description": "Sent to https://example.org, whose answer is the result.",
        "mode": "push",
        "endpoint": "https://example.org",
        "timeout": 90.0,
        "max_retries": None,
        "priority": None,
        "concurrency": 7,
        "policy": shown["policy"],
        "payload_schema": {},
    }
    assert set(shown["policy"].values()) == {None}
    kept = untouched.get("email")
    assert kept is not None
    assert (kept.describe()["mode"], kept.describe()["endpoint"]) == ("async", None)


@pytest.mark.parametrize("secret", ["abc", "whsec_", "whsec_c2VjcmV0"])
@pytest.mark.parametrize("role", ["all", "api", "worker"])
async def test_bad_webhook_secret_stops_every_start(node: Node, secret: str, role: Any) -> None:
    """Also where nothing is pushed, for webhooks and callbacks are signed with it."""
    node.settings = Settings(role=role, data_dir=node.settings.data_dir, webhook={"secret": secret})
    with pytest.raises(SettingError, match=r"WEBHOOK_SECRET is no secret.*openssl rand -base64 32"):
        register_push(node.registry, node.settings)
