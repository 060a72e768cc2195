"""What a request may say of when a job recurs."""

from __future__ import annotations

import time
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError

from gopher_node.api.answers.problems import Fault
from gopher_node.api.requests.fields import duration, name, schema, whole
from gopher_node.job import TYPE_NAME
from gopher_node.schedules import MAX_EVERY_MS, MAX_EXPRESSION, MIN_EVERY_MS, Missed, Overlap, Schedule, ScheduleError

EXAMPLE = "30 7 * * 1-5"
MAX_PREVIEW = 100


def _check(schedule: Schedule) -> None:
    try:
        schedule.check(round(time.time() * 1000))
    except ScheduleError as error:
        raise PydanticCustomError("invalid-schedule", "{reason}", {"reason": str(error)}) from None


def _parse_expression(value: object) -> str:
    if not isinstance(value, str):
        raise PydanticCustomError("invalid-schedule", 'must be text, such as "{example}"', {"example": EXAMPLE})
    _check(Schedule(cron=value))
    return value.strip()


def _parse_zone(value: object) -> str:
    if not isinstance(value, str):
        raise PydanticCustomError("invalid-schedule", 'must be the name of a time zone, such as "Europe/Berlin"')
    _check(Schedule(cron="@daily", timezone=value))
    return value


RecurringName = Annotated[
    str, name(TYPE_NAME, "1 to 100 letters, digits, dots, dashes or underscores, the first a letter or digit")
]
Expression = Annotated[str, schema(type="string", minLength=1, maxLength=MAX_EXPRESSION)(_parse_expression)]
Zone = Annotated[str, schema(type="string", minLength=1)(_parse_zone)]
Every = Annotated[int, duration(MIN_EVERY_MS, MAX_EVERY_MS)]
Count = Annotated[int, whole(1, MAX_PREVIEW)]


class _When(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    cron_expression: Expression | None = Field(
        None,
        description="When it fires: minute, hour, day of month, month and weekday; six fields with seconds in front; "
        "or @hourly, @daily, @weekly, @monthly, @yearly.",
        examples=[EXAMPLE],
    )
    every: Every | None = Field(
        None,
        description="How much time lies between two fires, instead of an expression; the first comes after as much.",
        examples=["15m", 900],
    )
    timezone: Zone | None = Field(
        None,
        description="The time zone of the expression; UTC unless it is said. When its clocks change, a job of fixed "
        "hours fires once all the same: what falls into the missing hour comes right after it.",
        examples=["Europe/Berlin"],
    )


class Recurrence(_When):
    """When a job recurs: it needs a `cron_expression`, or `every`."""

    missed: Missed | None = Field(
        None,
        description="What becomes of fires that no node was there for: none is made up for (unless it is only a minute "
        "late), the last one, or all, up to a hundred. `once` unless it is said.",
    )
    overlap: Overlap | None = Field(
        None,
        description="Whether it fires while its last job has not ended, or skips that time. `allow` unless it is said.",
    )


class NamedRecurrence(Recurrence):
    """When a job recurs, and what that is called."""

    name: RecurringName | None = Field(
        None,
        description="What it is called, and found by. One that follows from all the rest, unless it is said.",
        examples=["nightly-report"],
    )


class Preview(_When):
    """What would fire when: a `cron_expression`, or `every`."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"cron_expression": EXAMPLE, "timezone": "Europe/Berlin", "count": 5}, {"every": "15m"}]
        }
    )

    count: Count | None = Field(None, description="How many fires to tell; ten unless it is said.", examples=[5])


def conflicts(given: dict[str, Any]) -> list[Fault]:
    """What is wrong with the fields of a new schedule together."""
    if given.get("cron_expression") is None and given.get("every") is None:
        detail = f'must be given, such as "{EXAMPLE}"; or "every", such as "15m"'
        return [{"pointer": "/cron_expression", "code": "missing", "detail": detail}]
    return conflicts_of_change(given, interval=given.get("cron_expression") is None)


def conflicts_of_change(given: dict[str, Any], *, interval: bool) -> list[Fault]:
    """The same, of fields that are given; `interval` is what the schedule was."""
    if given.get("every") is not None and given.get("cron_expression") is not None:
        return [{"pointer": "/every", "code": "conflict", "detail": "cannot stand beside cron_expression"}]
    if given.get("timezone") is not None and (
        given.get("every") is not None or (interval and given.get("cron_expression") is None)
    ):
        return [{"pointer": "/timezone", "code": "conflict", "detail": "says nothing of an interval; leave it out"}]
    return []


def schedule_of(when: _When) -> Schedule:
    if when.every is not None:
        return Schedule(every_ms=when.every)
    return Schedule(cron=when.cron_expression or "", timezone=when.timezone or "UTC")
