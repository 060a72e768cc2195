"""Commands about dead letters: the failed jobs that wait for somebody to decide."""

from __future__ import annotations

from typing import Any

from gopher_node.cli import show
from gopher_node.cli.acts import show_retried
from gopher_node.cli.connect import REMOTE, Remote
from gopher_node.cli.exits import Exit, UsageError
from gopher_node.cli.job_lines import show_attempts, show_job
from gopher_node.cli.jobs import check_limit, note_more, show_failed, take
from gopher_node.cli.options import NO_DEAD_LETTER_FILTER, All, DeadLetterFilters, Ids, JobId, Limit, Yes, described
from gopher_node.errors import JobNotFound
from gopher_node.job import State


def list_dead(
    *, filters: DeadLetterFilters = NO_DEAD_LETTER_FILTER, limit: Limit = 50, remote: Remote = REMOTE
) -> None:
    """
    List the failed jobs, the latest first.

    They are kept until someone retries or deletes them. With --json there is one job on each line.
    """
    wanted = filters.read()
    check_limit(limit)
    with remote.connect() as client:
        jobs, more = take(client.dead_letters(limit=limit + 1, **wanted), limit, remote)
    show_failed(jobs, remote)
    note_more(more, limit)


def show_dead(job_id: JobId, /, *, remote: Remote = REMOTE) -> None:
    """Show a failed job, with the error of each of its runs."""
    with remote.connect() as client:
        job = client.get(job_id)
    if job.status is not State.FAILED:
        raise JobNotFound(f"Job {job.job_id} is {job.status} and no dead letter; see `gopher-node get {job.job_id}`.")
    if remote.json:
        show.write_json(job.raw)
        return
    show_job(job, brief=True)
    show_attempts(job)


def retry_dead(
    *ids: Ids,
    filters: DeadLetterFilters = NO_DEAD_LETTER_FILTER,
    all: All = False,
    yes: Yes = False,
    remote: Remote = REMOTE,
) -> int:
    """
    Run failed jobs once more: those with these ids, or all that match.

    Before it retries all that match, it asks on a terminal.
    """
    wanted = _wanted(ids, filters, all)
    with remote.connect() as client:
        if ids:
            count = client.retry_all(job_ids=ids)
        elif yes or show.ask(f"Retry {described(wanted, 'dead letters')} at {client.url}?"):
            count = client.retry_all(**wanted)
        else:
            return _left()
    show_retried(count, remote)
    return _passed_over(ids, count, ", or another job bears the unique key")


def delete_dead(
    *ids: Ids,
    filters: DeadLetterFilters = NO_DEAD_LETTER_FILTER,
    all: All = False,
    yes: Yes = False,
    remote: Remote = REMOTE,
) -> int:
    """
    Delete failed jobs for good: those with these ids, or all that match.

    Before it deletes all that match, it asks on a terminal.
    """
    wanted = _wanted(ids, filters, all)
    with remote.connect() as client:
        question = f"Delete {described(wanted, 'dead letters')} at {client.url}? They cannot be brought back."
        if ids:
            count = client.delete_dead_letters(job_ids=ids)
        elif yes or show.ask(question):
            count = client.delete_dead_letters(all=all, **wanted)
        else:
            return _left()
    if remote.json:
        show.write_json({"deleted": count})
    else:
        show.write(f"{show.count(count, 'failed job')} deleted.")
    return _passed_over(ids, count)


def _wanted(ids: tuple[str, ...], filters: DeadLetterFilters, all: bool) -> dict[str, Any]:
    wanted = filters.read()
    if ids and (all or wanted):
        raise UsageError("Give ids, or say by filters which dead letters are meant, but not both.")
    if not ids and not all and not wanted:
        raise UsageError("Say which dead letters are meant: their ids, a filter such as --type, or --all for all.")
    return wanted


def _left() -> int:
    show.write_note("Nothing was changed.")
    return Exit.FAILED


def _passed_over(ids: tuple[str, ...], count: int, reason: str = "") -> int:
    rest = len({job_id.lower() for job_id in ids}) - count
    if rest <= 0:
        return Exit.OK
    show.write_note(f"gopher-node: {rest} of these ids {'is' if rest == 1 else 'are'} no dead letter's{reason}.")
    return Exit.NOT_FOUND
