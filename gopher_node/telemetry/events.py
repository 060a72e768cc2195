"""What the parts of a node report, as one class of plain methods: production counts and logs, tests wait."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from contextvars import Context
from typing import Literal

from gopher_node.job import Job, JobError, State
from gopher_node.telemetry.logs import get_logger
from gopher_node.telemetry.loop_watch import LATE
from gopher_node.telemetry.measures import Measures

JOB_LINES_PER_SECOND = 1000
"""So many lines about ended jobs are written each second, for completed and for other jobs apart."""
SAMPLED_ONE_IN = 100
"""Past that, only every so many-th."""
_ERROR_SHOWN = 500
REASONS = frozenset(
    (
        "error",
        "exception",
        "timeout",
        "cancelled",
        "process-died",
        "invalid-payload",
        "invalid-result",
        "not-importable",
        "unencodable-outcome",
    )
)
"""The errors that are counted by their code; handlers and workers over HTTP have codes of their own."""


_FINAL = frozenset(("completed", "failed", "cancelled"))


class Events:
    """
    Told by every part what it has done; counts it, and logs what a person would want to know.

    Its methods do no I/O beyond a log line, never block and never raise, so they may be called anywhere on the loop.
    `counts` and `measures` are running totals since the node's start.
    """

    def __init__(
        self,
        node_id: str = "",
        *,
        job_lines: Literal["all", "sampled", "none"] = "sampled",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.measures = Measures()
        self._node_id = node_id
        self._job_lines = job_lines
        self._clock = clock
        # Bound once: the lazy logger would bind itself anew for every line.
        self._log = get_logger("gopher_node").bind()
        self._log_starts = self._log.is_enabled_for(logging.DEBUG)
        self._completed_lines = _Budget()
        self._other_lines = _Budget()
        self._down_since: float | None = None
        self._unknown: set[str] = set()  # names of recurring jobs
        self.held_up: Callable[[], bool] = lambda: False
        """Whether the loop stood still just now, so that what took too long need not be the fault of another."""

    def submitted(self, types: Iterable[str]) -> None:
        """New jobs of these types were stored here: one for each time that a type is named."""
        for type in types:
            self.counts["submitted"] += 1
            self.measures.types[type].created += 1

    def claimed(self, count: int) -> None:
        self.counts["claimed"] += count

    def started(self, job: Job) -> None:
        self.counts["started"] += 1
        if job.attempt == 1:
            # By this machine's clock, where the store's decides when a job is due: what is off by is no wait.
            since_ms = job.created_ms if job.due_ms is None else job.due_ms
            wait = time.time() - since_ms / 1000
            self.measures.types[job.type].wait.observe(wait if wait > 0.0 else 0.0)
        if self._log_starts:
            self._log.debug("job.started", **self._of(job))

    def settled(
        self, job: Job, state: State | None, outcome: str, seconds: float, error: JobError | None = None
    ) -> None:
        """
        A run ended as `outcome` ("completed", "error", "timeout", …) after `seconds`, and the store took note.

        `state` is the job's state from then on; None means that the store refused the run as stale. `error` is why the
        run did not complete, if it did not.
        """
        totals = self.measures.types[job.type]
        if state is None:
            totals.ended["stale"] += 1
            self.stale(job)
            return
        self.counts["settled"] += 1
        # Looked up by its value: of a state as such, that takes longer than all the rest here.
        became = state.value
        self.counts[became] += 1
        totals.run.observe(seconds)
        if became not in _FINAL:
            became = "released" if outcome == "released" else "retried"
        totals.ended[became] += 1
        if error is not None:
            if error.code == "process-died":
                self.counts["crashed"] += 1
            totals.failures[error.code if error.code in REASONS else "other"] += 1
        if self._may_log_end(state):
            self._log_end(job, state, outcome, seconds, error)

    def stale(self, job: Job) -> None:
        """This node no longer held the job, so what it said about it was refused. The newer run decides."""
        self.counts["stale"] += 1
        self._log.warning("job.stale", **self._of(job))

    def promoted(self, count: int) -> None:
        self.counts["promoted"] += count

    def recurred(self, name: str, type: str, outcome: str, missed: int) -> None:
        """This node took a step of a recurring job that was due: `fired`, `overlapped` or `missed`."""
        self.counts[f"recurring_{outcome}"] += 1
        if outcome == "fired":
            self.measures.types[type].created += 1
            self.measures.fired(name, time.time())
        if missed:
            self._log.warning("recurring.missed", count=missed)

    def recurring_unknown(self, name: str, error: BaseException) -> None:
        """This node cannot tell when a recurring job fires; only the first time of each is logged."""
        if name not in self._unknown:
            self._unknown.add(name)
            self._log.error("recurring.unknown", name=name, error=error)

    def reaped(self, count: int, node: str | None = None) -> None:
        """Jobs were taken back from a node that fell silent, or else from runs that overran their deadline or lease."""
        self.counts["reaped"] += count
        if count:
            self._log.warning("jobs.reaped", count=count, **({"node": node} if node else {}))

    def session_lost(self) -> None:
        """Others hold this node for dead, so its running jobs are no longer its own."""
        self.counts["sessions_lost"] += 1
        self._log.error("session.lost")

    def store_down(self, error: BaseException) -> None:
        """May be told at every failed attempt; only the first of an outage is logged."""
        self.counts["store_errors"] += 1
        if isinstance(error.__cause__, TimeoutError) and self.held_up():
            return  # A store that is away will be told of at the next try.
        if self._down_since is None:
            self._down_since = self._clock()
            self._log.error("store.down", error=error)

    def store_up(self) -> None:
        if self._down_since is not None:
            self._log.info("store.up", duration=round(self._clock() - self._down_since, 3))
            self._down_since = None

    @property
    def store_is_down(self) -> bool:
        return self._down_since is not None

    def loop_blocked(self, seconds: float, culprit: str | None) -> None:
        """
        The event loop stood still; `culprit` is the job type, or method and route, that seems to be the cause.

        A long block is told twice, while it lasts and when it is over, so `loop_late` counts.
        """
        # No type has a space.
        about = "route" if culprit is not None and " " in culprit else "job_type"
        self._log.warning("loop.blocked", duration=round(seconds, 3), **({about: culprit} if culprit else {}))

    def loop_late(self, seconds: float) -> None:
        """By so much the event loop was late. Told ten times a second."""
        self.measures.loop_lag.observe(max(0.0, seconds))
        self.counts["loop_blocked"] += seconds > LATE
        # The last job of a burst may be the last for hours, and what it left out is to be told before.
        self._tell_left_out(self._completed_lines)
        self._tell_left_out(self._other_lines)

    def slot_stuck(self, job_type: str) -> None:
        """A run was settled, but its handler ignores the cancel and still occupies a slot."""
        self.counts["slots_stuck"] += 1
        self._log.warning("slot.stuck", job_type=job_type)

    def handler_returned_late(self, job_type: str, seconds: float) -> None:
        """A stuck slot is free again, `seconds` after its run was settled."""
        self.counts["slots_freed"] += 1
        self._log.info("slot.freed", job_type=job_type, duration=round(seconds, 3))

    def _of(self, job: Job) -> dict[str, object]:
        return {"worker_id": self._node_id, "job_id": job.id, "job_type": job.type, "attempt": job.attempt}

    def _may_log_end(self, state: State) -> bool:
        if self._job_lines != "sampled":
            return self._job_lines == "all"
        budget = self._completed_lines if state is State.COMPLETED else self._other_lines
        self._tell_left_out(budget)
        return budget.spend()

    def _tell_left_out(self, budget: _Budget) -> None:
        left_out = budget.begin(int(self._clock()))
        if left_out:
            # Apart from the run in whose end it happens to be noticed, or the line would bear its id and trace.
            Context().run(self._log.info, "jobs.sampled", left_out=left_out, one_in=SAMPLED_ONE_IN)

    def _log_end(self, job: Job, state: State, outcome: str, seconds: float, error: JobError | None) -> None:
        facts = {**self._of(job), "state": state.value, "outcome": outcome, "duration": round(seconds, 6)}
        if error is not None:
            text = f"{error.kind}: {error.message}" if error.kind else error.message
            facts.update(code=error.code, error=text[:_ERROR_SHOWN])
        if state is State.FAILED:
            self._log.warning("job.finished", **facts)
        else:
            self._log.info("job.finished", **facts)
        if error is not None and error.traceback:
            self._log.debug("job.traceback", job_id=job.id, exception=error.traceback)


class _Budget:
    """How many lines of a kind are still written in this second."""

    def __init__(self) -> None:
        self._second = 0
        self._seen = 0
        self._left_out = 0

    def begin(self, second: int) -> int:
        """Begin this second, if it is a new one; returns how many lines the one before left out."""
        if second == self._second:
            return 0
        left_out, self._second, self._seen, self._left_out = self._left_out, second, 0, 0
        return left_out

    def spend(self) -> bool:
        self._seen += 1
        over = self._seen - JOB_LINES_PER_SECOND
        if over <= 0 or over % SAMPLED_ONE_IN == 0:
            return True
        self._left_out += 1
        return False
