"""How the command line shows things: tables for people, aligned text for pipes, JSON for programs."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

import orjson

from gopher_node.durations import format_duration

COLOURS = {
    "completed": "green",
    "healthy": "green",
    "ok": "green",
    "failed": "red",
    "unhealthy": "red",
    "processing": "cyan",
    "scheduled": "yellow",
    "blocked": "yellow",
    "degraded": "yellow",
    "cancelled": "dim",
}

# An id that is broken over two lines cannot be copied, and a time not be read.
_UNBROKEN = frozenset({"id", "failed at", "started", "created", "minute"})

_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def visible(text: str) -> str:
    """Text in which whatever could steer a terminal is written out, for a job's content is a stranger's. Lines stay."""
    return "".join(
        character if character == "\n" or unicodedata.category(character) not in _HIDDEN else _escape(character)
        for character in text
    )


def _escape(character: str) -> str:
    number = ord(character)
    if number > 0xFFFF:
        high, low = divmod(number - 0x10000, 0x400)
        return f"\\u{0xD800 + high:04x}\\u{0xDC00 + low:04x}"
    return f"\\u{number:04x}"


def to_json(value: Any, *, indent: bool = False) -> str:
    # The escapes of `visible` are those of JSON, so it stays the same document.
    return visible(orjson.dumps(value, option=orjson.OPT_INDENT_2 if indent else 0).decode())


def write(text: str) -> None:
    sys.stdout.write(text + "\n")


def flush() -> None:
    """Hand over what was written by now: who reads along need not wait for a full buffer."""
    sys.stdout.flush()


def write_note(text: str) -> None:
    """What is said beside the output, so that a pipe does not carry it."""
    sys.stdout.flush()
    sys.stderr.write(visible(text) + "\n")


def write_json(value: Any) -> None:
    """One value on one line, so that several make a stream that is read line by line."""
    write(to_json(value))


def write_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Numbers stand on the right. An empty cell is None."""
    rows = list(rows)
    if on_terminal(sys.stdout):
        console().print(rich_table(columns, rows))
        return
    cells = [[_cell(value) for value in row] for row in rows]
    numeric = [all(isinstance(value, int) for value in column) for column in zip(*rows, strict=True)] if rows else []
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    for line in ([column.upper() for column in columns], *cells):
        aligned = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(line, widths, numeric or [False] * len(widths), strict=True)
        ]
        write("  ".join(aligned).rstrip())


def write_fields(fields: Iterable[tuple[str, object]]) -> None:
    """A name and a value on each line; what is None is left out."""
    shown = [(name, _text(value)) for name, value in fields if value is not None]
    width = max((len(name) for name, _ in shown), default=0)
    if on_terminal(sys.stdout):
        from rich.text import Text

        screen = console()
        for name, text in shown:
            screen.print(
                Text(name.ljust(width + 2), style="bold"),
                Text(text, style=COLOURS.get(text, "")),
                sep="",
                soft_wrap=True,
            )
        return
    for name, text in shown:
        write(f"{name:<{width}}  {text}")


def sentence(text: str) -> str:
    """With a full stop, unless it ends already."""
    return text if text.endswith((".", "?", "!")) else f"{text}."


def count(number: int, noun: str) -> str:
    return f"{number} {noun if number == 1 else noun + 's'}"


def ask(question: str) -> bool:
    """Whether a person says yes. Where nobody can be asked, the command itself is the answer."""
    if not on_terminal(sys.stdin):
        return True
    sys.stderr.write(f"{visible(question)} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def on_terminal(stream: TextIO | None) -> bool:
    # A stream that was closed before the program began is None.
    return stream is not None and stream.isatty()


def took(seconds: float) -> str:
    """How long something took, in two digits that matter or all whole ones: 0.4ms, 12ms, 1.2s, 42s, 3m20s."""
    # Rounded before the unit is chosen, or 999.6 ms would be 1000ms.
    rounded = float(f"{seconds:.2g}") if seconds < 100 else float(round(seconds))
    return format_duration(rounded)


def moment(value: datetime | str | None) -> str | None:
    """A time in UTC, to the second."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return value
    return None if value is None else f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"


def _text(value: object) -> str:
    return visible(value if isinstance(value, str) else str(value))


def _cell(value: object) -> str:
    return "" if value is None else _text(value).replace("\n", " ")


def rich_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Any:
    """A table for the terminal. Numbers stand on the right."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        right = bool(rows) and all(isinstance(row[index], int) for row in rows)
        whole = column in _UNBROKEN
        table.add_column(Text(column), justify="right" if right else "left", no_wrap=whole, overflow="fold")
    for row in rows:
        table.add_row(*(Text(text, style=COLOURS.get(text, "")) for text in map(_cell, row)))
    return table


def console() -> Any:
    # Made anew each time, for it looks at NO_COLOR, TERM and the terminal's width when it is made.
    from rich.console import Console

    return Console(highlight=False)
