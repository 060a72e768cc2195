"""What bounds how the jobs of a type are served: rates, caps, backlogs, breakers, pauses. Pure data; no I/O here."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Self

from gopher_node.durations import format_duration, parse_duration
from gopher_node.job import GROUP_NAME, Priority

MAX_NUMBER = 1_000_000_000
_RATE = re.compile(r"([0-9]{1,10}(?:\.[0-9]{1,6})?) */ *([0-9.]*[a-z]+)\Z")
_RATE_ALLOWED = 'must be a number and a time, such as "100/s", "10/m", "5/h" or "3/10s"'


def _whole(name: str, value: object, least: int = 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MAX_NUMBER:
        raise ValueError(f"{name} must be a whole number from {least} to {MAX_NUMBER}")
    return value


def _number(name: str, value: object, least: float, most: float) -> float:
    # NaN fails this comparison too.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise ValueError(f"{name} must be a number from {least:g} to {most:g}")
    return float(value)


@dataclass(frozen=True, slots=True)
class Rate:
    """
    At most `limit` jobs in `per` seconds, evenly; `burst` of them at once, when none were served for a while.

    In any t seconds no more than `burst + limit * t / per` are begun, by all nodes together. Without a burst it is a
    tenth of what a second allows, and at least one.
    """

    limit: float
    per: float = 1.0
    burst: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "limit", _number("limit", self.limit, 0.000_001, MAX_NUMBER))
        try:
            per = parse_duration(self.per)
        except ValueError as error:
            raise ValueError(f"per {error}") from None
        object.__setattr__(self, "per", _number("per", per, 0.001, 366 * 86_400))
        if self.burst == 0:
            object.__setattr__(self, "burst", min(max(1, math.ceil(self.limit / self.per / 10)), MAX_NUMBER))
        _whole("burst", self.burst)

    @classmethod
    def parse(cls, text: object, burst: int = 0) -> Self:
        """From text such as "100/s". Raises ValueError that says what is allowed."""
        found = _RATE.match(text.strip()) if isinstance(text, str) else None
        if not found:
            raise ValueError(_RATE_ALLOWED)
        unit = found[2] if found[2][0].isdigit() else f"1{found[2]}"
        try:
            per = parse_duration(unit)
        except ValueError:
            raise ValueError(_RATE_ALLOWED) from None
        return cls(float(found[1]), per, burst)

    def __str__(self) -> str:
        per = format_duration(self.per)
        return f"{self.limit:.15g}/{per[1:] if re.fullmatch('1[a-z]+', per) else per}"

    def encode(self) -> dict[str, Any]:
        return {"limit": self.limit, "per_ms": self.per * 1000, "burst": self.burst}

    @classmethod
    def decode(cls, told: dict[str, Any]) -> Self:
        return cls(told["limit"], told["per_ms"] / 1000, told["burst"])


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """
    When a type's jobs are held back because its runs fail.

    That is when at least `minimum` runs ended within `window` seconds, and `ratio` of them or more in an error or a
    crash. After `cooldown` seconds one job is let through, and its end decides.
    """

    ratio: float = 0.5
    minimum: int = 10
    window: float = 60.0
    cooldown: float = 30.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "ratio", _number("ratio", self.ratio, 0.01, 1.0))
        _whole("minimum", self.minimum)
        for name in ("window", "cooldown"):
            try:
                seconds = parse_duration(getattr(self, name))
            except ValueError as error:
                raise ValueError(f"{name} {error}") from None
            object.__setattr__(self, name, _number(name, seconds, 0.1, 366 * 86_400))

    def encode(self) -> dict[str, Any]:
        return {
            "ratio": self.ratio,
            "minimum": self.minimum,
            "window_ms": round(self.window * 1000),
            "cooldown_ms": round(self.cooldown * 1000),
        }

    @classmethod
    def decode(cls, told: dict[str, Any]) -> Self:
        return cls(told["ratio"], told["minimum"], told["window_ms"] / 1000, told["cooldown_ms"] / 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowPolicy:
    """
    How the jobs of a type flow; what is None is not bounded.

    `max_running` is how many may run at once in the whole cluster. The `group_…` limits hold for each group by itself,
    and for no job without one. A type whose waiting jobs reach `max_backlog`, or that is `draining`, takes no new ones.
    What is paused waits and is not served: the type, single priorities, single groups. Pauses are an operator's only.
    """

    rate: Rate | None = None
    group_rate: Rate | None = None
    max_running: int | None = None
    group_max_running: int | None = None
    max_backlog: int | None = None
    breaker: BreakerPolicy | None = None
    paused: bool = False
    paused_priorities: tuple[Priority, ...] = ()
    paused_groups: tuple[str, ...] = ()
    draining: bool = False

    def __post_init__(self) -> None:
        for name in LIMITS:
            check_limit(name, getattr(self, name))

    def limits(self) -> dict[str, Any]:
        """What is bounded, as the store keeps it."""
        return {LIMITS[name]: encode_limit(getattr(self, name)) for name in LIMITS if getattr(self, name) is not None}

    @classmethod
    def decode(cls, told: dict[str, Any]) -> Self:
        """From what the store keeps. What a newer version wrote and this one does not know is left out."""
        rate, group_rate, breaker = told.get("rate"), told.get("group_rate"), told.get("breaker")
        return cls(
            rate=Rate.decode(rate) if rate else None,
            group_rate=Rate.decode(group_rate) if group_rate else None,
            max_running=told.get("cap"),
            group_max_running=told.get("group_cap"),
            max_backlog=told.get("max_backlog"),
            breaker=BreakerPolicy.decode(breaker) if breaker else None,
            paused=bool(told.get("paused")),
            paused_priorities=tuple(
                sorted((Priority(int(one)) for one in told.get("paused_priorities", ())), reverse=True)
            ),
            paused_groups=tuple(told.get("paused_groups", ())),
            draining=bool(told.get("draining")),
        )


LIMITS = {
    "rate": "rate",
    "group_rate": "group_rate",
    "max_running": "cap",
    "group_max_running": "group_cap",
    "max_backlog": "max_backlog",
    "breaker": "breaker",
}
"""The limits of a policy, and what the store calls them."""


def check_limit(name: str, value: object) -> None:
    """Raises ValueError unless this may be a policy's limit of that name; None may be each."""
    if name not in LIMITS:
        raise ValueError(f"{name} is no limit of a type; those are {', '.join(LIMITS)}")
    if value is None:
        return
    if name in ("rate", "group_rate"):
        if not isinstance(value, Rate):
            raise ValueError(f"{name} must be a Rate")
    elif name == "breaker":
        if not isinstance(value, BreakerPolicy):
            raise ValueError("breaker must be a BreakerPolicy")
    else:
        _whole(name, value)


def encode_limit(value: Rate | BreakerPolicy | int) -> object:
    return value if isinstance(value, int) else value.encode()


def check_group(group: str) -> None:
    """Raises ValueError for what is no group's name."""
    if not GROUP_NAME.match(group):
        raise ValueError("This is not the name of a group.")


UNLIMITED = FlowPolicy()
