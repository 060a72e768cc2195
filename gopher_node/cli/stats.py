"""The commands that show what is counted: now, minute by minute, or live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from gopher_node.cli import show
from gopher_node.cli.connect import REMOTE, Remote
from gopher_node.cli.exits import UsageError
from gopher_node.cli.options import OfType, option, read_duration
from gopher_node.cli.queues import LEVELS, TOOK_COLUMNS, quantiles
from gopher_node.durations import format_duration
from gopher_node.job import State

if TYPE_CHECKING:
    from gopher_node.client import Client, StatsView

_WHAT = ("submitted", "completed", "failed", "retried", "crashed", "cancelled")
_STATES = (State.SCHEDULED, State.PROCESSING, State.COMPLETED, State.FAILED)

QUEUE_COLUMNS = ("queue", *LEVELS, *(state.value for state in _STATES), *TOOK_COLUMNS)


def stats(
    *,
    history: Annotated[
        int | None, option("Show each of the last so many minutes instead, up to two days.", "MINUTES")
    ] = None,
    type: OfType = None,
    remote: Remote = REMOTE,
) -> None:
    """
    Show what the node counts.

    Jobs by state, and how many wait in each queue by priority; or with --history what was counted in each minute. How
    long half of the runs took, 95 and 99 of a hundred, and how long jobs waited for their first one, is of the last ten
    minutes, on all nodes.
    """
    if history is not None and history < 1:
        raise UsageError("--history must be at least 1 minute.")
    if type is not None and history is None:
        raise UsageError("--type narrows down --history; see `gopher-node queues show TYPE` for the queue as it is.")
    with remote.connect() as client:
        if history is not None:
            _show_history(client, history, type, remote)
            return
        found = client.stats()
    if remote.json:
        show.write_json(found.raw)
        return
    show.write_fields(fields(found))
    if found.queues:
        show.write("")
        show.write_table(QUEUE_COLUMNS, queue_rows(found))


def fields(found: StatsView) -> list[tuple[str, object]]:
    about, took = found.node, found.latency
    return [
        ("Node", " ".join(str(about[name]) for name in ("id", "role", "version") if about.get(name)) or None),
        ("Up", format_duration(float(int(found.uptime)))),
        ("Durability", found.durability),
        ("Submitted", found.jobs_submitted),
        ("Completed", found.jobs_completed),
        ("Failed", found.jobs_failed),
        ("Waiting", found.queue_size),
        ("Workers active", found.workers_active),
        ("Run p50/p95/p99", took and quantiles(took.run_seconds)),
        ("Wait p50/p95/p99", took and quantiles(took.wait_seconds)),
    ]


def queue_rows(found: StatsView) -> list[tuple[object, ...]]:
    return [
        (
            queue.type,
            *(queue.depth.get(level, 0) for level in LEVELS),
            *(queue.states.get(state, 0) for state in _STATES),
            quantiles(queue.run_seconds),
            quantiles(queue.wait_seconds),
        )
        for queue in found.queues
    ]


def watch(
    *,
    interval: Annotated[str, option("How often to look, such as 5s.", "DURATION")] = "1s",
    remote: Remote = REMOTE,
) -> int:
    """
    Show live what the node counts, until Ctrl-C.

    On a terminal the display is kept up to date; otherwise each look is a line.
    """
    seconds = read_duration("--interval", interval)
    if not seconds or seconds < 0.1:
        raise UsageError(f"--interval {interval!r} must be at least 0.1s.")
    from gopher_node.cli.watch import Watch

    with remote.connect() as client:
        return Watch(client, seconds, as_json=remote.json).run()


def _show_history(client: Client, minutes: int, type: str | None, remote: Remote) -> None:
    found = client.stats_history(minutes, type)
    if remote.json:
        for minute in found:
            show.write_json(minute.raw)
        return
    if not found:
        show.write("Nothing was counted in that time.")
        return
    show.write_table(
        ("minute", *_WHAT, *TOOK_COLUMNS),
        [
            (
                show.moment(minute.at),
                *(getattr(minute, what) for what in _WHAT),
                quantiles(minute.run_seconds),
                quantiles(minute.wait_seconds),
            )
            for minute in found
        ],
    )
