"""How a question becomes an HTTP exchange: address, credentials, time limits, and repeats."""

from __future__ import annotations

import os
import re
import ssl
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx2

from gopher_node.client import answers
from gopher_node.client.calls import jobs, workflows
from gopher_node.client.calls.call import Call, Duration
from gopher_node.client.calls.jobs import PartOfAct
from gopher_node.client.problems import (
    ApiError,
    NodeNotReady,
    ServerUnavailable,
    TooManyRequests,
    WaitTimeout,
    WorkflowTimeout,
)
from gopher_node.client.tracing import trace_headers
from gopher_node.client.views import JobView, WorkflowView
from gopher_node.durations import parse_duration
from gopher_node.errors import GopherError
from gopher_node.job import RetryPolicy

DEFAULT_URL = "http://127.0.0.1:8080"

LONGEST_POLL = 30.0
SHORTEST_POLL = 0.25
LONGEST_PAUSE = 10.0
OUTAGE = 30.0
# A stream of events shows a sign of life far more often than this.
LONGEST_SILENCE = 60.0

BACKOFF = RetryPolicy(base=0.2, cap=5.0)
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_VISIBLE = re.compile(r"[\x21-\x7e]+\Z")

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Security:
    """Who the client is, and whom it trusts."""

    api_key: str | None = field(default=None, repr=False)
    ca: str | os.PathLike[str] | None = None
    verify: ssl.SSLContext | bool = True


class Wire:
    """
    One node's address, and how it is talked to.

    A question is repeated, at most `retries` times, only where that is safe: one that changes nothing, one that the
    node recognises as told before (by its idempotency key or its token), or one that is known not to have been
    carried out. Everything else is left to the caller.
    """

    def __init__(self, url: str | None, timeout: Duration, retries: int, security: Security | None = None) -> None:
        self._address = _parse_url(url or os.environ.get("GOPHER_URL") or DEFAULT_URL)
        # Shown in messages, so without the password that a URL may hold.
        self._bare = self._address.copy_with(userinfo=b"")
        self.url = str(self._bare).rstrip("/")
        self.timeout = parse_duration(timeout)
        if self.timeout <= 0:
            raise ValueError("timeout must be more than 0 seconds.")
        self.retries = retries
        self._security = security or Security()
        self._key = _read_key(self._security.api_key)

    def client_options(self) -> dict[str, Any]:
        """What an httpx2 client is made with."""
        from gopher_node import __version__

        options: dict[str, Any] = {
            # httpx2 logs addresses, so what stands before the @ is handed over in another way.
            "base_url": self._bare,
            "timeout": self.timeout,
            "headers": {"Accept": "application/json", "User-Agent": f"gopher-node/{__version__}"},
            # A proxy for the outside world does not lead back to this machine.
            "trust_env": self._address.host not in _LOOPBACK,
            "verify": self._trust(),
        }
        if self._address.userinfo:
            options["auth"] = (self._address.username, self._address.password)
        if self._key:
            # Only one of them fits into Authorization, and it is the proxy in between that knows no other header.
            name, value = (
                ("X-API-Key", self._key) if self._address.userinfo else ("Authorization", f"Bearer {self._key}")
            )
            options["headers"][name] = value
        return options

    def request_options(self, call: Call[Any]) -> dict[str, Any]:
        """What an httpx2 client's `request` is called with."""
        options: dict[str, Any] = {
            "method": call.method,
            "url": call.path,
            "timeout": httpx2.Timeout(self.timeout, read=self.timeout + call.wait),
        }
        headers = trace_headers()
        if call.params:
            options["params"] = list(call.params)
        if call.body is not None:
            options["content"] = call.body
            headers["Content-Type"] = "application/json"
        if call.key is not None:
            headers["Idempotency-Key"] = call.key
        if headers:
            options["headers"] = headers
        return options

    def stream_options(self, call: Call[Any]) -> dict[str, Any]:
        """What an httpx2 client's `sse` is called with."""
        silence = max(self.timeout, LONGEST_SILENCE)
        return {**self.request_options(call), "timeout": httpx2.Timeout(self.timeout, read=silence)}

    def exchange(self, call: Call[T], patience: float = 0.0, clock: Callable[[], float] = time.monotonic) -> Flow[T]:
        """
        Ask until there is an answer, or an error that repeating does not mend or must not.

        With `patience`, repeats go on for so many seconds even if they are more than `retries`.
        """
        failures = 0
        end = clock() + patience
        while True:
            outcome = yield call
            try:
                if isinstance(outcome, httpx2.Response):
                    return answers.read_answer(call, outcome, self.url)
                raise answers.unreachable(call, outcome, self.url, self.timeout)
            except GopherError as error:
                failures += 1
                pause = self._pause_after(error, call, failures, end - clock())
                if pause is None:
                    raise
            yield Pause(pause)

    def sweep(self, calls: Iterable[Call[PartOfAct]]) -> Flow[int]:
        """Go on with each call from cursor to cursor, to its end. Answers how many jobs all of them were about."""
        count = 0
        for first in calls:
            step = yield from self.exchange(first)
            count += step.count
            while step.next_cursor:
                step = yield from self.exchange(jobs.go_on(first, step.next_cursor))
                count += step.count
        return count

    def wait(self, job_id: str, timeout: Duration | None, clock: Callable[[], float] = time.monotonic) -> Flow[JobView]:
        """Ask for a job until it has ended, or `timeout` is over (WaitTimeout)."""

        def ended(job: JobView) -> bool:
            return job.status.final

        return self._await(lambda left: jobs.get(job_id, wait=left), ended, WaitTimeout, timeout, clock)

    def wait_workflow(
        self, workflow_id: str, timeout: Duration | None, clock: Callable[[], float] = time.monotonic
    ) -> Flow[WorkflowView]:
        """Ask for a workflow until it has ended, or `timeout` is over (WorkflowTimeout)."""

        def ended(workflow: WorkflowView) -> bool:
            return workflow.status != "running"

        return self._await(lambda left: workflows.get(workflow_id, wait=left), ended, WorkflowTimeout, timeout, clock)

    def _await(
        self,
        ask: Callable[[float], Call[T]],
        ended: Callable[[T], bool],
        late: Callable[[T, float], Exception],
        timeout: Duration | None,
        clock: Callable[[], float],
    ) -> Flow[T]:
        """
        Ask for something until it has ended, for `timeout` at most.

        Once there was an answer, the node may be away for OUTAGE seconds: it is perhaps being restarted.
        """
        limit = None if timeout is None else parse_duration(timeout)
        started = clock()
        answered: float | None = None
        while True:
            asked = clock()
            left = LONGEST_POLL if limit is None else min(LONGEST_POLL, max(0.0, started + limit - asked))
            try:
                found = yield from self.exchange(ask(left))
            except (ServerUnavailable, NodeNotReady):
                now = clock()
                if answered is None or now >= answered + OUTAGE or (limit is not None and now >= started + limit):
                    raise
                yield Pause(SHORTEST_POLL)
                continue
            if ended(found):
                return found
            now = answered = clock()
            if limit is not None and now >= started + limit:
                raise late(found, limit)
            # A node that is about to stop answers early; so that is no reason to ask at once again and again.
            if now - asked < min(left, SHORTEST_POLL):
                yield Pause(min(left, SHORTEST_POLL))

    def _pause_after(self, error: GopherError, call: Call[Any], failures: int, patience: float) -> float | None:
        if failures > self.retries and patience <= 0:
            return None
        if isinstance(error, (ServerUnavailable, NodeNotReady)):
            if error.outcome_unknown and not call.repeatable:
                return None
        elif not isinstance(error, TooManyRequests):
            return None
        asked = error.retry_after if isinstance(error, ApiError) else None
        if asked is None:
            return BACKOFF.delay(failures)
        return asked if asked <= max(LONGEST_PAUSE, patience) else None

    def _trust(self) -> ssl.SSLContext:
        """Whose certificates are believed."""
        security = self._security
        if self._address.scheme == "http":
            # Reading the system's certificates takes 0.1 s, and a plain connection needs none.
            return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if isinstance(security.verify, ssl.SSLContext):
            return security.verify
        if security.ca is None or not security.verify:
            # With SSL_CERT_FILE and SSL_CERT_DIR, also for a node on this machine.
            return httpx2.create_ssl_context(security.verify)
        path = Path(security.ca)
        try:
            if path.is_dir():
                return ssl.create_default_context(capath=path)
            return ssl.create_default_context(cafile=path)
        except OSError as error:
            raise ValueError(f"ca: {path} cannot be read as certificates ({error.strerror or error}).") from None


def _read_key(given: str | None) -> str | None:
    key = (given if given is not None else os.environ.get("GOPHER_API_KEY", "")).strip()
    if key and not _VISIBLE.match(key):
        # Not quoted, for it is somebody's secret.
        raise ValueError("api_key or GOPHER_API_KEY has characters that no key has.")
    return key or None


def _parse_url(text: str) -> httpx2.URL:
    try:
        url = httpx2.URL(text)
    except httpx2.InvalidURL as error:
        raise ValueError(f"{text!r} is not a URL: {error}. Write it like {DEFAULT_URL}.") from error
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(f"{text!r} is not the address of a node. Write it like {DEFAULT_URL}.")
    return url
