"""What the store should hold, told again in the simplest way: a dict of jobs, and rules without indexes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from gopher_node.job import SUSPECT, Job, NewJob, Priority, State
from gopher_node.store import Retention

PRUNED = frozenset({State.COMPLETED, State.CANCELLED})
CANCEL_GRACE_MS = 5000
SUSPECT_REST_MS = 1000
NODES_OUTLIVED = 3


@dataclass
class Life:
    """A job as the model knows it. Times are epoch ms."""

    job: NewJob
    state: State
    due_ms: int | None = None
    attempt: int = 0
    errors: int = 0
    crashes: int = 0
    nonce: str = ""
    session: str = ""
    deadline_ms: int = 0
    lease_ms: int = 0
    hard_deadline_ms: int = 0
    heard: bool = False
    unheard: int = 0
    counted: int = 0
    cancel: bool = False
    finished_ms: int | None = None
    result: bytes | None = None
    may_be_gone: bool = False
    priority: Priority = Priority.NORMAL


@dataclass
class Model:
    """All jobs, and what each verb makes of them. A job that was pruned is dropped when the store says it is gone."""

    retention: Retention
    now_ms: int
    lives: dict[str, Life] = field(default_factory=dict[str, Life])
    ends: list[tuple[str, str, int, int]] = field(default_factory=list[tuple[str, str, int, int]])
    """Of jobs with a callback: id, state, attempt and time of each end."""

    def in_state(self, *states: State) -> list[Life]:
        return [life for life in self.lives.values() if life.state in states]

    def submit(self, jobs: Iterable[NewJob]) -> None:
        for job in jobs:
            due = job.due_ms
            if due is None and job.delay_ms is not None:
                due = self.now_ms + job.delay_ms
            later = due is not None and due > self.now_ms
            state = State.SCHEDULED if later else State.ENQUEUED
            self.lives.setdefault(job.id, Life(job, state, due_ms=due, priority=job.priority))

    def servable(self, types: Iterable[str], limits: dict[str, int], limit: int) -> int:
        """How many jobs a claim should get."""
        waiting = self.in_state(State.ENQUEUED)
        return min(
            limit, sum(min(sum(life.job.type == one for life in waiting), limits.get(one, limit)) for one in types)
        )

    def claim(self, id: str, session: str, nonce: str, default_ms: int, grace_ms: int, lease_ms: int = 0) -> Life:
        """By a node's session, or under an HTTP lease of so many ms."""
        life = self.lives[id]
        assert life.state is State.ENQUEUED
        life.state, life.session, life.nonce = State.PROCESSING, session, nonce
        life.attempt += 1
        timeout = life.job.timeout_ms
        life.hard_deadline_ms = self.now_ms + (default_ms if timeout is None else timeout + grace_ms)
        life.lease_ms, life.heard = lease_ms, False
        life.deadline_ms = min(self.now_ms + lease_ms, life.hard_deadline_ms) if lease_ms else life.hard_deadline_ms
        return life

    def put_off(self, life: Life) -> None:
        assert life.state is State.ENQUEUED
        assert life.crashes >= SUSPECT
        self._back(life, self.now_ms + SUSPECT_REST_MS)

    def heartbeat(self, life: Life, lease_ms: int | None) -> int | None:
        """When the lease ends from now on. None: its worker was told of a cancel, and has not heeded it in time."""
        if life.lease_ms:
            if life.cancel and self.now_ms >= life.hard_deadline_ms:
                return None
            if life.cancel:
                life.hard_deadline_ms = min(life.hard_deadline_ms, self.now_ms + CANCEL_GRACE_MS)
            life.lease_ms = lease_ms or life.lease_ms
            life.deadline_ms = min(self.now_ms + life.lease_ms, life.hard_deadline_ms)
            life.heard, life.unheard = True, 0
        return life.deadline_ms

    def count_error(self, life: Life) -> int:
        if life.counted != life.attempt:
            life.errors, life.counted = life.errors + 1, life.attempt
        return life.errors

    def settle(self, id: str, nonce: str, outcome: str, body: bytes, delay_ms: int) -> State | None:
        """The state that the job was given, or None if the lease is not the job's."""
        life = self.lives.get(id)
        if life is None or life.state is not State.PROCESSING or life.nonce != nonce:
            return None
        life.unheard = 0
        if outcome == "release" and life.counted == life.attempt:
            outcome = "retry"
        if outcome in ("retry", "fail"):
            self.count_error(life)
        match outcome:
            case "complete":
                life.result = body
                self._end(life, State.COMPLETED)
            case "cancelled":
                self._end(life, State.CANCELLED)
            case "release":
                self._back(life, None)
            case "fail":
                self._end(life, State.FAILED)
            case "crash":
                life.crashes += 1
                if life.crashes >= life.job.max_crashes and not life.cancel:
                    self._end(life, State.FAILED)
                else:
                    self._back(life, self.now_ms + delay_ms if delay_ms else None)
            case _:
                if life.errors > life.job.max_retries and not life.cancel:
                    self._end(life, State.FAILED)
                else:
                    self._back(life, self.now_ms + delay_ms if delay_ms else None)
        return life.state

    def lapse(self, lives: Iterable[Life]) -> None:
        """Their leases ended. Of those that were never heard of, a few in a row are only released."""
        for life in lives:
            unheard = life.unheard
            if life.cancel and life.heard and life.deadline_ms >= life.hard_deadline_ms:
                self._back(life, None)  # it ignored the cancel that its heartbeats told it
            elif not life.lease_ms or life.heard:
                self.crash(life)
            elif unheard < life.job.max_crashes:
                life.unheard += 1
                self._back(life, None)
            else:
                self.crash(life)
                life.unheard = unheard

    def node_dies(self, session: str) -> None:
        for life in self.held(session):
            self.crash(life, NODES_OUTLIVED if life.crashes >= SUSPECT else 1)

    def crash(self, life: Life, times: int = 1) -> None:
        life.crashes, life.unheard = life.crashes + 1, 0
        if life.crashes > times * life.job.max_crashes and not life.cancel:
            self._end(life, State.FAILED)
        else:
            self._back(life, None)

    def _back(self, life: Life, due_ms: int | None) -> None:
        if life.cancel:
            self._end(life, State.CANCELLED)
        elif due_ms is None:
            life.state = State.ENQUEUED
        else:
            life.state, life.due_ms = State.SCHEDULED, due_ms

    def _end(self, life: Life, state: State) -> None:
        life.state, life.finished_ms = state, self.now_ms
        if life.job.callback_url:
            self.ends.append((life.job.id, state.value, life.attempt, self.now_ms))

    def close(self, session: str) -> None:
        for life in self.held(session):
            life.unheard = 0
            self._back(life, None)

    def held(self, session: str) -> list[Life]:
        return [life for life in self.in_state(State.PROCESSING) if life.session == session]

    def promote(self) -> int:
        due = [life for life in self.in_state(State.SCHEDULED) if (life.due_ms or 0) <= self.now_ms]
        for life in due:
            life.state = State.ENQUEUED
        return len(due)

    def cancel(self, life: Life) -> None:
        if life.state is State.PROCESSING:
            life.cancel = True
        elif not life.state.final:
            self._end(life, State.CANCELLED)

    def edit(self, life: Life, priority: Priority | None, due_ms: int | None) -> None:
        if priority is not None:
            life.priority = priority
        if due_ms is not None:
            life.due_ms = due_ms
            life.state = State.SCHEDULED if due_ms > self.now_ms else State.ENQUEUED

    def requeue(self, life: Life) -> None:
        life.state, life.errors, life.crashes, life.cancel = State.ENQUEUED, 0, 0, False
        life.unheard = life.counted = 0
        life.finished_ms = life.due_ms = life.result = None
        life.may_be_gone = False

    def drop(self, life: Life) -> None:
        del self.lives[life.job.id]

    def prune(self) -> None:
        """Note which jobs the store may forget now, or may have forgotten in the step that it has just made."""
        for life in self.in_state(*PRUNED):
            life.may_be_gone = life.may_be_gone or self._is_over(life)

    def _is_over(self, life: Life) -> bool:
        assert life.finished_ms is not None
        kept = self.retention.completed if life.state is State.COMPLETED else self.retention.cancelled
        age = self.now_ms - life.finished_ms
        later = sum((other.finished_ms or 0) >= life.finished_ms for other in self.in_state(life.state)) - 1
        own = life.job.retention_ms
        return age >= kept * 1000 or (own is not None and age >= own) or later >= self.retention.max_jobs

    def assert_same(self, job: Job) -> None:
        """Raises AssertionError if the store tells another story of the job."""
        life = self.lives[job.id]
        assert job.payload == life.job.payload
        assert (job.priority, job.group, job.tags) == (life.priority, life.job.group, life.job.tags)
        told = (job.state, job.attempt, job.errors, job.crashes, job.cancel_requested, job.finished_ms, job.result)
        known = (
            life.state,
            life.attempt,
            life.errors,
            life.crashes,
            life.cancel,
            life.finished_ms,
            life.result,
        )
        assert told == known
        if life.state is State.SCHEDULED:
            assert job.due_ms == life.due_ms
