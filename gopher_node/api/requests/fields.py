"""The kinds of value that a request may hold: how each is read, and the JSON schema that says the same of it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal, LiteralString, cast

from pydantic import Field, PlainValidator, WithJsonSchema
from pydantic_core import PydanticCustomError
from typing_extensions import TypeAliasType

from gopher_node.api.answers import documents
from gopher_node.durations import MAX_DURATION, PATTERN, format_duration, parse_duration
from gopher_node.handlers.context import MAX_RETRIES
from gopher_node.job import GROUP_NAME, JOB_ID, TAG_NAME, TYPE_NAME, Priority
from gopher_node.store.ordering import MAX_PARENTS

MAX_TAGS = 20
MAX_IDS = 1000
YEAR_MS = 366 * 86_400_000

_RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?([Zz]|[+-][0-9]{2}:[0-9]{2})\Z"
)

_LEVELS = {level.label: level for level in Priority}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def schema_pattern(pattern: re.Pattern[str]) -> str:
    """A pattern of ours, which is matched from the start, as a JSON schema spells it."""
    return "^" + pattern.pattern.replace(r"\Z", "$")


def name(pattern: re.Pattern[str], allowed: str, **more: Any) -> PlainValidator:
    def parse(value: object) -> str:
        if not isinstance(value, str) or not pattern.match(value):
            raise PydanticCustomError("invalid-name", "must be {allowed}", {"allowed": allowed})
        return value

    schema = {"type": "string", "pattern": schema_pattern(pattern), **more}
    return PlainValidator(parse, json_schema_input_type=Annotated[str, WithJsonSchema(schema)])


def parse_priority(value: object) -> Priority:
    if type(value) is str and value in _LEVELS:
        return _LEVELS[value]
    try:
        return Priority.parse(value)
    except ValueError as error:
        raise PydanticCustomError("out-of-range", "{reason}", {"reason": str(error)}) from None


def parse_time(value: object) -> int:
    """Epoch milliseconds from RFC 3339 text."""
    try:
        if not isinstance(value, str) or not _RFC_3339.match(value):
            raise ValueError
        return (datetime.fromisoformat(value.upper()) - _EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        raise PydanticCustomError(
            "invalid-time", 'must be a time with its zone (RFC 3339), such as "2027-01-31T08:00:00Z"'
        ) from None


def parse_run_at(value: object) -> int:
    """Epoch milliseconds, at most a year from now."""
    try:
        due_ms = parse_time(value)
    except PydanticCustomError as error:
        raise PydanticCustomError("invalid-run-at", "{reason}", {"reason": error.message()}) from None
    if due_ms > time.time() * 1000 + YEAR_MS:
        raise PydanticCustomError("invalid-run-at", "must be within a year from now")
    return max(due_ms, 0)


Duration = TypeAliasType(
    "Duration",
    Annotated[
        str,
        WithJsonSchema(
            {
                "type": "string",
                "minLength": 1,
                "pattern": PATTERN,
                "description": "A number of seconds, or numbers with units: d, h, m, s and ms, the largest first.",
                "examples": ["30", "30s", "5m", "1h30m", "500ms", "2d"],
            }
        ),
    ],
)


def duration(
    low: int, high: int = round(MAX_DURATION * 1000), *, beyond: LiteralString = "out-of-range", text: bool = False
) -> PlainValidator:
    """
    Reads a duration as milliseconds, from `low` to `high`, both included.

    `beyond` is the code of what is longer. `text` is for query parameters, which are always text.
    """
    shortest = format_duration(low / 1000)

    def parse(value: object) -> int:
        try:
            length = round(parse_duration(value) * 1000)
        except ValueError as error:
            raise PydanticCustomError("invalid-duration", "{reason}", {"reason": str(error)}) from None
        if length < low:
            raise PydanticCustomError("out-of-range", "must be at least {low}", {"low": shortest})
        if length > high:
            raise PydanticCustomError(beyond, "must be at most {high} s", {"high": high // 1000})
        return length

    # Its type is only for the schema.
    number: Any = Annotated[float, Field(ge=low / 1000, le=high / 1000)]
    return PlainValidator(parse, json_schema_input_type=Duration if text else number | Duration)


def whole(low: int, high: int) -> PlainValidator:
    """A whole number from `low` to `high`, both included."""

    def parse(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            told = {"low": low, "high": high}
            raise PydanticCustomError("out-of-range", "must be a whole number from {low} to {high}", told)
        return value

    return PlainValidator(parse, json_schema_input_type=Annotated[int, Field(ge=low, le=high)])


def _parse_callback(value: object) -> str:
    # Where it may lead is for read_submission to judge: that depends on the settings.
    if not isinstance(value, str):
        raise PydanticCustomError("callback-not-allowed", "must be a URL such as https://example.org/hooks")
    return value


def refuse_first(items: list[object], pattern: re.Pattern[str], allowed: str) -> None:
    """Raises an error about the first item of a list, `item`, that is no text like this."""
    for index, item in enumerate(items):
        if not isinstance(item, str) or not pattern.match(item):
            raise PydanticCustomError("invalid-name", "must be {allowed}", {"allowed": allowed, "item": index})


def _parse_ids(value: object) -> tuple[str, ...]:
    ids = cast("list[object]", value) if isinstance(value, list) else None
    if ids is None:
        raise PydanticCustomError("invalid-name", "must be a list of job ids")
    refuse_first([id.lower() if isinstance(id, str) else id for id in ids], JOB_ID, "the id of a job")
    if not 1 <= len(ids) <= MAX_IDS:
        raise PydanticCustomError("out-of-range", "must be 1 to {high} job ids", {"high": MAX_IDS})
    return tuple(dict.fromkeys(id.lower() for id in cast("list[str]", ids)))


def _parse_tags(value: object) -> tuple[str, ...]:
    tags = cast("list[object]", value) if isinstance(value, list) else None
    if tags is None:
        raise PydanticCustomError("invalid-name", "must be a list of names: letters, digits and ._@:/+- inside")
    refuse_first(tags, TAG_NAME, "1 to 200 letters, digits or ._@:/+-, the first a letter or digit")
    if len(tags) > MAX_TAGS:
        raise PydanticCustomError("out-of-range", "must be at most {high} tags", {"high": MAX_TAGS})
    return tuple(dict.fromkeys(cast("list[str]", tags)))


def _parse_job_name(value: object) -> str:
    if not isinstance(value, str) or not TYPE_NAME.match(value):
        said = "must be 1 to 100 letters, digits, dots, dashes or underscores, the first a letter or digit"
        raise PydanticCustomError("invalid-name", "{said}", {"said": said})
    if JOB_ID.match(value.lower()):
        raise PydanticCustomError("invalid-name", "must not look like the id of a job")
    return value


def _parse_parents(value: object) -> tuple[str, ...]:
    parents = cast("list[object]", value) if isinstance(value, list) else None
    if parents is None:
        raise PydanticCustomError("invalid-name", "must be a list of ids or names of jobs")
    refuse_first(parents, TYPE_NAME, "the id of a job, or the name of one in the same request")
    if len(parents) > MAX_PARENTS:
        raise PydanticCustomError("out-of-range", "must be at most {high} jobs", {"high": MAX_PARENTS})
    named = [parent.lower() if JOB_ID.match(parent.lower()) else parent for parent in cast("list[str]", parents)]
    return tuple(dict.fromkeys(named))


def schema(**told: Any) -> Callable[[Callable[[object], Any]], PlainValidator]:
    """Reads a value with a function, of which the JSON schema is this."""
    return lambda parse: PlainValidator(parse, json_schema_input_type=Annotated[Any, WithJsonSchema(told)])


TypeName = Annotated[
    str, name(TYPE_NAME, "1 to 100 letters, digits, dots, dashes or underscores, the first a letter or digit")
]
GroupName = Annotated[str, name(GROUP_NAME, "1 to 200 letters, digits or ._@:/+-, the first a letter or digit")]
TagName = Annotated[str, name(TAG_NAME, "1 to 200 letters, digits or ._@:/+-, the first a letter or digit")]
Level = Annotated[
    Priority, PlainValidator(parse_priority, json_schema_input_type=documents.Priority | documents.PriorityNumber)
]
Retries = Annotated[int, whole(0, MAX_RETRIES)]
RunAt = Annotated[int, schema(type="string", format="date-time")(parse_run_at)]
Delay = Annotated[int, duration(0, YEAR_MS, beyond="invalid-run-at")]
Timeout = Annotated[int, duration(1)]
Keep = Annotated[int, duration(0)]
OwnJobId = Annotated[
    str, name(JOB_ID, "a UUID in lower case, such as b3864208-5177-41ad-8fa2-451fed8ec84f", format="uuid")
]
Ids = Annotated[
    tuple[str, ...],
    schema(type="array", items={"type": "string", "format": "uuid"}, minItems=1, maxItems=MAX_IDS)(_parse_ids),
]
JobName = Annotated[str, schema(type="string", pattern=schema_pattern(TYPE_NAME))(_parse_job_name)]
Parents = Annotated[
    tuple[str, ...],
    schema(type="array", items={"type": "string", "pattern": schema_pattern(TYPE_NAME)}, maxItems=MAX_PARENTS)(
        _parse_parents
    ),
]
OnParentFailure = Literal["skip", "fail", "run"]
CallbackUrl = Annotated[str, schema(type="string", format="uri")(_parse_callback)]
Tags = Annotated[
    tuple[str, ...],
    schema(type="array", items={"type": "string", "pattern": schema_pattern(TAG_NAME)}, maxItems=MAX_TAGS)(_parse_tags),
]
