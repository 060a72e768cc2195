"""One question to a node, and how what it holds is written."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar, cast
from urllib.parse import quote

import orjson

from gopher_node.durations import format_duration, parse_duration
from gopher_node.job import Priority, RetryPolicy

API = "/api/v1"

Duration = float | str | timedelta
"""Seconds, a timedelta, or text such as "30s", "5m", "1h30m"."""

T = TypeVar("T")
Params = tuple[tuple[str, str], ...]

_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Generic[T]):
    """
    One question to a node.

    `wait` is how many seconds the node may hold its answer back, on top of the time that any answer takes.
    `accepts` are the statuses beyond 2xx that carry an answer and no error. `key` is the Idempotency-Key, the same
    for each repeat. `told_twice` says that the node answers a second telling as it did the first.
    """

    method: str
    path: str
    read: Callable[[Any], T]
    params: Params = ()
    body: bytes | None = field(default=None, repr=False)
    wait: float = 0.0
    accepts: frozenset[int] = field(default_factory=frozenset[int])
    key: str | None = None
    told_twice: bool = False

    @property
    def changes(self) -> bool:
        return self.method != "GET"

    @property
    def repeatable(self) -> bool:
        """Whether asking twice does no more than asking once, so that a lost answer may be asked for again."""
        return not self.changes or self.key is not None or self.told_twice


def idempotency_key(chosen: str | None = None) -> str:
    """The caller's own key, or a new one. Raises ValueError for one that no header can hold."""
    if chosen is None:
        return uuid.uuid4().hex
    if not _IDEMPOTENCY_KEY.match(chosen):
        raise ValueError("idempotency_key must be 1 to 255 visible ASCII characters.")
    return chosen


def plain(name: str, value: Any) -> Any:
    """The value of an option as JSON has it."""
    if isinstance(value, timedelta):
        return parse_duration(value)
    if isinstance(value, datetime):
        return _moment(name, value)
    if isinstance(value, Priority):
        return value.label
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, RetryPolicy):
        return {name: said for name, said in asdict(value).items() if said is not None and said != ()}
    if name in ("tags", "depends_on"):
        return strings(name, value)
    return value


def strings(name: str, value: Any) -> list[str]:
    """Raises TypeError for one string, which is a sequence too, and hardly meant as one."""
    if isinstance(value, str):
        raise TypeError(f"{name} is a list of strings, not one string.")
    return list(value)


def members(**values: Any) -> dict[str, Any]:
    """The members of a body; what is None is not in it."""
    return {name: plain(name, value) for name, value in values.items() if value is not None}


def params(**values: Any) -> Params:
    return tuple((name, _param(name, value)) for name, value in values.items() if value is not None)


def duration_param(name: str, value: Duration) -> Params:
    return ((name, format_duration(parse_duration(value))),)


def encode(body: Any, what: str = "payload") -> bytes:
    try:
        return orjson.dumps(body)
    except TypeError as error:
        raise TypeError(f"The {what} cannot be written as JSON: {error}.") from error


def segment(text: str) -> str | None:
    """Text as one step of a path; None if it would vanish there or name another resource."""
    name = quote(text, safe="")
    return None if name in ("", ".", "..") else name


def read_nothing(_content: Any) -> None:
    return None


def count_of(name: str) -> Callable[[Any], int]:
    def read(content: Any) -> int:
        return int(content[name])

    return read


def _param(name: str, value: Any) -> str:
    # Several states are one parameter, with commas between.
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(cast("Sequence[str]", value))
    return str(plain(name, value))


def _moment(name: str, value: datetime) -> str:
    if value.tzinfo is None:
        raise ValueError(f"{name} must be a datetime with a time zone, such as datetime.now(UTC).")
    return value.isoformat()


def refuse_unknown(given: Mapping[str, Any], known: frozenset[str], complaint: str) -> None:
    """Raises TypeError that names what the caller misspelt."""
    unknown = set(given) - known
    if unknown:
        raise TypeError(f"{complaint} {', '.join(sorted(unknown))}.")
