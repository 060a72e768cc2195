"""The client for programs without an event loop."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any, Self, TypeVar, Unpack

import httpx2

from gopher_node.client import calls
from gopher_node.client.calls import Call, Duration, JobFilter, JobOptions, JobRequest, Listing
from gopher_node.client.views import HandlerView, HealthView, JobView, StatsView
from gopher_node.client.wire import Flow, Outcome, Pause, Step, Wire
from gopher_node.job import Priority

T = TypeVar("T")


class Client:
    """
    Talks to a node over HTTP. Threads may share one; close it, or use it in a `with` statement.

    `url` is by default that of GOPHER_URL, or http://127.0.0.1:8080. `timeout` (seconds, or text like "30s") holds for
    each exchange. Methods raise ServerUnavailable when no node can be reached, NoAnswer when it is unknown whether
    what was asked was done, and a kind of ApiError when the node refuses.

    Reads, and whatever is known not to have been carried out, are repeated up to `retries` times, as the node's
    Retry-After asks. A submit whose answer was lost is not: the job may have been stored.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        timeout: Duration = 10.0,
        retries: int = 2,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self._wire = Wire(url, timeout, retries)
        self._http = httpx2.Client(**self._wire.client_options(), transport=transport)

    @property
    def url(self) -> str:
        return self._wire.url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def submit(self, type: str, payload: Any = None, **options: Unpack[JobOptions]) -> JobView:
        return self._ask(calls.submit(type, payload, options))

    def submit_many(self, jobs: Iterable[JobRequest]) -> tuple[JobView, ...]:
        """Submit up to 1,000 jobs: all of them or, when one is refused, none."""
        return self._ask(calls.submit_many(jobs))

    def get(self, job_id: str) -> JobView:
        return self._ask(calls.get(job_id))

    def wait(self, job_id: str, timeout: Duration | None = None) -> JobView:
        """Wait until the job has ended, in whichever way. Raises WaitTimeout; without `timeout` it waits for ever."""
        return self._follow(self._wire.wait(job_id, timeout))

    def list(self, *, limit: int | None = None, **filters: Unpack[JobFilter]) -> Iterator[JobView]:
        """Jobs that match, at most `limit`: those running and waiting, then those that ended, the latest first."""
        return self._walk(calls.jobs(limit, **filters))

    def cancel(self, job_id: str) -> JobView:
        """Cancel a waiting job, or ask a running one to stop (then `cancel_requested` is set in the answer)."""
        return self._ask(calls.cancel(job_id))

    def retry(self, job_id: str) -> JobView:
        """Run a job that has ended once more."""
        return self._ask(calls.retry(job_id))

    def delete(self, job_id: str) -> None:
        self._ask(calls.delete(job_id))

    def dead_letters(self, type: str | None = None, *, limit: int | None = None) -> Iterator[JobView]:
        return self._walk(calls.dead_letters(type, limit))

    def retry_all(self, type: str | None = None) -> int:
        """Run all failed jobs, or those of one type, once more. Answers how many."""
        return self._ask(calls.retry_all(type))

    def purge(self, type: str, priority: Priority | str | int | None = None) -> int:
        """Delete the waiting jobs of a type. Answers how many."""
        return self._ask(calls.purge(type, priority))

    def stats(self) -> StatsView:
        return self._ask(calls.stats())

    def handlers(self) -> tuple[HandlerView, ...]:
        return self._ask(calls.handlers())

    def health(self) -> HealthView:
        """How the node is. Being unhealthy is an answer and raises nothing."""
        return self._ask(calls.health())

    def _ask(self, call: Call[T]) -> T:
        return self._follow(self._wire.exchange(call))

    def _walk(self, listing: Listing) -> Iterator[JobView]:
        while listing.call:
            yield from listing.take(self._ask(listing.call))

    def _follow(self, flow: Flow[T]) -> T:
        outcome: Outcome = None
        while True:
            try:
                step = flow.send(outcome)
            except StopIteration as end:
                return end.value
            outcome = self._do(step)

    def _do(self, step: Step) -> Outcome:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        try:
            return self._http.request(**self._wire.request_options(step))
        except httpx2.RequestError as error:
            return error
