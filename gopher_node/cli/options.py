"""How the options of all commands are declared, and how their texts become values."""

from __future__ import annotations

from datetime import datetime

from cyclopts import Parameter

from gopher_node.cli.exits import UsageError
from gopher_node.durations import parse_duration
from gopher_node.job import Priority


def option(help: str, metavar: str, *names: str) -> Parameter:
    """An option with a value. Without names it is called like the variable that it is for."""
    return Parameter(name=names or None, help=help, metavar=metavar, negative="")


def switch(help: str, *names: str) -> Parameter:
    """An option without a value."""
    return Parameter(name=names or None, help=help, negative="", show_default=False)


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
