"""How a question becomes an HTTP exchange: address, time limits, repeats, and the reading of what comes back."""

from __future__ import annotations

import os
import re
import ssl
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar, cast

import httpx2
import orjson

from gopher_node.client import calls
from gopher_node.client.calls import Call, Duration
from gopher_node.client.problems import (
    ApiError,
    FieldError,
    NoAnswer,
    NodeNotReady,
    Problem,
    ServerUnavailable,
    TooManyRequests,
    UnexpectedAnswer,
    WaitTimeout,
    error_for,
)
from gopher_node.client.views import JobView
from gopher_node.durations import parse_duration
from gopher_node.errors import GopherError
from gopher_node.job import RetryPolicy

DEFAULT_URL = "http://127.0.0.1:8080"

LONGEST_POLL = 30.0
SHORTEST_POLL = 0.25
LONGEST_PAUSE = 10.0
OUTAGE = 30.0

_BACKOFF = RetryPolicy(base=0.2, cap=5.0)
_ERRNO = re.compile(r"^\[Errno -?[0-9]+\] ")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
# None of these gets as far as sending a byte of the question.
_NOT_SENT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.ProxyError,
    httpx2.LocalProtocolError,
    httpx2.UnsupportedProtocol,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait so many seconds before the next question."""

    seconds: float


Step = Call[Any] | Pause
Outcome = httpx2.Response | httpx2.RequestError | None
Flow = Generator[Step, Outcome, T]
"""
A conversation that does no I/O itself: it yields what is to be done next and is sent what came of it.
So the blocking and the asynchronous client hold the same conversations and differ only in how they wait.
"""


class Wire:
    """
    One node's address, and how it is talked to.

    A question is repeated, at most `retries` times, only where that is safe: one that changes nothing, or one that is
    known not to have been carried out. It is left to the caller to repeat a submit whose answer was lost, for the job
    may have been stored.
    """

    def __init__(self, url: str | None, timeout: Duration, retries: int) -> None:
        self._address = _parse_url(url or os.environ.get("GOPHER_URL") or DEFAULT_URL)
        # Shown in messages, so without the password that a URL may hold.
        self.url = str(self._address.copy_with(userinfo=b"")).rstrip("/")
        self._timeout = parse_duration(timeout)
        if self._timeout <= 0:
            raise ValueError("timeout must be more than 0 seconds.")
        self._retries = retries

    def client_options(self) -> dict[str, Any]:
        """What an httpx2 client is made with."""
        from gopher_node import __version__

        options: dict[str, Any] = {
            "base_url": self._address,
            "timeout": self._timeout,
            "headers": {"Accept": "application/json", "User-Agent": f"gopher-node/{__version__}"},
            # A proxy for the outside world does not lead back to this machine.
            "trust_env": self._address.host not in _LOOPBACK,
        }
        if self._address.scheme == "http":
            # Reading the system's certificates takes 0.1 s, and a plain connection needs none.
            options["verify"] = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return options

    def request_options(self, call: Call[Any]) -> dict[str, Any]:
        """What an httpx2 client's `request` is called with."""
        options: dict[str, Any] = {
            "method": call.method,
            "url": call.path,
            "timeout": httpx2.Timeout(self._timeout, read=self._timeout + call.wait),
        }
        if call.params:
            options["params"] = list(call.params)
        if call.body is not None:
            options["content"] = call.body
            options["headers"] = {"Content-Type": "application/json"}
        return options

    def exchange(self, call: Call[T]) -> Flow[T]:
        """Ask until there is an answer, or an error that repeating does not mend or must not."""
        failures = 0
        while True:
            outcome = yield call
            try:
                return self._read(call, outcome)
            except GopherError as error:
                failures += 1
                pause = self._pause_after(error, call, failures)
                if pause is None:
                    raise
            yield Pause(pause)

    def wait(self, job_id: str, timeout: Duration | None, clock: Callable[[], float] = time.monotonic) -> Flow[JobView]:
        """
        Ask for a job until it has ended, or `timeout` is over (WaitTimeout).

        Once there was an answer, the node may be away for OUTAGE seconds: it is perhaps being restarted.
        """
        limit = None if timeout is None else parse_duration(timeout)
        started = clock()
        answered: float | None = None
        while True:
            asked = clock()
            left = LONGEST_POLL if limit is None else min(LONGEST_POLL, max(0.0, started + limit - asked))
            try:
                job = yield from self.exchange(calls.get(job_id, wait=left))
            except (ServerUnavailable, NodeNotReady):
                now = clock()
                if answered is None or now >= answered + OUTAGE or (limit is not None and now >= started + limit):
                    raise
                yield Pause(SHORTEST_POLL)
                continue
            if job.status.final:
                return job
            now = answered = clock()
            if limit is not None and now >= started + limit:
                raise WaitTimeout(job, limit)
            # A node that is about to stop answers early; so that is no reason to ask at once again and again.
            if now - asked < min(left, SHORTEST_POLL):
                yield Pause(min(left, SHORTEST_POLL))

    def _pause_after(self, error: GopherError, call: Call[Any], failures: int) -> float | None:
        if failures > self._retries:
            return None
        if isinstance(error, (ServerUnavailable, NodeNotReady)):
            if error.outcome_unknown and not call.repeatable:
                return None
        elif not isinstance(error, TooManyRequests):
            return None
        asked = error.retry_after if isinstance(error, ApiError) else None
        if asked is None:
            return _BACKOFF.delay(failures)
        return asked if asked <= LONGEST_PAUSE else None

    def _read(self, call: Call[T], outcome: Outcome) -> T:
        if not isinstance(outcome, httpx2.Response):
            raise self._unreachable(call, outcome)
        if not outcome.is_success and outcome.status_code not in call.accepts:
            raise self._refusal(call, outcome)
        try:
            return call.read(orjson.loads(outcome.content) if outcome.content else None)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            # A node that cannot answer an accepted status as due may still have told why.
            if not outcome.is_success:
                raise self._refusal(call, outcome) from error
            raise UnexpectedAnswer(
                f"{self.url} answered {call.method} {call.path} in a form that this client does not know. "
                "Check that the address is that of a gopher-node, and that its version is not newer than this client's."
            ) from error

    def _unreachable(self, call: Call[Any], error: httpx2.RequestError | None) -> ServerUnavailable:
        if isinstance(error, (httpx2.ConnectTimeout, httpx2.PoolTimeout)):
            return ServerUnavailable(self.url, f"no connection within {self._timeout:g} s")
        if isinstance(error, httpx2.TimeoutException):
            reason = f"none within {self._timeout + call.wait:g} s"
        else:
            reason = _ERRNO.sub("", str(error)).rstrip(".") or type(error).__name__
        if isinstance(error, _NOT_SENT):
            return ServerUnavailable(self.url, reason)
        return NoAnswer.to(self.url, reason, changes=not call.repeatable)

    def _refusal(self, call: Call[Any], response: httpx2.Response) -> GopherError:
        problem = _read_problem(response)
        if problem:
            return error_for(problem)
        reason = f"HTTP status {response.status_code}"
        if response.status_code in (502, 503, 504):
            return NoAnswer.to(self.url, f"a proxy in between answered with {reason}", changes=not call.repeatable)
        if "location" in response.headers:
            reason += f", which leads to {response.headers['location']}"
        return UnexpectedAnswer(
            f"What answers at {self.url} does not seem to be a gopher-node ({reason}). Check the address."
        )


def _parse_url(text: str) -> httpx2.URL:
    try:
        url = httpx2.URL(text)
    except httpx2.InvalidURL as error:
        raise ValueError(f"{text!r} is not a URL: {error}. Write it like {DEFAULT_URL}.") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(f"{text!r} is not the address of a node. Write it like {DEFAULT_URL}.")
    return url


def _read_problem(response: httpx2.Response) -> Problem | None:
    if response.headers.get("content-type", "").partition(";")[0].strip() != "application/problem+json":
        return None
    try:
        content = orjson.loads(response.content)
    except ValueError:
        return None
    if not isinstance(content, dict):
        return None
    members = cast("dict[str, Any]", content)
    named = {name: str(members.get(name) or "") for name in ("title", "detail", "instance")}
    return Problem(
        status=response.status_code,
        type=str(members.get("type") or "").rpartition("/")[2],
        errors=_read_field_errors(members.get("errors")),
        retry_after=_read_retry_after(response.headers.get("retry-after", "")),
        more={
            name: value
            for name, value in members.items()
            if name not in named and name not in ("status", "type", "errors")
        },
        **named,
    )


def _read_field_errors(content: Any) -> tuple[FieldError, ...]:
    if not isinstance(content, list):
        return ()
    entries = [cast("dict[str, Any]", entry) for entry in cast("list[Any]", content) if isinstance(entry, dict)]
    return tuple(
        FieldError(
            pointer=str(entry.get("pointer") or entry.get("parameter") or ""),
            code=str(entry.get("code", "")),
            detail=str(entry.get("detail", "")),
        )
        for entry in entries
    )


def _read_retry_after(text: str) -> float | None:
    if not text:
        return None
    try:
        return max(0.0, float(int(text)))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (moment - datetime.now(UTC)).total_seconds()) if moment.tzinfo else None
