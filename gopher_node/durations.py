"""Reads and writes lengths of time as people write them: 30, "30s", "5m", "1h30m", "500ms", "2d"."""

from __future__ import annotations

import re
from datetime import timedelta

MAX_DURATION = 36_500 * 86_400.0
"""One hundred years in seconds. What is longer is a mistake, and in milliseconds it still fits any store."""

_ALLOWED = 'must be a number of seconds or text such as "30s", "5m", "1h30m", "500ms" or "2d"'
_UNIT_MS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_NUMBER = r"[0-9]{1,15}(?:\.[0-9]{1,18})?"
_BARE = re.compile(rf"{_NUMBER}\Z")
# Each unit at most once, the largest first, all lower case: whoever writes "5M" may well mean months.
_EACH_UNIT = "".join(rf"(?:({_NUMBER}){unit})?" for unit in _UNIT_MS)
_UNITS = re.compile(rf"{_EACH_UNIT}\Z")

PATTERN = f"^(?:{_NUMBER}|{_EACH_UNIT})$"
"""What text is a duration, for JSON schemas; unless it is empty."""


def parse_duration(value: object) -> float:
    """Seconds, from a number of seconds, a timedelta or text. Raises ValueError that says what is allowed."""
    seconds: float
    if isinstance(value, bool):
        raise ValueError(_ALLOWED)
    if isinstance(value, (int, float)):
        seconds = value
    elif isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, str):
        seconds = _parse_text(value.strip())
    else:
        raise ValueError(_ALLOWED)
    # NaN fails this comparison too; and it comes before float(), which an int of 400 digits would break.
    if not 0 <= seconds <= MAX_DURATION:
        raise ValueError(f"{_ALLOWED}, from 0 to {format_duration(MAX_DURATION)}")
    return float(seconds)


def format_duration(seconds: float) -> str:
    """Text that `parse_duration` reads back, to the microsecond: "1h30m", "2.5s", "250ms"."""
    microseconds = int(f"{seconds:.6f}".replace(".", ""))
    if microseconds < 0:
        raise ValueError("A duration is not negative.")
    if 0 < microseconds < 1_000_000:
        return f"{microseconds / 1000:.3f}".rstrip("0").rstrip(".") + "ms"
    text = ""
    for unit in ("d", "h", "m"):
        count, microseconds = divmod(microseconds, _UNIT_MS[unit] * 1000)
        text += f"{count}{unit}" if count else ""
    if microseconds or not text:
        text += f"{microseconds // 1_000_000}.{microseconds % 1_000_000:06}".rstrip("0").rstrip(".") + "s"
    return text


def _parse_text(text: str) -> float:
    if _BARE.match(text):
        text += "s"
    found = _UNITS.match(text)
    if not text or not found:
        raise ValueError(_ALLOWED)
    # Summed as integers and divided once, so that "1m30.123s" is 90.123 and not nearly so.
    total = 0
    for number, unit_ms in zip(found.groups(), _UNIT_MS.values(), strict=True):
        if number:
            whole, _, fraction = number.partition(".")
            total += int(whole + fraction.ljust(18, "0")) * unit_ms
    return total / (1000 * 10**18)
