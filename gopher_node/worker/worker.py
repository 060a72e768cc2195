"""Takes jobs from the store and runs them, so many at a time, until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial
from types import SimpleNamespace
from typing import Any

from gopher_node.errors import GopherError, SettingError
from gopher_node.handlers import Handler, Registry
from gopher_node.job import Lease, RetryPolicy
from gopher_node.settings import Settings
from gopher_node.store import Pool, Store
from gopher_node.telemetry import Events, get_logger
from gopher_node.telemetry.logs import bind_job
from gopher_node.telemetry.loop_watch import LoopWatch
from gopher_node.telemetry.traces import Traces
from gopher_node.worker.adaptive import Adaptive, SlotKeeper
from gopher_node.worker.claim import Claimer
from gopher_node.worker.contexts import Contexts
from gopher_node.worker.outcome import Completed, Outcome, Released, describe
from gopher_node.worker.patience import PROCESS_PATIENCE, UNSETTLED_PER_SLOT, Patience
from gopher_node.worker.perform import broken_off, perform
from gopher_node.worker.processes import Processes
from gopher_node.worker.progress import ProgressReports
from gopher_node.worker.run import Run, Stop
from gopher_node.worker.session import NodeSession
from gopher_node.worker.settle import Settler
from gopher_node.worker.slots import Slots
from gopher_node.worker.status import ANSWER, DEAF, WorkerStatus
from gopher_node.worker.tasks import break_task, first
from gopher_node.worker.threads import Threads
from gopher_node.worker.traced import TracedRun
from gopher_node.worker.verdict import raised


class Worker:
    """
    Runs claimed jobs and tells the store how each ended.

    It holds jobs only while its session is renewed. A worker that is silent for a lease loses them to others, and what
    it says about them later is refused as stale.
    """

    def __init__(
        self,
        store: Store,
        registry: Registry,
        settings: Settings,
        events: Events,
        *,
        store_url: str,
        node: str,
        state: SimpleNamespace | None = None,
        patience: Patience | None = None,
        watch: LoopWatch | None = None,
        traces: Traces | None = None,
    ) -> None:
        """
        `store_url` is the store's own, password included: the process that renews the session connects by it. `watch`
        is the one of a node that runs it; without one the worker watches the loop itself.

        Raises SettingError when a wished type has no handler.
        """
        wished = settings.worker
        self._registry = registry
        self._settings = settings
        self._events = events
        self._state = SimpleNamespace() if state is None else state
        self._patience = patience or Patience()
        # A suspect that is to be released has half of the time after which all are given up.
        stop, release = self._patience.stop, self._patience.release / 2
        self._grace = {Stop.CANCEL: wished.cancel_grace, Stop.TIMEOUT: stop, Stop.RELEASE: release}
        self._log = get_logger("gopher_node.worker")
        self._policy = RetryPolicy(wished.retry_base, wished.retry_cap)
        self._handlers = _handlers(registry, wished.types)
        self._traces = traces
        self._threads = Threads()
        self._progress = ProgressReports(store, partial(self._stop, why=Stop.CANCEL))
        self._contexts = Contexts(store, registry, settings, self._state, self._progress.put)
        self._processes = Processes(settings, node, self._begin, self._progress.put, self._grace.__getitem__)
        fewest, most = wished.slots
        self._slots = Slots(fewest, self._handlers.values(), self._processes.limit)
        self._settler = Settler(store, events)
        self._most_unsettled = UNSETTLED_PER_SLOT * most
        watching = watch or LoopWatch(self._type_of, events.loop_blocked, events.loop_late)
        keeper = SlotKeeper(Adaptive(fewest, most), self._slots, watching, self._has_room)
        self._beside = [watching.run] if watch is None else []
        self._beside += [keeper.run] if wished.concurrency == "auto" else []
        self._session = NodeSession(store, store_url, node, wished.lease, events, self._cancel)
        timeouts = {type: handler.timeout for type, handler in self._handlers.items() if handler.timeout is not None}
        pool = Pool.of(self._handlers)
        rooms = (self._room, self._room_for_suspects)
        self._claimer = Claimer(store, self._session, pool, self._slots, wished, timeouts, events, *rooms, self._start)
        self._room_since = 0.0
        self._began: float | None = None
        self._runs: set[Run] = set()
        self._alone: set[Run] = set()
        self._stuck: dict[Run, float] = {}
        # What the drain waits for: runs whose outcome is not decided or not settled, and other tasks of that kind.
        self._pending: set[Run | asyncio.Task[Any]] = set()
        self._nothing_pending = asyncio.Event()
        self._draining = asyncio.Event()
        self._hurry = asyncio.Event()
        self._ended = asyncio.Event()

    async def run(self, stop: asyncio.Event) -> None:
        """
        Work until `stop` is set or `drain` is called, then drain and return.

        Waits for a store that is away. Raises GopherError when a start-up hook fails.
        """
        self._began = asyncio.get_running_loop().time()
        try:
            await self._call_startup_hooks()
            async with asyncio.TaskGroup() as group:
                background = [group.create_task(self._heed(stop))]
                if await self._open_session():
                    parts = [self._session.run(), self._progress.run(), *(run() for run in self._beside)]
                    parts.append(self._claimer.run())
                    background += [group.create_task(part) for part in parts]
                    # A claim under way may bring jobs that have to be handed back.
                    self._await(background[-1])
                    await self._draining.wait()
                    await self._wind_down()
                await self._call_shutdown_hooks()
                for task in background:
                    task.cancel()
        finally:
            await self._close()

    async def drain(self) -> None:
        """
        Claim nothing more; running jobs get the shutdown timeout, and the rest are handed back.

        Returns when `run` is about to: every outcome is in the store or given up, and the session is closed.
        """
        self._begin_drain()
        await self._ended.wait()

    def release_now(self) -> None:
        """Drain without waiting for running jobs."""
        self._hurry.set()
        self._begin_drain()

    @property
    def types(self) -> tuple[str, ...]:
        """The job types that it runs."""
        return tuple(sorted(self._handlers))

    @property
    def processes(self) -> int:
        """How many child processes it has for handlers that keep a processor busy."""
        return self._processes.count

    def status(self) -> WorkerStatus:
        now = asyncio.get_running_loop().time()
        last, asking = self._claimer.last_answer, self._claimer.asking_since
        quiet = 0.0
        if self._began is not None and self._room() > 0:
            patience = max(0.0, self._settings.worker.poll_interval + ANSWER - DEAF)
            quiet = max(0.0, now - max(last or 0.0, self._room_since, self._began) - patience)
        oldest = self._settler.oldest
        return WorkerStatus(
            slots=self._slots.total,
            busy=len(self._runs),
            stuck=len(self._stuck),
            unsettled=self._settler.unsettled,
            last_claim_age=None if last is None else now - last,
            unanswered=0.0 if asking is None else now - asking,
            draining=self._draining.is_set(),
            store_ok=not self._events.store_is_down,
            session=self._session.id,
            quiet=quiet,
            stuck_types=tuple(sorted({run.handler.type for run in self._stuck})),
            unsettled_for=0.0 if oldest is None else now - oldest,
        )

    # The way of a job

    def _room(self) -> int:
        return min(self._slots.free, self._most_unsettled - self._settler.unsettled)

    def _room_for_suspects(self) -> int:
        return self._processes.limit - len(self._alone)

    def _start(self, lease: Lease) -> None:
        loop = asyncio.get_running_loop()
        job = lease.job
        handler = self._handlers.get(job.type)
        if handler is None or self._draining.is_set():
            self._await(loop.create_task(self._settler.settle(lease, Released())))
            return
        timeout = job.timeout_ms / 1000 if job.timeout_ms is not None else handler.timeout
        if timeout is None:
            timeout = self._settings.worker.job_timeout
        run = Run(lease, handler, timeout, job.options.retry or handler.retry or self._policy, loop.time())
        run.context = self._contexts.of(run)
        if job.is_suspect:
            run.alone = True
            self._alone.add(run)
            self._log.warning("job.alone", job_id=job.id, job_type=job.type, crashes=job.crashes)
        self._slots.take(job.type)
        self._runs.add(run)
        self._pending.add(run)
        # The time of a run in a process begins when it has one.
        wait = PROCESS_PATIENCE if run.mode == "process" else timeout
        run.timer = loop.call_later(wait, self._stop, run, Stop.TIMEOUT)
        run.task = loop.create_task(self._work(run), name=job.type)

    async def _work(self, run: Run) -> None:
        try:
            bind_job(run.lease.job)
            if self._traces is not None:
                run.traced = TracedRun(self._traces, run.lease.job)
            self._events.started(run.lease.job)
            try:
                outcome = await perform(run, self._threads, self._processes)
            except Exception as error:  # a defect of ours, which must cost neither the slot nor the job
                self._log.error("perform.failed", exc_info=error)
                outcome = raised(error, run.lease.job.errors, run.policy)
            finally:
                run.end()
                # The slot serves the next job while this one's outcome is on its way.
                if run.thread is None or run.thread.done():
                    self._free(run)
                else:
                    self._wait_for_thread(run, run.thread)
            if not run.decided:
                await self._settle(run, outcome)
        finally:
            self._no_longer_pending(run)

    def _begin(self, run: Run) -> None:
        run.timer.cancel()
        run.timer = asyncio.get_running_loop().call_later(run.timeout, self._stop, run, Stop.TIMEOUT)

    async def _settle(self, run: Run, outcome: Outcome) -> None:
        run.decided = True
        seconds = asyncio.get_running_loop().time() - run.began
        if self._progress.spoke(run):
            with contextlib.suppress(asyncio.CancelledError):  # see Settler
                await self._progress.flush(run)
        traced = run.traced
        if traced is None:
            state = await self._settler.settle(run.lease, outcome)
        else:
            state = await traced.settle(outcome, partial(self._settler.settle, run.lease))
        error = None if isinstance(outcome, (Completed, Released)) else outcome.error
        self._events.settled(run.lease.job, state, describe(outcome), seconds, error)
        if traced is not None:
            traced.end()
        if self._settler.unsettled == self._most_unsettled - 1:
            self._room_since = asyncio.get_running_loop().time()
            self._slots.opened.set()

    def _free(self, run: Run) -> None:
        self._runs.discard(run)
        self._alone.discard(run)
        self._slots.give_back(run.handler.type)
        if self._slots.free == 1:
            self._has_room()
        since = self._stuck.pop(run, None)
        if since is not None:
            self._events.handler_returned_late(run.handler.type, asyncio.get_running_loop().time() - since)

    def _has_room(self) -> None:
        self._room_since = asyncio.get_running_loop().time()

    # Runs that are to end early

    def _cancel(self, job_id: str) -> None:
        for run in list(self._runs):
            if run.lease.job.id == job_id:
                self._stop(run, Stop.CANCEL)

    def _stop(self, run: Run, why: Stop) -> None:
        if run.stop(why) and why is not Stop.RELEASE:
            asyncio.get_running_loop().call_later(self._grace[why], self._give_up, run)

    def _give_up(self, run: Run) -> None:
        """Settle a run that goes on although it was told to stop; its slot stays taken until its handler ends."""
        if run.performing and not run.decided and run.stopping is not None:
            if run.leave_thread():
                return
            self._mark_stuck(run)
            run.decided = True
            loop = asyncio.get_running_loop()
            self._await(loop.create_task(self._settle(run, broken_off(run, run.stopping))))
            self._no_longer_pending(run)

    def _wait_for_thread(self, run: Run, thread: asyncio.Future[Any]) -> None:
        self._mark_stuck(run)

        def ended(thread: asyncio.Future[Any]) -> None:
            self._free(run)

        thread.add_done_callback(ended)

    def _mark_stuck(self, run: Run) -> None:
        self._stuck[run] = asyncio.get_running_loop().time()
        self._events.slot_stuck(run.handler.type)

    def _await(self, task: asyncio.Task[Any]) -> None:
        self._pending.add(task)
        task.add_done_callback(self._no_longer_pending)

    def _no_longer_pending(self, what: Run | asyncio.Task[Any]) -> None:
        self._pending.discard(what)
        if not self._pending:
            self._nothing_pending.set()

    def _type_of(self, task: asyncio.Task[Any]) -> str | None:
        # Asked from another thread, so it looks at nothing that the loop changes.
        name = task.get_name()
        return name if name in self._handlers else None

    # Beginning and end

    async def _call_startup_hooks(self) -> None:
        try:
            await self._registry.start(self._state)
        except Exception as error:
            raise GopherError(
                f"A start-up hook failed, so the worker did not start: {type(error).__name__}: {error}"
            ) from error

    async def _call_shutdown_hooks(self) -> None:
        try:
            await self._registry.stop(self._state)
        except Exception as error:
            self._log.error("hooks.failed", exc_info=error)

    async def _heed(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._begin_drain()

    def _begin_drain(self) -> None:
        self._draining.set()
        self._claimer.stop()

    async def _open_session(self) -> bool:
        """False if the worker is to stop before the store has answered."""
        opening = asyncio.ensure_future(self._session.open())
        await first(opening, self._draining.wait())
        if not opening.done():
            opening.cancel()
            return False
        opening.result()
        return True

    async def _wind_down(self) -> None:
        """Let running jobs finish, hand back those that do not, and bring every outcome to the store."""
        await first(self._all_settled(), self._hurry.wait(), timeout=self._settings.worker.shutdown_timeout)
        for run in list(self._runs):
            self._stop(run, Stop.RELEASE)
        await first(self._all_settled(), timeout=self._patience.release)
        for run in list(self._runs):
            self._give_up(run)
        await first(self._all_settled(), timeout=self._patience.settle)
        if self._settler.unsettled:
            # Their session ends, or is reaped, and they run again.
            self._log.error("outcomes.lost", count=self._settler.unsettled)

    async def _all_settled(self) -> None:
        while self._pending:
            self._nothing_pending.clear()
            await self._nothing_pending.wait()

    async def _close(self) -> None:
        self._settler.close()
        stuck = {run.task for run in self._stuck if run.performing}
        ending = {item.task if isinstance(item, Run) else item for item in self._pending}
        for run in self._runs:
            run.decided = True
        for task in ending | stuck:
            task.cancel()
        if ending:
            _, stuck_too = await asyncio.wait(ending, timeout=self._patience.release)
            stuck |= stuck_too
        for task in stuck:
            break_task(task)
        self._threads.close()
        await self._processes.close()
        await self._session.close()
        self._ended.set()


def _handlers(registry: Registry, wished: list[str] | None) -> dict[str, Handler]:
    known = registry.types()
    unknown = sorted(set(wished or ()) - known)
    if unknown:
        raise SettingError(
            f"WORKER_TYPES names {', '.join(unknown)}, for which there is no handler; "
            f"there are handlers for {', '.join(sorted(known))}."
        )
    handlers = {type: registry.get(type) for type in (known if wished is None else wished)}
    return {type: handler for type, handler in handlers.items() if handler is not None}
