"""Commands about a node and its queues: how much there is, how it fares, and emptying a queue."""

from __future__ import annotations

import sys
from typing import Annotated, Any

from cyclopts import Parameter

from gopher_node.cli import show
from gopher_node.cli.connect import REMOTE, Remote
from gopher_node.cli.exits import Exit, UsageError
from gopher_node.cli.options import option, read_priority, switch
from gopher_node.durations import format_duration
from gopher_node.job import TYPE_NAME, Priority, State


def stats(*, remote: Remote = REMOTE) -> None:
    """
    Show what the node counts.

    Jobs by state, and how many wait in each queue by priority.
    """
    with remote.connect() as client:
        found = client.stats()
    if remote.json:
        show.write_json(found.raw)
        return
    about = found.node
    show.write_fields(
        [
            ("Node", " ".join(str(about[name]) for name in ("id", "role", "version") if about.get(name)) or None),
            ("Up", format_duration(float(int(found.uptime)))),
            ("Durability", found.durability),
            ("Submitted", found.jobs_submitted),
            ("Completed", found.jobs_completed),
            ("Failed", found.jobs_failed),
            ("Waiting", found.queue_size),
            ("Workers active", found.workers_active),
        ]
    )
    if found.queues:
        levels = [level.label for level in sorted(Priority, reverse=True)]
        states = (State.SCHEDULED, State.PROCESSING, State.COMPLETED, State.FAILED)
        show.write("")
        show.write_table(
            ("queue", *levels, *(state.value for state in states)),
            [
                (
                    queue.type,
                    *(queue.depth.get(level, 0) for level in levels),
                    *(queue.states.get(state, 0) for state in states),
                )
                for queue in found.queues
            ],
        )


def health(*, remote: Remote = REMOTE) -> int:
    """
    Show how the node is.

    The exit code is 0 unless it is unhealthy.
    """
    with remote.connect() as client:
        found = client.health()
    if remote.json:
        show.write_json(found.raw)
    else:
        show.write_fields([("Status", found.status), *((name, _check(value)) for name, value in found.checks.items())])
    return Exit.FAILED if found.status == "unhealthy" else Exit.OK


def purge(
    queue: Annotated[str, Parameter(name="QUEUE", help="The queue, which is the type of its jobs.")],
    /,
    *,
    priority: Annotated[str | None, option("Only this level: low, normal, high or urgent.", "LEVEL")] = None,
    yes: Annotated[bool, switch("Do not ask.", "--yes", "-y")] = False,
    remote: Remote = REMOTE,
) -> int:
    """
    Delete the waiting jobs of a queue.

    On a terminal it asks first.
    """
    if not TYPE_NAME.match(queue):
        raise UsageError(f"{queue!r} cannot be the name of a queue; `gopher-node stats` lists those there are.")
    level = read_priority(priority)
    with remote.connect() as client:
        if not yes and show.on_terminal(sys.stdin) and not _confirm(queue, level, client.url):
            show.write_note("Nothing was deleted.")
            return Exit.FAILED
        count = client.purge(queue, level)
    if remote.json:
        show.write_json({"purged": count})
    else:
        show.write(f"{count} waiting {'job' if count == 1 else 'jobs'} of {queue} deleted.")
    return Exit.OK


def _confirm(queue: str, level: Priority | None, url: str) -> bool:
    what = f"{level.label} jobs" if level else "jobs"
    sys.stderr.write(f"Delete all waiting {what} of {queue} at {url}? They cannot be brought back. [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _check(value: Any) -> str:
    if not isinstance(value, dict):
        return str(value)
    members: dict[str, Any] = dict(value)  # pyright: ignore[reportUnknownArgumentType]
    status = members.pop("status", None)
    rest = [f"{name}={item}" for name, item in members.items() if item is not None]
    return " ".join([*([str(status)] if status is not None else []), *rest])
