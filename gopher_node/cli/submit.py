"""The command that submits a job, and may wait for its end."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from gopher_node.cli import show
from gopher_node.cli.connect import REMOTE, Remote
from gopher_node.cli.exits import Exit, UsageError
from gopher_node.cli.job_lines import reason, show_line
from gopher_node.cli.options import option, read_duration, read_priority, read_time
from gopher_node.errors import GopherError
from gopher_node.job import State

if TYPE_CHECKING:
    from gopher_node.client import Client, JobOptions, JobView


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class JobFlags:
    """How the job is to be run, as it was written."""

    priority: Annotated[str | None, option("low, normal, high or urgent, or 1 to 4.", "LEVEL")] = None
    retries: Annotated[
        int | None,
        option("How often a run that ends in an error is repeated.", "N", "--retries", "--max-retries", "-r"),
    ] = None
    delay: Annotated[str | None, option("Run it so much later, such as 30s or 1h30m.", "DURATION")] = None
    at: Annotated[
        str | None,
        option("Run it at this time, such as 2026-12-24T18:00; your time zone unless one is given.", "TIME"),
    ] = None
    group: Annotated[str | None, option("A tenant or customer; groups get fair turns.", "GROUP")] = None
    tag: Annotated[Sequence[str] | None, option("A word to find the job by; may be repeated.", "TAG")] = None
    timeout: Annotated[str | None, option("How long one run may take, such as 5m.", "DURATION")] = None
    retention: Annotated[str | None, option("How long the finished job is kept, such as 24h.", "DURATION")] = None

    def read(self) -> JobOptions:
        if self.delay is not None and self.at is not None:
            raise UsageError("--delay and --at both say when the job is to run; give one of them.")
        return {
            "priority": read_priority(self.priority),
            "max_retries": self.retries,
            "delay": read_duration("--delay", self.delay),
            "execute_at": read_time("--at", self.at),
            "group": self.group,
            "tags": self.tag,
            "timeout": read_duration("--timeout", self.timeout),
            "retention": read_duration("--retention", self.retention),
        }


NO_FLAGS = JobFlags()


def submit(
    *,
    type: Annotated[str, option("The job's type, which is also its queue.", "TYPE", "--type", "-t")],
    payload: Annotated[
        str,
        Parameter(
            name=("--payload", "-p"),
            help="The payload as JSON; @FILE reads it from a file, - from the standard input.",
            metavar="JSON",
            allow_leading_hyphen=True,
        ),
    ] = "{}",
    flags: JobFlags = NO_FLAGS,
    wait: Annotated[str | None, option("Wait so long for the job's end and print its result.", "DURATION")] = None,
    remote: Remote = REMOTE,
) -> int:
    """
    Submit a job.

    With --wait the result goes to the standard output, and the exit code is 0 when the job completed and 1 when not.
    """
    options, seconds, content = flags.read(), read_duration("--wait", wait), _read_payload(payload)
    with remote.connect() as client:
        job = client.submit(type, content, **options)
        if seconds is None:
            show_line(job, as_json=remote.json)
            return Exit.OK
        return _await_end(client, job, seconds, remote)


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
    why = reason(job.error)
    show.write_note(
        f"gopher-node: job {job.job_id} {'failed' if job.status is State.FAILED else 'was cancelled'}"
        + (f": {why.rstrip('.')}. " if why else ". ")
        + f"See each run with `gopher-node get {job.job_id}`; "
        + f"run it again with `gopher-node retry {job.job_id}`."
    )
    return Exit.FAILED


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
