"""The words in which handlers and settings declare how the jobs of a type flow, and how a policy is shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, TypeVar, cast

from gopher_node.flow import LIMITS, BreakerPolicy, FlowPolicy, Rate, check_limit
from gopher_node.job import TYPE_NAME

WORDS = {
    "rate_limit": "rate",
    "group_rate_limit": "group_rate",
    "max_running": "max_running",
    "group_max_running": "group_max_running",
    "max_backlog": "max_backlog",
    "breaker": "breaker",
}
"""What may be declared of a type, and the field of a policy that it is."""

Kind = TypeVar("Kind", Rate, BreakerPolicy)

_RATE = 'must be such as "100/s", "10/m" or "3/10s", or have a limit, and may have per and burst'
_BREAKER = "must be true, or have some of ratio, minimum, window and cooldown"


def read_limits(words: Mapping[str, object]) -> FlowPolicy:
    """The policy that these words declare; None says nothing. Raises ValueError that names the word that is wrong."""
    limits: dict[str, Any] = {}
    for word, value in words.items():
        if word not in WORDS:
            raise ValueError(f"{word} must be one of {', '.join(WORDS)}")
        if value is None:
            continue
        field = WORDS[word]
        try:
            if word.endswith("rate_limit"):
                value = _rate(value)
            elif word == "breaker":
                value = _breaker(value)
            check_limit(field, value)
        except ValueError as error:
            raise ValueError(f"{word} {str(error).removeprefix(field).strip()}") from None
        limits[field] = value
    return FlowPolicy(**limits)


def read_flow(written: object) -> dict[str, FlowPolicy]:
    """The policies of types from tables of such words. Raises ValueError."""
    if not isinstance(written, Mapping):
        raise ValueError('must name job types with their limits, such as { email = { rate_limit = "100/s" } }')
    policies: dict[str, FlowPolicy] = {}
    for type, words in cast("Mapping[object, object]", written).items():
        if not isinstance(type, str) or not TYPE_NAME.match(type):
            raise ValueError(f"must name job types; {type!r} is none")
        if isinstance(words, FlowPolicy):
            policies[type] = words
            continue
        if not isinstance(words, Mapping):
            raise ValueError(f'must be a table of limits for {type}, such as {{ rate_limit = "100/s" }}')
        try:
            policies[type] = read_limits(cast("Mapping[str, object]", words))
        except ValueError as error:
            raise ValueError(f"of the type {type}: {error}") from None
    return policies


def overlay(policy: FlowPolicy, over: FlowPolicy) -> FlowPolicy:
    """What both say, limit by limit; where they differ, what the second one says."""
    said = {name: getattr(over, name) for name in LIMITS}
    return replace(policy, **{name: value for name, value in said.items() if value is not None})


def written(policy: FlowPolicy) -> dict[str, Any]:
    """What a policy limits, in the words of the settings."""
    found: dict[str, Any] = {}
    for word, field in WORDS.items():
        value = getattr(policy, field)
        if isinstance(value, Rate):
            burst = f" burst {value.burst}" if value.burst != Rate(value.limit, value.per).burst else ""
            value = f"{value}{burst}"
        elif isinstance(value, BreakerPolicy):
            value = _members(value)
        if value is not None:
            found[word] = value
    return found


def show_policy(policy: FlowPolicy) -> dict[str, Any]:
    """A policy's limits as the API tells them; a limit that there is not is null."""
    return {
        "rate_limit": None if policy.rate is None else _members(policy.rate),
        "group_rate_limit": None if policy.group_rate is None else _members(policy.group_rate),
        "max_running": policy.max_running,
        "group_max_running": policy.group_max_running,
        "max_backlog": policy.max_backlog,
        "breaker": None if policy.breaker is None else _members(policy.breaker),
    }


def _members(value: Rate | BreakerPolicy) -> dict[str, float]:
    return {field.name: getattr(value, field.name) for field in fields(value)}


def _rate(value: object) -> Rate:
    if isinstance(value, Rate):
        return value
    if isinstance(value, Mapping):
        return _build(Rate, cast("Mapping[str, Any]", value), _RATE)
    return Rate.parse(value)


def _breaker(value: object) -> BreakerPolicy | None:
    if isinstance(value, bool):
        return BreakerPolicy() if value else None
    if isinstance(value, BreakerPolicy):
        return value
    return _build(
        BreakerPolicy, cast("Mapping[str, Any]", value if isinstance(value, Mapping) else {"": None}), _BREAKER
    )


def _build(kind: type[Kind], members: Mapping[str, Any], allowed: str) -> Kind:
    if not members.keys() <= {field.name for field in fields(kind)} or (kind is Rate and "limit" not in members):
        raise ValueError(allowed)
    if kind is Rate and members.get("burst") == 0:
        raise ValueError("burst must be at least 1")
    return kind(**members)
