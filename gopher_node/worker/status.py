"""What a worker tells of itself, for readiness and for the dashboard."""

from __future__ import annotations

from dataclasses import dataclass

DEAF = 5.0
"""A worker that has asked for jobs for so many seconds, and got no answer, hears nothing."""


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """
    What a worker is doing.

    `busy` counts the slots that are taken, `stuck` those of them whose run is settled while its handler has not ended,
    and `unsettled` the outcomes that the store has not answered. `last_claim_age` is the seconds since the store
    last answered a claim, None before the first; `unanswered` those for which it has left claims without an answer.
    `quiet` is the seconds for which, with room for jobs, no claim was answered, beyond the longest wait between two.
    """

    slots: int
    busy: int
    stuck: int
    unsettled: int
    last_claim_age: float | None
    unanswered: float
    draining: bool
    store_ok: bool
    session: str | None
    quiet: float = 0.0

    @property
    def deaf(self) -> bool:
        """Whether it should be claiming and gets no answer."""
        return not self.draining and max(self.unanswered, self.quiet) > DEAF
