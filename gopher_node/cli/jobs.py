"""Commands about jobs: submit them, look at them, and settle what becomes of them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from gopher_node.cli import show
from gopher_node.cli.connect import REMOTE, Remote
from gopher_node.cli.exits import Exit, UsageError, exit_code
from gopher_node.durations import parse_duration
from gopher_node.errors import GopherError
from gopher_node.job import Priority, State

if TYPE_CHECKING:
    from gopher_node.client import Client, JobView

JobIds = Annotated[str, Parameter(help="Ids of jobs.", required=True, negative="")]


def submit(
    *,
    type: Annotated[
        str, Parameter(name=["--type", "-t"], help="The job's type, which is also its queue.", metavar="TYPE")
    ],
    payload: Annotated[
        str,
        Parameter(
            name=["--payload", "-p"],
            help="The payload as JSON; @FILE reads it from a file, - from the standard input.",
            allow_leading_hyphen=True,
            metavar="JSON",
        ),
    ] = "{}",
    priority: Annotated[str | None, Parameter(help="low, normal, high or urgent, or 1 to 4.", metavar="LEVEL")] = None,
    retries: Annotated[
        int | None,
        Parameter(
            name=["--retries", "--max-retries", "-r"],
            help="How often a run that ends in an error is repeated.",
            metavar="N",
        ),
    ] = None,
    delay: Annotated[
        str | None, Parameter(help="Run it so much later, such as 30s or 1h30m.", metavar="DURATION")
    ] = None,
    at: Annotated[
        str | None,
        Parameter(
            help="Run it at this time, such as 2026-12-24T18:00; your time zone unless one is given.", metavar="TIME"
        ),
    ] = None,
    group: Annotated[
        str | None, Parameter(help="A tenant or customer; groups get fair turns.", metavar="GROUP")
    ] = None,
    tag: Annotated[
        list[str] | None, Parameter(help="A word to find the job by; may be repeated.", negative="", metavar="TAG")
    ] = None,
    timeout: Annotated[str | None, Parameter(help="How long one run may take, such as 5m.", metavar="DURATION")] = None,
    retention: Annotated[
        str | None, Parameter(help="How long the finished job is kept, such as 24h.", metavar="DURATION")
    ] = None,
    wait: Annotated[
        str | None, Parameter(help="Wait so long for the job's end and print its result.", metavar="DURATION")
    ] = None,
    remote: Remote = REMOTE,
) -> int:
    """
    Submit a job.

    With --wait the result goes to the standard output, and the exit code is 0 when the job completed and 1 when not.
    """
    if delay is not None and at is not None:
        raise UsageError("--delay and --at both say when the job is to run; give one of them.")
    seconds = None if wait is None else _duration("--wait", wait)
    options: dict[str, Any] = {
        "priority": None if priority is None else _priority(priority),
        "max_retries": retries,
        "delay": None if delay is None else _duration("--delay", delay),
        "execute_at": None if at is None else _moment(at),
        "group": group,
        "tags": tag,
        "timeout": None if timeout is None else _duration("--timeout", timeout),
        "retention": None if retention is None else _duration("--retention", retention),
    }
    content = _read_payload(payload)
    with remote.connect() as client:
        job = client.submit(type, content, **options)
        if seconds is None:
            _show_line(job, remote)
            return Exit.OK
        return _await_end(client, job, seconds, remote)


def get(
    job_id: Annotated[str, Parameter(name="ID", help="The job's id.")],
    /,
    *,
    remote: Remote = REMOTE,
) -> None:
    """
    Show a job.

    Its state, its result, and how each run that did not complete ended.
    """
    with remote.connect() as client:
        job = client.get(job_id)
    if remote.json:
        show.write_json(job.raw)
    else:
        _show_job(job)


def cancel(*ids: JobIds, remote: Remote = REMOTE) -> int:
    """
    Cancel jobs.

    One that is running is asked to stop.
    """

    def cancel_one(client: Client, job_id: str) -> None:
        job = client.cancel(job_id)
        _show_line(job, remote, "is asked to stop" if job.status is State.PROCESSING else "")

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
    return _each(ids, remote, lambda client, job_id: _show_line(client.retry(job_id), remote))


def retry_all(
    *,
    type: Annotated[
        str | None, Parameter(name=["--type", "-t"], help="Only the jobs of this type.", metavar="TYPE")
    ] = None,
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
    type: Annotated[
        str | None, Parameter(name=["--type", "-t"], help="Only the jobs of this type.", metavar="TYPE")
    ] = None,
    limit: Annotated[int, Parameter(help="How many to show at most.", metavar="N")] = 50,
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
                [(job.job_id, job.type, show.moment(job.finished_at), job.attempt, _error(job.error)) for job in jobs],
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


def _await_end(client: Client, job: JobView, seconds: float, remote: Remote) -> int:
    from gopher_node.client import WaitTimeout

    try:
        job = client.wait(job.job_id, seconds)
    except WaitTimeout as error:
        if remote.json:
            show.write_json(error.job.raw)
        show.write_note(
            f"gopher-node: job {job.job_id} is still {error.job.status} after {seconds:g} s, and goes on. "
            f"Look again with `gopher-node get {job.job_id}`."
        )
        return Exit.FAILED
    except (GopherError, KeyboardInterrupt):
        show.write_note(f"Job {job.job_id} was submitted and goes on; see `gopher-node get {job.job_id}`.")
        raise
    if remote.json:
        show.write_json(job.raw)
    if job.status is State.COMPLETED:
        if not remote.json:
            show.write_note(f"Job {job.job_id} completed.")
            show.write(show.to_json(job.result, indent=True))
        return Exit.OK
    reason = _error(job.error)
    show.write_note(
        f"gopher-node: job {job.job_id} {'failed' if job.status is State.FAILED else 'was cancelled'}"
        + (f": {reason.rstrip('.')}. " if reason else ". ")
        + f"See each run with `gopher-node get {job.job_id}`; "
        + f"run it again with `gopher-node retry {job.job_id}`."
    )
    return Exit.FAILED


def _show_line(job: JobView, remote: Remote, remark: str = "") -> None:
    if remote.json:
        show.write_json(job.raw)
    else:
        show.write(show.visible(f"{job.job_id}  {job.type}  {remark or job.status}"))


def _show_job(job: JobView) -> None:
    took = _took(job.started_at, job.finished_at)
    finished = show.moment(job.finished_at)
    show.write_fields(
        [
            ("Job", job.job_id),
            ("Type", job.type),
            ("Status", job.status.value),
            ("Cancel", "requested" if job.cancel_requested and not job.status.final else None),
            ("Priority", job.priority.label),
            ("Group", job.group or None),
            ("Tags", ", ".join(job.tags) or None),
            ("Runs", f"{job.attempt} ({job.errors} errors, {job.max_retries} retries allowed, {job.crashes} crashes)"),
            ("Created", show.moment(job.created_at)),
            ("Due", show.moment(job.execute_at)),
            ("Started", show.moment(job.started_at)),
            ("Finished", f"{finished} (took {took})" if finished and took else finished),
            ("Progress", None if job.progress is None else show.to_json(job.progress)),
            ("Payload", show.to_json(job.payload)),
            ("Result", show.to_json(job.result) if job.status is State.COMPLETED else None),
            ("Error", _error(job.error) or None),
        ]
    )
    if job.attempts:
        show.write("")
        show.write_table(
            ("run", "outcome", "started", "took", "node", "error"),
            [
                (
                    entry.get("attempt"),
                    entry.get("outcome"),
                    show.moment(entry.get("started_at")),
                    _took(entry.get("started_at"), entry.get("finished_at")),
                    entry.get("node"),
                    _error(entry.get("error")),
                )
                for entry in job.attempts
            ],
        )
    traceback = (job.error or {}).get("traceback")
    if traceback:
        show.write("\n" + show.visible(str(traceback)).rstrip())


def _error(error: dict[str, Any] | None) -> str:
    if not error:
        return ""
    code, message = error.get("code"), error.get("message")
    return f"{code}: {message}" if code and message else str(message or code or show.to_json(error))


def _took(start: datetime | str | None, end: datetime | str | None) -> str | None:
    try:
        moments = [datetime.fromisoformat(each) if isinstance(each, str) else each for each in (start, end)]
    except ValueError:
        return None
    first, last = moments
    return f"{(last - first).total_seconds():.3f} s" if first and last else None


def _read_payload(text: str) -> Any:
    """The payload as it was written: to decode and encode it again could change its numbers."""
    import orjson

    if text == "-":
        content = sys.stdin.buffer.read() if sys.stdin else b""
    elif text.startswith("@"):
        try:
            content = Path(text[1:]).read_bytes()
        except OSError as error:
            raise UsageError(f"The payload file {text[1:]} cannot be read: {error.strerror}.") from None
    else:
        content = os.fsencode(text)
    try:
        orjson.loads(content)
    except ValueError as error:
        raise UsageError(
            f"The payload is not JSON: {error}. Write it in single quotes, such as -p '{{\"n\": 30}}', "
            "or keep it in a file and give -p @FILE."
        ) from None
    return orjson.Fragment(content)


def _duration(option: str, text: str) -> float:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise UsageError(f"{option} {text!r} {error}.") from None


def _priority(text: str) -> Priority:
    try:
        return Priority.parse(text)
    except ValueError as error:
        raise UsageError(f"--priority {text!r} {error}.") from None


def _moment(text: str) -> datetime:
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"--at {text!r} is not a time. Write it like 2026-12-24T18:00 or 2026-12-24T18:00:00+01:00."
        ) from None
    return value if value.tzinfo else value.astimezone()
