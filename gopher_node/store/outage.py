"""Whether the store is away: a circuit breaker for those who would rather be told so at once than wait for it."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable

from gopher_node.errors import StoreError, StoreFull, StoreReadOnly, StoreUnavailable

LOOK_EVERY = 0.5
"""Seconds between two looks at a store that is away."""
LOOK_FOR = 1.0
"""Seconds that such a look waits for its answer."""


class Outage:
    """
    Judges by what all requests of the node meet, whoever makes them.

    An outage begins when tries have failed for `lost_after` seconds since the last answer, and none was answered
    meanwhile. While it lasts, the store is looked at twice a second, so nobody's request is needed to find out that it
    is over; the first answer to anybody ends it. A refusal is an answer, unless it is that the store cannot serve yet.
    """

    # Not the library purgatory: its half-open state lets a caller's request wait for the answer that is in doubt, and
    # closes when that is cancelled; it raises one exception again and again, whose traceback grows with each refusal;
    # and it counts by the wall clock, so that a clock set back by an hour keeps it open for that hour.

    def __init__(self, ask: Callable[[], Awaitable[object]], lost_after: float) -> None:
        self._ask = ask
        self._lost_after = lost_after
        self._failing_since = math.inf
        self._answered_at = -math.inf
        self._looking: asyncio.Task[None] | None = None
        self.lasts = False
        self.reason: StoreError | None = None
        """What the last try met that got no answer."""
        self._refusal: tuple[float, StoreError] | None = None

    @property
    def silence(self) -> float:
        """The seconds since the store has answered anything; without end if it never has."""
        return time.monotonic() - self._answered_at

    def refusal(self, within: float) -> StoreError | None:
        """What it last said, in so many seconds, to something that it would have had to store, if it refused that."""
        if self._refusal is None or time.monotonic() - self._refusal[0] > within:
            return None
        return self._refusal[1]

    def answered(self) -> None:
        self._answered_at = time.monotonic()
        self._failing_since = math.inf
        self.lasts = False

    def failed(self, began: float) -> None:
        """A try that began then, by the monotonic clock, has reached nobody or got no answer."""
        self._failing_since = min(self._failing_since, max(began, self._answered_at))
        if not self.lasts and time.monotonic() - self._failing_since >= self._lost_after:
            self.lasts = True
            if self._looking is None or self._looking.done():
                self._looking = asyncio.create_task(self._look(), name="outage")

    def note(self, error: StoreError, began: float) -> None:
        """A try that began then has ended in this error."""
        if isinstance(error, (StoreReadOnly, StoreFull)):
            self._refusal = (time.monotonic(), error)
        if isinstance(error, StoreUnavailable) and not isinstance(error, StoreReadOnly):
            self.reason = error
            self.failed(began)
        else:
            self.answered()

    def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()

    async def _look(self) -> None:
        while self.lasts:
            began = time.monotonic()
            try:
                async with asyncio.timeout(LOOK_FOR):
                    await self._ask()
                self.answered()
            except StoreError as error:
                self.note(error, began)
            except TimeoutError:
                pass
            if self.lasts:
                await asyncio.sleep(LOOK_EVERY * random.uniform(0.8, 1.0))
