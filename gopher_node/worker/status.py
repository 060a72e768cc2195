"""What a worker tells of itself, for readiness and for the dashboard."""

from __future__ import annotations

from dataclasses import dataclass

DEAF = 5.0
"""A worker that has asked for jobs for so many seconds, and got no answer, hears nothing."""

ANSWER = 2.0
"""Seconds that the answer to a claim may take beyond the longest wait before it, however long that is."""


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """
    What a worker is doing.

    `busy` counts the slots that are taken, `stuck` those of them whose run is settled while its handler has not ended,
    and `unsettled` the outcomes that the store has not answered. `last_claim_age` is the seconds since the store
    last answered a claim, None before the first; `unanswered` those for which it has left claims without an answer.
    `quiet` is the seconds for which, with room for jobs, no claim was answered, less what is usual where it waits long
    between two. `stuck_types` are the types of stuck slots; `unsettled_for` is the age of the oldest outcome that the
    store has not answered.
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
    stuck_types: tuple[str, ...] = ()
    unsettled_for: float = 0.0

    @property
    def deaf(self) -> bool:
        """Whether it should be claiming and gets no answer."""
        return self.deaf_for > DEAF

    @property
    def deaf_for(self) -> float:
        """The seconds for which it has got no answer that it should have."""
        return 0.0 if self.draining else max(self.unanswered, self.quiet)
