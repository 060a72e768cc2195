"""How the command line shows a job: on one line, or with everything that is known of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gopher_node.cli import show
from gopher_node.job import State

if TYPE_CHECKING:
    from gopher_node.client import JobView


def show_line(job: JobView, *, as_json: bool, remark: str = "") -> None:
    if as_json:
        show.write_json(job.raw)
    else:
        show.write(show.visible(f"{job.job_id}  {job.type}  {remark or job.status}"))


def show_change(job: JobView) -> None:
    """A line of what a job does just now."""
    now = datetime.now(UTC)
    facts = [f"run {job.attempt}"] if job.status is State.PROCESSING else []
    if job.status is State.SCHEDULED:
        facts.append(f"due {show.moment(job.execute_at)}")
    if job.cancel_requested and not job.status.final:
        facts.append("is asked to stop")
    if job.progress is not None and job.status is State.PROCESSING:
        facts.append(f"progress {show.to_json(job.progress)}")
    why = reason(job.error)
    if why:
        facts.append(why)
    line = "  ".join([f"{now:%H:%M:%S}Z", f"{job.status.value:<10}", ", ".join(facts)])
    show.write(show.visible(line.replace("\n", " ")).rstrip())


def show_job(job: JobView, *, brief: bool = False) -> None:
    """Everything about a job; `brief` leaves out its runs."""
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
            ("Unique", job.unique_key),
            ("Expires", show.moment(job.expires_at)),
            ("Retry", None if job.retry is None else show.to_json(job.retry)),
            ("Name", job.name),
            ("Workflow", job.workflow_id),
            ("Waits for", ", ".join(job.depends_on) or None),
            ("Runs", f"{job.attempt} (errors {job.errors}, crashes {job.crashes}; retries allowed {job.max_retries})"),
            ("Created", show.moment(job.created_at)),
            ("Due", show.moment(job.execute_at)),
            ("Started", show.moment(job.started_at)),
            ("Finished", f"{finished} (took {took})" if finished and took else finished),
            ("Progress", None if job.progress is None else show.to_json(job.progress)),
            ("Payload", show.to_json(job.payload)),
            ("Result", show.to_json(job.result) if job.status is State.COMPLETED else None),
            ("Error", reason(job.error) or None),
        ]
    )
    if brief:
        return
    # One run that completed has been told by the lines above.
    if len(job.attempts) > 1 or (job.attempts and job.status is not State.COMPLETED):
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
                    reason(entry.get("error")),
                )
                for entry in job.attempts
            ],
        )
    traceback = (job.error or {}).get("traceback")
    if traceback:
        show.write("\n" + show.visible(str(traceback)).rstrip())


def show_attempts(job: JobView) -> None:
    """Each run that ended in an error, with all that is known of that."""
    told: list[Any] = []
    for entry in job.attempts:
        took = _took(entry.get("started_at"), entry.get("finished_at"))
        facts = [f"run {entry.get('attempt')}", str(entry.get("outcome")), show.moment(entry.get("started_at"))]
        facts += [took and f"took {took}", entry.get("node") and f"on {entry['node']}"]
        show.write("\n" + show.visible("  ".join(str(fact) for fact in facts if fact)))
        error: dict[str, Any] = entry.get("error") or {}
        told.append(error.get("traceback"))
        for text in (reason(error), error.get("traceback")):
            if text:
                lines = show.visible(str(text)).rstrip().splitlines()
                show.write("\n".join(f"  {line}" for line in lines))
    last = (job.error or {}).get("traceback")
    if last and last not in told:
        show.write("\n" + show.visible(str(last)).rstrip())


def reason(error: dict[str, Any] | None) -> str:
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
