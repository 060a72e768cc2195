"""What a request's address may say: ids, and query parameters, which are as strict as bodies."""

from __future__ import annotations

import re
from typing import Annotated, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError
from pydantic_core import PydanticCustomError

from gopher_node.api.answers.documents import Status
from gopher_node.api.answers.problems import MAX_FAULTS, Fault, Problem, no_such, our_words
from gopher_node.api.requests.fields import (
    GroupName,
    Level,
    TagName,
    TypeName,
    duration,
    parse_time,
    schema,
)
from gopher_node.errors import JobNotFound
from gopher_node.job import JOB_ID, TYPE_NAME, State
from gopher_node.store import JobFilter

MAX_WAIT_MS = 60_000
MAX_LIMIT = 200


def whole(low: int, high: int) -> PlainValidator:
    """Reads a whole number from `low` to `high`, both included."""

    def parse(value: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", value) or not low <= int(value) <= high:
            told = {"low": low, "high": high}
            raise PydanticCustomError("out-of-range", "must be a whole number from {low} to {high}", told)
        return int(value)

    return PlainValidator(parse, json_schema_input_type=Annotated[int, Field(ge=low, le=high)])


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


Limit = Annotated[int, whole(1, MAX_LIMIT)]
# Told as a list, which OpenAPI has written with commas between its items.
States = Annotated[
    tuple[State, ...],
    PlainValidator(_parse_states, json_schema_input_type=Annotated[list[Status], Field(min_length=1)]),
]
Wait = Annotated[int, duration(0, MAX_WAIT_MS, text=True)]
Flag = Annotated[bool, PlainValidator(_parse_truth, json_schema_input_type=bool)]
Time = Annotated[int, schema(type="string", format="date-time")(parse_time)]
Cursor = Annotated[str, Field(description="The `next_cursor` of the answer that this goes on from.")]


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

    wait: Wait = Field(
        0,
        description="How long to wait for the job's end, up to 60s. Not at all unless it is said.",
        examples=["30s", "5"],
    )


class PriorityQuery(Query):
    priority: Level | None = Field(None, description="Only jobs of this priority: a name or its number.")


class PageQuery(Query):
    limit: Limit = Field(50, description="At most so many jobs.")
    cursor: Cursor | None = None


class DeadLetterFilterQuery(Query):
    """Which dead letters are meant. Times are epoch milliseconds once they are read."""

    type: TypeName | None = Field(
        None, description="Only jobs of this type. `queue` is another word for it.", examples=["email"]
    )
    priority: Level | None = Field(None, description="Only jobs of this priority: a name or its number.")
    group: GroupName | None = Field(None, description="Only jobs of this group.", examples=["customer-17"])
    tag: TagName | None = Field(None, description="Only jobs with this tag.", examples=["orders"])
    created_after: Time | None = Field(None, description="Only jobs that were stored later (RFC 3339).")
    created_before: Time | None = Field(None, description="Only jobs that were stored earlier (RFC 3339).")

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

    status: States = Field((), description="Only jobs in these states: one or more, with commas between.")


class JobsQuery(JobFilterQuery, PageQuery):
    """Which jobs are listed."""


class DeadLettersQuery(DeadLetterFilterQuery, PageQuery):
    """Which dead letters are listed."""


class JobsActQuery(JobFilterQuery):
    """The jobs that something is done to: at least one filter, or `all=true`."""

    all: Flag = Field(False, description="That all jobs are meant: needed where no filter is given.")
    cursor: Cursor | None = None


class DeadLettersActQuery(DeadLetterFilterQuery):
    """The dead letters that something is done to."""

    all: Flag = Field(False, description="That all jobs are meant: needed where no filter is given.")
    cursor: Cursor | None = None


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
        known = [*model.model_fields, *(("queue",) if "type" in model.model_fields else ())]
        for found in error.errors(include_url=False, include_context=False, include_input=False)[:MAX_FAULTS]:
            unknown = found["type"] == "extra_forbidden"
            faults.append(
                _fault(
                    str(found["loc"][0]),
                    "unknown-parameter" if unknown else found["type"].replace("_", "-"),
                    no_such("parameter", str(found["loc"][0]), known) if unknown else our_words(found["msg"]),
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
