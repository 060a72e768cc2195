"""What both clients do with what bounds the jobs of a type: rate limits, caps, pauses, circuit breakers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict, TypeVar, Unpack

from gopher_node.client import calls
from gopher_node.client.calls.call import Call, Duration
from gopher_node.client.flow_views import BreakerView, RateLimitView
from gopher_node.client.views import QueueView
from gopher_node.job import Priority

T = TypeVar("T")


class Limits(TypedDict, total=False):
    """
    What can bound the jobs of a type. Rates are text such as "100/s", or have `limit`, `per` and `burst`.

    A breaker has some of `ratio`, `minimum`, `window` and `cooldown`; {} is one as usual.
    """

    rate_limit: str | Mapping[str, Any] | None
    group_rate_limit: str | Mapping[str, Any] | None
    max_running: int | None
    group_max_running: int | None
    max_backlog: int | None
    breaker: Mapping[str, Any] | None


class FlowControl:
    """The part of `Client` that is about what bounds the jobs of a type."""

    def rate_limits(self) -> tuple[RateLimitView, ...]:
        """The types that have a rate limit."""
        return self._ask(calls.flow.rate_limits())

    def rate_limit(self, type: str) -> RateLimitView:
        """The rate limit of a type; of one that has none, all is None."""
        return self._ask(calls.flow.rate_limit(type))

    def set_rate_limit(
        self,
        type: str,
        limit: float | None = None,
        *,
        per: Duration | None = None,
        burst: int | None = None,
        group: Mapping[str, Any] | None = None,
    ) -> RateLimitView:
        """
        Let at most `limit` jobs of a type begin in `per` (a second unless it is said), on all nodes together.

        `group`, such as {"limit": 10, "per": "1m"}, is the same for each group. What is left out stays as it is.
        """
        return self._ask(calls.flow.set_rate_limit(type, limit, per, burst, group))

    def delete_rate_limit(self, type: str) -> RateLimitView:
        """Take back what was set; what handlers and settings declare holds again, and is the answer."""
        return self._ask(calls.flow.delete_rate_limit(type))

    def limit(self, type: str, **limits: Unpack[Limits]) -> QueueView:
        """Set what bounds the jobs of a type, on all nodes together; None takes back what was set here."""
        return self._ask(calls.flow.limit(type, limits))

    def pause(self, type: str, *, priority: Priority | str | int | None = None, group: str | None = None) -> QueueView:
        """Begin no job of a type, or of one of its priorities or groups, until that is resumed."""
        return self._ask(calls.flow.pause(type, priority, group))

    def resume(self, type: str, *, priority: Priority | str | int | None = None, group: str | None = None) -> QueueView:
        """Begin jobs again that were paused. A whole type takes new jobs again, too, if it was draining."""
        return self._ask(calls.flow.resume(type, priority, group))

    def drain(self, type: str) -> QueueView:
        """Take no new jobs of a type until it is resumed; those that are there are run."""
        return self._ask(calls.flow.drain(type))

    def breakers(self) -> tuple[BreakerView, ...]:
        """The circuit breakers, by type."""
        return self._ask(calls.flow.breakers())

    def breaker(self, type: str) -> BreakerView:
        """The circuit breaker of a type, with how it moved."""
        return self._ask(calls.flow.breaker(type))

    def open_breaker(self, type: str) -> BreakerView:
        """Hold a breaker open: no job of the type is begun until it is closed or reset."""
        return self._ask(calls.flow.open_breaker(type))

    def close_breaker(self, type: str) -> BreakerView:
        """Hold a breaker closed, however many runs fail, until it is opened or reset."""
        return self._ask(calls.flow.close_breaker(type))

    def reset_breaker(self, type: str) -> BreakerView:
        """Close a breaker and let it count anew; from then on it moves by itself again."""
        return self._ask(calls.flow.reset_breaker(type))

    def _ask(self, call: Call[T]) -> T:
        raise NotImplementedError


class AsyncFlowControl:
    """The part of `AsyncClient` that is about what bounds the jobs of a type."""

    async def rate_limits(self) -> tuple[RateLimitView, ...]:
        """The types that have a rate limit."""
        return await self._ask(calls.flow.rate_limits())

    async def rate_limit(self, type: str) -> RateLimitView:
        """The rate limit of a type; of one that has none, all is None."""
        return await self._ask(calls.flow.rate_limit(type))

    async def set_rate_limit(
        self,
        type: str,
        limit: float | None = None,
        *,
        per: Duration | None = None,
        burst: int | None = None,
        group: Mapping[str, Any] | None = None,
    ) -> RateLimitView:
        """
        Let at most `limit` jobs of a type begin in `per` (a second unless it is said), on all nodes together.

        `group`, such as {"limit": 10, "per": "1m"}, is the same for each group. What is left out stays as it is.
        """
        return await self._ask(calls.flow.set_rate_limit(type, limit, per, burst, group))

    async def delete_rate_limit(self, type: str) -> RateLimitView:
        """Take back what was set; what handlers and settings declare holds again, and is the answer."""
        return await self._ask(calls.flow.delete_rate_limit(type))

    async def limit(self, type: str, **limits: Unpack[Limits]) -> QueueView:
        """Set what bounds the jobs of a type, on all nodes together; None takes back what was set here."""
        return await self._ask(calls.flow.limit(type, limits))

    async def pause(
        self, type: str, *, priority: Priority | str | int | None = None, group: str | None = None
    ) -> QueueView:
        """Begin no job of a type, or of one of its priorities or groups, until that is resumed."""
        return await self._ask(calls.flow.pause(type, priority, group))

    async def resume(
        self, type: str, *, priority: Priority | str | int | None = None, group: str | None = None
    ) -> QueueView:
        """Begin jobs again that were paused. A whole type takes new jobs again, too, if it was draining."""
        return await self._ask(calls.flow.resume(type, priority, group))

    async def drain(self, type: str) -> QueueView:
        """Take no new jobs of a type until it is resumed; those that are there are run."""
        return await self._ask(calls.flow.drain(type))

    async def breakers(self) -> tuple[BreakerView, ...]:
        """The circuit breakers, by type."""
        return await self._ask(calls.flow.breakers())

    async def breaker(self, type: str) -> BreakerView:
        """The circuit breaker of a type, with how it moved."""
        return await self._ask(calls.flow.breaker(type))

    async def open_breaker(self, type: str) -> BreakerView:
        """Hold a breaker open: no job of the type is begun until it is closed or reset."""
        return await self._ask(calls.flow.open_breaker(type))

    async def close_breaker(self, type: str) -> BreakerView:
        """Hold a breaker closed, however many runs fail, until it is opened or reset."""
        return await self._ask(calls.flow.close_breaker(type))

    async def reset_breaker(self, type: str) -> BreakerView:
        """Close a breaker and let it count anew; from then on it moves by itself again."""
        return await self._ask(calls.flow.reset_breaker(type))

    async def _ask(self, call: Call[T]) -> T:
        raise NotImplementedError
