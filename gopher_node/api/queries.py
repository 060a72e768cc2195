"""What a request's address may say: ids, and query parameters, which are as strict as bodies."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, PlainValidator, ValidationError
from pydantic_core import PydanticCustomError

from gopher_node.api.models import JOB_ID, GroupName, Level, TagName, TypeName, milliseconds, parse_time
from gopher_node.api.problems import Fault, Problem
from gopher_node.errors import JobNotFound
from gopher_node.job import TYPE_NAME, State
from gopher_node.store import JobFilter

MAX_WAIT_MS = 60_000
MAX_LIMIT = 200


def whole(low: int, high: int) -> Callable[[str], int]:
    """Reads a whole number from `low` to `high`, both included."""

    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", value) or not low <= int(value) <= high:
            told = {"low": low, "high": high}
            raise PydanticCustomError("out-of-range", "must be a whole number from {low} to {high}", told)
        return int(value)

    return parse


def _parse_states(value: str) -> tuple[State, ...]:
    try:
        return tuple(dict.fromkeys(State(word) for word in value.split(",")))
    except ValueError:
        raise PydanticCustomError(
            "unknown-state", "must be one or more of {states}, with commas between", {"states": ", ".join(State)}
        ) from None


def _parse_truth(value: str) -> bool:
    if value not in ("true", "false"):
        raise PydanticCustomError("invalid-flag", "must be true or false")
    return value == "true"


Limit = Annotated[int, PlainValidator(whole(1, MAX_LIMIT), json_schema_input_type=int)]
States = Annotated[tuple[State, ...], PlainValidator(_parse_states, json_schema_input_type=str)]
Wait = Annotated[int, PlainValidator(milliseconds(0, MAX_WAIT_MS), json_schema_input_type=str | int | float)]
Flag = Annotated[bool, PlainValidator(_parse_truth, json_schema_input_type=bool)]
Time = Annotated[int, PlainValidator(parse_time, json_schema_input_type=str)]


class Query(BaseModel):
    """The query parameters of an address: those named here, each at most once."""

    model_config = ConfigDict(strict=True, extra="forbid")


class NoQuery(Query):
    """No parameters at all."""


class FreeQuery(Query):
    """Whatever a probe may add to its address."""

    model_config = ConfigDict(extra="ignore")


class WaitQuery(Query):
    """`wait` is in milliseconds once it is read."""

    wait: Wait = 0


class PriorityQuery(Query):
    priority: Level | None = None


class PageQuery(Query):
    limit: Limit = 50
    cursor: str | None = None


class DeadLetterFilterQuery(Query):
    """Which dead letters are meant. Times are epoch milliseconds once they are read."""

    type: TypeName | None = None
    priority: Level | None = None
    group: GroupName | None = None
    tag: TagName | None = None
    created_after: Time | None = None
    created_before: Time | None = None

    def filter(self, states: tuple[State, ...]) -> JobFilter:
        """Jobs in one of these states, in any if there are none, for which all holds that the address says."""
        return JobFilter(
            states=states,
            type=self.type,
            priority=self.priority,
            group=self.group,
            tag=self.tag,
            created_after_ms=self.created_after,
            created_before_ms=self.created_before,
        )


class JobFilterQuery(DeadLetterFilterQuery):
    """Which jobs are meant."""

    status: States = ()


class JobsQuery(JobFilterQuery, PageQuery):
    """Which jobs are listed."""


class DeadLettersQuery(DeadLetterFilterQuery, PageQuery):
    """Which dead letters are listed."""


class JobsActQuery(JobFilterQuery):
    """The jobs that something is done to: at least one filter, or `all=true`."""

    all: Flag = False
    cursor: str | None = None


class DeadLettersActQuery(DeadLetterFilterQuery):
    """The dead letters that something is done to."""

    all: Flag = False
    cursor: str | None = None


AnyQuery = TypeVar("AnyQuery", bound=Query)


def read_query(request: web.Request, model: type[AnyQuery]) -> AnyQuery:
    """Raises Problem with all that is wrong. Unknown parameters are, for a misspelt filter would match everything."""
    if not request.query_string:
        return model()
    values: dict[str, str] = {}
    faults: list[Fault] = []
    for name, value in request.query.items():
        if name == "queue" and "type" in model.model_fields:
            name = "type"  # another word for it, everywhere
        if name in values:
            faults.append(_fault(name, "repeated", "must stand only once"))
        values[name] = value
    try:
        query = model.model_validate(values)
    except ValidationError as error:
        for found in error.errors(include_url=False, include_context=False, include_input=False):
            unknown = found["type"] == "extra_forbidden"
            faults.append(
                _fault(
                    str(found["loc"][0]),
                    "unknown-parameter" if unknown else found["type"].replace("_", "-"),
                    "There is no such parameter." if unknown else found["msg"],
                )
            )
        raise Problem("invalid-parameter", faults=faults) from None
    if faults:
        raise Problem("invalid-parameter", faults=faults)
    return query


def bad_cursor() -> Problem:
    return bad_parameter("cursor", "invalid-cursor", "must be the next_cursor of a page of the same list")


def bad_parameter(name: str, code: str, detail: str) -> Problem:
    return Problem("invalid-parameter", faults=[_fault(name, code, detail)])


def _fault(name: str, code: str, detail: str) -> Fault:
    return {"parameter": name[:100], "code": code, "detail": detail}


def read_job_id(request: web.Request) -> str:
    """Raises JobNotFound for what cannot be an id: whether one exists is not told apart from whether one could."""
    job_id = request.match_info["job_id"].lower()
    if not JOB_ID.match(job_id):
        raise JobNotFound
    return job_id


def read_type(request: web.Request) -> str:
    """Raises Problem for what cannot be the name of a type, and so of a queue."""
    type = request.match_info["type"]
    if not TYPE_NAME.match(type):
        raise Problem("queue-not-found")
    return type
