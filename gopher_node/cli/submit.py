"""The command that submits a job and may wait for its end, or submits many."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from cyclopts import Parameter

from gopher_node.cli import show
from gopher_node.cli.connect import REMOTE, Remote
from gopher_node.cli.exits import Exit, UsageError
from gopher_node.cli.job_lines import show_line
from gopher_node.cli.options import option, read_duration, read_priority, read_time
from gopher_node.cli.waiting import await_end, note_submitted
from gopher_node.errors import GopherError

if TYPE_CHECKING:
    from gopher_node.client import Client, JobView, SubmitOptions


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
    id: Annotated[str | None, option("An id of your own, a UUID; a job that has it already is refused.", "UUID")] = None
    callback_url: Annotated[str | None, option("Where to POST how the job ended.", "URL")] = None
    unique_key: Annotated[str | None, option("A name that only one job of the type bears at a time.", "NAME")] = None
    unique_until: Annotated[
        str | None, option("Until when: started, finished (the default), or for so long, such as 10m.", "WHEN")
    ] = None
    on_duplicate: Annotated[
        Literal["existing", "replace", "reject"] | None,
        option("If another job bears it: show that one, replace what it is to do, or fail.", "WORD"),
    ] = None
    expires_at: Annotated[str | None, option("Cancel it if it has not started by then.", "TIME")] = None
    ttl: Annotated[str | None, option("Cancel it if it has not started within this time.", "DURATION")] = None
    retry: Annotated[
        str | None,
        option(
            'When to try again, as JSON such as {"strategy": "fixed", "base": "10s", "never": ["ValueError"]}.', "JSON"
        ),
    ] = None
    depends_on: Annotated[
        Sequence[str] | None, option("The id of a job that has to end first; may be repeated.", "ID")
    ] = None
    on_parent_failure: Annotated[
        Literal["skip", "fail", "run"] | None,
        option("If such a job does not complete: skip, which cancels this one, fail or run; skip by default.", "WORD"),
    ] = None
    workflow: Annotated[str | None, option("The workflow that it becomes a part of.", "ID")] = None
    name: Annotated[str | None, option("What it is called in its workflow and by jobs that wait for it.", "NAME")] = (
        None
    )
    idempotency_key: Annotated[
        str | None, option("A name for this submit: done twice with the same name, it makes one job.", "KEY")
    ] = None

    def read(self) -> SubmitOptions:
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
            "job_id": self.id,
            "callback_url": self.callback_url,
            "unique_key": self.unique_key,
            "unique_until": _read_until(self.unique_until),
            "on_duplicate": self.on_duplicate,
            "expires_at": read_time("--expires-at", self.expires_at),
            "ttl": read_duration("--ttl", self.ttl),
            "retry": _read_retry(self.retry),
            "depends_on": self.depends_on,
            "on_parent_failure": self.on_parent_failure,
            "workflow_id": self.workflow,
            "name": self.name,
            "idempotency_key": self.idempotency_key,
        }


def _read_until(text: str | None) -> Literal["started", "finished"] | float | None:
    if text == "started" or text == "finished":
        return text
    return read_duration("--unique-until", text)


def _read_retry(text: str | None) -> dict[str, Any] | None:
    import orjson

    try:
        rules: Any = None if text is None else orjson.loads(text)
    except ValueError:
        rules = text
    if rules is not None and not isinstance(rules, dict):
        raise UsageError('--retry takes a JSON object, such as \'{"strategy": "fixed", "base": "10s"}\'.')
    return cast("dict[str, Any] | None", rules)


NO_FLAGS = JobFlags()


def submit(
    *,
    type: Annotated[str | None, option("The job's type, which is also its queue.", "TYPE", "--type", "-t")] = None,
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
    file: Annotated[
        str | None,
        Parameter(
            name=("--file", "-f"),
            help="Submit many jobs: a file with one on each line, as JSON; - is the standard input.",
            metavar="FILE",
            allow_leading_hyphen=True,
            negative="",
        ),
    ] = None,
    wait: Annotated[str | None, option("Wait so long for the job's end and print its result.", "DURATION")] = None,
    remote: Remote = REMOTE,
) -> int:
    """
    Submit a job, or with --file any number of them.

    With --wait the result goes to the standard output, and the exit code is 0 when the job completed and 1 when not.

    A line of a file is an object such as {"type": "email", "payload": {}, "priority": "high", "delay": "30s"}. A line
    that is refused is named and does not hold up the others.
    """
    if file is not None:
        if type is not None or payload != "{}" or flags != NO_FLAGS or wait is not None:
            raise UsageError("Beside --file, each line says all about its job; leave the job's other options out.")
        from gopher_node.cli.bulk import submit_file

        return submit_file(file, remote)
    if type is None:
        raise UsageError("gopher-node submit needs --type, or --file. See `gopher-node submit --help`.")
    options, seconds, content = flags.read(), read_duration("--wait", wait), read_payload(payload)
    with remote.connect() as client:
        try:
            job = client.submit(type, content, **options)
        except ValueError as error:
            raise UsageError(f"--{str(error).replace('_', '-')}") from None
        if job.existing:
            show.write_note("gopher-node: nothing was stored; this job was there before.")
        if seconds is None:
            show_line(job, as_json=remote.json)
            _warn_if_unserved(client, job)
            return Exit.OK
        try:
            _warn_if_unserved(client, job)
        except KeyboardInterrupt:
            note_submitted(job.job_id)
            raise
        return await_end(client, job.job_id, seconds, remote, submitted=True)


def _warn_if_unserved(client: Client, job: JobView) -> None:
    """Of a type that is perhaps a slip. What cannot be known, as without the scope read, is no reason to fail."""
    if job.status.final:
        return
    try:
        queue = client.queue(job.type)
    except GopherError:
        return
    if queue.raw.get("served_by") == 0:
        show.write_note(
            f"gopher-node: no node runs {job.type}; the job waits until one does, or a worker leases it over HTTP."
        )


def read_payload(text: str) -> Any:
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
