"""Reads what came of a question: the answer, a node's refusal, or why there was none."""

from __future__ import annotations

import re
from typing import Any, TypeVar

import httpx2
import orjson

from gopher_node.client.calls.call import Call
from gopher_node.client.documents import problem_from
from gopher_node.client.problems import (
    NoAnswer,
    Problem,
    ServerUnavailable,
    UnexpectedAnswer,
    error_for,
)
from gopher_node.errors import GopherError

PROBLEM = "application/problem+json"

_ERRNO = re.compile(r"^\[Errno -?[0-9]+\] ")
# None of these gets as far as sending a byte of the question.
_NOT_SENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.LocalProtocolError,
    httpx2.UnsupportedProtocol,
)
# What OpenSSL calls an answer that is not TLS, in its versions.
_NO_TLS = ("WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG", "HTTP_REQUEST")

T = TypeVar("T")


def read_answer(call: Call[T], response: httpx2.Response, url: str) -> T:
    """The answer as a value. Raises what stands for a refusal, and UnexpectedAnswer for what is no node's answer."""
    if not response.is_success and response.status_code not in call.accepts:
        raise refusal(call, response, url)
    try:
        return call.read(orjson.loads(response.content) if response.content else None)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        # A node that cannot answer an accepted status as due may still have told why.
        if not response.is_success:
            raise refusal(call, response, url) from error
        raise UnexpectedAnswer(
            f"{url} answered {call.method} {call.path} in a form that this client does not know. "
            "Check that the address is that of a gopher-node, and that its version is not newer than this client's."
        ) from error


def refusal(call: Call[Any], response: httpx2.Response, url: str) -> GopherError:
    problem = _read_problem(response)
    if problem:
        return error_for(problem)
    reason = f"HTTP status {response.status_code}"
    if response.status_code in (502, 503, 504):
        return no_answer(call, url, f"a proxy in between answered with {reason}")
    if "location" in response.headers:
        reason += f", which leads to {response.headers['location']}"
    return UnexpectedAnswer(f"What answers at {url} does not seem to be a gopher-node ({reason}). Check the address.")


def unreachable(call: Call[Any], error: httpx2.RequestError | None, url: str, timeout: float) -> ServerUnavailable:
    """Why there is no answer. `timeout` is that of an exchange, in seconds."""
    if isinstance(error, (httpx2.ConnectTimeout, httpx2.PoolTimeout)):
        return ServerUnavailable(url, f"no connection within {timeout:g} s")
    if isinstance(error, httpx2.TimeoutException):
        reason = f"none within {timeout + call.wait:g} s"
    else:
        reason = _ERRNO.sub("", str(error)).rstrip(".") or type(error).__name__
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        return ServerUnavailable(url, reason, untrusted(url, reason))
    if any(sign in reason for sign in _NO_TLS):
        return ServerUnavailable(url, reason, f"What listens at {url} does not speak TLS ({reason}): use http://.")
    if isinstance(error, _NOT_SENT):
        return ServerUnavailable(url, reason)
    if url.startswith("http:") and isinstance(error, (httpx2.RemoteProtocolError, httpx2.ReadError)):
        reason += "; if it speaks TLS, use https://"
    return no_answer(call, url, reason)


def no_answer(call: Call[Any], url: str, reason: str) -> NoAnswer:
    return NoAnswer.to(url, reason, changes=call.changes, idempotency_key=call.key)


def untrusted(url: str, reason: str) -> str:
    return (
        f"The certificate of {url} is not one that is trusted here ({reason}). "
        "Name the file of the authority that signed it as `ca`, or in SSL_CERT_FILE."
    )


def _read_problem(response: httpx2.Response) -> Problem | None:
    if response.headers.get("content-type", "").partition(";")[0].strip() != PROBLEM:
        return None
    try:
        content = orjson.loads(response.content)
    except ValueError:
        return None
    return problem_from(content, response.status_code, response.headers.get("retry-after", ""))
