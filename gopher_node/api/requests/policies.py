"""What a submission may say of uniqueness and retries: how each is read, and which words go together."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from gopher_node.api.answers.problems import Fault
from gopher_node.api.requests.fields import YEAR_MS, Duration, duration, schema_pattern
from gopher_node.durations import parse_duration
from gopher_node.job import MAX_FACTOR, RetryPolicy, Strategy, Unique

MAX_KEY = 200
MAX_DELAYS = 100
MAX_NAMES = 50

UNIQUE_KEY = re.compile(r"[^\x00-\x1f\x7f]{1,200}\Z")

Duplicates = Literal["existing", "replace", "reject"]


def _parse_key(value: object) -> str:
    if not isinstance(value, str) or not UNIQUE_KEY.match(value):
        raise PydanticCustomError("invalid-name", "must be 1 to {high} printable characters", {"high": MAX_KEY})
    return value


def _parse_until(value: object) -> str | int:
    """ "started", "finished", or milliseconds."""
    if value in ("started", "finished"):
        return str(value)
    try:
        return max(1, round(min(parse_duration(value) * 1000, YEAR_MS)))
    except ValueError:
        raise PydanticCustomError(
            "invalid-duration", 'must be "started", "finished" or a duration such as "10m"'
        ) from None


UniqueKey = Annotated[
    str,
    PlainValidator(
        _parse_key,
        json_schema_input_type=Annotated[
            str, WithJsonSchema({"type": "string", "pattern": schema_pattern(UNIQUE_KEY)})
        ],
    ),
]
UniqueUntil = Annotated[
    str | int,
    PlainValidator(
        _parse_until,
        json_schema_input_type=Literal["started", "finished"] | Annotated[float, Field(ge=0)] | Duration,
    ),
]
Wait = Annotated[int, duration(0, YEAR_MS)]
ErrorNames = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=200)]],
    Field(max_length=MAX_NAMES, examples=[["ConnectionError", "timeout"]]),
]


class RetryRules(BaseModel):
    """When a job runs again after an error, in place of what its handler says."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"strategy": "fixed", "base": "10s"},
                {"strategy": "list", "delays": ["1s", "10s", "5m"], "never": ["ValueError"]},
            ]
        },
    )

    strategy: Strategy | None = Field(
        None,
        description="How the wait before the n-th retry follows from `base`: exponential (`base` × `factor`^(n-1)), "
        "fixed (`base`), linear (`base` × n), or list (the n-th of `delays`, the last one again and again). "
        "Exponential unless it is said.",
    )
    base: Wait | None = Field(None, description="The first wait; 2s unless it is said.", examples=["10s"])
    cap: Wait | None = Field(None, description="The longest wait; 10m unless it is said.", examples=["1h"])
    factor: Annotated[float, Field(ge=1, le=MAX_FACTOR)] | None = Field(None, description="2 unless it is said.")
    delays: Annotated[list[Wait], Field(min_length=1, max_length=MAX_DELAYS)] | None = Field(
        None, description="Of the strategy list: each wait.", examples=[["1s", "10s", "5m"]]
    )
    jitter: bool | None = Field(
        None,
        description="Whether each wait is a random time up to that. Unless it is said, only exponential ones are.",
    )
    only: ErrorNames | None = Field(
        None,
        description="Only these errors are tried again: classes of exceptions, which mean those derived from them too, "
        "or codes.",
    )
    never: ErrorNames | None = Field(None, description="These errors are not tried again.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.strategy == "list") != (self.delays is not None):
            raise PydanticCustomError("conflict", "must have delays with the strategy list, and with no other")
        return self

    def policy(self) -> RetryPolicy:
        given: dict[str, Any] = self.model_dump(exclude_none=True)
        for name in ("base", "cap"):
            if name in given:
                given[name] /= 1000
        if "delays" in given:
            # Each is what somebody wants, so no cap that nobody named cuts it.
            given = {"cap": YEAR_MS / 1000, **given, "delays": [delay / 1000 for delay in given["delays"]]}
        return RetryPolicy(**given)


def unique_of(key: str | None, until: str | int | None, duplicates: Duplicates | None) -> Unique | None:
    if key is None:
        return None
    if isinstance(until, int):
        return Unique(key=key, until="time", period_ms=until, duplicates=duplicates or "existing")
    return Unique(key=key, until="started" if until == "started" else "finished", duplicates=duplicates or "existing")


def conflicts(given: Mapping[str, Any]) -> list[Fault]:
    """Words of uniqueness and expiry that do not go together."""
    said = {name for name, value in given.items() if value is not None}
    faults = [
        _conflict(name, "says how a unique_key is meant, and there is none")
        for name in ("unique_until", "on_duplicate")
        if name in said and "unique_key" not in said
    ]
    if {"expires_at", "ttl"} <= said:
        faults.append(_conflict("ttl", "cannot stand beside expires_at"))
    faults += [
        # Its twin would be no part of the workflow, and those that wait for it by name would wait for nothing.
        _conflict("unique_key", f"cannot stand beside {name}")
        for name in ("workflow_id", "name")
        if name in said and "unique_key" in said
    ]
    return faults


def outlived(due_ms: int | None, delay_ms: int | None, expires_ms: int | None, ttl_ms: int | None) -> list[Fault]:
    """Of a job that could never start."""
    if due_ms is not None and expires_ms is not None and expires_ms <= due_ms:
        return [_conflict("expires_at", "is no later than execute_at, so the job could never start")]
    if delay_ms is not None and ttl_ms is not None and ttl_ms <= delay_ms:
        return [_conflict("ttl", "is no longer than delay, so the job could never start")]
    return []


def _conflict(field: str, detail: str) -> Fault:
    return {"pointer": f"/{field}", "code": "conflict", "detail": detail}
