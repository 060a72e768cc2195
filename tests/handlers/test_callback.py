"""The job type `job_callback`, and which addresses a job may name as its `callback_url`."""

from __future__ import annotations

import asyncio
import re
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from standardwebhooks.webhooks import Webhook

from gopher_node.errors import Fail, Retry
from gopher_node.handlers import InvalidPayload
from gopher_node.handlers.builtin import callback
from gopher_node.handlers.builtin.addresses import MAX_URL, Allowed, callback_refusal
from gopher_node.handlers.builtin.delivery import STATE_NAME, Outgoing
from gopher_node.job import RetryPolicy
from tests.handlers.conftest import JOB, Node
from tests.handlers.receiver import Names, Receiver

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ENDED: dict[str, Any] = {
    "job_id": "11111111-2222-4333-8444-555566667777",
    "type": "resize",
    "status": "completed",
    "attempt": 2,
    "created": 1_770_000_000_000,
    "finished": 1_770_000_001_042,
    "result": {"size": [640, 480]},
    "error": None,
}
TOLD = {
    "job_id": ENDED["job_id"],
    "type": "resize",
    "status": "completed",
    "attempt": 2,
    "created_at": "2026-02-02T02:40:00.000Z",
    "finished_at": "2026-02-02T02:40:01.042Z",
    "result": {"size": [640, 480]},
    "error": None,
}


@pytest.fixture
async def laptop(node: Node) -> Node:
    """A node that may call the receiver, and has no secret."""
    node.configure(webhook={"allow": "127.0.0.1"})
    return node


async def test_receiver_is_told_how_the_job_ended(laptop: Node, receiver: Receiver) -> None:
    """In one message of Standard Webhooks, whose id is the callback job's in every attempt."""
    laptop.configure(webhook={"allow": "127.0.0.1", "secret": SECRET})

    result = await laptop.call("job_callback", {"url": receiver.url, **ENDED})
    await laptop.call("job_callback", {"url": receiver.url, **ENDED}, attempt=2)

    assert result == {"status": 200, "signed": True}
    for method, _, headers, content in receiver.requests:
        assert (method, headers["webhook-id"], headers["content-type"]) == ("POST", JOB, "application/json")
        assert Webhook(SECRET).verify(content, headers) == {
            "type": "job.completed",
            "timestamp": TOLD["finished_at"],
            "data": TOLD,
        }
    assert len(receiver.requests) == 2


@pytest.mark.parametrize("status", ["completed", "failed", "cancelled"])
async def test_every_end_has_its_type(laptop: Node, receiver: Receiver, status: str) -> None:
    """And an error instead of a result, but no code of ours; what is too large to be copied is said to be missing."""
    error = {"code": "exception", "message": "no such picture", "type": "OSError"}
    told = error | {"traceback": "Traceback (most recent call last): …"}
    ended = ENDED | {"status": status, "result": None, "error": told, "result_omitted": True}

    await laptop.call("job_callback", {"url": receiver.url, **ended})

    message = receiver.messages()[0]
    assert message["type"] == f"job.{status}"
    assert message["data"] == TOLD | {"status": status, "result": None, "error": error, "result_omitted": True}


async def test_without_secret_it_is_not_signed(laptop: Node, receiver: Receiver) -> None:
    """So that callbacks work where nothing has been set up; the id and the time are there all the same."""
    result = await laptop.call("job_callback", {"url": receiver.url, **ENDED})

    headers = receiver.requests[0][2]
    assert result["signed"] is False
    assert "webhook-signature" not in headers
    assert headers["webhook-id"] == JOB
    assert headers["webhook-timestamp"].isdigit()


async def test_answers_decide_as_for_webhooks(laptop: Node, receiver: Receiver) -> None:
    """What may pass is tried again, when the receiver says; a refusal is final."""
    call = {"url": receiver.url, **ENDED}
    for status, code in ((400, "http-error"), (410, "gone"), (302, "redirect-refused")):
        receiver.answer(status, headers={"Location": receiver.url})
        with pytest.raises(Fail) as failed:
            await laptop.call("job_callback", call)
        assert failed.value.code == code
    for status in (429, 503):
        receiver.answer(status, headers={"Retry-After": "7"})
        with pytest.raises(Retry) as retry:
            await laptop.call("job_callback", call)
        assert isinstance(retry.value.after, float)
        assert retry.value.after >= 7
        assert retry.value.code == "http-error"
    assert len(receiver.requests) == 5


async def test_silent_receiver_has_five_seconds(
    laptop: Node, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever WEBHOOK_TIMEOUT says."""
    never = asyncio.Event()

    async def wait(request: web.Request) -> web.StreamResponse:
        await never.wait()
        return web.Response()

    receiver.respond = wait
    assert callback.TIMEOUT == 5.0
    monkeypatch.setattr(callback, "TIMEOUT", 0.05)
    with pytest.raises(Retry, match=r"did not answer within 0\.05 s"):
        await laptop.call("job_callback", {"url": receiver.url, **ENDED})
    never.set()


async def test_address_is_checked_when_it_is_called(node: Node, receiver: Receiver) -> None:
    """By the settings of the node that calls, and by what the name stands for now."""
    setattr(node.state, STATE_NAME, Outgoing([], Names(["127.0.0.1"])))

    for url in (receiver.url, f"https://hooks.example.org:{receiver.port}/"):
        with pytest.raises(Fail, match="WEBHOOK_ALLOW") as failed:
            await node.call("job_callback", {"url": url, **ENDED})
        assert failed.value.code == "address-refused"
    with pytest.raises(Fail, match="must be an https URL"):
        await node.call("job_callback", {"url": "http://hooks.example.org/", **ENDED})
    assert receiver.requests == []


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"url": "https://example.org/" + "x" * MAX_URL}, "/url"),
        ({"status": "processing"}, "/status"),
        ({"created": -1}, "/created"),
        ({"finished": 10**15}, "/finished"),
        ({"attempt": "2"}, "/attempt"),
        ({"group": "a"}, "/group"),
    ],
)
async def test_bad_payload_is_refused(node: Node, change: dict[str, Any], pointer: str) -> None:
    """Only the store writes them, but anybody may submit a job of the type."""
    with pytest.raises(InvalidPayload) as refused:
        await node.call("job_callback", {"url": "https://example.org/"} | ENDED | change)
    assert [error["pointer"] for error in refused.value.errors] == [pointer]


# What submit may be told

WELCOME = [
    "https://example.org",
    "https://example.org/hooks?a=1,2#b",
    "HTTPS://Hooks.Example.ORG:8443/",
    "https://hooks.example.org./",
    "https://a_b.example.org/",
    "https://bücher.example/über?x=ß",
    "https://xn--bcher-kva.example/",
    "https://8.8.8.8/hook",
    "https://[2606:4700:4700::1111]/",
    "https://localhost.example.org/",
    "https://internal.example.org/",
    "https://my-local.example/",
    "https://127.0.0.1.example.org/",
    "https://example.org/@user:password",
    "https://example.org/?to=user@example.org",
    "https://example.org/" + "x" * (MAX_URL - len("https://example.org/")),
]


@pytest.mark.parametrize("url", WELCOME)
def test_public_https_url_is_accepted(url: str) -> None:
    """Without a look-up: a name may stand for anything, and is checked when it is called."""
    assert callback_refusal(url, []) is None


NOT_HTTPS = ["http://example.org/", "http://8.8.8.8/", "HTTP://example.org:443/"]
NO_URL = [
    "",
    "example.org/hook",
    "//example.org/",
    "https:",
    "https://",
    "https:/example.org",
    "https:///hook",
    "https://?a",
    "ftp://example.org/",
    "file:///etc/passwd",
    "gopher://example.org/",
    "javascript:alert(1)",
    "https://example.org:0/",
    "https://example.org:65536/",
    "https://example.org:-1/",
    "https://example.org:http/",
    "https://exa mple.org/",
    "https://example.org/a b",
    " https://example.org/",
    "https://example.org/\r\nHost: x",
    "https://example.org/\x00",
    "https://example.org/\u202egro",
    "https://example.org\\@127.0.0.1/",
    "https://%6c%6f%63%61%6c%68%6f%73%74/",
    "https://localhost%2eexample.org/",
    "https://[::1/",
    "https://::1/",
    "https://[fe80::1%25eth0]/",
    "https://[v1.example]/",
    "https://a..example.org/",
    "https://.example.org/",
    "https://example.org../",
    "https://./",
    "https://-example-.org/",
    "https://" + "a" * 64 + ".org/",
    "https://" + "a." * 130 + "org/",
    "https://xn--/",
    "https://\xadlocalhost/",
    "https://exa*mple.org/",
]
CREDENTIALS = [
    "https://user:password@example.org/",
    "https://user@example.org/",
    "https://@example.org/",
    "https://:@example.org/",
    "https://example.org@127.0.0.1/",
    "https://example.org;a@b.org/",
]
PRIVATE = [
    "https://127.0.0.1/",
    "https://127.0.0.1:8443/hook",
    "https://127.0.0.1./",
    "https://10.0.0.1/",
    "https://172.16.0.1/",
    "https://192.168.1.1/",
    "https://169.254.169.254/latest/meta-data/",
    "https://100.100.100.200/",
    "https://168.63.129.16/",
    "https://0.0.0.0/",
    "https://255.255.255.255/",
    "https://[::1]/",
    "https://[::]/",
    "https://[0:0:0:0:0:0:0:1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[::127.0.0.1]/",
    "https://[64:ff9b::7f00:1]/",
    "https://[2002:7f00:1::]/",
    "https://[fd00:ec2::254]/",
    "https://[fe80::1]/",
    "https://①②⑦.⓪.⓪.①/",
    "https://127。0。0。1/",
    "https://１２７.0.0.1/",
]
ODD_SPELLINGS = [
    "https://2130706433/",
    "http://2130706433/",
    "https://0x7f000001/",
    "https://0x7F.1/",
    "https://0x7f.0x0.0x0.0x1/",
    "https://017700000001/",
    "https://0177.0.0.1/",
    "https://127.1/",
    "https://127.0.1/",
    "https://127.0.0.01/",
    "https://127.0.0.1.1/",
    "https://1.1.1.256/",
    "https://2130706433./",
    "https://99999999999999999999/",
    "https://example.0x/",
    "https://example.1/",
]
INNER = [
    "https://localhost/",
    "https://LOCALHOST:8443/",
    "https://localhost./",
    "https://ＬＯＣＡＬＨＯＳＴ/",
    "https://a.localhost/",
    "https://printer.local/",
    "https://vault.internal/",
    "https://metadata.google.internal/",
    "https://metadata.goog/",
    "https://metadata/",
    "https://instance-data/",
    "https://redis/",
    "https://box.localdomain/",
    "https://nas.home.arpa/",
]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        *((url, "must be an https URL; ") for url in NOT_HTTPS),
        *((url, "must be a URL such as https://") for url in NO_URL),
        *((url, "must hold no user and password") for url in CREDENTIALS),
        *((url, "is no public address; the setting WEBHOOK_ALLOW") for url in PRIVATE),
        *((url, "must hold an address as four decimal numbers") for url in ODD_SPELLINGS),
        *((url, "is no public host; the setting WEBHOOK_ALLOW") for url in INNER),
        ("https://example.org/" + "x" * MAX_URL, "must not be longer than 2,048 characters"),
    ],
)
def test_other_url_is_refused_with_the_reason(url: str, reason: str) -> None:
    """In every spelling of an address that some reader would understand."""
    refusal = callback_refusal(url, [])

    assert refusal is not None
    assert reason in refusal
    assert refusal.startswith("must ")
    assert "\n" not in refusal


ALLOW: list[Allowed] = [ip_network("127.0.0.1"), ip_network("10.0.0.0/8"), ip_network("fd00::/8"), "hooks.internal"]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9000/hook",
        "https://127.0.0.1/",
        "http://10.255.0.1/",
        "http://[::ffff:10.0.0.1]/",
        "http://[fd00::1]:9000/",
        "http://Hooks.Internal./",
        "https://hooks.internal/",
    ],
)
def test_operator_can_allow_hosts_and_networks(url: str) -> None:
    """Also by plain http, for the network between is the operator's own."""
    assert callback_refusal(url, []) is not None
    assert callback_refusal(url, ALLOW) is None


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.2/",
        "http://localhost/",
        "http://2130706433/",
        "http://192.168.0.1/",
        "http://[fe80::1]/",
        "http://a.hooks.internal/",
        "http://hooks.internal:0/",
        "http://user@hooks.internal/",
        "ftp://hooks.internal/",
        "http://example.org/",
    ],
)
def test_only_these_are_allowed(url: str) -> None:
    """A neighbour of what is allowed is not."""
    assert callback_refusal(url, ALLOW) is not None


def test_retries_outlast_a_day() -> None:
    """On average, by the number that the store gives a callback; a receiver's deploy or outage is shorter."""
    lua = (Path(callback.__file__).parents[2] / "store" / "lua" / "attempts.lua").read_text()
    found = re.search(r"CALLBACK_CRASHES = 'job_callback', '2', (\d+), 3", lua)
    assert found is not None
    waits = [min(callback.RETRY.cap, callback.RETRY.base * 2**n) / 2 for n in range(int(found[1]))]
    assert sum(waits) >= 24 * 3600
    assert waits[0] <= 60


async def test_a_short_retry_after_does_not_use_up_the_retries(
    laptop: Node, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The policy's wait holds where the receiver asks for less, and its own where it asks for more."""
    monkeypatch.setattr(RetryPolicy, "delay", lambda self, errors: self.base * 2.0 ** (errors - 1))
    for asked, attempt, after in (("1", 1, 5.0), ("1", 4, 40.0), ("3600", 1, 3600.0), (None, 3, 20.0)):
        receiver.answer(503, headers={"Retry-After": asked} if asked else {})
        with pytest.raises(Retry) as retry:
            await laptop.call("job_callback", {"url": receiver.url, **ENDED}, attempt=attempt)
        assert retry.value.after == after
