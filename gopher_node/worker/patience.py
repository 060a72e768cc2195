"""How long a worker waits for what may never come."""

from __future__ import annotations

from dataclasses import dataclass

UNSETTLED_PER_SLOT = 4
"""So many outcomes may wait for the store for each slot; then nothing more is claimed."""

PROCESS_PATIENCE = 15.0
"""
How many seconds a run may wait for a process before its job is handed back. With the run's own timeout, and the time to
stop it, this stays within the store's hard deadline, which comes 30 s after the timeout.
"""


@dataclass(frozen=True, slots=True)
class Patience:
    """
    How many seconds each may take: a coroutine to heed its timeout, the same in a drain, and the store at its end.

    A cancel is heeded within the setting `cancel_grace`.
    """

    stop: float = 5.0
    release: float = 0.5
    settle: float = 5.0
