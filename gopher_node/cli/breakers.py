"""Commands about circuit breakers: which types are held back because their runs fail."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gopher_node.cli import show
from gopher_node.cli.connect import REMOTE, Remote
from gopher_node.cli.queues import QueueName, check_name

if TYPE_CHECKING:
    from gopher_node.client import BreakerView


def list_breakers(*, remote: Remote = REMOTE) -> None:
    """List the circuit breakers, and how they stand."""
    with remote.connect() as client:
        found = client.breakers()
    if remote.json:
        for breaker in found:
            show.write_json(breaker.raw)
        return
    if not found:
        show.write("No queue has a circuit breaker. One gets it with: gopher-node queues limit QUEUE --breaker")
        return
    show.write_table(("queue", "state", "since", "until", "ok", "failed"), [_row(breaker) for breaker in found])


def show_breaker(queue: QueueName, /, *, remote: Remote = REMOTE) -> None:
    """Show a queue's circuit breaker, and how it moved."""
    check_name(queue)
    with remote.connect() as client:
        found = client.breaker(queue)
    if remote.json:
        show.write_json(found.raw)
        return
    names = ("Queue", "State", "Since", "Until", "Runs that ended well", "Runs that failed")
    show.write_fields([*zip(names, _row(found), strict=True), ("Probe", found.probe)])
    if found.history:
        show.write("")
        show.write_table(
            ("at", "from", "to", "reason", "ok", "failed", "job"),
            [
                tuple(move.get(name) for name in ("at", "before", "after", "reason", "ok", "failed", "job_id"))
                for move in found.history
            ],
        )


def open_breaker(queue: QueueName, /, *, remote: Remote = REMOTE) -> None:
    """Begin no job of a queue, as if its runs failed, until its breaker is closed or reset."""
    check_name(queue)
    with remote.connect() as client:
        _show(client.open_breaker(queue), remote)


def close_breaker(queue: QueueName, /, *, remote: Remote = REMOTE) -> None:
    """Let the jobs of a queue through, however many runs fail, until its breaker is opened or reset."""
    check_name(queue)
    with remote.connect() as client:
        _show(client.close_breaker(queue), remote)


def reset_breaker(queue: QueueName, /, *, remote: Remote = REMOTE) -> None:
    """Close a queue's breaker and let it count anew."""
    check_name(queue)
    with remote.connect() as client:
        _show(client.reset_breaker(queue), remote)


def _row(breaker: BreakerView) -> tuple[object, ...]:
    since, until = show.moment(breaker.since), show.moment(breaker.until)
    return breaker.type, breaker.state, since, until, breaker.ok, breaker.failed


def _show(breaker: BreakerView, remote: Remote) -> None:
    if remote.json:
        show.write_json(breaker.raw)
    else:
        show.write(f"The breaker of {breaker.type} is {breaker.state}.")
