"""Commands about workflows: submit one, see how far it is, wait for its end, and cancel it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from cyclopts import Parameter

from gopher_node.cli import show
from gopher_node.cli.connect import REMOTE, Remote
from gopher_node.cli.exits import Exit, UsageError
from gopher_node.cli.job_lines import reason
from gopher_node.cli.jobs import check_limit, note_more, take
from gopher_node.cli.options import Limit, option, read_duration

if TYPE_CHECKING:
    from gopher_node.client import Client, WorkflowView

WorkflowId = Annotated[str, Parameter(name="ID", help="The workflow's id.")]

_MEMBERS = ("name", "jobs", "chain", "on_complete", "on_success", "on_failure")


def list_workflows(*, limit: Limit = 50, remote: Remote = REMOTE) -> None:
    """
    List the workflows, the latest first.

    With --json there is one on each line.
    """
    check_limit(limit)
    with remote.connect() as client:
        found, more = take(client.workflows(limit=limit + 1), limit, remote)
    if not remote.json:
        if found:
            show.write_table(
                ("id", "name", "status", "ended", "jobs", "created"),
                [
                    (one.workflow_id, one.name, one.status, one.ended, one.total, show.moment(one.created_at))
                    for one in found
                ],
            )
        else:
            show.write("No workflows.")
    note_more(more, limit)


def submit_workflow(
    file: Annotated[
        str,
        Parameter(name="FILE", help="The workflow as JSON; - is the standard input.", allow_leading_hyphen=True),
    ],
    /,
    *,
    wait: Annotated[str | None, option("Wait so long for its end.", "DURATION")] = None,
    idempotency_key: Annotated[
        str | None, option("A name for this submit: done twice with the same name, it makes one workflow.", "KEY")
    ] = None,
    remote: Remote = REMOTE,
) -> int:
    """
    Submit a workflow: jobs of which some wait for others.

    The file is an object such as {"jobs": [{"name": "a", "type": "email"}, {"type": "report", "depends_on": ["a"]}],
    "on_success": {"type": "email"}}; in place of `jobs`, the jobs of a `chain` each wait for the one before.

    With --wait, the exit code is 0 when all jobs completed and 1 when not.
    """
    document, seconds = _read(file), read_duration("--wait", wait)
    with remote.connect() as client:
        try:
            workflow = client.submit_workflow(**document, idempotency_key=idempotency_key)
        except (TypeError, ValueError) as error:
            raise UsageError(str(error)) from None
        if seconds is not None:
            return _await_end(client, workflow.workflow_id, seconds, remote)
    _show_line(workflow, remote)
    return Exit.OK


def show_workflow(workflow_id: WorkflowId, /, *, remote: Remote = REMOTE) -> None:
    """Show a workflow: how many of its jobs are in which state, and what has followed."""
    with remote.connect() as client:
        workflow = client.workflow(workflow_id)
    if remote.json:
        show.write_json(workflow.raw)
        return
    show.write_fields(
        [
            ("Workflow", workflow.workflow_id),
            ("Name", workflow.name),
            ("Status", workflow.status),
            ("Cancel", "requested" if workflow.cancel_requested and workflow.status == "running" else None),
            ("Jobs", f"{workflow.total} ({workflow.ended} ended)"),
            *((state.capitalize(), number) for state, number in workflow.counts.items() if number),
            ("Created", show.moment(workflow.created_at)),
            ("Finished", show.moment(workflow.finished_at)),
            *((word.replace("_", " ").capitalize(), job_id) for word, job_id in workflow.callbacks.items() if job_id),
        ]
    )


def list_jobs(workflow_id: WorkflowId, /, *, limit: Limit = 50, remote: Remote = REMOTE) -> None:
    """
    List the jobs of a workflow, those that were stored first before the others.

    With --json there is one on each line.
    """
    check_limit(limit)
    with remote.connect() as client:
        jobs, more = take(client.workflow_jobs(workflow_id, limit=limit + 1), limit, remote)
    if not remote.json:
        show.write_table(
            ("id", "name", "type", "status", "runs", "waits for", "error"),
            [
                (
                    job.job_id,
                    job.name,
                    job.type,
                    job.status.value,
                    job.attempt,
                    show.count(len(job.depends_on), "job") if job.depends_on else None,
                    reason(job.error) or None,
                )
                for job in jobs
            ],
        )
    note_more(more, limit)


def wait_workflow(
    workflow_id: WorkflowId,
    /,
    *,
    timeout: Annotated[str | None, option("Give up after so long; without it, wait for ever.", "DURATION")] = None,
    remote: Remote = REMOTE,
) -> int:
    """
    Wait until all jobs of a workflow have ended.

    The exit code is 0 when all of them completed and 1 when not.
    """
    seconds = read_duration("--timeout", timeout)
    with remote.connect() as client:
        return _await_end(client, workflow_id, seconds, remote)


def cancel_workflow(workflow_id: WorkflowId, /, *, remote: Remote = REMOTE) -> None:
    """
    Cancel all jobs of a workflow that have not ended.

    Those that run are asked to stop. The workflow takes no more jobs.
    """
    with remote.connect() as client:
        _show_line(client.cancel_workflow(workflow_id), remote)


def _await_end(client: Client, workflow_id: str, seconds: float | None, remote: Remote) -> int:
    from gopher_node.client import WorkflowTimeout

    try:
        workflow = client.wait_workflow(workflow_id, seconds, check=False)
    except WorkflowTimeout as error:
        _show_line(error.workflow, remote)
        show.write_note(f"gopher-node: {error}")
        return Exit.FAILED
    _show_line(workflow, remote)
    if workflow.status == "completed":
        return Exit.OK
    show.write_note(
        f"gopher-node: the workflow {'was cancelled' if workflow.status == 'cancelled' else 'failed'}. "
        f"See its jobs with `gopher-node workflows jobs {workflow_id}`."
    )
    return Exit.FAILED


def _show_line(workflow: WorkflowView, remote: Remote) -> None:
    if remote.json:
        show.write_json(workflow.raw)
        return
    numbers = f"{workflow.ended} of {show.count(workflow.total, 'job')} ended"
    parts = (workflow.workflow_id, workflow.name, workflow.status, numbers)
    show.write(show.visible("  ".join(part for part in parts if part)))


def _read(name: str) -> dict[str, Any]:
    """The workflow that a file describes, as the client takes it."""
    try:
        content = (sys.stdin.buffer.read() if sys.stdin else b"") if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise UsageError(f"The file {name} cannot be read: {error.strerror}.") from None
    where = "The standard input" if name == "-" else f"The file {name}"
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{where} is not JSON: {error}.") from None
    if not isinstance(document, dict):
        raise UsageError(f'{where} must hold an object, such as {{"jobs": [{{"type": "email"}}]}}.')
    told = cast("dict[str, Any]", document)
    if unknown := [word for word in told if word not in _MEMBERS]:
        raise UsageError(f"A workflow has no {', '.join(unknown)}. It has {', '.join(_MEMBERS)}.")
    return told
