from __future__ import annotations

import inspect
import time
from dataclasses import replace
from typing import Any

import pytest
from structlog.contextvars import bound_contextvars, merge_contextvars
from structlog.testing import capture_logs

from gopher_node.errors import OutcomeUnknown
from gopher_node.job import Job, JobError, Priority, State
from gopher_node.telemetry import Events
from gopher_node.telemetry.events import JOB_LINES_PER_SECOND
from gopher_node.telemetry.measures import MAX_TYPES, OTHER


class Clock:
    """Stands still until it is set."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def make_job(type: str = "email") -> Job:
    return Job(
        id="6f1a", type=type, state=State.PROCESSING, payload=b"{}", priority=Priority.LOW, created_ms=0, attempt=2
    )


def end(events: Events, state: State | None = State.COMPLETED, outcome: str = "completed", **more: Any) -> None:
    events.settled(make_job(), state, outcome, 0.25, **more)


def test_counts() -> None:
    """Every report is counted under its name, and a settled run under the job's new state too."""
    events = Events()
    events.submitted(["email", "email", "math"])
    events.claimed(2)
    events.started(make_job())
    end(events)
    end(events, State.SCHEDULED, "error")
    end(events, State.FAILED, "timeout")
    end(events, None)
    events.promoted(4)
    events.reaped(5)
    events.session_lost()
    for _ in range(2):  # while it lasts, and when it is over
        events.loop_blocked(0.3, "email")
    events.loop_late(0.1)
    events.loop_late(0.3)
    events.slot_stuck("email")
    events.handler_returned_late("email", 2.0)

    assert events.counts == {
        "submitted": 3,
        "claimed": 2,
        "started": 1,
        "settled": 3,
        "completed": 1,
        "scheduled": 1,
        "failed": 1,
        "stale": 1,
        "promoted": 4,
        "reaped": 5,
        "sessions_lost": 1,
        "loop_blocked": 1,
        "slots_stuck": 1,
        "slots_freed": 1,
    }


def test_totals_by_type() -> None:
    """For each type there is what became of its jobs and how long its runs took; a refused run has no time."""
    events = Events()
    events.submitted(["email", "math", "email"])
    end(events)
    end(events, State.SCHEDULED, "error", error=JobError("timeout", "too long"))
    end(events, State.FAILED, "error", error=JobError("my-own", "of a handler"))
    end(events, State.ENQUEUED, "released")
    end(events, None)
    events.settled(make_job("math"), State.COMPLETED, "completed", 2.0)

    email, math = events.measures.types["email"], events.measures.types["math"]
    assert (email.created, math.created) == (2, 1)
    assert email.ended == {"completed": 1, "retried": 1, "failed": 1, "released": 1, "stale": 1}
    assert email.failures == {"timeout": 1, "other": 1}
    assert (email.run.count, email.run.sum) == (4, 1.0)
    assert (math.run.count, math.run.sum) == (1, 2.0)


def test_the_wait_is_that_for_the_first_run() -> None:
    """A job waits from when it is due until its first run; a later run says nothing of it."""
    events = Events()
    now_ms = round(time.time() * 1000)
    events.started(replace(make_job(), attempt=1, created_ms=now_ms - 60_000))
    events.started(replace(make_job(), attempt=1, created_ms=now_ms - 60_000, due_ms=now_ms + 5000))
    events.started(make_job())
    wait = events.measures.types["email"].wait
    assert wait.count == 2
    assert 59 < wait.sum < 70


def test_only_so_many_types_are_told_apart() -> None:
    """A hundred types have their own numbers, and what comes later is counted as one."""
    events = Events()
    events.submitted(f"type-{n}" for n in range(150))
    assert len(events.measures.types) == MAX_TYPES + 1
    assert events.measures.types[OTHER].created == 50


def test_the_end_of_a_job_is_a_line() -> None:
    """One line says which job ended how, where and after how long."""
    with capture_logs() as lines:
        end(Events("node-1"))

    assert lines == [
        {
            "event": "job.finished",
            "log_level": "info",
            "logger_name": "gopher_node",
            "worker_id": "node-1",
            "job_id": "6f1a",
            "job_type": "email",
            "attempt": 2,
            "state": "completed",
            "outcome": "completed",
            "duration": 0.25,
        }
    ]


def test_a_failure_says_why() -> None:
    """A failed job is a warning with the error's code, kind and message; its traceback is for debugging."""
    error = JobError("error", "no such key " + "x" * 1000, "KeyError", "Traceback …")
    with capture_logs() as lines:
        end(Events(), State.FAILED, "error", error=error)
        end(Events(), State.SCHEDULED, "error", error=JobError("failed", "because"))

    finished, traceback, retried = lines
    assert (finished["log_level"], finished["code"]) == ("warning", "error")
    assert finished["error"].startswith("KeyError: no such key")
    assert len(finished["error"]) == 500
    assert (traceback["event"], traceback["log_level"]) == ("job.traceback", "debug")
    assert traceback["exception"] == "Traceback …"
    assert (retried["log_level"], retried["error"]) == ("info", "because")


def test_job_lines_are_sampled_and_say_so() -> None:
    """All ends of jobs are written up to a thousand a second, then one in a hundred; the next second says how many."""
    clock = Clock()
    with capture_logs() as lines:
        events = Events(clock=clock)
        for _ in range(JOB_LINES_PER_SECOND + 500):
            end(events)
        end(events, State.FAILED, "error")
        assert len(lines) == JOB_LINES_PER_SECOND + 5 + 1
        assert lines[-1]["state"] == "failed"

        lines.clear()
        clock.now += 1
        with capture_logs(processors=[merge_contextvars]) as lines, bound_contextvars(job_id="6f1a"):
            end(events)
            end(events)

    assert [line["event"] for line in lines] == ["jobs.sampled", "job.finished", "job.finished"]
    assert "job_id" not in lines[0], "it is not about that job"
    assert (lines[0]["left_out"], lines[0]["one_in"]) == (495, 100)
    assert events.counts["completed"] == JOB_LINES_PER_SECOND + 502


def test_what_a_burst_left_out_is_told_although_nothing_follows() -> None:
    """Nobody can know whether another job will come, so the turning of the loop tells it."""
    clock = Clock()
    with capture_logs() as lines:
        events = Events(clock=clock)
        for _ in range(JOB_LINES_PER_SECOND + 500):
            end(events)
        lines.clear()
        events.loop_late(0.0)
        assert lines == []
        clock.now += 1
        events.loop_late(0.0)
        events.loop_late(0.0)

    assert [(line["event"], line["left_out"]) for line in lines] == [("jobs.sampled", 495)]


@pytest.mark.parametrize(("job_lines", "count"), [("all", JOB_LINES_PER_SECOND + 500), ("none", 0)])
def test_job_lines_all_or_none(job_lines: Any, count: int) -> None:
    """The setting log.jobs switches the lines, and never the counts."""
    with capture_logs() as lines:
        events = Events(job_lines=job_lines)
        for _ in range(JOB_LINES_PER_SECOND + 500):
            end(events)

    assert len(lines) == count
    assert events.counts["completed"] == JOB_LINES_PER_SECOND + 500


def test_an_outage_is_two_lines() -> None:
    """However often parts report an outage, its begin and its end are one line each."""
    clock = Clock()
    with capture_logs() as lines:
        events = Events(clock=clock)
        events.store_up()
        for _ in range(5):
            events.store_down(ConnectionError("refused"))
        assert events.store_is_down
        clock.now += 2.5
        events.store_up()
        events.store_up()

    assert [(line["event"], line["log_level"]) for line in lines] == [("store.down", "error"), ("store.up", "info")]
    assert lines[1]["duration"] == 2.5
    assert events.counts["store_errors"] == 5
    assert not events.store_is_down


def test_a_loop_that_stood_still_does_not_blame_the_store() -> None:
    """What took too long while nobody could hear the answer is no outage; what was refused is, and so is the next."""
    late = OutcomeUnknown("The store did not answer: it took too long")
    late.__cause__ = TimeoutError()
    held_up = True
    with capture_logs() as lines:
        events = Events()
        events.held_up = lambda: held_up
        events.store_down(late)
        assert (lines, events.store_is_down) == ([], False)
        held_up = False
        events.store_down(late)
        events.store_up()
        held_up = True
        events.store_down(ConnectionRefusedError())

    assert [line["event"] for line in lines] == ["store.down", "store.up", "store.down"]
    assert events.counts["store_errors"] == 3


@pytest.mark.parametrize(
    ("report", "arguments", "event", "level"),
    [
        ("stale", (make_job(),), "job.stale", "warning"),
        ("reaped", (2,), "jobs.reaped", "warning"),
        ("session_lost", (), "session.lost", "error"),
        ("loop_blocked", (0.3, None), "loop.blocked", "warning"),
        ("slot_stuck", ("email",), "slot.stuck", "warning"),
        ("handler_returned_late", ("email", 1.0), "slot.freed", "info"),
    ],
)
def test_what_a_person_would_want_to_know(report: str, arguments: tuple[Any, ...], event: str, level: str) -> None:
    """What endangers jobs is a line at the level it deserves."""
    with capture_logs() as lines:
        getattr(Events(), report)(*arguments)
    assert [(line["event"], line["log_level"]) for line in lines] == [(event, level)]


def test_the_usual_is_no_line() -> None:
    """What happens all the time is counted and not written."""
    with capture_logs() as lines:
        events = Events()
        events.submitted(["email"])
        events.claimed(1)
        events.promoted(1)
        events.reaped(0)
    assert lines == []


def test_reports_are_plain_calls() -> None:
    """No report is a coroutine, for they are made where nothing may wait."""
    reports = [member for name, member in vars(Events).items() if inspect.isfunction(member) and name[0] != "_"]
    assert len(reports) >= 13
    assert not any(inspect.iscoroutinefunction(report) for report in reports)
