"""Commands that decide what becomes of jobs: of those that are named, or of all that match."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated

from gopher_node.cli import show
from gopher_node.cli.connect import REMOTE, Remote
from gopher_node.cli.exits import Exit, UsageError, exit_code
from gopher_node.cli.job_lines import show_line
from gopher_node.cli.options import NO_FILTER, All, Ids, JobFilters, OfType, Yes, described, switch
from gopher_node.errors import GopherError
from gopher_node.job import State

if TYPE_CHECKING:
    from gopher_node.client import Client

One = Callable[["Client", str], None]
Many = Callable[..., int]


def cancel(
    *ids: Ids, filters: JobFilters = NO_FILTER, all: All = False, yes: Yes = False, remote: Remote = REMOTE
) -> int:
    """
    Cancel jobs: those with these ids, or all that match.

    One that is running is asked to stop. Before it cancels all that match, it asks on a terminal.
    """

    def cancel_one(client: Client, job_id: str) -> None:
        job = client.cancel(job_id)
        show_line(job, as_json=remote.json, remark="is asked to stop" if job.status is State.PROCESSING else "")

    if ids:
        _refuse_filters(filters, all)
        return each(ids, remote, cancel_one)
    return _many("Cancel", "cancelled", lambda client: client.cancel_many, filters, all, yes, remote)


def delete(
    *ids: Ids, filters: JobFilters = NO_FILTER, all: All = False, yes: Yes = False, remote: Remote = REMOTE
) -> int:
    """
    Delete jobs for good: those with these ids, or all that match.

    One that is running must be cancelled first. Before it deletes all that match, it asks on a terminal.
    """

    def delete_one(client: Client, job_id: str) -> None:
        client.delete(job_id)
        if remote.json:
            show.write_json({"job_id": job_id, "deleted": True})
        else:
            show.write(f"{show.visible(job_id)}  deleted")

    if ids:
        _refuse_filters(filters, all)
        return each(ids, remote, delete_one)
    return _many("Delete", "deleted", lambda client: client.delete_many, filters, all, yes, remote)


def retry(
    *ids: Ids, filters: JobFilters = NO_FILTER, all: All = False, yes: Yes = False, remote: Remote = REMOTE
) -> int:
    """
    Run jobs that have ended once more: those with these ids, or all that match.

    Where no --status says otherwise, those that failed are meant. Before it retries all that match, it asks on a
    terminal.
    """
    if ids:
        _refuse_filters(filters, all)
        return each(ids, remote, lambda client, job_id: show_line(client.retry(job_id), as_json=remote.json))
    return _many("Retry", "retried", lambda client: client.retry_many, filters, all, yes, remote)


def run_now(
    *ids: Ids, filters: JobFilters = NO_FILTER, all: All = False, yes: Yes = False, remote: Remote = REMOTE
) -> int:
    """
    Run scheduled jobs now: those with these ids, or all that match.

    Before it does so to all that match, it asks on a terminal.
    """
    if ids:
        _refuse_filters(filters, all)
        return each(ids, remote, lambda client, job_id: show_line(client.run_now(job_id), as_json=remote.json))
    return _many("Run now", "moved", lambda client: client.run_now_many, filters, all, yes, remote)


def retry_all(
    *,
    type: OfType = None,
    yes: Annotated[bool, switch("Taken as elsewhere; nothing is asked here.", "--yes", "-y")] = False,
    remote: Remote = REMOTE,
) -> None:
    """Run all failed jobs once more."""
    with remote.connect() as client:
        count = client.retry_all(type)
    show_retried(count, remote)


def show_retried(count: int, remote: Remote) -> None:
    if remote.json:
        show.write_json({"retried": count})
    else:
        show.write(f"{show.count(count, 'failed job')} will run again.")


def each(ids: Sequence[str], remote: Remote, act: One) -> int:
    """Do it for all, for one that is refused says nothing of the next. The first refusal gives the exit code."""
    from gopher_node.client import Forbidden, Unauthenticated

    code = Exit.OK
    with remote.connect() as client:
        for job_id in ids:
            try:
                act(client, job_id)
            except GopherError as error:
                if exit_code(error) is Exit.UNREACHABLE or isinstance(error, (Forbidden, Unauthenticated)):
                    raise
                code = code or exit_code(error)
                show.write_note(f"gopher-node: {job_id}: {error}" if len(ids) > 1 else f"gopher-node: {error}")
    return code


def _many(
    verb: str,
    done: str,
    act: Callable[[Client], Many],
    filters: JobFilters,
    all: bool,
    yes: bool,
    remote: Remote,
) -> int:
    wanted = filters.read()
    if not wanted and not all:
        raise UsageError("Say which jobs are meant: their ids, a filter such as --type, or --all for every job.")
    what = described(wanted, "jobs")
    with remote.connect() as client:
        question = f"{verb} {what} at {client.url}?" + (" They cannot be brought back." if done == "deleted" else "")
        if not yes and not show.ask(question):
            show.write_note("Nothing was changed.")
            return Exit.FAILED
        count = act(client)(all=all, **wanted)
    if remote.json:
        show.write_json({done: count})
    else:
        show.write(f"{show.count(count, 'job')} {'will run now' if done == 'moved' else done}.")
    return Exit.OK


def _refuse_filters(filters: JobFilters, all: bool) -> None:
    if all or filters.read():
        raise UsageError("Give ids, or say by filters which jobs are meant, but not both.")
