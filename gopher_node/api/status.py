"""What the API asks of the node it is part of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class NodeStatus(Protocol):
    """
    What the node knows of itself: of each thing that may be amiss a sentence that tells what it is and what to do, or
    None while it is well. Every answer is at hand, and only `refuses_jobs` asks the store.
    """

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

    @property
    def stopping(self) -> bool:
        """Whether the node has been told to stop. It may still take requests for a while."""
        ...

    def dead_part(self) -> str | None:
        """A part has ended although nobody stopped it; only a restart mends that."""
        ...

    def wedged_loop(self) -> str | None:
        """The event loop is so late all the time that only a restart helps."""
        ...

    def slow_loop(self) -> str | None:
        """The event loop stood still for long, just now, and in what."""
        ...

    def store_failure(self) -> str | None:
        """The store cannot be used: it is away, or takes no writes."""
        ...

    async def refuses_jobs(self) -> str | None:
        """The store takes no new job, as it was within the last second."""
        ...

    def late_scheduler(self) -> str | None:
        """The scheduler does not tick, though the store answers."""
        ...

    def deaf_worker(self) -> str | None:
        """The worker gets no jobs although there may be some. None too where there is no worker."""
        ...

    def stuck_slots(self) -> str | None:
        """Slots are held by handlers that do not end."""
        ...

    def unsettled_outcomes(self) -> str | None:
        """Outcomes of runs wait too long for the store."""
        ...

    def numbers(self) -> Mapping[str, float]:
        """How the parts stand just now, in numbers, by the names of the metrics that tell of them."""
        ...

    def old_certificate(self) -> str | None:
        """A renewed certificate could not be taken into use."""
        ...
