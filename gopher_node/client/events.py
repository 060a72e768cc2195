"""Following a job: the stream of its events as a conversation that outlives the connection, without I/O of its own."""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx2
import orjson

from gopher_node.client import answers
from gopher_node.client.calls.call import Call
from gopher_node.client.calls.jobs import job_path
from gopher_node.client.problems import (
    ApiError,
    NodeNotReady,
    ServerUnavailable,
    TooManyRequests,
    UnexpectedAnswer,
)
from gopher_node.client.views import JobView
from gopher_node.client.wire import BACKOFF, OUTAGE, Wire
from gopher_node.errors import GopherError

MAX_EVENT = 16 * 1024 * 1024


class Following:
    """
    One job's events: open `call` as a stream, hand each event to `take`, and ask `pause` after each end of the stream.

    A stream may end at any time, for instance because its node does. Then it is opened anew, and the node tells how
    the job is by now; what was told before is not told again.
    """

    def __init__(self, wire: Wire, job_id: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.call: Call[JobView] = Call(method="GET", path=f"{job_path(job_id)}/events", read=JobView.read)
        self.done = False
        self._wire = wire
        self._clock = clock
        self._heard: float | None = None
        self._failures = 0
        self._last: object = None

    def refusal(self, response: httpx2.Response) -> GopherError | None:
        """Why this is no stream of events, if it is none. An answer that is no success must have been read."""
        if not response.is_success:
            return answers.refusal(self.call, response, self._wire.url)
        if response.headers.get("content-type", "").partition(";")[0].strip() != "text/event-stream":
            return UnexpectedAnswer(f"{self._wire.url} answered with something else than a stream of events.")
        return None

    def take(self, event: httpx2.ServerSentEvent) -> JobView | None:
        """The job as this event tells it, if that is news."""
        self._heard, self._failures = self._clock(), 0
        if not event.data:
            return None
        try:
            job = self.call.read(orjson.loads(event.data))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UnexpectedAnswer(
                f"{self._wire.url} told an event in a form that this client does not know. "
                "Check that its version is not newer than this client's."
            ) from error
        self.done = job.status.final
        news, self._last = job.raw != self._last, job.raw
        return job if news else None

    def pause(self, error: httpx2.RequestError | GopherError | None) -> float:
        """How long to wait before the stream is opened anew. Raises what went wrong where that has no sense."""
        if isinstance(error, httpx2.RequestError):
            error = answers.unreachable(self.call, error, self._wire.url, self._wire.timeout)
        error = error or answers.no_answer(self.call, self._wire.url, "the stream of events ended")
        self._failures += 1
        passing = isinstance(error, (ServerUnavailable, NodeNotReady, TooManyRequests))
        if not (passing and self._may_go_on()):
            raise error
        asked = error.retry_after if isinstance(error, ApiError) else None
        return BACKOFF.delay(self._failures) if asked is None else min(asked, OUTAGE)

    def _may_go_on(self) -> bool:
        if self._heard is None:
            return self._failures <= self._wire.retries
        return self._clock() < self._heard + OUTAGE
