"""The client for programs with an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, Self, TypeVar, Unpack

import httpx2

from gopher_node.client import calls
from gopher_node.client.calls import Call, Duration, JobFilter, JobOptions, JobRequest, Listing
from gopher_node.client.views import HandlerView, HealthView, JobView, StatsView
from gopher_node.client.wire import Flow, Outcome, Pause, Step, Wire
from gopher_node.job import Priority

T = TypeVar("T")


class AsyncClient:
    """`Client` with methods to be awaited; it has the same ones, which do and raise the same."""

    def __init__(
        self,
        url: str | None = None,
        *,
        timeout: Duration = 10.0,
        retries: int = 2,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._wire = Wire(url, timeout, retries)
        self._http = httpx2.AsyncClient(**self._wire.client_options(), transport=transport)

    @property
    def url(self) -> str:
        return self._wire.url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def submit(self, type: str, payload: Any = None, **options: Unpack[JobOptions]) -> JobView:
        return await self._ask(calls.submit(type, payload, options))

    async def submit_many(self, jobs: Iterable[JobRequest]) -> tuple[JobView, ...]:
        """Submit up to 1,000 jobs: all of them or, when one is refused, none."""
        return await self._ask(calls.submit_many(jobs))

    async def get(self, job_id: str) -> JobView:
        return await self._ask(calls.get(job_id))

    async def wait(self, job_id: str, timeout: Duration | None = None) -> JobView:
        """Wait until the job has ended, in whichever way. Raises WaitTimeout; without `timeout` it waits for ever."""
        return await self._follow(self._wire.wait(job_id, timeout))

    def list(self, *, limit: int | None = None, **filters: Unpack[JobFilter]) -> AsyncIterator[JobView]:
        """Jobs that match, at most `limit`: those running and waiting, then those that ended, the latest first."""
        return self._walk(calls.jobs(limit, **filters))

    async def cancel(self, job_id: str) -> JobView:
        """Cancel a waiting job, or ask a running one to stop (then `cancel_requested` is set in the answer)."""
        return await self._ask(calls.cancel(job_id))

    async def retry(self, job_id: str) -> JobView:
        """Run a job that has ended once more."""
        return await self._ask(calls.retry(job_id))

    async def delete(self, job_id: str) -> None:
        await self._ask(calls.delete(job_id))

    def dead_letters(self, type: str | None = None, *, limit: int | None = None) -> AsyncIterator[JobView]:
        return self._walk(calls.dead_letters(type, limit))

    async def retry_all(self, type: str | None = None) -> int:
        """Run all failed jobs, or those of one type, once more. Answers how many."""
        return await self._ask(calls.retry_all(type))

    async def purge(self, type: str, priority: Priority | str | int | None = None) -> int:
        """Delete the waiting jobs of a type. Answers how many."""
        return await self._ask(calls.purge(type, priority))

    async def stats(self) -> StatsView:
        return await self._ask(calls.stats())

    async def handlers(self) -> tuple[HandlerView, ...]:
        return await self._ask(calls.handlers())

    async def health(self) -> HealthView:
        """How the node is. Being unhealthy is an answer and raises nothing."""
        return await self._ask(calls.health())

    async def _ask(self, call: Call[T]) -> T:
        return await self._follow(self._wire.exchange(call))

    async def _walk(self, listing: Listing) -> AsyncIterator[JobView]:
        while listing.call:
            for job in listing.take(await self._ask(listing.call)):
                yield job

    async def _follow(self, flow: Flow[T]) -> T:
        outcome: Outcome = None
        while True:
            try:
                step = flow.send(outcome)
            except StopIteration as end:
                return end.value
            outcome = await self._do(step)

    async def _do(self, step: Step) -> Outcome:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        try:
            return await self._http.request(**self._wire.request_options(step))
        except httpx2.RequestError as error:
            return error
