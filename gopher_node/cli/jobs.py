"""Commands that look at jobs, and the one that changes a waiting job."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, TypeVar

from gopher_node.cli import show
from gopher_node.cli.connect import REMOTE, Remote
from gopher_node.cli.exits import Exit, UsageError
from gopher_node.cli.job_lines import reason, show_change, show_job, show_line
from gopher_node.cli.options import (
    NO_FILTER,
    JobFilters,
    JobId,
    Limit,
    OfType,
    option,
    read_duration,
    read_priority,
    read_time,
    switch,
)
from gopher_node.cli.waiting import await_end
from gopher_node.job import State

if TYPE_CHECKING:
    from gopher_node.client import JobView
    from gopher_node.client.views import View

AnyView = TypeVar("AnyView", bound="View")

LOOK_AGAIN = 1.0
"""Seconds between two looks at a log that is followed."""


def get(job_id: JobId, /, *, remote: Remote = REMOTE) -> None:
    """
    Show a job.

    Its state, its result, and how each of its runs ended.
    """
    with remote.connect() as client:
        job = client.get(job_id)
    if remote.json:
        show.write_json(job.raw)
    else:
        show_job(job)


def list_jobs(*, filters: JobFilters = NO_FILTER, limit: Limit = 50, remote: Remote = REMOTE) -> None:
    """
    List jobs.

    Those that run and wait come first, then those that ended, the latest first. With --json there is one on each line.
    """
    wanted = filters.read()
    check_limit(limit)
    with remote.connect() as client:
        jobs, more = take(client.list(limit=limit + 1, **wanted), limit, remote)
    if not remote.json:
        if jobs:
            show.write_table(
                ("id", "type", "status", "priority", "runs", "created", "error"),
                [
                    (
                        job.job_id,
                        job.type,
                        job.status.value,
                        job.priority.label,
                        job.attempt,
                        show.moment(job.created_at),
                        reason(job.error) or None,
                    )
                    for job in jobs
                ],
            )
        else:
            show.write("No jobs." if not wanted else "No such jobs.")
    note_more(more, limit)


def list_failed(*, type: OfType = None, limit: Limit = 50, remote: Remote = REMOTE) -> None:
    """
    List the failed jobs.

    They are kept until someone retries or deletes them. With --json there is one job on each line.
    """
    check_limit(limit)
    with remote.connect() as client:
        jobs, more = take(client.dead_letters(type, limit=limit + 1), limit, remote)
    show_failed(jobs, remote)
    note_more(more, limit)


def show_failed(jobs: list[JobView], remote: Remote) -> None:
    if remote.json:
        return
    if not jobs:
        show.write("No failed jobs.")
        return
    show.write_table(
        ("id", "type", "failed at", "runs", "error"),
        [(job.job_id, job.type, show.moment(job.finished_at), job.attempt, reason(job.error)) for job in jobs],
    )


def wait(
    job_id: JobId,
    /,
    *,
    timeout: Annotated[str | None, option("Give up after so long; without it, wait for ever.", "DURATION")] = None,
    remote: Remote = REMOTE,
) -> int:
    """
    Wait for a job's end and print its result.

    The result goes to the standard output, and the exit code is 0 when the job completed and 1 when not.
    """
    seconds = read_duration("--timeout", timeout)
    with remote.connect() as client:
        return await_end(client, job_id, seconds, remote)


def events(job_id: JobId, /, *, remote: Remote = REMOTE) -> int:
    """
    Follow a job: show each change as it happens, until the job has ended.

    The exit code is 0 when the job completed and 1 when not. Ctrl-C stops following; the job goes on.
    """
    with remote.connect() as client:
        job = None
        for job in client.events(job_id):
            if remote.json:
                show.write_json(job.raw)
            else:
                show_change(job)
            show.flush()
    return Exit.OK if job and job.status is State.COMPLETED else Exit.FAILED


def log(
    job_id: JobId,
    /,
    *,
    follow: Annotated[bool, switch("Show what comes, until the job has ended.", "--follow", "-f")] = False,
    remote: Remote = REMOTE,
) -> None:
    """
    Show what the runs of a job said.

    The latest 1,000 lines are kept. With --json there is one line as JSON on each line.
    """
    with remote.connect() as client:
        cursor = None
        while True:
            page = client.log(job_id, cursor)
            for line in page.raw["items"] if remote.json else ():
                show.write_json(line)
            for line in () if remote.json else page.items:
                show.write(show.visible(f"{show.moment(line.at)}  {line.level:<7}  {line.message}".replace("\n", " ")))
            show.flush()
            cursor = page.next_cursor
            if not follow or cursor is None:
                return
            time.sleep(LOOK_AGAIN)


def edit(
    job_id: JobId,
    /,
    *,
    priority: Annotated[str | None, option("low, normal, high or urgent, or 1 to 4.", "LEVEL")] = None,
    delay: Annotated[str | None, option("Run it so much later than now, such as 30s or 1h30m.", "DURATION")] = None,
    at: Annotated[
        str | None,
        option("Run it at this time, such as 2026-12-24T18:00; your time zone unless one is given.", "TIME"),
    ] = None,
    remote: Remote = REMOTE,
) -> None:
    """Change the priority of a job that waits, or when it is to run."""
    if delay is not None and at is not None:
        raise UsageError("--delay and --at both say when the job is to run; give one of them.")
    if priority is None and delay is None and at is None:
        raise UsageError("Say what is to change: --priority, --delay or --at.")
    level, seconds, moment = read_priority(priority), read_duration("--delay", delay), read_time("--at", at)
    with remote.connect() as client:
        job = client.edit(job_id, priority=level, delay=seconds, execute_at=moment)
    due = f", due {show.moment(job.execute_at)}" if job.status is State.SCHEDULED else ""
    show_line(job, as_json=remote.json, remark=f"{job.status}, {job.priority.label} priority{due}")


def take(found: Iterable[AnyView], limit: int, remote: Remote) -> tuple[list[AnyView], bool]:
    """The first ones of a list, and whether there are more. As JSON each is printed as soon as it is there."""
    taken: list[AnyView] = []
    for one in found:
        if len(taken) == limit:
            return taken, True
        taken.append(one)
        if remote.json:
            show.write_json(one.raw)
    return taken, False


def note_more(more: bool, limit: int) -> None:
    if more:
        show.write_note(f"There are more; --limit {limit * 10} shows more of them.")


def check_limit(limit: int) -> None:
    if limit < 1:
        raise UsageError("--limit must be at least 1.")
