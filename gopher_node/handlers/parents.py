"""What a handler is told of the jobs that its own has waited for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from gopher_node.job import State


@dataclass(frozen=True, slots=True)
class ParentResult:
    """How a job ended that another has waited for: its `result` if it is completed, else the `error` that says why."""

    status: State
    result: Any = None
    error: dict[str, Any] | None = None
