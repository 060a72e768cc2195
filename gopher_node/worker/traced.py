"""The spans of a run: from its claim to what the store says of its end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from gopher_node.job import Job, State
from gopher_node.telemetry.traces import Ended, Traces, outcome_of, write_trace
from gopher_node.worker.outcome import Cancelled, Completed, Crashed, Failed, Outcome, Released, Retried

if TYPE_CHECKING:
    from gopher_node.telemetry.traces import Sends

Tell = Callable[[Outcome], Awaitable[State | None]]
"""Brings an outcome to the store."""


class TracedRun:
    """
    One attempt. Its span is current in the task that makes this, and so in its handler, until that task ends.

    `settle` is called once when its handler has ended, and `end` after all else that belongs to it.
    """

    def __init__(self, traces: Traces, job: Job) -> None:
        self._process = traces.process(job)
        self._outcome: Outcome | None = None
        self._state: State | None = None

    @property
    def trace(self) -> str:
        """Its span as jobs have it in their options."""
        return write_trace(self._process.span)

    async def settle(self, outcome: Outcome, tell: Tell) -> State | None:
        """Tell the outcome, with its follow-up jobs as sent by this run."""
        # Where a run is given up, another task settles it.
        self._process.enter()
        self._process.over()
        self._outcome = outcome
        sends: Sends | None = None
        if isinstance(outcome, Completed) and outcome.follow_ups:
            sends = self._process.send(outcome.follow_ups)
            outcome = replace(outcome, follow_ups=sends.jobs)
        span = self._process.settle()
        state = self._state = await tell(outcome)
        span.end(_ended(outcome), state)
        if sends is not None and state is State.COMPLETED:
            sends.sent([job.id for job in sends.jobs])
        return state

    def end(self) -> None:
        outcome = self._outcome
        if outcome is None:
            return
        error = outcome.error if isinstance(outcome, (Failed, Retried, Crashed)) else None
        self._process.end(outcome_of(_ended(outcome), self._state), error)


def _ended(outcome: Outcome) -> Ended:
    match outcome:
        case Completed():
            return "completed"
        case Retried() | Failed() | Crashed():
            return "failed"
        case Cancelled():
            return "cancelled"
        case Released():
            return "released"
