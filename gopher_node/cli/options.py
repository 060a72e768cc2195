"""How the options of all commands are declared, and how their texts become values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from cyclopts import Parameter

from gopher_node.cli.exits import UsageError
from gopher_node.durations import parse_duration
from gopher_node.job import Priority, State


def option(help: str, metavar: str, *names: str) -> Parameter:
    """An option with a value. Without names it is called like the variable that it is for."""
    return Parameter(name=names or None, help=help, metavar=metavar, negative="")


def switch(help: str, *names: str) -> Parameter:
    """An option without a value."""
    return Parameter(name=names or None, help=help, negative="", show_default=False)


Yes = Annotated[bool, switch("Do not ask.", "--yes", "-y")]
All = Annotated[bool, switch("Mean all there are, where no filter says which.")]
OfType = Annotated[str | None, option("Only the jobs of this type.", "TYPE", "--type", "-t")]
Ids = Annotated[str, Parameter(help="Ids of jobs.", negative="")]
JobId = Annotated[str, Parameter(name="ID", help="The job's id.")]
Limit = Annotated[int, option("How many to show at most.", "N")]


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetterFilters:
    """Which dead letters are meant: those to which all of this applies."""

    type: OfType = None
    priority: Annotated[str | None, option("Only this level: low, normal, high or urgent.", "LEVEL")] = None
    group: Annotated[str | None, option("Only the jobs of this group.", "GROUP")] = None
    tag: Annotated[str | None, option("Only the jobs with this tag.", "TAG")] = None
    created_after: Annotated[str | None, option("Only those submitted later, such as 2026-12-24T18:00.", "TIME")] = None
    created_before: Annotated[str | None, option("Only those submitted earlier.", "TIME")] = None

    def read(self) -> dict[str, Any]:
        """What was given, as the client takes it."""
        found = {
            "type": self.type,
            "priority": read_priority(self.priority),
            "group": self.group,
            "tag": self.tag,
            "created_after": read_time("--created-after", self.created_after),
            "created_before": read_time("--created-before", self.created_before),
        }
        return {name: value for name, value in found.items() if value is not None}


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilters(DeadLetterFilters):
    """Which jobs are meant: those to which all of this applies."""

    status: Annotated[
        Sequence[str] | None, option("Only those in this state; several with commas between.", "STATE")
    ] = None

    def read(self) -> dict[str, Any]:
        found = DeadLetterFilters.read(self)
        if self.status:
            found["status"] = [_read_state(word) for given in self.status for word in given.split(",")]
        return found


NO_FILTER = JobFilters()
NO_DEAD_LETTER_FILTER = DeadLetterFilters()


def described(filters: dict[str, Any], noun: str) -> str:
    """What filters mean, for whoever is asked whether they mean it: "all failed jobs of type email"."""
    words: dict[str, Callable[[Any], str]] = {
        "type": lambda value: f"of type {value}",
        "priority": lambda value: f"of priority {value.label}",
        "group": lambda value: f"of group {value}",
        "tag": lambda value: f"with the tag {value}",
        "created_after": lambda value: f"submitted after {value:%Y-%m-%d %H:%M:%S%z}",
        "created_before": lambda value: f"submitted before {value:%Y-%m-%d %H:%M:%S%z}",
    }
    states = " or ".join(filters.get("status", ()))
    kind = f"{states} {noun}" if states else noun
    return " ".join([f"all {kind}", *(words[name](value) for name, value in filters.items() if name in words)])


def read_duration(name: str, text: str | None) -> float | None:
    try:
        return None if text is None else parse_duration(text)
    except ValueError as error:
        raise UsageError(f"{name} {text!r} {error}.") from None


def read_priority(text: str | None) -> Priority | None:
    try:
        return None if text is None else Priority.parse(text)
    except ValueError as error:
        raise UsageError(f"--priority {text!r} {error}.") from None


def read_time(name: str, text: str | None) -> datetime | None:
    """A time without a zone is one of this machine's zone."""
    if text is None:
        return None
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"{name} {text!r} is not a time. Write it like 2026-12-24T18:00 or 2026-12-24T18:00:00+01:00."
        ) from None
    return value if value.tzinfo else value.astimezone()


def _read_state(word: str) -> str:
    try:
        return State(word).value
    except ValueError:
        raise UsageError(f"--status {word!r} must be one of {', '.join(State)}.") from None
