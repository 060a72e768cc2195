"""How built-in handlers call other servers, and what an answer means for the job."""

from __future__ import annotations

import os
import time
from binascii import Error as NotBase64
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import SimpleNamespace
from typing import Any

import aiohttp
import orjson
from aiohttp.abc import AbstractResolver
from pydantic import SecretStr
from standardwebhooks.webhooks import EmptyWebhookSecretError, Webhook
from yarl import URL

from gopher_node import __version__
from gopher_node.client.tracing import trace_headers
from gopher_node.errors import Fail, Retry
from gopher_node.handlers.builtin.addresses import AddressRefused, Allowed, CheckedResolver, check_address
from gopher_node.handlers.context import JobContext

MAX_ANSWER_BYTES = 64 * 1024
MAX_RETRY_AFTER = 86_400.0
# For requests whose time is limited by their job's alone.
CONNECT_TIMEOUT = 30.0
# The requests that failed but may succeed later: timeouts, conflicts, too early, too many.
TRANSIENT = frozenset({408, 409, 425, 429})
STATE_NAME = "_gopher_outgoing"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    """As much as the caller wanted, and no more than 64 KiB of what is not JSON."""
    truncated: bool
    is_json: bool = False
    """What its headers say."""

    def text(self) -> str:
        return self.body.decode("utf-8", "replace")


class Outgoing:
    """
    The HTTP clients of a node's jobs.

    `guarded` is for addresses that a job names: it reaches public addresses and those of `allow`. `trusted` is for
    those that the operator has set.
    """

    def __init__(self, allow: list[Allowed], resolver: AbstractResolver | None = None) -> None:
        self._allow = allow
        self._guarded = _session(CheckedResolver(allow, resolver))
        self._trusted = _session(resolver)

    @classmethod
    def of(cls, ctx: JobContext) -> Outgoing:
        """The one that all jobs of the node share, made for the first of them."""
        outgoing = getattr(ctx.state, STATE_NAME, None)
        if outgoing is None:
            outgoing = cls(ctx.settings.webhook.allow)
            setattr(ctx.state, STATE_NAME, outgoing)
        return outgoing

    async def close(self) -> None:
        await self._guarded.close()
        await self._trusted.close()

    async def send(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None,
        headers: Mapping[str, str],
        timeout: float | None,
        trusted: bool,
        most_json: int = MAX_ANSWER_BYTES,
    ) -> Answer:
        """
        Send a request once. Raises Retry for what may pass, and Fail for an address that is refused.

        Without `timeout` only the connection has one. `most_json` is how much is kept of an answer that is JSON.
        """
        try:
            target = URL(url)
            place = f"{target.scheme}://{target.authority}"
        except ValueError as error:
            raise Fail(f"The URL cannot be called: {error}", code="address-refused") from None
        limits = aiohttp.ClientTimeout(total=timeout, sock_connect=None if timeout else CONNECT_TIMEOUT)
        try:
            if not trusted:
                _check_literal(target, self._allow)
            async with (self._trusted if trusted else self._guarded).request(
                method,
                target,
                data=body,
                headers=_headers(headers),
                timeout=limits,
                allow_redirects=False,
            ) as response:
                is_json = _is_json(response)
                most = most_json if is_json else MAX_ANSWER_BYTES
                content = await _read(response, most)
                answer = Answer(response.status, content[:most], len(content) > most, is_json)
                retry_after = response.headers.get("Retry-After")
        except AddressRefused as error:
            raise Fail(f"{place} is refused: {error}", code="address-refused") from None
        except TimeoutError:
            raise Retry(f"{place} did not answer within {timeout or CONNECT_TIMEOUT:g} s.", code="timeout") from None
        except aiohttp.InvalidURL as error:
            raise Fail(f"{place} is no address that can be called: {error}", code="address-refused") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Retry(f"{place} cannot be reached: {_reason(error)}", code="unreachable") from error
        _judge(place, answer, retry_after)
        return answer


async def close_outgoing(state: SimpleNamespace) -> None:
    outgoing = getattr(state, STATE_NAME, None)
    if outgoing is not None:
        delattr(state, STATE_NAME)
        await outgoing.close()


def message_headers(secret: SecretStr | None, setting: str, id: str, body: str) -> dict[str, str]:
    """
    The headers of a message that Standard Webhooks describes, without a signature if there is no secret.

    Raises Fail for a secret that is none.
    """
    if secret is not None:
        return {"Content-Type": "application/json", **signature(secret, setting, id, body)}
    return {"Content-Type": "application/json", "webhook-id": id, "webhook-timestamp": str(int(time.time()))}


def signature(secret: SecretStr, setting: str, id: str, body: str) -> dict[str, str]:
    """The headers of Standard Webhooks (https://www.standardwebhooks.com). Raises Fail for a secret that is none."""
    now = datetime.now(UTC)
    try:
        signed = Webhook(secret.get_secret_value()).sign(id, now, body)
    except (NotBase64, EmptyWebhookSecretError, ValueError):
        raise Fail(
            f"The setting {setting} is no secret of Standard Webhooks: it is whsec_ followed by 24 to 64 bytes "
            "in base64.",
            code="setting-invalid",
        ) from None
    return {"webhook-id": id, "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signed}


def _session(resolver: AbstractResolver | None) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        # No limits here: how many jobs run at once, and so how many requests, is said by the settings.
        connector=aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False, limit=0),
        # One receiver's cookies are no business of another job's, and a bomb stays packed.
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
    )


def _headers(given: Mapping[str, str]) -> dict[str, str]:
    """The given ones, and which trace the job's run belongs to, if there are traces."""
    named = {name.lower() for name in given}
    trace = {name: value for name, value in trace_headers().items() if name.lower() not in named}
    return {"User-Agent": f"gopher-node/{__version__}", "Accept-Encoding": "identity", **trace, **given}


def _check_literal(url: URL, allow: list[Allowed]) -> None:
    # An address instead of a name never reaches the resolver.
    try:
        check_address((url.host or "").partition("%")[0], allow)
    except ValueError:
        return


def _reason(error: Exception) -> str:
    """Why a connection failed, without what aiohttp says of its own options ("ssl:default", also for plain HTTP)."""
    cause = getattr(error, "os_error", None)
    if isinstance(error, aiohttp.ClientSSLError) or not isinstance(cause, OSError):
        return str(error).replace(" ssl:default", "") or type(error).__name__
    # Resolvers number their errors from -1 downwards.
    number = cause.errno or 0
    return os.strerror(number) if number > 0 else cause.strerror or str(cause)


def _is_json(response: aiohttp.ClientResponse) -> bool:
    # One that came compressed, though nobody asked for that, stays packed and is no JSON.
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        return False
    kind = response.content_type.lower()
    return kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json"))


async def _read(response: aiohttp.ClientResponse, most: int) -> bytes:
    """One byte more than the limit tells that there is more; the rest is left, and the connection with it."""
    content = bytearray()
    async for chunk in response.content.iter_chunked(MAX_ANSWER_BYTES):
        content += chunk
        if len(content) > most:
            response.close()
            break
    return bytes(content)


def _judge(place: str, answer: Answer, retry_after: str | None) -> None:
    """Raises Retry or Fail unless the answer is a success."""
    if 200 <= answer.status < 300:
        return
    said = answer.text()[:200].strip()
    message = f"{place} answered {answer.status}" + (f": {said}" if said else "")
    if answer.status in TRANSIENT or answer.status >= 500:
        raise Retry(message, after=_seconds(retry_after), code="http-error")
    if 300 <= answer.status < 400:
        raise Fail(f"{message} (redirects are not followed: give the final address)", code="redirect-refused")
    raise Fail(message, code="gone" if answer.status == 410 else "http-error")


def _seconds(retry_after: str | None) -> float | None:
    """What Retry-After asks for: seconds or a date, at most a day; None if it asks for nothing."""
    if not retry_after:
        return None
    try:
        seconds = float(retry_after) if retry_after.isdigit() else _until(parsedate_to_datetime(retry_after))
    except (ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)


def _until(moment: datetime) -> float:
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - time.time()


def json_or_text(answer: Answer) -> Any:
    try:
        return orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        return answer.text()
