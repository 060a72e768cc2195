"""Keeps secrets and payloads out of log lines, wherever in a line they come from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast

HIDDEN = "***"

_NAMES = frozenset(("payload", "arguments", "token", "password", "secret", "authorization", "api_key", "cookie"))
_ENDINGS = tuple(f"_{name}" for name in _NAMES)
_MAX_DEPTH = 6
_HOLD_OTHERS = frozenset((dict, list, tuple))

# By what a line must hold for it to be worth a search, for most hold none of it.
_PARTS: tuple[tuple[str, re.Pattern[str], str], ...] = (
    # User and password in an address, as errors of libraries have it.
    ("://", re.compile(r"(\w://)[^\s/?#\"'<>\\]*@"), rf"\1{HIDDEN}@"),
    (
        "=",
        re.compile(
            r"(?i)([?&](?:[\w.-]*(?:token|secret|password|signature|api[_-]?key)|key|sig|auth)=)[^&\s\"'#<>\\]+"
        ),
        rf"\1{HIDDEN}",
    ),
    ("earer ", re.compile(r"([Bb]earer )[\w.~+/=-]{8,}"), rf"\1{HIDDEN}"),
    # Our own: of a key its id, and of a lease its job and attempt, are no secrets.
    ("gn_", re.compile(r"(gn_[0-9a-f]{12}_)[0-9a-f]{64}"), rf"\1{HIDDEN}"),
    ("leases/", re.compile(r"(leases/[^\s/?\"'\\]{1,200}?\.[1-9]\d{0,14}\.)[0-9a-f]{16}"), rf"\1{HIDDEN}"),
)

# Pydantic's errors show what they were given, which is a payload or a part of one.
_GIVEN, _BEHIND = "input_value=", ", input_type="
_STRING = re.compile(r'(?:[^"\\]|\\.)*', re.DOTALL)
"""The rest of a string in JSON."""


def hide_in_text(line: str) -> str:
    """A line without what gives itself away as a secret by its form."""
    for sign, pattern, instead in _PARTS:
        if sign in line:
            line = pattern.sub(instead, line)
    return _hide_given(line) if _GIVEN in line else line


def _hide_given(line: str) -> str:
    # By hand: a pattern would look through the rest of the line for each of many that have no end.
    pieces: list[str] = []
    at, has_end = 0, True
    while (begin := line.find(_GIVEN, at)) >= 0:
        begin += len(_GIVEN)
        end = line.find(_BEHIND, begin) if has_end else -1
        if end < 0:  # its message was cut off
            has_end, rest = False, _STRING.match(line, begin)
            end = rest.end() if rest else len(line)
        pieces += (line[at:begin], HIDDEN)
        at = end
    return "".join((*pieces, line[at:]))


def hide_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values to write in place of those that are named like secrets or payloads, at any depth."""
    hidden: dict[str, Any] = {}
    for key, value in values.items():
        if _is_hidden(key):
            hidden[key] = HIDDEN
        elif type(value) in _HOLD_OTHERS:
            hidden[key] = _hide_within(value, 0)
    return hidden


def _hide_within(value: object, depth: int) -> object:
    if depth == _MAX_DEPTH:
        return value
    if isinstance(value, dict):
        pairs = cast("dict[object, object]", value).items()
        return {
            key: HIDDEN if isinstance(key, str) and _is_hidden(key) else _hide_within(item, depth + 1)
            for key, item in pairs
        }
    if isinstance(value, (list, tuple)):
        return [_hide_within(item, depth + 1) for item in cast("list[object]", value)]
    return value


@lru_cache(maxsize=1024)
def _is_hidden(name: str) -> bool:
    plain = name.lower().replace("-", "_")
    return plain in _NAMES or plain.endswith(_ENDINGS)
