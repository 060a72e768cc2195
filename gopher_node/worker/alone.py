"""What a child process does that is there for one coroutine or thread: all that a node would do for it."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from gopher_node.errors import HandlerSignal, JobCancelled
from gopher_node.handlers import InvalidPayload
from gopher_node.telemetry import get_logger
from gopher_node.worker.outcome import Outcome, Released
from gopher_node.worker.threads import Threads
from gopher_node.worker.verdict import raised, returned

if TYPE_CHECKING:
    from gopher_node.handlers import JobContext, Registry
    from gopher_node.worker.child import Assignment, HandlerMissing, Parent

HOOKS_PATIENCE = 10.0
"""Seconds that the start-up hooks may take here."""


async def run_alone(parent: Parent, registry: Registry, ready: bytes, missing: HandlerMissing) -> None:
    """Say `ready`, run what the node then sends, and say how that ended, or that the handler is `missing`."""
    threads, state = Threads(), SimpleNamespace()
    await _start(registry, state)
    parent.tell(ready)
    assignment: Assignment = pickle.loads(await threads.call(parent.inbox.get))
    assignment.enter(traced=parent.traced)
    function = _function(assignment, registry)
    parent.tell(missing if function is None else await _Lone(parent, assignment, state, threads).run(function))
    try:
        await registry.stop(state)
    except Exception as error:
        get_logger("gopher_node.worker").error("hooks.failed", exc_info=error)


async def _start(registry: Registry, state: SimpleNamespace) -> None:
    """
    Run the start-up hooks. One that fails may have done so because the node has what it wants, such as a port, and its
    handler may not need it: so the job is run all the same.
    """

    def forgive(error: Exception) -> None:
        get_logger("gopher_node.worker").error("hooks.failed", exc_info=error)

    try:
        async with asyncio.timeout(HOOKS_PATIENCE):
            await registry.start(state, forgive)
    except TimeoutError as error:
        forgive(error)


def _function(assignment: Assignment, registry: Registry) -> Callable[[JobContext], Any] | None:
    """What is to be run, as it was sent, or else as this process knows it by its type."""
    with contextlib.suppress(Exception):
        function, arguments = pickle.loads(assignment.call)
        if assignment.takes_context:
            return lambda context: function(context, **arguments)
        return lambda context: function(**arguments)
    handler = registry.get(assignment.type)
    if handler is None or handler.mode != assignment.mode:
        return None
    with contextlib.suppress(InvalidPayload):
        arguments = handler.parse(assignment.payload)
        return lambda context: handler.run(context, arguments)
    return None


class _Lone:
    """The one run of this process, which may be told to stop."""

    def __init__(self, parent: Parent, assignment: Assignment, state: SimpleNamespace, threads: Threads) -> None:
        self._assignment = assignment
        self._context = parent.context(assignment, state)
        self._stops = parent.stops
        self._threads = threads
        self._stopped = False

    async def run(self, function: Callable[[JobContext], Any]) -> Outcome:
        running = asyncio.get_running_loop().create_task(self._perform(function))
        told = self._threads.call(self._stops.get)
        told.add_done_callback(lambda told: self._stop(running))
        return await running

    def _stop(self, running: asyncio.Task[Outcome]) -> None:
        self._stopped = True
        self._context.request_cancel()
        if self._assignment.mode == "async":
            running.cancel()

    async def _perform(self, function: Callable[[JobContext], Any]) -> Outcome:
        # Caught here, for a SystemExit that leaves a task ends the loop.
        try:
            if self._assignment.mode == "async":
                result = await function(self._context)
            else:
                result = await self._threads.call(partial(function, self._context))
            return returned(result, self._context.follow_ups)
        except BaseException as error:
            # As in perform(): of a run that gave way, whoever stopped it knows the outcome.
            if self._stopped and (not isinstance(error, HandlerSignal) or isinstance(error, JobCancelled)):
                return Released()
            return raised(error, self._assignment.errors, self._assignment.policy)
