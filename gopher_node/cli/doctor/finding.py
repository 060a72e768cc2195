"""What the doctor has found: what it means, and what to do about it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One line about one thing; where that is not well, another about how to mend it."""

    check: str
    level: Level
    finding: str
    advice: str | None = None

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def ok(check: str, finding: str) -> Finding:
    return Finding(check, "ok", finding)


def warning(check: str, finding: str, advice: str | None) -> Finding:
    return Finding(check, "warning", finding, advice)


def error(check: str, finding: str, advice: str | None) -> Finding:
    return Finding(check, "error", finding, advice)
