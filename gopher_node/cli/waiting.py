"""Waits for a job's end, and tells how it ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gopher_node.cli import show
from gopher_node.cli.connect import Remote
from gopher_node.cli.exits import Exit
from gopher_node.cli.job_lines import reason
from gopher_node.errors import GopherError
from gopher_node.job import State

if TYPE_CHECKING:
    from gopher_node.client import Client


def await_end(client: Client, job_id: str, seconds: float | None, remote: Remote, *, submitted: bool = False) -> int:
    from gopher_node.client import WaitTimeout

    try:
        job = client.wait(job_id, seconds, check=False)
    except WaitTimeout as error:
        if remote.json:
            show.write_json(error.job.raw)
        show.write_note(
            f"gopher-node: job {job_id} is still {error.job.status} after {seconds:g} s, and goes on. "
            f"Look again with `gopher-node get {job_id}`."
        )
        return Exit.FAILED
    except (GopherError, KeyboardInterrupt):
        # Without this the id of a new job would be lost.
        if submitted:
            note_submitted(job_id)
        raise
    if remote.json:
        show.write_json(job.raw)
    if job.status is State.COMPLETED:
        if not remote.json:
            show.write_note(f"Job {job.job_id} completed.")
            show.write(show.to_json(job.result, indent=True))
        return Exit.OK
    why = " ".join(reason(job.error).split())
    show.write_note(
        f"gopher-node: job {job.job_id} {'failed' if job.status is State.FAILED else 'was cancelled'}"
        + (f": {why.rstrip('.')}. " if why else ". ")
        + f"See each run with `gopher-node get {job.job_id}`; "
        + f"run it again with `gopher-node retry {job.job_id}`."
    )
    return Exit.FAILED


def note_submitted(job_id: str) -> None:
    """For whoever is interrupted before the job's line or result is printed."""
    show.write_note(f"Job {job_id} was submitted and goes on; see `gopher-node get {job_id}`.")
