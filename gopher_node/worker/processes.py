"""Runs handlers that keep a processor busy in processes of their own, each of which can be killed alone."""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from gopher_node.errors import StoreError
from gopher_node.handlers.parents import ParentResult
from gopher_node.job import JobError
from gopher_node.settings import Settings
from gopher_node.worker import child
from gopher_node.worker.outcome import Failed, Outcome
from gopher_node.worker.run import Run
from gopher_node.worker.verdict import again

AskForParents = Callable[[], Awaitable[Mapping[str, ParentResult]]]

EPITAPH = 2.0
"""Seconds in which a process that has closed its pipe should have ended."""


class Processes:
    """
    Owns the child processes of a worker: at most `limit`, which is one for each processor. They are started when first
    needed, and reused.

    A run that is broken off takes its process with it, and no other run. A child that dies on its own is an error of
    the job that it ran. None outlives this process, however that ends.
    """

    def __init__(
        self,
        settings: Settings,
        node: str,
        on_begin: Callable[[Run], None],
        on_progress: Callable[[Run, bytes], None],
    ) -> None:
        """`on_begin` is told when a run has got its process, and its time begins."""
        self.limit = os.cpu_count() or 1
        self._setup = child.Setup(sys.path, settings, node)
        self._on_begin = on_begin
        self._on_progress = on_progress
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
        job = run.lease.job
        assignment = child.Assignment(
            function=run.handler.function,
            takes_context=run.handler.binding.takes_context,
            arguments=arguments,
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
        try:
            request = pickle.dumps(assignment)
        except Exception as error:
            return Failed(JobError("not-importable", f"The handler cannot be sent to a process: {error}"))
        run.waiting = True
        async with self._free:
            worker = await self._take()
            unused = True
            try:
                await worker.ready()
                run.waiting = unused = False
                self._on_begin(run)
                outcome = await worker.run(request, partial(self._on_progress, run), lambda: run.context.parents())
                unused = True
            except (asyncio.IncompleteReadError, ConnectionError):
                return again(await worker.epitaph(), job.errors, run.policy, ("process-died",))
            finally:
                # One that is still starting is ready sooner than another would be.
                if unused and worker.process.returncode is None:
                    self._idle.append(worker)
                else:
                    self._drop(worker)
            return outcome

    async def close(self) -> None:
        """Kill them all, and wait until they are gone."""
        for worker in list(self._all):
            self._drop(worker)
        if self._dying:
            await asyncio.wait(self._dying)

    async def _take(self) -> Child:
        while self._idle:
            worker = self._idle.pop()
            if worker.process.returncode is None:
                return worker
            self._drop(worker)
        starting = asyncio.ensure_future(Child.start(self._setup))
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

    def _drop(self, worker: Child) -> None:
        self._all.discard(worker)
        if worker in self._idle:
            self._idle.remove(worker)
        worker.kill()
        dying = asyncio.get_running_loop().create_task(worker.gone())
        self._dying.add(dying)
        dying.add_done_callback(self._dying.discard)


class Child:
    """A process that runs one assignment after another."""

    def __init__(self, process: Process) -> None:
        self.process = process
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
        started = cls(process)
        assert process.stdin is not None
        process.stdin.write(child.frame(pickle.dumps(setup)))
        return started

    async def ready(self) -> None:
        """Wait until it has imported what it needs. Raises like `run`."""
        await asyncio.shield(self._starting)

    async def run(self, request: bytes, on_progress: Callable[[bytes], None], parents: AskForParents) -> Outcome:
        """Raises IncompleteReadError or ConnectionError when the process ends instead."""
        await self._tell(child.REQUEST + request)
        while not isinstance(word := await self._hear(), Outcome):
            if isinstance(word, bytes):
                on_progress(word)
            else:
                await self._tell(child.REPLY + pickle.dumps(await _parents_or_error(parents)))
        return word

    async def _tell(self, message: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(child.frame(message))
        await self.process.stdin.drain()

    async def _hear(self) -> Outcome | bytes | child.ParentsWanted:
        assert self.process.stdout is not None
        size = int.from_bytes(await self.process.stdout.readexactly(child.PREFIX), "big")
        return pickle.loads(await self.process.stdout.readexactly(size))

    def kill(self) -> None:
        self._starting.cancel()
        if self.process.returncode is None:
            self.process.kill()

    async def gone(self) -> None:
        """Wait until the process and its pipes are no more."""
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
