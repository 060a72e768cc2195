"""When recurring jobs fire: fields, intervals, time zones whose clocks change, and what is made up for."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gopher_node.schedules import (
    GRACE_MS,
    MOST_COUNTED,
    Missed,
    Schedule,
    ScheduleError,
    Step,
    fire_id,
    plan,
)

MINUTE = 60_000
DAY = 86_400_000
NEW_YEAR = 1_798_761_600_000  # 2027-01-01T00:00:00Z


def at(text: str, zone: str = "UTC") -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp() * 1000)


def fires(expression: str, after: str, number: int, zone: str = "UTC") -> list[str]:
    schedule = Schedule(cron=expression, timezone=zone)
    return [schedule.local(fire) for fire in islice(schedule.fires_after(at(after, zone)), number)]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("30 7 * * 1-5", ["2027-01-01T07:30", "2027-01-04T07:30", "2027-01-05T07:30"]),
        ("@hourly", ["2027-01-01T01:00", "2027-01-01T02:00", "2027-01-01T03:00"]),
        ("@Daily", ["2027-01-02T00:00", "2027-01-03T00:00", "2027-01-04T00:00"]),
        ("@midnight", ["2027-01-02T00:00", "2027-01-03T00:00", "2027-01-04T00:00"]),
        ("@weekly", ["2027-01-03T00:00", "2027-01-10T00:00", "2027-01-17T00:00"]),
        ("@monthly", ["2027-02-01T00:00", "2027-03-01T00:00", "2027-04-01T00:00"]),
        ("@yearly", ["2028-01-01T00:00", "2029-01-01T00:00", "2030-01-01T00:00"]),
        ("0 0 29 2 *", ["2028-02-29T00:00", "2032-02-29T00:00", "2036-02-29T00:00"]),
        ("0 0 L * *", ["2027-01-31T00:00", "2027-02-28T00:00", "2027-03-31T00:00"]),
        ("0 0 13 * FRI", ["2027-01-08T00:00", "2027-01-13T00:00", "2027-01-15T00:00"]),  # either, as cron has it
        ("*/20 * * * * *", ["2027-01-01T00:00:20", "2027-01-01T00:00:40", "2027-01-01T00:01"]),
        ("15 30 7 * * *", ["2027-01-01T07:30:15", "2027-01-02T07:30:15", "2027-01-03T07:30:15"]),
    ],
)
def test_expressions(expression: str, expected: list[str]) -> None:
    found = fires(expression, "2027-01-01T00:00", 3)

    assert [datetime.fromisoformat(fire).replace(tzinfo=None) for fire in found] == [
        datetime.fromisoformat(fire) for fire in expected
    ]


@pytest.mark.parametrize(
    ("zone", "night", "missing", "standard"),
    [("Europe/Berlin", "2027-03-28", 2, "+01:00"), ("America/New_York", "2027-03-14", 2, "-05:00")],
)
def test_the_hour_that_is_left_out(zone: str, night: str, missing: int, standard: str) -> None:
    """A daily job of that hour runs right after it, once; what follows the time that passes, just goes on."""
    before = f"{datetime.fromisoformat(night) - timedelta(hours=2):%Y-%m-%dT%H:%M}"
    summer = f"{int(standard[:3]) + 1:+03}:00"
    after = f"{night}T{missing + 1:02}:00:00{summer}"

    for expression in (f"30 {missing} * * *", f"0 30 {missing} * * *", f"15,45 {missing} * * *"):
        assert fires(expression, before, 1, zone) == [after]
        second = fires(expression, before, 2, zone)[1]
        assert second > f"{night}T23" or second.startswith(f"{night}T{missing + 1:02}:45")
    assert fires("*/30 * * * *", f"{night}T{missing - 1:02}:00", 3, zone) == [
        f"{night}T{missing - 1:02}:30:00{standard}",
        after,
        f"{night}T{missing + 1:02}:30:00{summer}",
    ]


@pytest.mark.parametrize(
    ("zone", "night", "twice", "standard"),
    [("Europe/Berlin", "2027-10-31", 2, "+01:00"), ("America/New_York", "2027-11-07", 1, "-05:00")],
)
def test_the_hour_that_comes_twice(zone: str, night: str, twice: int, standard: str) -> None:
    """A daily job runs the first time, and never a second; what follows the time that passes runs in both."""
    summer = f"{int(standard[:3]) + 1:+03}:00"
    first, second = (f"{night}T{twice:02}:30:00{offset}" for offset in (summer, standard))
    tomorrow = f"{datetime.fromisoformat(night) + timedelta(days=1):%Y-%m-%d}T{twice:02}:30:00{standard}"

    for expression in (f"30 {twice} * * *", f"0 30 {twice} * * *"):
        assert fires(expression, f"{night}T00:00", 2, zone) == [first, tomorrow]
        # Whoever asks between the two, or at the second, is told the next day.
        for moment in (first, f"{night}T{twice:02}:10:00{standard}", second):
            schedule = Schedule(cron=expression, timezone=zone)
            after = round(datetime.fromisoformat(moment).timestamp() * 1000)
            assert schedule.local(schedule.next_after(after) or 0) == tomorrow
    assert fires("30 * * * *", f"{night}T00:45", 2 + (twice == 2), zone)[-2:] == [first, second]


def test_intervals_count_from_their_anchor() -> None:
    schedule = Schedule(every_ms=90_000, anchor_ms=NEW_YEAR)

    assert schedule.next_after(NEW_YEAR - DAY) == schedule.next_after(NEW_YEAR) == NEW_YEAR + 90_000
    assert schedule.next_after(NEW_YEAR + 89_999) == NEW_YEAR + 90_000
    assert schedule.next_after(NEW_YEAR + 90_000) == NEW_YEAR + 180_000
    assert schedule.in_words() == "Every 1m30s"


@pytest.mark.parametrize(
    ("schedule", "field", "words"),
    [
        (Schedule(cron=""), "cron_expression", "must be five fields"),
        (Schedule(cron="* * * *"), "cron_expression", "must be five fields"),
        (Schedule(cron="* * * * * * *"), "cron_expression", "must be five fields"),
        (Schedule(cron="* * * * *; ls"), "cron_expression", "must be five fields"),
        (Schedule(cron="1," * 100 + "1 * * * *"), "cron_expression", "must be five fields"),
        (Schedule(cron="* 24 * * *"), "cron_expression", "has a hour"),
        (Schedule(cron="0 0 30 2 *"), "cron_expression", "has a day-of-month"),
        (Schedule(cron="0 0 */31 * MON#5"), "cron_expression", "never fires"),
        (Schedule(cron="@reboot"), "cron_expression", "must be one of @hourly"),
        (Schedule(cron="@daily", timezone="Europe/Berln"), "timezone", "did you mean Europe/Berlin?"),
        (Schedule(cron="@daily", timezone="localtime"), "timezone", "the name of a time zone"),
        (Schedule(cron="@daily", timezone="/etc/passwd"), "timezone", "the name of a time zone"),
        (Schedule(cron="@daily", timezone="Europe"), "timezone", "the name of a time zone"),
        (Schedule(every_ms=999), "every", "from 1s to 366d"),
    ],
)
def test_what_says_of_no_time_is_refused(schedule: Schedule, field: str, words: str) -> None:
    with pytest.raises(ScheduleError, match=words) as raised:
        schedule.check(NEW_YEAR)

    assert raised.value.field == field


FIELD = st.sampled_from(["*", "0", "5", "*/7", "1-4", "2,3", "1-5/2", "L", "5L", "MON#2", "JAN", "LW", "*/31", "9-2"])
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Beirut"])
TIMES = st.integers(at("2026-01-01T00:00"), at("2029-01-01T00:00"))


@settings(max_examples=100, deadline=None)
@given(st.lists(FIELD, min_size=5, max_size=6), ZONES, TIMES, st.integers(1, 5))
@example(["30", "2", "*", "*", "*"], "Europe/Berlin", at("2027-10-31T02:15:00", "Europe/Berlin") + 3_600_000, 2)
def test_any_expression_fires_forward_or_is_refused(parts: list[str], zone: str, after: int, most: int) -> None:
    """Fires rise, are whole seconds, can be put into words, and the last ones are found without all before them."""
    schedule = Schedule(cron=" ".join(parts), timezone=zone)
    try:
        schedule.check(after)
    except ScheduleError:
        return
    found = list(islice(schedule.fires_after(after), 40))
    assert found == sorted(set(found))
    assert all(fire > after and fire % 1000 == 0 for fire in found)
    assert schedule.in_words().endswith(f"({zone})")
    if len(found) > 1:
        assert schedule.next_after(found[0]) == found[1]
        assert schedule.latest(after, found[-1], most) == found[-most:]


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=30))
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    try:
        Schedule(cron=text, timezone="UTC").check(NEW_YEAR)
    except ScheduleError:
        return
    assert Schedule(cron=text).next_after(NEW_YEAR)


EVERY_FIVE = Schedule(cron="*/5 * * * *")
DUE = NEW_YEAR + 5 * MINUTE


@pytest.mark.parametrize(
    ("missed", "late", "expected"),
    [
        ("once", -1, []),
        ("once", 0, [(0, 0, 1, 0)]),
        ("skip", 0, [(0, 0, 1, 0)]),
        ("skip", GRACE_MS, [(0, 0, 1, 0)]),
        ("skip", GRACE_MS + 1, [(0, None, 1, 1)]),
        ("skip", 10 * MINUTE, [(0, 2, 3, 2)]),
        ("skip", 12 * MINUTE, [(0, None, 3, 3)]),
        ("once", 12 * MINUTE, [(0, 2, 3, 2)]),
        ("all", 12 * MINUTE, [(0, 0, 1, 0), (1, 1, 2, 0), (2, 2, 3, 0)]),
    ],
)
def test_what_is_made_up_for(missed: Missed, late: int, expected: list[Any]) -> None:
    """Numbers stand for the fires from the one on that is due."""

    def fire(number: int | None) -> int | None:
        return None if number is None else DUE + number * 5 * MINUTE

    assert plan(EVERY_FIVE, DUE, DUE + late, missed) == [
        Step(DUE + due * 5 * MINUTE, fire(fired), fire(then), given_up) for due, fired, then, given_up in expected
    ]


def test_a_long_outage_is_made_up_for_by_a_hundred() -> None:
    """The last ones; and finding them among millions takes no longer than among thousands."""
    second = Schedule(cron="* * * * * *")
    now = NEW_YEAR + 90 * DAY

    steps = plan(second, NEW_YEAR, now, "all")

    assert [step.fire_ms for step in steps] == [now - 1000 * (99 - n) for n in range(100)]
    assert [step.due_ms for step in steps] == [NEW_YEAR, *[step.next_ms for step in steps[:-1]]]
    assert (steps[0].missed, {step.missed for step in steps[1:]}) == (MOST_COUNTED + 1 - 100, {0})
    assert plan(second, NEW_YEAR, now, "once") == [Step(NEW_YEAR, now, now + 1000, MOST_COUNTED)]


def test_a_fire_is_one_job_whoever_fires_it() -> None:
    assert fire_id("a", DUE) == fire_id("a", DUE) == "54d9fe73-4dd8-50ff-ba92-e7e593a2f738"
    assert len({fire_id("a", DUE), fire_id("b", DUE), fire_id("a", DUE + 1000)}) == 3
