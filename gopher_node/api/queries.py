"""What a request's address may say: ids, and query parameters, which are as strict as bodies."""

from __future__ import annotations

import re
from typing import Annotated, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, PlainValidator, ValidationError
from pydantic_core import PydanticCustomError

from gopher_node.api.models import GroupName, Level, TagName, TypeName, milliseconds, parse_time
from gopher_node.api.problems import Fault, Problem
from gopher_node.errors import JobNotFound
from gopher_node.job import TYPE_NAME, State

MAX_WAIT_MS = 60_000
MAX_LIMIT = 200

_JOB_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")


def _parse_limit(value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,4}", value) or not 1 <= int(value) <= MAX_LIMIT:
        raise PydanticCustomError("out-of-range", "must be a whole number from 1 to {high}", {"high": MAX_LIMIT})
    return int(value)


def _parse_states(value: str) -> tuple[State, ...]:
    try:
        return tuple(dict.fromkeys(State(word) for word in value.split(",")))
    except ValueError:
        raise PydanticCustomError(
            "unknown-state", "must be one or more of {states}, with commas between", {"states": ", ".join(State)}
        ) from None


Limit = Annotated[int, PlainValidator(_parse_limit, json_schema_input_type=int)]
States = Annotated[tuple[State, ...], PlainValidator(_parse_states, json_schema_input_type=str)]
Wait = Annotated[int, PlainValidator(milliseconds(0, MAX_WAIT_MS), json_schema_input_type=str | int | float)]
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


class TypeQuery(Query):
    type: TypeName | None = None


class PriorityQuery(Query):
    priority: Level | None = None


class PageQuery(Query):
    limit: Limit = 50
    cursor: str | None = None


class DeadLettersQuery(PageQuery, TypeQuery):
    """Which dead letters are listed."""


class JobsQuery(PageQuery):
    """Which jobs are listed. Times are epoch milliseconds once they are read."""

    status: States = ()
    type: TypeName | None = None
    priority: Level | None = None
    group: GroupName | None = None
    tag: TagName | None = None
    created_after: Time | None = None
    created_before: Time | None = None


AnyQuery = TypeVar("AnyQuery", bound=Query)


def read_query(request: web.Request, model: type[AnyQuery]) -> AnyQuery:
    """Raises Problem with all that is wrong. Unknown parameters are, for a misspelt filter would match everything."""
    if not request.query_string:
        return model()
    values: dict[str, str] = {}
    faults: list[Fault] = []
    for name, value in request.query.items():
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
    fault = _fault("cursor", "invalid-cursor", "must be the next_cursor of a page of the same list")
    return Problem("invalid-parameter", faults=[fault])


def _fault(name: str, code: str, detail: str) -> Fault:
    return {"parameter": name[:100], "code": code, "detail": detail}


def read_job_id(request: web.Request) -> str:
    """Raises JobNotFound for what cannot be an id: whether one exists is not told apart from whether one could."""
    job_id = request.match_info["job_id"].lower()
    if not _JOB_ID.match(job_id):
        raise JobNotFound
    return job_id


def read_type(request: web.Request) -> str:
    """Raises Problem for what cannot be the name of a type, and so of a queue."""
    type = request.match_info["type"]
    if not TYPE_NAME.match(type):
        raise Problem("queue-not-found")
    return type
