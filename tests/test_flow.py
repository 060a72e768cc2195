"""How rates and policies are written, and what may stand in one."""

from __future__ import annotations

import pytest

from gopher_node.flow import BreakerPolicy, FlowPolicy, Rate
from gopher_node.job import Priority


@pytest.mark.parametrize(
    ("text", "limit", "per", "burst"),
    [
        ("100/s", 100, 1, 10),
        ("10/m", 10, 60, 1),
        ("5/h", 5, 3600, 1),
        (" 0.5 / s ", 0.5, 1, 1),
        ("3/10s", 3, 10, 1),
        ("11/s", 11, 1, 2),
        ("1000000000/1ms", 1e9, 0.001, 1_000_000_000),
    ],
)
def test_a_rate_as_people_write_it(text: str, limit: float, per: float, burst: int) -> None:
    """A number in a time; the burst is a tenth of a second's, and at least one. It is written so again."""
    rate = Rate.parse(text)

    assert (rate.limit, rate.per, rate.burst) == (limit, per, burst)
    assert Rate.parse(str(rate)) == rate
    assert Rate.decode(rate.encode()) == rate


@pytest.mark.parametrize(
    "text", ["", "100", "/s", "0/s", "-1/s", "1/0s", "1e3/s", "1/fortnight", "1/S", "1/", "1/.", 5, None, True]
)
def test_what_is_no_rate(text: object) -> None:
    with pytest.raises(ValueError, match=r"must be"):
        Rate.parse(text)


def test_a_rate_is_made_of_sensible_numbers() -> None:
    for values in (
        (float("nan"),),
        (float("inf"),),
        (0,),
        (True,),
        (1, 0),
        (1, 1, -1),
        (1, 1, 1.5),
        (1, 1, True),
        ("1",),
    ):
        with pytest.raises(ValueError, match=r"must be"):
            Rate(*values)  # type: ignore[arg-type]


def test_a_breaker_policy_is_made_of_sensible_numbers() -> None:
    policy = BreakerPolicy(0.25, 4, "1m", "500ms")  # type: ignore[arg-type]

    assert (policy.window, policy.cooldown) == (60.0, 0.5)
    assert BreakerPolicy.decode(policy.encode()) == policy
    for values in ((0,), (1.5,), (0.5, 0), (0.5, 10, 0), (0.5, 10, 60, "x")):
        with pytest.raises(ValueError, match=r"must be"):
            BreakerPolicy(*values)  # type: ignore[arg-type]


def test_a_policy_is_read_as_it_was_written() -> None:
    """What a newer version wrote beside it is left out."""
    limits = FlowPolicy(
        rate=Rate(5.0), group_rate=Rate(2.0), max_running=7, group_max_running=3, breaker=BreakerPolicy()
    )

    assert FlowPolicy.decode(limits.limits()) == limits
    told = {"paused": True, "paused_priorities": ["1", "4"], "paused_groups": ["a"], "draining": True, "new": 1}
    assert FlowPolicy.decode(told) == FlowPolicy(
        paused=True, paused_priorities=(Priority.URGENT, Priority.LOW), paused_groups=("a",), draining=True
    )
    for wrong in ({"max_running": 0}, {"rate": "5/s"}, {"max_backlog": 1.5}, {"breaker": 1}):
        with pytest.raises(ValueError, match=r"must be"):
            FlowPolicy(**wrong)  # type: ignore[arg-type]
