"""Commands about jobs that are there: look at them, and settle what becomes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from gopher_node.cli import show
from gopher_node.cli.connect import REMOTE, Remote
from gopher_node.cli.exits import Exit, UsageError, exit_code
from gopher_node.cli.job_lines import reason, show_job, show_line
from gopher_node.cli.options import option
from gopher_node.errors import GopherError
from gopher_node.job import State

if TYPE_CHECKING:
    from gopher_node.client import Client, JobView

JobIds = Annotated[str, Parameter(help="Ids of jobs.", required=True, negative="")]


def get(
    job_id: Annotated[str, Parameter(name="ID", help="The job's id.")],
    /,
    *,
    remote: Remote = REMOTE,
) -> None:
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


def cancel(*ids: JobIds, remote: Remote = REMOTE) -> int:
    """
    Cancel jobs.

    One that is running is asked to stop.
    """

    def cancel_one(client: Client, job_id: str) -> None:
        job = client.cancel(job_id)
        show_line(job, as_json=remote.json, remark="is asked to stop" if job.status is State.PROCESSING else "")

    return _each(ids, remote, cancel_one)


def delete(*ids: JobIds, remote: Remote = REMOTE) -> int:
    """
    Delete jobs for good.

    One that is running must be cancelled first.
    """

    def delete_one(client: Client, job_id: str) -> None:
        client.delete(job_id)
        if remote.json:
            show.write_json({"job_id": job_id, "deleted": True})
        else:
            show.write(f"{show.visible(job_id)}  deleted")

    return _each(ids, remote, delete_one)


def retry(*ids: JobIds, remote: Remote = REMOTE) -> int:
    """Run jobs that have ended once more."""
    return _each(ids, remote, lambda client, job_id: show_line(client.retry(job_id), as_json=remote.json))


def retry_all(
    *,
    type: Annotated[str | None, option("Only the jobs of this type.", "TYPE", "--type", "-t")] = None,
    remote: Remote = REMOTE,
) -> None:
    """Run all failed jobs once more."""
    with remote.connect() as client:
        count = client.retry_all(type)
    if remote.json:
        show.write_json({"retried": count})
    else:
        show.write(f"{count} failed {'job' if count == 1 else 'jobs'} will run again.")


def list_failed(
    *,
    type: Annotated[str | None, option("Only the jobs of this type.", "TYPE", "--type", "-t")] = None,
    limit: Annotated[int, option("How many to show at most.", "N")] = 50,
    remote: Remote = REMOTE,
) -> None:
    """
    List the failed jobs.

    They are kept until someone retries or deletes them. With --json there is one job on each line.
    """
    if limit < 1:
        raise UsageError("--limit must be at least 1.")
    with remote.connect() as client:
        found = client.dead_letters(type, limit=limit + 1)
        jobs: list[JobView] = []
        more = False
        for job in found:
            more = len(jobs) == limit
            if more:
                break
            jobs.append(job)
            if remote.json:
                show.write_json(job.raw)
    if not remote.json:
        if jobs:
            show.write_table(
                ("id", "type", "failed at", "runs", "error"),
                [(job.job_id, job.type, show.moment(job.finished_at), job.attempt, reason(job.error)) for job in jobs],
            )
        else:
            show.write("No failed jobs.")
    if more:
        show.write_note(f"There are more; --limit {limit * 10} shows more of them.")


def _each(ids: Sequence[str], remote: Remote, act: Callable[[Client, str], None]) -> int:
    """Do it for all, for one that is refused says nothing of the next. The first refusal gives the exit code."""
    code = Exit.OK
    with remote.connect() as client:
        for job_id in ids:
            try:
                act(client, job_id)
            except GopherError as error:
                if exit_code(error) is Exit.UNREACHABLE:
                    raise
                code = code or exit_code(error)
                show.write_note(f"gopher-node: {job_id}: {error}" if len(ids) > 1 else f"gopher-node: {error}")
    return code
