"""Reads error documents (RFC 9457)."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, cast

from gopher_node.client.problems import FieldError, Problem


def problem_from(content: Any, status: int = 0, retry_after: str = "") -> Problem | None:
    """The problem that a JSON value is, if it is one. A `status` overrules the one that it names."""
    if not isinstance(content, dict):
        return None
    members = cast("dict[str, Any]", content)
    named = {name: str(members.get(name) or "") for name in ("title", "detail", "instance")}
    told = members.get("status")
    return Problem(
        status=status or (told if isinstance(told, int) else 500),
        type=str(members.get("type") or "").rpartition("/")[2],
        errors=_read_field_errors(members.get("errors")),
        retry_after=_read_retry_after(retry_after),
        more={
            name: value
            for name, value in members.items()
            if name not in named and name not in ("status", "type", "errors")
        },
        **named,
    )


def _read_field_errors(content: Any) -> tuple[FieldError, ...]:
    if not isinstance(content, list):
        return ()
    entries = [cast("dict[str, Any]", entry) for entry in cast("list[Any]", content) if isinstance(entry, dict)]
    return tuple(
        FieldError(
            pointer=str(entry.get("pointer") or entry.get("parameter") or ""),
            code=str(entry.get("code", "")),
            detail=str(entry.get("detail", "")),
        )
        for entry in entries
    )


def _read_retry_after(text: str) -> float | None:
    if not text:
        return None
    try:
        return max(0.0, float(int(text)))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, (moment - datetime.now(UTC)).total_seconds()) if moment.tzinfo else None
