"""Runs handlers that keep a processor busy in processes of their own, each of which can be killed alone."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from gopher_node.errors import StoreError
from gopher_node.handlers.parents import ParentResult
from gopher_node.job import JobError
from gopher_node.settings import Settings
from gopher_node.telemetry import get_logger
from gopher_node.worker import child
from gopher_node.worker.outcome import Crashed, Failed, Outcome, Released
from gopher_node.worker.run import Run, Stop
from gopher_node.worker.verdict import again

AskForParents = Callable[[], Awaitable[Mapping[str, ParentResult]]]

FAREWELL = 5.0
"""Seconds that the shutdown hooks of a process may take whose run is over."""

EPITAPH = 2.0
"""Seconds in which a process that has closed its pipe should have ended."""


class Processes:
    """
    Owns the child processes of a worker. Handlers that are declared so run in at most `limit` of them, which is one for
    each processor, started when first needed, and reused. A crash suspect runs alone, in one that nobody used before
    and nobody will after; the worker sees to it that there are at most `limit` of these too.

    A run that is broken off takes its process with it, and no other run. A child that dies on its own is a crash of
    the job that it ran. None outlives this process, however that ends.
    """

    def __init__(
        self,
        settings: Settings,
        node: str,
        on_begin: Callable[[Run], None],
        on_progress: Callable[[Run, bytes], None],
        grace: Callable[[Stop], float] = lambda why: 0.0,
    ) -> None:
        """
        `on_begin` is told when a run has got its process, and its time begins. `grace` is how many seconds a suspect
        has to heed a stop, where its handler has some in other modes too.
        """
        self.limit = os.cpu_count() or 1
        self._log = get_logger("gopher_node.worker")
        self._setup = child.Setup(sys.path, settings, node)
        self._on_begin = on_begin
        self._on_progress = on_progress
        self._grace = grace
        self._free = asyncio.Semaphore(self.limit)
        self._idle: list[Child] = []
        self._all: set[Child] = set()
        self._dying: set[asyncio.Task[None]] = set()

    @property
    def count(self) -> int:
        """How many there are, idle ones included."""
        return len(self._all)

    async def call(self, run: Run, arguments: dict[str, Any]) -> Outcome:
        """Run the handler in a child. When this is cancelled, the child is killed."""
        try:
            call = pickle.dumps((run.handler.function, arguments))
        except Exception as error:
            return Failed(JobError("not-importable", f"The handler cannot be sent to a process: {error}"))
        run.waiting = True
        async with self._free:
            worker = await self._take(self._setup)
            outcome = await self._perform(run, worker, call)
        assert outcome is not None
        return outcome

    async def call_alone(self, run: Run, arguments: dict[str, Any]) -> Outcome | None:
        """
        Run the handler in a child of its own, whatever its mode. When this is cancelled, the child is killed.

        None: it is one that only this process knows, and has not been run.
        """
        run.waiting = True
        with_loop = run.handler.mode != "process"
        try:
            call = pickle.dumps((run.handler.function, arguments))
        except Exception as error:
            if not with_loop:
                return Failed(JobError("not-importable", f"The handler cannot be sent to a process: {error}"))
            call = b""  # the child may know it by its type
        worker = await self._take(replace(self._setup, with_loop=with_loop), unused=True)
        outcome = await self._perform(run, worker, call)
        if outcome is None:
            self._log.warning("job.not_alone", job_id=run.lease.job.id, job_type=run.handler.type)
        return outcome

    async def _perform(self, run: Run, worker: Child, call: bytes) -> Outcome | None:
        job = run.lease.job
        unused, ends = True, False
        try:
            await worker.ready()
            run.waiting = unused = False
            self._on_begin(run)
            request = pickle.dumps(_assignment(run, call))
            speaking = asyncio.ensure_future(
                worker.run(request, partial(self._on_progress, run), lambda: run.context.parents())
            )
            try:
                # What it says is read to the end even when this is cancelled, for it may have some time yet.
                outcome = await asyncio.shield(speaking)
            except asyncio.CancelledError:
                outcome = await self._let_end(run, worker, speaking)
            ends = worker.setup.with_loop
            unused = not run.alone
        except (asyncio.IncompleteReadError, ConnectionError):
            error = await worker.epitaph()
            if unused:  # what it died of was not this job
                return again(error, job.errors, run.policy, (error.code,))
            if error.code in run.policy.never:
                return Failed(error)
            return Crashed(error, run.policy.delay(job.crashes + 1))
        finally:
            # One that is still starting is ready sooner than another would be.
            if unused and worker.process.returncode is None:
                self._idle.append(worker)
            else:
                self._drop(worker, FAREWELL if ends else 0.0)
        return outcome

    async def _let_end(self, run: Run, worker: Child, speaking: asyncio.Future[Outcome | None]) -> Outcome:
        """The outcome of a run that is told to stop, and has one all the same. Else raises CancelledError, at last."""
        why, mode = run.stopping, run.handler.mode
        # A thread that is out of time is not waited for in other modes either.
        heeds = mode == "async" or (mode == "thread" and why is Stop.CANCEL)
        try:
            if run.alone and why is not None and heeds:
                await worker.stop()
                await asyncio.wait({speaking}, timeout=self._grace(why))
            if speaking.done() and speaking.exception() is None:
                outcome = speaking.result()
                if outcome is not None and not isinstance(outcome, Released):
                    run.task.uncancel()
                    return outcome
        except ConnectionError:
            pass  # it has ended
        finally:
            speaking.cancel()
            speaking.add_done_callback(_look_at)
        raise asyncio.CancelledError

    async def close(self) -> None:
        """Kill them all but those that are taking their leave, and wait until they are gone."""
        for worker in list(self._all):
            self._drop(worker)
        if self._dying:
            await asyncio.wait(self._dying)

    async def _take(self, setup: child.Setup, *, unused: bool = False) -> Child:
        for worker in reversed(self._idle):
            if worker.setup.with_loop != setup.with_loop or (unused and worker.used):
                continue
            self._idle.remove(worker)
            if worker.process.returncode is None:
                return worker
            self._drop(worker)
        starting = asyncio.ensure_future(Child.start(setup))
        try:
            # A start that is cancelled half-way would leave a process behind that nobody knows of.
            worker = await asyncio.shield(starting)
        except asyncio.CancelledError:
            starting.add_done_callback(self._adopt)
            raise
        self._all.add(worker)
        return worker

    def _adopt(self, starting: asyncio.Future[Child]) -> None:
        if not starting.cancelled() and starting.exception() is None:
            self._all.add(starting.result())
            self._drop(starting.result())

    def _drop(self, worker: Child, farewell: float = 0.0) -> None:
        self._all.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        if not farewell:
            worker.kill()
        dying = asyncio.get_running_loop().create_task(worker.gone(farewell))
        self._dying.add(dying)
        dying.add_done_callback(self._dying.discard)


class Child:
    """A process that runs one assignment after another, or one `with_loop`. It was `used` once it has run any."""

    def __init__(self, process: Process, setup: child.Setup) -> None:
        self.process = process
        self.setup = setup
        self.used = False
        self._starting = asyncio.ensure_future(self._hear())
        self._starting.add_done_callback(_look_at)

    @classmethod
    async def start(cls, setup: child.Setup) -> Child:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            f"from {child.__name__} import main; main()",
            str(os.getpid()),
            stdin=PIPE,
            stdout=PIPE,
            # Ctrl-C in a terminal goes to the whole group; whether a run ends then is the worker's decision.
            start_new_session=True,
        )
        started = cls(process, setup)
        assert process.stdin is not None
        process.stdin.write(child.frame(pickle.dumps(setup)))
        return started

    async def ready(self) -> None:
        """Wait until it has imported what it needs. Raises like `run`."""
        await asyncio.shield(self._starting)

    async def run(self, request: bytes, on_progress: Callable[[bytes], None], parents: AskForParents) -> Outcome | None:
        """None: it does not know the handler. Raises IncompleteReadError or ConnectionError when the process ends."""
        self.used = True
        await self._tell(child.REQUEST + request)
        while not isinstance(word := await self._hear(), Outcome):
            if isinstance(word, child.HandlerMissing):
                return None
            if isinstance(word, bytes):
                on_progress(word)
            else:
                await self._tell(child.REPLY + pickle.dumps(await _parents_or_error(parents)))
        return word

    async def stop(self) -> None:
        """Ask the run to end. Raises ConnectionError when the process has ended."""
        await self._tell(child.STOP)

    async def _tell(self, message: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(child.frame(message))
        await self.process.stdin.drain()

    async def _hear(self) -> child.Word:
        assert self.process.stdout is not None
        size = int.from_bytes(await self.process.stdout.readexactly(child.PREFIX), "big")
        return pickle.loads(await self.process.stdout.readexactly(size))

    def kill(self) -> None:
        self._starting.cancel()
        if self.process.returncode is None:
            self.process.kill()

    async def gone(self, farewell: float = 0.0) -> None:
        """Wait until the process and its pipes are no more; it is killed unless it ends within so many seconds."""
        if farewell:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(farewell):
                    await self.process.wait()
        self.kill()
        await self.process.communicate()

    async def epitaph(self) -> JobError:
        """Why a run that lost its process failed."""
        try:
            async with asyncio.timeout(EPITAPH):
                code = await self.process.wait()
        except TimeoutError:
            return JobError("process-died", "The process that ran the job closed its connection to the node.")
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        hint = " (the system does that when memory runs out)" if code == -9 else ""
        return JobError("process-died", f"The process that ran the job {how}{hint}.")


def _assignment(run: Run, call: bytes) -> child.Assignment:
    job, handler = run.lease.job, run.handler
    return child.Assignment(
        call=call,
        takes_context=handler.binding.takes_context,
        mode=handler.mode,
        payload=job.payload,
        job_id=job.id,
        type=job.type,
        attempt=job.attempt,
        max_retries=job.max_retries,
        group=job.group,
        tags=job.tags,
        workflow_id=job.options.workflow,
        token=str(run.lease.token),
        errors=job.errors,
        policy=run.policy,
        trace=run.traced.trace if run.traced else "",
    )


async def _parents_or_error(parents: AskForParents) -> Mapping[str, ParentResult] | Exception:
    try:
        return dict(await parents())
    except Exception as error:
        # As one that any process can read.
        return StoreError(f"What became of the job's parents is not known: {error}")


def _look_at(future: asyncio.Future[Any]) -> None:
    """Whoever wanted to know of an error has gone; it is no news to anybody else."""
    if not future.cancelled():
        future.exception()
