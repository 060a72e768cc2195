"""A node whose jobs run when a test says so, on the real store in a server inside the process."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import wraps
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, Literal, Self, TypedDict

import orjson
from typing_extensions import Unpack

from gopher_node.api.answers.views import show_job
from gopher_node.client import JobView
from gopher_node.durations import parse_duration
from gopher_node.errors import GopherError, Retry, StaleLease
from gopher_node.flow import FlowPolicy
from gopher_node.handlers import Handler, JobContext, Registry
from gopher_node.handlers.registry import registry as default_registry
from gopher_node.job import JobError, Lease, Priority, RetryPolicy
from gopher_node.limits import overlay
from gopher_node.scheduler import Scheduler
from gopher_node.settings import Settings
from gopher_node.store import Connections, Pool, Store
from gopher_node.telemetry import Events
from gopher_node.worker.contexts import Contexts
from gopher_node.worker.outcome import Completed, Failed, Outcome, Retried
from gopher_node.worker.perform import perform
from gopher_node.worker.processes import Processes
from gopher_node.worker.run import Run, Stop
from gopher_node.worker.settle import Settler
from gopher_node.worker.threads import Threads

BATCH = 200
MOST_RUNS = 10_000
"""A test that runs more jobs at a time has handlers that enqueue each other for ever."""

Duration = float | str | timedelta


class SubmitOptions(TypedDict, total=False):
    """What `JobContext.enqueue` takes beside the type and the payload."""

    priority: Priority | str | int | None
    group: str
    delay: float | str | None
    execute_at: datetime | None
    max_retries: int | None
    timeout: float | str | None
    tags: Sequence[str]
    name: str
    depends_on: Sequence[str]
    on_parent_failure: Literal["skip", "fail", "run"]


class RunFailed(GopherError):
    """A run did not complete, though its handler raised nothing: its payload or result was refused, or time was up."""

    def __init__(self, job: JobView, error: JobError) -> None:
        super().__init__(f"{job.type} {job.job_id} (attempt {job.attempt}): {error.code}: {error.message}")
        self.job = job
        self.code = error.code


class _TimedStore(Store):
    """A store whose server takes the time from the test."""

    clock: Callable[[], int]

    async def _run(self, script: str, *arguments: Any, now: int | None = None) -> Any:
        return await super()._run(script, *arguments, now=self.clock() if now is None else now)


class TestNode:
    """
    Runs handlers inline, one job after the other, by the rules of a real node: its store is the real one, on a server
    inside the process, and what a run's end means for its job is decided by the node's own code.

    Time stands still but for `advance`; timeouts alone are real. Jobs of types without a handler are kept, and wait.
    What is to run in a process runs in a thread.
    """

    __test__ = False  # pytest takes a class of this name for tests

    def __init__(
        self,
        *modules: str,
        registry: Registry | None = None,
        settings: Settings | None = None,
        state: SimpleNamespace | None = None,
        now: datetime | None = None,
        check: bool = True,
        hooks: bool = True,
    ) -> None:
        """
        Its handlers are those of the imported modules, and of the `modules` that it imports itself; or those of
        `registry`. The built-in ones are not among them, unless you load them into a registry.

        Entered, its `store` is there for what has no method here: policies, recurring jobs, workflows.

        `state` is what handlers find as `ctx.state`; with `hooks=False` nothing but you fills it. With `check`, a run
        that ends in an error raises it in the test, `Retry` apart; else it is found in the job.
        """
        self.state = SimpleNamespace() if state is None else state
        self.settings: Settings
        self.store: Store
        self._given_settings = settings
        self._modules = modules
        self._registry = registry or default_registry
        self._check = check
        self._hooks = hooks
        self._now_ms: int = round((time.time() if now is None else now.timestamp()) * 1000)
        self._order: dict[str, None] = {}
        self._jobs: dict[str, JobView] = {}
        self._own: set[str] = set()
        self._servable_ms: int | None = None
        self._current: Run | None = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            self._registry.load(self._modules)
            if self._given_settings is None:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="gopher-test-"))
                self._given_settings = Settings(data_dir=Path(folder))
            self.settings = self._given_settings
            self.store = _open_store(lambda: self._now_ms)
            stack.push_async_callback(self.store.close)
            await self.store.open()
            self._threads = Threads()
            stack.callback(self._threads.close)
            self._prepare()
            await self.store.flow.declare(self._policies())
            self._session = await self.store.open_session("test", self.settings.worker.lease)
            if self._hooks:
                await self._registry.start(self.state)
                stack.push_async_callback(self._registry.stop, self.state)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    def _prepare(self) -> None:
        settings, events = self.settings, Events("test", job_lines="none")
        self._handlers = {handler.type: handler for handler in self._registry.handlers()}
        self._pool = Pool.of(self._handlers)
        self._timeouts = {type: one.timeout for type, one in self._handlers.items() if one.timeout is not None}
        self._policy = RetryPolicy(settings.worker.retry_base, settings.worker.retry_cap)
        self._progress: dict[Run, bytes] = {}
        self._contexts = Contexts(self.store, self._registry, settings, self.state, self._progress.__setitem__)
        self._processes = Processes(settings, "test", lambda run: None, self._progress.__setitem__)  # none is started
        self._settler = Settler(self.store, events)
        self._scheduler = Scheduler(self.store, events)

    def _policies(self) -> dict[str, FlowPolicy]:
        """What handlers and settings declare, as a node tells its store when it starts."""
        declared = {type: handler.policy for type, handler in self._handlers.items()}
        return declared | {
            type: overlay(declared.get(type, FlowPolicy()), policy) for type, policy in self.settings.flow.items()
        }

    # What a test does

    @property
    def now(self) -> datetime:
        """The node's time."""
        return datetime.fromtimestamp(self._now_ms / 1000, UTC)

    async def submit(self, type: str, payload: Any = None, **options: Unpack[SubmitOptions]) -> JobView:
        """
        Store a job, with its handler's defaults. The options are those of `JobContext.enqueue`.

        Raises InvalidPayload when its handler would refuse the payload, ValueError for a bad option.
        """
        # What a job is called, may have and is given by its handler is decided in this one place.
        context = JobContext(job_id="", type=type, settings=self.settings, registry=self._registry)
        context.enqueue(type, payload, **options)
        (submitted,) = await self.store.submit_many(context.follow_ups)
        self._own.add(submitted.id)
        await self._look()
        return self.job(submitted.id)

    async def run_until_idle(self, *, check: bool | None = None) -> list[JobView]:
        """
        Run what can run now, and what follows from it, until nothing is left. Returns the jobs in the order of their
        runs, as they are afterwards; one that ran twice stands there twice.

        With `check`, else as the node was told, the first run that ends in an error raises it: the handler's own
        exception, or RunFailed. The job is settled by then, and the next call goes on with the others.
        """
        ran: list[str] = []
        try:
            while await self._run_next(ran, self._check if check is None else check):
                if len(ran) >= MOST_RUNS:
                    raise RuntimeError(f"after {MOST_RUNS:,} runs there is still work; do handlers enqueue each other?")
        finally:
            await self._look()
        return [self._jobs[id] for id in ran if id in self._jobs]

    async def advance(self, by: Duration, *, run: bool = True, check: bool | None = None) -> list[JobView]:
        """
        Move the time on. What becomes due on the way runs at its time: scheduled jobs, retries, recurring ones.

        With `run=False` jobs that are due are only enqueued, at the end. Returns and raises as `run_until_idle` does;
        after an error the time stands where that happened.
        """
        seconds = by.total_seconds() if isinstance(by, timedelta) else parse_duration(by)
        target, ran = self._now_ms + round(seconds * 1000), list[JobView]()
        while run:
            ran += await self.run_until_idle(check=check)
            due_ms = await self._turn_clock()
            # What a rate limit holds back is servable before anything is due.
            at = min(time for time in (due_ms, self._servable_ms, target + 1) if time is not None)
            if at > target:
                break
            self._now_ms = max(at, self._now_ms + 1)
        self._now_ms = target
        await self._turn_clock()
        await self._look()
        # One that ended long enough ago is no longer kept by now.
        return [self._jobs.get(job.job_id, job) for job in ran]

    async def cancel(self, job_id: str) -> JobView:
        """Cancel a job, also from within a handler that runs. Raises JobNotFound or InvalidState."""
        await self.store.cancel(job_id)
        if self._current is not None and self._current.lease.job.id == job_id:
            self._current.stop(Stop.CANCEL)
        await self._look()
        return self.job(job_id)

    def job(self, job_id: str) -> JobView:
        """The job as it was after the last step. Raises KeyError."""
        return self._jobs[job_id]

    def jobs(self, type: str | None = None) -> list[JobView]:
        """All jobs there are, or those of a type, in the order in which they came."""
        found = [self._jobs[id] for id in self._order if id in self._jobs]
        return [job for job in found if type is None or job.type == type]

    def enqueued(self, type: str | None = None) -> list[JobView]:
        """The jobs, of this type, that the test has not submitted itself: what its handlers have brought about."""
        return [job for job in self.jobs(type) if job.job_id not in self._own]

    # How it is done

    async def _run_next(self, ran: list[str], check: bool) -> bool:
        await self._turn_clock()
        claimed = await self.store.claim(
            self._session, self._pool, 1, timeout=self.settings.worker.job_timeout, timeouts=self._timeouts
        )
        self._servable_ms = claimed.next_ms
        for lease in claimed.leases:
            ran.append(lease.job.id)
            await self._run_one(lease, check)
        return bool(claimed.leases)

    async def _run_one(self, lease: Lease, check: bool) -> None:
        raised: list[Exception] = []
        outcome = await self._perform(lease, raised)
        try:
            state = await self._settler.settle(lease, outcome)
        finally:
            await self._look()
        if state is None:
            raise StaleLease
        if check and isinstance(outcome, (Failed, Retried)):
            if not raised:
                raise RunFailed(self.job(lease.job.id), outcome.error)
            if not isinstance(raised[0], Retry):
                raise raised[0]

    async def _perform(self, lease: Lease, raised: list[Exception]) -> Outcome:
        loop = asyncio.get_running_loop()
        job, handler = lease.job, _listened(self._handlers[lease.job.type], raised)
        timeout = job.timeout_ms / 1000 if job.timeout_ms is not None else handler.timeout
        if timeout is None:
            timeout = self.settings.worker.job_timeout
        run = self._current = Run(lease, handler, timeout, handler.retry or self._policy, loop.time())
        run.context = self._contexts.of(run)
        run.timer = loop.call_later(timeout, run.stop, Stop.TIMEOUT)
        outcome: list[Outcome] = []

        async def work() -> None:
            outcome.append(await perform(run, self._threads, self._processes))

        run.task = loop.create_task(work())
        try:
            await run.task
        finally:
            run.end()
            self._current = None
        if (word := self._progress.pop(run, None)) is not None:
            await self.store.progress(lease, word)
        if isinstance(outcome[0], Completed):
            self._order.update(dict.fromkeys(job.id for job in outcome[0].follow_ups))
        return outcome[0]

    async def _turn_clock(self) -> int | None:
        """Do what is due now. Returns when there is more to do, in epoch ms."""
        store = self.store
        while True:
            found = await store.promote(BATCH)
            more = found.count == BATCH
            more = bool(found.fans and await store.workflows.fan_out(BATCH)) or more
            more = bool(found.next_expiry_in == 0 and await store.expire(BATCH)) or more
            more = bool(found.next_fire_in == 0 and await self._scheduler.fire()) or more
            if not more:
                waits = [wait for wait in (found.next_due_in, found.next_expiry_in, found.next_fire_in) if wait]
                return self._now_ms + round(min(waits) * 1000) if waits else None

    async def _look(self) -> None:
        found, cursor = dict[str, JobView](), None
        while True:
            page = await self.store.list(limit=BATCH, cursor=cursor)
            for job in page.items:
                found[job.id] = JobView.read(orjson.loads(orjson.dumps(show_job(job, "memory"))))
            cursor = page.next_cursor
            if cursor is None:
                break
        self._jobs = found
        for job in sorted(found.values(), key=lambda job: str(job.created_at)):
            self._order.setdefault(job.job_id)


def _open_store(clock: Callable[[], int]) -> Store:
    try:
        import fakeredis
    except ImportError as error:
        raise ImportError('gopher_node.testing needs fakeredis: pip install "gopher-node[testing]"') from error
    server, connection = fakeredis.FakeServer(), fakeredis.FakeAsyncRedisConnection
    # It knows no flags of scripts.
    store = _TimedStore(
        Connections("redis://in-process", connection_class=connection, server=server), script_flags=False
    )
    store.clock = clock
    return store


def _listened(handler: Handler, raised: list[Exception]) -> Handler:
    """The handler, in a thread if it would be in a process, which also tells what it raises."""
    function = handler.function

    @wraps(function)
    def run(*arguments: Any, **named: Any) -> Any:
        try:
            return function(*arguments, **named)
        except Exception as error:
            raised.append(error)
            raise

    @wraps(function)
    async def run_async(*arguments: Any, **named: Any) -> Any:
        try:
            return await function(*arguments, **named)
        except Exception as error:
            raised.append(error)
            raise

    if handler.mode == "async":
        return replace(handler, function=run_async)
    return replace(handler, function=run, mode="thread")
