"""Runs one job and says how it ended. Whatever a handler does becomes a value."""

from __future__ import annotations

import asyncio
from functools import partial

from gopher_node.durations import format_duration
from gopher_node.errors import HandlerSignal, JobCancelled
from gopher_node.handlers import InvalidPayload
from gopher_node.job import JobError, names_of_class
from gopher_node.worker.outcome import Cancelled, Failed, Outcome, Released
from gopher_node.worker.processes import Processes
from gopher_node.worker.run import Run, Stop
from gopher_node.worker.threads import Threads
from gopher_node.worker.verdict import again, raised, returned

TIMEOUT_NAMES = names_of_class(TimeoutError)


async def perform(run: Run, threads: Threads, processes: Processes) -> Outcome:
    """Run the job to its end, whatever that is. Never raises, not even what `Run.stop` throws in."""
    handler, context, job = run.handler, run.context, run.lease.job
    if run.stopping is not None:
        return broken_off(run, run.stopping)
    run.performing = True
    try:
        try:
            arguments = handler.parse(job.payload)
        except InvalidPayload as error:
            return Failed(JobError("invalid-payload", str(error)))
        if run.alone:
            outcome = await processes.call_alone(run, arguments)
            if outcome is not None:
                return outcome
            run.alone = False
        if handler.mode == "async":
            result = await handler.run(context, arguments)
        elif handler.mode == "thread":
            run.thread = threads.call(partial(handler.run, context, arguments))
            # The thread goes on when the run is broken off, so its future is not cancelled with it.
            result = await asyncio.shield(run.thread)
        else:
            return await processes.call(run, arguments)
        return returned(result, context.follow_ups)
    except GeneratorExit:
        raise  # the loop is gone, and with it everybody who could hear of the outcome
    except BaseException as error:
        return _ended(run, error)
    finally:
        run.performing = False


def _ended(run: Run, error: BaseException) -> Outcome:
    why = run.stopping
    if why is not None and isinstance(error, asyncio.CancelledError):
        # What was asked for has happened; a handler's own asyncio.timeout must not see it in the next await.
        run.task.uncancel()
    if why is None or (isinstance(error, HandlerSignal) and not isinstance(error, JobCancelled)):
        return raised(error, run.lease.job.errors, run.policy)
    return broken_off(run, why)


def broken_off(run: Run, why: Stop) -> Outcome:
    """The outcome of a run that was told to stop, and gave way or did not."""
    if why is Stop.CANCEL:
        return Cancelled(JobError("cancelled", "The job was cancelled while it ran."))
    # One that never got a process has not had its time.
    if why is Stop.RELEASE or run.waiting:
        return Released()
    message = f"The run took longer than its {format_duration(run.timeout)}."
    return again(JobError("timeout", message), run.lease.job.errors, run.policy, ("timeout", *TIMEOUT_NAMES))
