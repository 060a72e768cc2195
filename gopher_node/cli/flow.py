"""Commands that bound a queue, on all nodes together: rates, caps, pauses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from gopher_node.cli import show
from gopher_node.cli.connect import REMOTE, Remote
from gopher_node.cli.exits import UsageError
from gopher_node.cli.options import option, read_priority, switch
from gopher_node.cli.queues import QueueName, check_name
from gopher_node.durations import format_duration
from gopher_node.flow import MAX_NUMBER, BreakerPolicy, Rate

if TYPE_CHECKING:
    from gopher_node.client import QueueView

Level = Annotated[str | None, option("Only this level: low, normal, high or urgent.", "LEVEL")]
OfGroup = Annotated[str | None, option("Only the jobs of this group.", "GROUP")]
RateOption = Annotated[str | None, option("How many jobs may begin: 100/s, 10/m, 3/10s; or none.", "RATE")]
GroupRateOption = Annotated[str | None, option("The same for each group.", "RATE")]
BurstOption = Annotated[int | None, option("With --rate: how many at once.", "N")]
GroupBurstOption = Annotated[int | None, option("With --group-rate: how many at once.", "N")]
NumberOption = Annotated[str | None, option("How many may run at once, on all nodes; or none.", "N")]
GroupNumberOption = Annotated[str | None, option("The same for each group.", "N")]
BacklogOption = Annotated[str | None, option("How many may wait before new ones are refused; or none.", "N")]


def limit(
    queue: QueueName,
    /,
    *,
    rate: RateOption = None,
    burst: BurstOption = None,
    group_rate: GroupRateOption = None,
    group_burst: GroupBurstOption = None,
    max_running: NumberOption = None,
    group_max_running: GroupNumberOption = None,
    max_backlog: BacklogOption = None,
    breaker: Annotated[bool, switch("Hold its jobs back while most runs fail.")] = False,
    no_breaker: Annotated[bool, switch("Take such a word back.")] = False,
    remote: Remote = REMOTE,
) -> None:
    """
    Bound the jobs of a queue, on all nodes together.

    It holds at once, and goes before what handlers and settings declare. With `none` what was said here is taken back.
    """
    check_name(queue)
    if breaker and no_breaker:
        raise UsageError("Give --breaker or --no-breaker, not both.")
    limits: dict[str, Any] = {
        **_rate("rate_limit", "rate", rate, burst),
        **_rate("group_rate_limit", "group-rate", group_rate, group_burst),
        **_number("max_running", "--max-running", max_running),
        **_number("group_max_running", "--group-max-running", group_max_running),
        **_number("max_backlog", "--max-backlog", max_backlog),
        **({"breaker": {}} if breaker else {"breaker": None} if no_breaker else {}),
    }
    if not limits:
        raise UsageError("Say what is to be limited, such as --rate 100/s or --max-running 10.")
    with remote.connect() as client:
        _show(client.limit(queue, **limits), remote)


def pause(queue: QueueName, /, *, priority: Level = None, group: OfGroup = None, remote: Remote = REMOTE) -> None:
    """
    Begin no job of a queue until it is resumed.

    What runs goes on, and new jobs are taken.
    """
    _check_part(queue, priority, group)
    with remote.connect() as client:
        _show(client.pause(queue, priority=read_priority(priority), group=group), remote)


def resume(queue: QueueName, /, *, priority: Level = None, group: OfGroup = None, remote: Remote = REMOTE) -> None:
    """
    Begin the jobs of a queue again that was paused, or take new ones again that was draining.

    What was paused by itself, a priority or a group, is resumed by itself.
    """
    _check_part(queue, priority, group)
    with remote.connect() as client:
        _show(client.resume(queue, priority=read_priority(priority), group=group), remote)


def drain(queue: QueueName, /, *, remote: Remote = REMOTE) -> None:
    """Take no new jobs of a queue until it is resumed; those that are there are run."""
    check_name(queue)
    with remote.connect() as client:
        _show(client.drain(queue), remote)


def state(queue: QueueView) -> str | None:
    """What holds a queue back, in a few words."""
    words = (
        ["paused"]
        if queue.paused
        else [f"priority {one} paused" for one in queue.paused_priorities]
        + [f"group {one} paused" for one in queue.paused_groups]
    )
    words += ["draining"] if queue.draining else []
    words += [f"breaker {queue.breaker}"] if queue.breaker not in (None, "closed", "forced-closed") else []
    return ", ".join(words) or None


def limits(queue: QueueView) -> list[tuple[str, object]]:
    """What bounds a queue, as rows."""
    policy = queue.policy
    breaker = policy.get("breaker")
    return [
        ("Rate limit", _rate_text(policy.get("rate_limit"))),
        ("Rate of each group", _rate_text(policy.get("group_rate_limit"))),
        ("Running at most", policy.get("max_running")),
        ("Running of each group", policy.get("group_max_running")),
        ("Waiting at most", policy.get("max_backlog")),
        ("Breaker", f"{queue.breaker}, {_breaker_text(breaker)}" if breaker else None),
    ]


def _show(queue: QueueView, remote: Remote) -> None:
    if remote.json:
        show.write_json(queue.raw)
        return
    found = [("Queue", queue.type), ("State", state(queue) or "running"), *limits(queue)]
    show.write_fields([(name, value) for name, value in found if value is not None])


def _check_part(queue: str, priority: str | None, group: str | None) -> None:
    check_name(queue)
    if priority is not None and group is not None:
        raise UsageError("Give --priority or --group, not both.")


def _rate(name: str, flag: str, text: str | None, burst: int | None) -> dict[str, Any]:
    if text is None:
        if burst is not None:
            raise UsageError(f"The burst says how --{flag} is meant, and there is none.")
        return {}
    if text == "none":
        return {name: None}
    try:
        if burst == 0:
            raise ValueError("must have a burst of 1 or more")
        rate = Rate.parse(text, burst or 0)
    except ValueError as error:
        raise UsageError(f"--{flag} {text!r} {error}.") from None
    return {name: {"limit": rate.limit, "per": rate.per, "burst": rate.burst}}


def _number(name: str, flag: str, text: str | None) -> dict[str, int | None]:
    if text is None:
        return {}
    if text == "none":
        return {name: None}
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:12]) <= MAX_NUMBER):
        raise UsageError(f"{flag} {text!r} must be a whole number from 1 to {MAX_NUMBER}, or none.")
    return {name: int(text)}


def _rate_text(rate: dict[str, Any] | None) -> str | None:
    return f"{Rate(rate['limit'], rate['per'], rate['burst'])}, {rate['burst']} at once" if rate else None


def _breaker_text(told: dict[str, Any]) -> str:
    policy = BreakerPolicy(**told)
    return (
        f"opens when {policy.ratio:.0%} of at least {policy.minimum} runs fail in {format_duration(policy.window)}, "
        f"tries again after {format_duration(policy.cooldown)}"
    )
