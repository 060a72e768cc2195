"""How long a worker waits for what may never come."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Patience:
    """
    How many seconds each may take: a coroutine to heed its timeout, the same in a drain, and the store at its end.

    A cancel is heeded within the setting `cancel_grace`.
    """

    stop: float = 5.0
    release: float = 0.5
    settle: float = 5.0
