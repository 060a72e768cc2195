"""Commands about queues: how much waits in each, and emptying one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from gopher_node.cli import show
from gopher_node.cli.connect import REMOTE, Remote
from gopher_node.cli.exits import Exit, UsageError
from gopher_node.cli.options import OfType, Yes, option, read_duration, read_priority
from gopher_node.durations import format_duration
from gopher_node.job import TYPE_NAME, Priority, State

QueueName = Annotated[str, Parameter(name="QUEUE", help="The queue, which is the type of its jobs.")]

LEVELS = tuple(level.label for level in sorted(Priority, reverse=True))

if TYPE_CHECKING:
    from gopher_node.client import LatencyView

TOOK_COLUMNS = ("run p50/p95/p99", "wait p50/p95/p99")


def list_queues(*, remote: Remote = REMOTE) -> None:
    """
    List the queues.

    How many jobs wait at each priority, how long the first has waited, how many run and have failed, what a minute
    brings, and how many nodes serve it. Of the last ten minutes: how long half of the runs took at most, 95 and 99 of
    a hundred, and how long jobs waited for their first one.
    """
    with remote.connect() as client:
        found = client.queues()
    if remote.json:
        for queue in found:
            show.write_json(queue.raw)
        return
    if not found:
        show.write("No queues yet: one comes with its first job.")
        return
    show.write_table(
        ("queue", *LEVELS, "oldest", "running", "failed", "in/min", "done/min", "nodes", *TOOK_COLUMNS),
        [
            (
                queue.type,
                *(queue.depth.get(level, 0) for level in LEVELS),
                age(queue.oldest_age),
                queue.states.get(State.PROCESSING, 0),
                queue.states.get(State.FAILED, 0),
                int(queue.rates.get("submitted", 0)),
                int(queue.rates.get("completed", 0)),
                queue.served_by,
                quantiles(queue.run_seconds),
                quantiles(queue.wait_seconds),
            )
            for queue in found
        ],
    )


def show_queue(queue: QueueName, /, *, remote: Remote = REMOTE) -> None:
    """Show all about one queue."""
    # That module is about queues, too, and imports this one.
    from gopher_node.cli.flow import limits, state

    check_name(queue)
    with remote.connect() as client:
        found = client.queue(queue)
    if remote.json:
        show.write_json(found.raw)
        return
    show.write_fields(
        [
            ("Queue", found.type),
            ("Waiting", found.waiting),
            ("Oldest", age(found.oldest_age)),
            ("Nodes", found.served_by),
            *((state.capitalize(), number) for state, number in found.states.items() if number),
            *((f"{what.capitalize()} a minute", int(rate)) for what, rate in found.rates.items()),
            ("Run p50/p95/p99", quantiles(found.run_seconds)),
            ("Wait p50/p95/p99", quantiles(found.wait_seconds)),
            *((name, value) for name, value in (("State", state(found)), *limits(found)) if value is not None),
        ]
    )
    show.write("")
    show.write_table(
        ("priority", "waiting", "oldest"),
        [(level, found.depth.get(level, 0), age(found.oldest_ages.get(level)) or "") for level in LEVELS],
    )


def purge(
    queue: QueueName,
    /,
    *,
    priority: Annotated[str | None, option("Only this level: low, normal, high or urgent.", "LEVEL")] = None,
    yes: Yes = False,
    remote: Remote = REMOTE,
) -> int:
    """
    Delete the waiting jobs of a queue.

    On a terminal it asks first.
    """
    check_name(queue)
    level = read_priority(priority)
    with remote.connect() as client:
        what = f"{level.label} jobs" if level else "jobs"
        question = f"Delete all waiting {what} of {queue} at {client.url}? They cannot be brought back."
        if not yes and not show.ask(question):
            show.write_note("Nothing was deleted.")
            return Exit.FAILED
        count = client.purge(queue, level)
    if remote.json:
        show.write_json({"purged": count})
    else:
        show.write(f"{show.count(count, 'waiting job')} of {queue} deleted.")
    return Exit.OK


def autoscale(
    *,
    type: OfType = None,
    within: Annotated[str | None, option("Count scheduled jobs that are due by then, such as 2m.", "DURATION")] = None,
    remote: Remote = REMOTE,
) -> None:
    """
    Show how much there is to do for workers, as a scaler asks for it.

    Jobs that wait, that are due within half a minute, and that run.
    """
    seconds = read_duration("--within", within)
    with remote.connect() as client:
        found = client.autoscale(type, within=seconds)
    if remote.json:
        show.write_json(found.raw)
        return
    show.write_fields(
        [
            ("Target", found.target),
            ("Ready", found.ready),
            ("Due soon", found.due_soon if found.exact else f"{found.due_soon}, and not all were looked at"),
            ("Running", found.running),
        ]
    )


def quantiles(found: LatencyView) -> str | None:
    """How long half of all took, 95 and 99 of a hundred."""
    told = [seconds for seconds in (found.p50, found.p95, found.p99) if seconds is not None]
    return "/".join(map(show.took, told)) or None


def age(seconds: float | None) -> str | None:
    """How long ago, to the second; below one, to the tenth."""
    if seconds is None:
        return None
    return format_duration(float(int(seconds)) if seconds >= 1 else round(seconds, 1))


def check_name(queue: str) -> None:
    if not TYPE_NAME.match(queue):
        raise UsageError(f"{queue!r} cannot be the name of a queue; `gopher-node queues` lists those there are.")
