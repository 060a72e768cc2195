"""What a request may say of how the jobs of a type flow: limits, breakers, pauses."""

from __future__ import annotations

import re
from typing import Annotated, Any, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError

from gopher_node.api.answers.problems import Fault
from gopher_node.api.requests.fields import YEAR_MS, GroupName, Level, duration, whole
from gopher_node.api.requests.models import refusal
from gopher_node.flow import MAX_NUMBER, BreakerPolicy, Rate

_STRICT = ConfigDict(strict=True, extra="forbid")
_SMALLEST = 0.000_001
_RATE_TEXT = r"[0-9]{1,10}(\.[0-9]{1,6})?/([0-9]{1,9}(\.[0-9]{1,3})?)?(ms|s|m|h|d)"
_RATE_ALLOWED = 'must be text such as "100/s", "10/m" or "3/10s", or an object with limit, per and burst'


def number(low: float, high: float) -> PlainValidator:
    """A number from `low` to `high`, both included."""

    def parse(value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            told = {"low": f"{low:.15g}", "high": f"{high:.15g}"}
            raise PydanticCustomError("out-of-range", "must be a number from {low} to {high}", told)
        return float(value)

    return PlainValidator(parse, json_schema_input_type=Annotated[float, Field(ge=low, le=high)])


Number = Annotated[int, whole(1, MAX_NUMBER)]
Amount = Annotated[float, number(_SMALLEST, MAX_NUMBER)]
Per = Annotated[int, duration(1, YEAR_MS)]
Window = Annotated[int, duration(100, YEAR_MS)]


class RateRules(BaseModel):
    """So many jobs in so much time, evenly; a burst of them at once, if none were begun for a while."""

    model_config = _STRICT

    limit: Amount = Field(description="How many jobs may begin.", examples=[100])
    per: Per | None = Field(None, description="In how much time; 1s unless it is said.", examples=["1s"])
    burst: Number | None = Field(
        None, description="How many at once; a tenth of what a second allows unless it is said.", examples=[10]
    )

    def rate(self) -> Rate:
        return rate_of(self.limit, self.per, self.burst)


def rate_of(limit: float, per_ms: int | None, burst: int | None) -> Rate:
    return Rate(limit, 1.0 if per_ms is None else per_ms / 1000, burst or 0)


def _from_text(value: object) -> object:
    if isinstance(value, (dict, RateRules)):
        return cast("Any", value)
    if not isinstance(value, str) or not re.fullmatch(_RATE_TEXT, value, re.ASCII):
        raise PydanticCustomError("invalid-rate", "{said}", {"said": _RATE_ALLOWED})
    try:
        rate = Rate.parse(value)
    except ValueError as error:
        raise PydanticCustomError("out-of-range", "{said}", {"said": str(error)}) from None
    return {"limit": rate.limit, "per": rate.per, "burst": rate.burst}


RateText = Annotated[str, WithJsonSchema({"type": "string", "pattern": f"^{_RATE_TEXT}$", "examples": ["100/s"]})]
AnyRate = Annotated[RateRules, BeforeValidator(_from_text, json_schema_input_type=RateText | RateRules)]


class NewRateLimit(BaseModel):
    """A rate limit: of the type, of each of its groups, or both. What is left out stays as it is."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        json_schema_extra={
            "examples": [{"limit": 100, "burst": 10}, {"limit": 600, "per": "1m", "group": {"limit": 1}}],
            "minProperties": 1,
        },
    )

    limit: Amount | None = Field(None, description="How many jobs of the type may begin.", examples=[100])
    per: Per | None = Field(None, description="In how much time; 1s unless it is said.", examples=["1s"])
    burst: Number | None = Field(
        None, description="How many at once; a tenth of what a second allows unless it is said.", examples=[10]
    )
    group: RateRules | None = Field(None, description="The same for each group by itself.")

    def patch(self) -> dict[str, Any]:
        """What changes. Raises Problem."""
        faults: list[Fault] = []
        if self.limit is None:
            if self.group is None:
                faults.append({"pointer": "/limit", "code": "missing", "detail": "must be given, or group"})
            said = [name for name in ("per", "burst") if getattr(self, name) is not None]
            faults += [_conflict(name, "says how a limit is meant, and there is none") for name in said]
        if faults:
            raise refusal(faults, "invalid-body")
        rate = {} if self.limit is None else {"rate": rate_of(self.limit, self.per, self.burst)}
        return rate if self.group is None else {**rate, "group_rate": self.group.rate()}


class BreakerRules(BaseModel):
    """When the jobs of a type are held back because its runs fail. What is left out is as usual."""

    model_config = _STRICT

    ratio: Annotated[float, number(0.01, 1)] | None = Field(
        None, description="The part of the runs that has to fail; 0.5 unless it is said.", examples=[0.5]
    )
    minimum: Number | None = Field(
        None, description="How many runs have to have ended; 10 unless it is said.", examples=[10]
    )
    window: Window | None = Field(
        None, description="The time within which they are counted; 1m unless it is said.", examples=["1m"]
    )
    cooldown: Window | None = Field(
        None, description="After how much time one job is let through; 30s unless it is said.", examples=["30s"]
    )

    def policy(self) -> BreakerPolicy:
        given: dict[str, Any] = self.model_dump(exclude_none=True)
        for name in ("window", "cooldown"):
            if name in given:
                given[name] /= 1000
        return BreakerPolicy(**given)


class QueueEdit(BaseModel):
    """
    What bounds the jobs of a type: at least one of these.

    A null takes back what was set here: then what handlers and settings declare holds again, if they do.
    """

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"rate_limit": "100/s", "max_running": 20},
                {"group_rate_limit": {"limit": 10, "per": "1m", "burst": 2}, "max_backlog": 10_000},
                {"breaker": {"ratio": 0.5, "minimum": 20, "window": "1m", "cooldown": "30s"}},
                {"rate_limit": None},
            ],
            "minProperties": 1,
        },
    )

    rate_limit: AnyRate | None = Field(None, description="How many jobs may begin in a time.", examples=["100/s"])
    group_rate_limit: AnyRate | None = Field(None, description="The same for each group.", examples=["10/m"])
    max_running: Number | None = Field(None, description="How many may run at once, on all nodes.", examples=[20])
    group_max_running: Number | None = Field(None, description="The same for each group.", examples=[2])
    max_backlog: Number | None = Field(
        None, description="How many may wait; when so many do, new ones are refused.", examples=[10_000]
    )
    breaker: BreakerRules | None = Field(
        None, description="That jobs are held back while most runs fail, and when.", examples=[{}]
    )

    def patch(self) -> dict[str, Any]:
        """What changes. Raises Problem."""
        if not self.model_fields_set:
            fault = {"pointer": "", "code": "missing", "detail": "must name something that is to change"}
            raise refusal([fault], "invalid-body")
        fields = {"rate_limit": "rate", "group_rate_limit": "group_rate"}
        return {fields.get(name, name): _value(getattr(self, name)) for name in self.model_fields_set}


class Part(BaseModel):
    """A part of a queue; all of it unless one of these is said."""

    model_config = ConfigDict(
        strict=True, extra="forbid", json_schema_extra={"examples": [{}, {"priority": "low"}, {"group": "customer-17"}]}
    )

    priority: Level | None = Field(None, description="Only the jobs of this priority: a name or its number.")
    group: GroupName | None = Field(None, description="Only the jobs of this group.", examples=["customer-17"])

    def check(self) -> None:
        """Raises Problem."""
        if self.priority is not None and self.group is not None:
            raise refusal([_conflict("group", "cannot stand beside priority")], "invalid-body")


def _value(given: RateRules | BreakerRules | int | None) -> Rate | BreakerPolicy | int | None:
    if isinstance(given, RateRules):
        return given.rate()
    return given.policy() if isinstance(given, BreakerRules) else given


def _conflict(field: str, detail: str) -> Fault:
    return {"pointer": f"/{field}", "code": "conflict", "detail": detail}
