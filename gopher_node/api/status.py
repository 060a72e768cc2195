"""What the API asks of the node it is part of."""

from __future__ import annotations

from typing import Protocol


class NodeStatus(Protocol):
    """What the node knows of itself. Every answer is at hand: none waits, and none asks the store."""

    @property
    def id(self) -> str: ...

    @property
    def uptime(self) -> float:
        """Seconds since the node was started."""
        ...

    @property
    def started(self) -> bool:
        """Whether the store has been reached and every part begun, once; it stays so."""
        ...

    def dead_part(self) -> str | None:
        """The part that has ended although nobody stopped it, and why; only a restart mends that."""
        ...

    def store_failure(self) -> str | None:
        """Why the store cannot be used, or None if it has answered within the last five seconds."""
        ...

    def worker_failure(self) -> str | None:
        """Why the worker gets no jobs although there are some ("deaf"), or None; None too where there is no worker."""
        ...
