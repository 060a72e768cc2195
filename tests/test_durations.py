from __future__ import annotations

import contextlib
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gopher_node.durations import MAX_DURATION, format_duration, parse_duration

MAX_MICROSECONDS = int(MAX_DURATION) * 1_000_000


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("30s", 30.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("500ms", 0.5),
        ("2d", 172_800.0),
        ("1.5s", 1.5),
        ("30", 30.0),
        (" 0.25 ", 0.25),
        ("0", 0.0),
        ("1d2h3m4s5ms", 93_784.005),
        ("1m30.123s", 90.123),
        ("36500d", MAX_DURATION),
        (30, 30.0),
        (0.1, 0.1),
        (timedelta(minutes=1, milliseconds=5), 60.005),
    ],
)
def test_spellings(written: object, seconds: float) -> None:
    """Seconds, in each of the promised spellings, and exactly."""
    assert seconds == parse_duration(written)


@pytest.mark.parametrize(
    "written",
    [
        *["s", "-1s", "+1s", "1e3", "1h30", "30m1h", "1s1s", "5M", "5min", "1.s", ".5s", "٣s", "1_0s", "nan", "inf"],
        *("", " ", "1 s", "1s\n2s", "1" * 5000, None, True, False, [], {}, b"1s", object()),
    ],
)
def test_other_text_is_refused(written: object) -> None:
    """What is no duration is refused with words that say what is one."""
    with pytest.raises(ValueError, match=r'must be a number of seconds or text such as "30s"'):
        parse_duration(written)


@pytest.mark.parametrize(
    "written", [-1, -0.001, float("nan"), float("inf"), 10**400, -(10**400), "36501d", MAX_DURATION + 1, timedelta(-1)]
)
def test_bounds(written: object) -> None:
    """No duration is negative, longer than a century, or not a number at all."""
    with pytest.raises(ValueError, match="from 0 to 36500d"):
        parse_duration(written)


@given(st.integers(0, MAX_MICROSECONDS))
def test_round_trip(microseconds: int) -> None:
    """What is written for a duration of whole microseconds is read back as the same number."""
    seconds = microseconds / 1_000_000
    assert seconds == parse_duration(format_duration(seconds))


@given(st.floats(0, MAX_DURATION))
def test_any_float_is_written_to_the_microsecond(seconds: float) -> None:
    """Any duration can be written, and is read back within a microsecond."""
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, abs=1e-6)


@given(st.text())
def test_text_gives_seconds_or_value_error(text: str) -> None:
    """Whatever is written, the answer is a number in bounds or ValueError."""
    with contextlib.suppress(ValueError):
        assert 0 <= parse_duration(text) <= MAX_DURATION


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, "0s"),
        (0.25, "250ms"),
        (0.0005, "0.5ms"),
        (2.5, "2.5s"),
        (90, "1m30s"),
        (5400, "1h30m"),
        (86400, "1d"),
        (0.9999999, "1s"),
        (59.9999999, "1m"),
        (-0.0, "0s"),
    ],
)
def test_written_for_people(seconds: float, written: str) -> None:
    """A duration is written with the units a person would choose."""
    assert written == format_duration(seconds)


def test_a_negative_duration_is_not_written() -> None:
    """To write a negative duration is a mistake of the caller."""
    with pytest.raises(ValueError, match="not negative"):
        format_duration(-1)
