"""The client for programs with an event loop."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime
from os import PathLike
from typing import Any, Self, TypeVar, Unpack

import httpx2

from gopher_node.client import calls
from gopher_node.client.bulk import SubmitResult, batches_of
from gopher_node.client.calls.call import Call, Duration
from gopher_node.client.calls.dead_letters import DeadLetterFilter
from gopher_node.client.calls.jobs import Act, JobFilter, JobRequest, Listing, PartOfAct, SubmitOptions
from gopher_node.client.events import MAX_EVENT, Following
from gopher_node.client.flow import AsyncFlowControl
from gopher_node.client.flow_views import AutoscaleView
from gopher_node.client.problems import JobFailed
from gopher_node.client.progress import Report, count_of, showing
from gopher_node.client.recurring import AsyncRecurringJobs
from gopher_node.client.views import (
    BeatView,
    HandlerView,
    HealthView,
    JobView,
    KeyView,
    LeaseView,
    LogView,
    MinuteView,
    NodeView,
    QueueView,
    SettledView,
    StatsView,
    WorkersView,
)
from gopher_node.client.wire import OUTAGE, Flow, Outcome, Pause, Security, Step, Wire
from gopher_node.client.workflows import AsyncWorkflows
from gopher_node.errors import GopherError
from gopher_node.job import Priority

T = TypeVar("T")


class AsyncClient(AsyncRecurringJobs, AsyncWorkflows, AsyncFlowControl):
    """`Client` with methods to be awaited; it has the same ones, which do and raise the same."""

    def __init__(
        self,
        url: str | None = None,
        *,
        api_key: str | None = None,
        timeout: Duration = 10.0,
        retries: int = 2,
        ca: str | PathLike[str] | None = None,
        verify: ssl.SSLContext | bool = True,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._wire = Wire(url, timeout, retries, Security(api_key=api_key, ca=ca, verify=verify))
        self._http = httpx2.AsyncClient(**self._wire.client_options(), transport=transport)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"

    @property
    def url(self) -> str:
        return self._wire.url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def submit(self, type: str, payload: Any = None, **options: Unpack[SubmitOptions]) -> JobView:
        return await self._ask(calls.jobs.submit(type, payload, options))

    async def submit_many(
        self,
        jobs: Iterable[JobRequest],
        *,
        idempotency_key: str | None = None,
        progress: bool | Report | None = None,
    ) -> tuple[JobView, ...]:
        """Submit up to 1,000 jobs: all of them or, when one is refused, none. For more of them see `submit_all`."""
        with showing(progress, count_of(jobs)) as report:
            views = await self._ask(calls.jobs.submit_many(jobs, idempotency_key))
            report(len(views))
        return views

    async def submit_stream(
        self, jobs: Iterable[JobRequest] | AsyncIterable[JobRequest], *, progress: bool | Report | None = None
    ) -> AsyncIterator[SubmitResult]:
        """
        Submit any number of jobs while the results are read: one for each, in order.

        A job that is refused does not hold up the others. They are sent in batches of up to 1,000, each safe to
        repeat. An error that is about no single job, such as a node that went away, is raised after the results that
        were known by then; give the jobs ids of your own (`job_id`) to be able to submit all of them once more.
        `progress` is True for a bar on the terminal, or is called with the number of jobs done and, if known, of all.
        """
        with showing(progress, count_of(jobs)) as report:
            done = 0
            async for batch in batches_of(jobs):
                # A node that has answered may be away for a while: it is perhaps being restarted.
                stopped = await self._follow(batch.send(self._wire, OUTAGE if done else 0.0))
                done += len(batch.results)
                report(done)
                for result in batch.results:
                    yield result
                if stopped:
                    raise stopped

    async def submit_all(
        self, jobs: Iterable[JobRequest] | AsyncIterable[JobRequest], *, progress: bool | Report | None = None
    ) -> tuple[SubmitResult, ...]:
        """`submit_stream`, with all results at once; where that raises, so does this."""
        return tuple([result async for result in self.submit_stream(jobs, progress=progress)])

    async def get(self, job_id: str) -> JobView:
        return await self._ask(calls.jobs.get(job_id))

    async def log(self, job_id: str, cursor: str | None = None) -> LogView:
        """What the runs of a job said, from the beginning or from where another answer ended."""
        return await self._ask(calls.jobs.log(job_id, cursor))

    async def wait(self, job_id: str, timeout: Duration | None = None, *, check: bool = True) -> JobView:
        """
        Wait until the job has ended. Raises WaitTimeout; without `timeout` it waits for ever.

        A job that failed or was cancelled raises JobFailed, as the result of a `concurrent.futures.Future` would;
        with `check=False` it is answered like any other.
        """
        job = await self._follow(self._wire.wait(job_id, timeout))
        return JobFailed.unless_completed(job) if check else job

    async def events(self, job_id: str) -> AsyncIterator[JobView]:
        """The job as it is now, and again after each change until it has ended. Lost connections are made anew."""
        following = Following(self._wire, job_id)
        while not following.done:
            error: httpx2.RequestError | GopherError | None = None
            options = self._wire.stream_options(following.call)
            try:
                async with self._http.sse(**options, max_event_size=MAX_EVENT) as source:
                    if not source.response.is_success:
                        await source.response.aread()
                    error = following.refusal(source.response)
                    if error is None:
                        async for event in source:
                            if job := following.take(event):
                                yield job
                            if following.done:
                                return
            except httpx2.RequestError as lost:
                error = lost
            await asyncio.sleep(following.pause(error))

    def list(self, *, limit: int | None = None, **filters: Unpack[JobFilter]) -> AsyncIterator[JobView]:
        """Jobs that match, at most `limit`: those running and waiting, then those that ended, the latest first."""
        return self._walk(calls.jobs.jobs(limit, **filters))

    async def cancel(self, job_id: str) -> JobView:
        """Cancel a waiting job, or ask a running one to stop (then `cancel_requested` is set in the answer)."""
        return await self._ask(calls.jobs.cancel(job_id))

    async def retry(self, job_id: str) -> JobView:
        """Run a job that has ended once more."""
        return await self._ask(calls.jobs.retry(job_id))

    async def run_now(self, job_id: str) -> JobView:
        """Do not wait any longer for a scheduled job's time."""
        return await self._ask(calls.jobs.run_now(job_id))

    async def edit(
        self,
        job_id: str,
        *,
        priority: Priority | str | int | None = None,
        delay: Duration | None = None,
        execute_at: datetime | str | None = None,
    ) -> JobView:
        """Change the priority of a job that waits, or when it is due."""
        return await self._ask(calls.jobs.edit(job_id, priority, delay, execute_at))

    async def delete(self, job_id: str) -> None:
        await self._ask(calls.jobs.delete(job_id))

    async def cancel_many(self, *, all: bool = False, **filters: Unpack[JobFilter]) -> int:
        """Cancel the jobs that match; those whose state does not allow it are passed over. Answers how many."""
        return await self._act("cancel", all, filters)

    async def retry_many(self, *, all: bool = False, **filters: Unpack[JobFilter]) -> int:
        """Run the ended jobs that match once more. Answers how many."""
        return await self._act("retry", all, filters)

    async def run_now_many(self, *, all: bool = False, **filters: Unpack[JobFilter]) -> int:
        """Run the scheduled jobs that match now. Answers how many."""
        return await self._act("run-now", all, filters)

    async def delete_many(self, *, all: bool = False, **filters: Unpack[JobFilter]) -> int:
        """Delete the jobs that match, except for those that run. Answers how many."""
        return await self._act("delete", all, filters)

    def dead_letters(
        self, type: str | None = None, *, limit: int | None = None, **filters: Unpack[DeadLetterFilter]
    ) -> AsyncIterator[JobView]:
        """The failed jobs, at most `limit`, the latest first."""
        return self._walk(calls.dead_letters.dead_letters(type, limit, **filters))

    async def retry_all(
        self,
        type: str | None = None,
        *,
        job_ids: Iterable[str] | None = None,
        **filters: Unpack[DeadLetterFilter],
    ) -> int:
        """Run all failed jobs, those of one type, that match or with these ids, once more. Answers how many."""
        return await self._sweep(calls.dead_letters.retry({"type": type, **filters}, job_ids))

    async def delete_dead_letters(
        self,
        type: str | None = None,
        *,
        job_ids: Iterable[str] | None = None,
        all: bool = False,
        **filters: Unpack[DeadLetterFilter],
    ) -> int:
        """Delete the failed jobs of one type, that match, with these ids, or all of them. Answers how many."""
        return await self._sweep(calls.dead_letters.delete({"type": type, **filters}, job_ids, all=all))

    async def queues(self) -> tuple[QueueView, ...]:
        return await self._ask(calls.queues.queues())

    async def queue(self, type: str) -> QueueView:
        return await self._ask(calls.queues.queue(type))

    async def purge(self, type: str, priority: Priority | str | int | None = None) -> int:
        """Delete the waiting jobs of a type. Answers how many."""
        return await self._ask(calls.queues.purge(type, priority))

    async def handlers(self) -> tuple[HandlerView, ...]:
        return await self._ask(calls.nodes.handlers())

    async def nodes(self) -> tuple[NodeView, ...]:
        return await self._ask(calls.nodes.nodes())

    async def node(self, node_id: str) -> NodeView:
        return await self._ask(calls.nodes.node(node_id))

    async def workers(self) -> WorkersView:
        return await self._ask(calls.nodes.workers())

    async def stats(self) -> StatsView:
        return await self._ask(calls.nodes.stats())

    async def stats_history(self, minutes: int = 60, type: str | None = None) -> tuple[MinuteView, ...]:
        """What was counted in each of the last minutes, of all jobs or of one type."""
        return await self._ask(calls.nodes.stats_history(minutes, type))

    async def autoscale(self, type: str | None = None, *, within: Duration | None = None) -> AutoscaleView:
        """How many jobs there are for workers, of a type or of all: those that wait, are due soon (30s), and run."""
        return await self._ask(calls.queues.autoscale(type, within))

    async def health(self) -> HealthView:
        """How the node is. Being unhealthy is an answer and raises nothing."""
        return await self._ask(calls.nodes.health())

    async def keys(self) -> tuple[KeyView, ...]:
        """The API keys, without what would let anyone in."""
        return await self._ask(calls.keys.keys())

    async def create_key(
        self,
        name: str,
        scopes: Sequence[str],
        *,
        expires_in: Duration | None = None,
        rate_limit: tuple[int, Duration] | None = None,
    ) -> KeyView:
        """Make an API key; `key` of the answer is the only place where it is shown. `rate_limit` is (limit, window)."""
        return await self._ask(calls.keys.create(name, scopes, expires_in, rate_limit))

    async def revoke_key(self, key_id: str) -> None:
        await self._ask(calls.keys.revoke(key_id))

    async def rotate_key(self, key_id: str, *, overlap: Duration | None = None) -> KeyView:
        """Put a new key in place of one, which stays good for as long as `overlap` says."""
        return await self._ask(calls.keys.rotate(key_id, overlap))

    async def lease(
        self,
        types: str | Sequence[str],
        max_jobs: int = 1,
        wait: Duration = 0.0,
        lease: Duration | None = None,
        worker: str | None = None,
    ) -> tuple[LeaseView, ...]:
        """Claim jobs of these types to run them yourself, and wait for one if there is none. None may come."""
        return await self._ask(calls.leases.lease(types, max_jobs, wait, lease, worker))

    async def heartbeat(
        self,
        token: str,
        *,
        progress: Any = None,
        lease: Duration | None = None,
        log: Sequence[str | Mapping[str, str]] = (),
    ) -> BeatView:
        """Keep a lease, tell how far the job is, and log lines. Raises LeaseLost when it is somebody else's now."""
        return await self._ask(calls.leases.heartbeat(token, progress, lease, log))

    async def complete(self, token: str, result: Any = None, *, follow_ups: Iterable[JobRequest] = ()) -> SettledView:
        """The job is done. Its follow-up jobs are stored together with that, once."""
        return await self._ask(calls.leases.complete(token, result, follow_ups))

    async def fail(
        self,
        token: str,
        error: str | BaseException | Mapping[str, Any],
        *,
        code: str | None = None,
        retryable: bool = True,
        retry_after: Duration | None = None,
    ) -> SettledView:
        """The run ended in an error. The job runs again unless its retries are used up, or it is not retryable."""
        return await self._ask(calls.leases.fail(token, error, code, retryable, retry_after))

    async def release(self, token: str) -> SettledView:
        """Hand the job back, as if it had not been claimed."""
        return await self._ask(calls.leases.release(token))

    async def _ask(self, call: Call[T]) -> T:
        return await self._follow(self._wire.exchange(call))

    async def _act(self, act: Act, all: bool, filters: JobFilter) -> int:
        return await self._sweep([calls.jobs.act_on_many(act, filters, all=all)])

    async def _sweep(self, parts: Iterable[Call[PartOfAct]]) -> int:
        return await self._follow(self._wire.sweep(parts))

    async def _walk(self, listing: Listing[T]) -> AsyncIterator[T]:
        while listing.call:
            for item in listing.take(await self._ask(listing.call)):
                yield item

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
