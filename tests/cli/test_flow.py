"""The commands that bound queues, and those about circuit breakers."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.process
def test_a_queue_is_limited_paused_and_shown(at_node: Any, queue: str) -> None:
    """Each answers with the queue as it is then; `none` takes a word back."""
    ran = at_node("queues", "limit", queue, "--rate", "100/m", "--burst", "3", "--max-running", "20", "--breaker")
    assert (ran.code, ran.err) == (0, "")
    assert ["Rate limit", "100/m, 3 at once"] in [line.split("  ", 1) for line in _squeezed(ran)]
    assert at_node("queues", "pause", queue, "--group", "acme", "--json").json["paused_groups"] == ["acme"]
    assert ["State", "group acme paused"] in [
        line.split("  ", 1) for line in _squeezed(at_node("queues", "show", queue))
    ]
    assert at_node("queues", "resume", queue, "--group", "acme", "--json").json["paused_groups"] == []
    assert at_node("queues", "drain", queue, "--json").json["draining"]

    assert at_node("breakers", "open", queue).out == f"The breaker of {queue} is forced-open.\n"
    assert any(line.split()[:2] == [queue, "forced-open"] for line in at_node("breakers").lines)
    assert "closed  forced-open  forced" in "\n".join(_squeezed(at_node("breakers", "show", queue)))
    assert at_node("breakers", "reset", queue, "--json").json["state"] == "closed"
    policy = at_node("queues", "limit", queue, "--rate", "none", "--no-breaker", "--json").json["policy"]
    assert (policy["rate_limit"], policy["max_running"], policy["breaker"]) == (None, 20, None)
    assert at_node("breakers", "show", queue).code == 3


def _squeezed(ran: Any) -> list[str]:
    """Its lines, with two spaces between columns."""
    return ["  ".join(part.strip() for part in line.split("  ") if part.strip()) for line in ran.lines]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("queues limit email", "Say what is to be limited"),
        ("queues limit email --rate fast", "--rate 'fast' must be a number and a time"),
        ("queues limit email --burst 5", "how --rate is meant, and there is none"),
        ("queues limit email --rate 5/s --burst 0", "must have a burst of 1 or more"),
        ("queues limit email --max-running 0", "--max-running '0' must be a whole number"),
        ("queues limit email --breaker --no-breaker", "not both"),
        ("queues pause email --priority low --group a", "not both"),
        ("queues drain a/b", "'a/b' cannot be the name of a queue"),
        ("breakers open a/b", "'a/b' cannot be the name of a queue"),
    ],
)
def test_slips_end_with_2(gopher: Any, told: Any, line: str, said: str) -> None:
    ran = gopher(*line.split(), "--url", told.url)

    assert (ran.code, told.asked) == (2, [])
    assert said in ran.err
