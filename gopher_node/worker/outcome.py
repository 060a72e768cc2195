"""How a run can end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gopher_node.job import JobError, NewJob


@dataclass(frozen=True, slots=True)
class Completed:
    """The handler returned. `follow_ups` are created together with the completion."""

    result: bytes
    follow_ups: Sequence[NewJob] = ()


@dataclass(frozen=True, slots=True)
class Retried:
    """An error that may pass: the job runs again after `delay` seconds, if its budget allows."""

    error: JobError
    delay: float


@dataclass(frozen=True, slots=True)
class Failed:
    """An error that no repetition can mend."""

    error: JobError


@dataclass(frozen=True, slots=True)
class Crashed:
    """The process died in which the job ran alone. It runs again after `delay` seconds, if `max_crashes` allows."""

    error: JobError
    delay: float


@dataclass(frozen=True, slots=True)
class Cancelled:
    """The job was to be cancelled, and its run gave way."""

    error: JobError


@dataclass(frozen=True, slots=True)
class Released:
    """The run was broken off through no fault of the job, which goes back to its lane at no cost to its budgets."""


Outcome = Completed | Retried | Failed | Crashed | Cancelled | Released


def describe(outcome: Outcome) -> str:
    """The outcome in a word, of which there are few, for counters and logs."""
    match outcome:
        case Completed():
            return "completed"
        case Retried(error) | Failed(error):
            return "timeout" if error.code == "timeout" else "error"
        case Crashed():
            return "crashed"
        case Cancelled():
            return "cancelled"
        case Released():
            return "released"
