"""Commands about recurring jobs: make them, see when they fire, change, pause and trigger them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from gopher_node.cli import show
from gopher_node.cli.acts import each
from gopher_node.cli.connect import REMOTE, Remote
from gopher_node.cli.exits import Exit, UsageError
from gopher_node.cli.job_lines import show_line
from gopher_node.cli.options import Yes, option, read_duration, read_priority
from gopher_node.cli.submit import read_payload
from gopher_node.durations import format_duration

if TYPE_CHECKING:
    from gopher_node.client import Client, RecurringView

Name = Annotated[str, Parameter(name="NAME", help="The recurring job's name.")]
Names = Annotated[str, Parameter(name="NAMES", help="Names of recurring jobs.", required=True, negative="")]
Cron = Annotated[
    str | None,
    option('When it fires: five fields, such as "30 7 * * 1-5", six with seconds in front, or @daily.', "EXPRESSION"),
]
Every = Annotated[str | None, option("How often it fires, such as 15m, instead of --cron.", "DURATION")]
Zone = Annotated[str | None, option("The time zone of --cron, such as Europe/Berlin; else UTC.", "ZONE")]
Payload = Annotated[
    str | None,
    Parameter(
        name=("--payload", "-p"),
        help="The payload as JSON; @FILE reads it from a file, - from the standard input.",
        metavar="JSON",
        allow_leading_hyphen=True,
    ),
]


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class RecurringFlags:
    """When it fires, and how each of its jobs is to be run, as it was written."""

    cron: Cron = None
    every: Every = None
    timezone: Zone = None
    missed: Annotated[
        str | None, option("Fires that nobody was there for: skip them, once for all, or all.", "skip|once|all")
    ] = None
    overlap: Annotated[
        str | None, option("Whether it fires while its last job has not ended: allow or skip.", "allow|skip")
    ] = None
    priority: Annotated[str | None, option("low, normal, high or urgent, or 1 to 4.", "LEVEL")] = None
    retries: Annotated[
        int | None,
        option("How often a run that ends in an error is repeated.", "N", "--retries", "--max-retries", "-r"),
    ] = None
    group: Annotated[str | None, option("A tenant or customer; groups get fair turns.", "GROUP")] = None
    tag: Annotated[Sequence[str] | None, option("A word to find its jobs by; may be repeated.", "TAG")] = None
    timeout: Annotated[str | None, option("How long one run may take, such as 5m.", "DURATION")] = None
    retention: Annotated[str | None, option("How long a finished job is kept, such as 24h.", "DURATION")] = None
    callback_url: Annotated[str | None, option("Where to POST how a job ended.", "URL")] = None

    def read(self) -> dict[str, Any]:
        if self.cron is not None and self.every is not None:
            raise UsageError("--cron and --every both say when it fires; give one of them.")
        found = {
            "cron_expression": self.cron,
            "every": read_duration("--every", self.every),
            "timezone": self.timezone,
            "missed": _one_of("--missed", self.missed, ("skip", "once", "all")),
            "overlap": _one_of("--overlap", self.overlap, ("allow", "skip")),
            "priority": read_priority(self.priority),
            "max_retries": self.retries,
            "group": self.group,
            "tags": self.tag,
            "timeout": read_duration("--timeout", self.timeout),
            "retention": read_duration("--retention", self.retention),
            "callback_url": self.callback_url,
        }
        return {name: value for name, value in found.items() if value is not None}


NO_FLAGS = RecurringFlags()


def list_recurring(*, remote: Remote = REMOTE) -> None:
    """List the recurring jobs: when each fires next, and how often it has."""
    with remote.connect() as client:
        found = list(client.recurring_jobs())
    if remote.json:
        for one in found:
            show.write_json(one.raw)
        return
    if not found:
        show.write('No recurring jobs. `gopher-node recurring create NAME -t TYPE --cron "30 7 * * *"` makes one.')
        return
    show.write_table(
        ("name", "type", "when", "next", "last", "fired", "missed", "overlapped"),
        [
            (
                one.name,
                one.type,
                one.cron_expression or f"every {format_duration(one.every or 0)}",
                _next(one),
                show.moment((one.last_fire or {}).get("at")),
                one.fired,
                one.missed_fires,
                one.overlapped,
            )
            for one in found
        ],
    )


def show_recurring(name: Name, /, *, remote: Remote = REMOTE) -> None:
    """Show all about one recurring job, and its next fires."""
    with remote.connect() as client:
        _show(client.recurring_job(name), remote)


def create(
    name: Name,
    /,
    *,
    type: Annotated[str, option("The type of its jobs, which is also their queue.", "TYPE", "--type", "-t")],
    payload: Payload = None,
    flags: RecurringFlags = NO_FLAGS,
    remote: Remote = REMOTE,
) -> None:
    """
    Make a recurring job.

    It needs --cron or --every. Done again it changes nothing; what is there already is changed with `recurring edit`.
    """
    options = flags.read()
    if not options.keys() & {"cron_expression", "every"}:
        raise UsageError('Say when it fires: --cron "30 7 * * 1-5", or --every 15m.')
    content = None if payload is None else read_payload(payload)
    with remote.connect() as client:
        _show(client.create_recurring(name, type, content, **options), remote)


def edit(
    name: Name,
    /,
    *,
    type: Annotated[str | None, option("The type of its jobs.", "TYPE", "--type", "-t")] = None,
    payload: Payload = None,
    flags: RecurringFlags = NO_FLAGS,
    remote: Remote = REMOTE,
) -> None:
    """
    Change when a recurring job fires, or what its jobs are.

    Jobs that it has brought stay as they are.
    """
    changes = flags.read()
    if type is not None:
        changes["type"] = type
    if payload is not None:
        changes["payload"] = read_payload(payload)
    if not changes:
        raise UsageError("Say what is to change, such as --cron or --payload. See `gopher-node recurring edit --help`.")
    with remote.connect() as client:
        _show(client.edit_recurring(name, **changes), remote)


def pause(*names: Names, remote: Remote = REMOTE) -> int:
    """Let recurring jobs not fire until they are resumed."""

    def pause_one(client: Client, name: str) -> None:
        _say(client.pause_recurring(name), "paused", remote)

    return each(names, remote, pause_one)


def resume(*names: Names, remote: Remote = REMOTE) -> int:
    """
    Let paused recurring jobs fire again, from now on.

    What they did not fire meanwhile is not made up for.
    """

    def resume_one(client: Client, name: str) -> None:
        found = client.resume_recurring(name)
        _say(found, f"fires next at {_next(found)}", remote)

    return each(names, remote, resume_one)


def trigger(name: Name, /, *, remote: Remote = REMOTE) -> None:
    """
    Submit a job as a recurring one would bring it, now.

    Its schedule does not move.
    """
    with remote.connect() as client:
        show_line(client.trigger_recurring(name), as_json=remote.json)


def preview(
    expression: Annotated[str | None, Parameter(name="EXPRESSION", help="A cron expression, in quotes.")] = None,
    /,
    *,
    every: Every = None,
    timezone: Zone = None,
    count: Annotated[int, option("How many fires to show.", "N", "--count", "-n")] = 10,
    remote: Remote = REMOTE,
) -> None:
    """
    Tell when a schedule would fire, and what it says in words.

    Nothing is made.
    """
    if (expression is None) == (every is None):
        raise UsageError('Give a cron expression, such as "30 7 * * 1-5", or --every 15m.')
    seconds = read_duration("--every", every)
    with remote.connect() as client:
        found = client.preview_recurring(expression, every=seconds, timezone=timezone, count=count)
    if remote.json:
        show.write_json(found.raw)
        return
    show.write(show.visible(found.in_words))
    for local, at in zip(found.local_fires, found.next_fires, strict=True):
        show.write(f"{local:%a %Y-%m-%d %H:%M:%S %z}  {show.moment(at)}")


def delete(*names: Names, yes: Yes = False, remote: Remote = REMOTE) -> int:
    """
    Delete recurring jobs; the jobs that they have brought stay.

    On a terminal it asks first.
    """
    if not yes and not show.ask(f"Delete {', '.join(names)}? They cannot be brought back."):
        show.write_note("Nothing was deleted.")
        return Exit.FAILED

    def delete_one(client: Client, name: str) -> None:
        client.delete_recurring(name)
        if remote.json:
            show.write_json({"name": name, "deleted": True})
        else:
            show.write(f"{show.visible(name)}  deleted")

    return each(names, remote, delete_one)


def _one_of(name: str, text: str | None, allowed: tuple[str, ...]) -> str | None:
    if text is not None and text not in allowed:
        raise UsageError(f"{name} {text!r} must be {' or '.join(allowed)}.")
    return text


def _next(found: RecurringView) -> str | None:
    return "paused" if found.paused else show.moment(next(iter(found.next_fires), None))


def _say(found: RecurringView, done: str, remote: Remote) -> None:
    if remote.json:
        show.write_json(found.raw)
    else:
        show.write(f"{show.visible(found.name)}  {done}")


def _show(found: RecurringView, remote: Remote) -> None:
    if remote.json:
        show.write_json(found.raw)
        return
    last, skipped = found.last_fire or {}, found.last_skip or {}
    show.write_fields(
        [
            ("Name", found.name),
            ("Type", found.type),
            ("When", found.in_words),
            ("Expression", found.cron_expression),
            ("State", "paused" if found.paused else "fires"),
            *(("Next", show.moment(at)) for at in found.next_fires),
            ("Last", f"{show.moment(last['at'])}  job {last['job_id']}" if last else None),
            ("Last skipped", f"{show.moment(skipped['at'])}  {skipped['reason']}" if skipped else None),
            ("Fired", found.fired),
            ("Missed", f"{found.missed_fires}  (policy: {found.missed})"),
            ("Overlapped", f"{found.overlapped}  (policy: {found.overlap})"),
            ("Triggered", found.triggered),
            ("Priority", found.priority.label),
            ("Payload", show.to_json(found.payload)),
        ]
    )
