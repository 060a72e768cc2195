"""The lines of a job's log, as whoever runs it writes them and the store keeps them."""

from __future__ import annotations

import time
from typing import Literal, get_args

import orjson

from gopher_node.job import cut

Level = Literal["debug", "info", "warning", "error"]

MAX_MESSAGE_BYTES = 4 * 1024


class LogLine(bytes):
    """A line, as JSON. It goes the way of the words about a run's progress, and is told from them by its type."""

    __slots__ = ()


def log_line(message: object, level: str, attempt: int) -> LogLine:
    """A line that is written now. What is too long is cut. Raises ValueError for another level."""
    if level not in get_args(Level):
        raise ValueError(f"level must be one of {', '.join(get_args(Level))}, not {level!r}")
    text = cut(message, MAX_MESSAGE_BYTES)
    return LogLine(
        orjson.dumps({"at": time.time_ns() // 1_000_000, "level": level, "attempt": attempt, "message": text})
    )
