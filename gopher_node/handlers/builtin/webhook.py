"""The job types `webhook` and `send_webhook`: one signed request to an address of the user's."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import orjson
from pydantic import AfterValidator, AliasChoices, Field, JsonValue, StringConstraints

from gopher_node.errors import Fail
from gopher_node.handlers.builtin.delivery import Outgoing, signature
from gopher_node.handlers.builtin.payloads import Payload
from gopher_node.handlers.context import JobContext

# Those that say where a request ends or who sent it, and those of the signature.
RESERVED_HEADERS = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "webhook-id",
        "webhook-signature",
        "webhook-timestamp",
    }
)
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}\Z")
_HEADER_VALUE = re.compile(r"[\x20-\x7e\t]{0,4096}\Z")


def _check_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("must be a URL such as https://example.org/hooks") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or re.search(r"[\x00-\x20\x7f\\]", url):
        raise ValueError("must be a URL such as https://example.org/hooks")
    if parts.username is not None or parts.password is not None:
        raise ValueError("must hold no user and password: use the header Authorization")
    return url


def _check_headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not _HEADER_NAME.match(name) or not _HEADER_VALUE.match(value):
            raise ValueError("must be HTTP headers: names without spaces, and values of printable ASCII in one line")
        if name.lower() in RESERVED_HEADERS:
            raise ValueError(f"must not hold {name.lower()}, which is set by the delivery itself")
    return headers


class WebhookCall(Payload):
    """A request. `body` is sent as JSON; text goes out as it is if the headers name its Content-Type."""

    url: Annotated[str, StringConstraints(max_length=2048), AfterValidator(_check_url)]
    method: Literal["POST", "PUT", "PATCH", "DELETE", "GET"] = "POST"
    headers: Annotated[dict[str, str], Field(max_length=50), AfterValidator(_check_headers)] = Field(
        default_factory=dict[str, str]
    )
    body: JsonValue = Field(None, validation_alias=AliasChoices("body", "data", "payload"))
    sign: bool = Field(True, description="Without a signature the receiver cannot tell who called.")


async def deliver(ctx: JobContext, payload: WebhookCall) -> dict[str, Any]:
    """Call a URL with a JSON body, signed by Standard Webhooks; private addresses need WEBHOOK_ALLOW."""
    settings = ctx.settings.webhook
    body, headers = _content(payload)
    if payload.sign:
        if settings.secret is None:
            raise Fail(
                "Webhooks are signed, and WEBHOOK_SECRET is not set. Set it to whsec_ and 32 random bytes in base64, "
                'or send "sign": false with the payload.',
                code="setting-missing",
            )
        headers |= signature(settings.secret, "WEBHOOK_SECRET", ctx.idempotency_key, body)
    answer = await Outgoing.of(ctx).send(
        payload.method, payload.url, body=body.encode(), headers=headers, timeout=settings.timeout, trusted=False
    )
    return {
        "status": answer.status,
        "body": answer.text(),
        "truncated": answer.truncated,
        "signed": payload.sign,
    }


def _content(payload: WebhookCall) -> tuple[str, dict[str, str]]:
    named = any(name.lower() == "content-type" for name in payload.headers)
    if isinstance(payload.body, str) and named:
        return payload.body, dict(payload.headers)
    if payload.body is None and payload.method in ("GET", "DELETE"):
        return "", dict(payload.headers)
    headers = dict(payload.headers) if named else {"Content-Type": "application/json", **payload.headers}
    return orjson.dumps(payload.body).decode(), headers
