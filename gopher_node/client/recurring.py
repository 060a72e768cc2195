"""What both clients do with recurring jobs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, TypeVar, Unpack

from gopher_node.client import calls
from gopher_node.client.calls.call import Call, Duration
from gopher_node.client.calls.jobs import Listing
from gopher_node.client.calls.recurring import RecurringChanges, RecurringOptions
from gopher_node.client.views import JobView, PreviewView, RecurringView

T = TypeVar("T")


class RecurringJobs:
    """The part of `Client` that is about recurring jobs."""

    def create_recurring(
        self, name: str, type: str, payload: Any = None, **options: Unpack[RecurringOptions]
    ) -> RecurringView:
        """
        Make a recurring job: of a `cron_expression` (with a `timezone`, else UTC), or an interval, `every`.

        Told again with the same content it is answered as it is. Another content for a name that is taken raises
        RecurringExists; see `edit_recurring`.
        """
        return self._ask(calls.recurring.create(name, type, payload, options))

    def recurring_jobs(self, *, limit: int | None = None) -> Iterator[RecurringView]:
        """The recurring jobs, at most `limit`, by name; of each the next fire."""
        return self._walk(calls.recurring.page(limit))

    def recurring_job(self, name: str) -> RecurringView:
        """A recurring job, with its next five fires."""
        return self._ask(calls.recurring.get(name))

    def edit_recurring(self, name: str, **changes: Unpack[RecurringChanges]) -> RecurringView:
        """Change when a recurring job fires, or what its jobs are; those that it has brought stay as they are."""
        return self._ask(calls.recurring.edit(name, changes))

    def delete_recurring(self, name: str) -> None:
        """Forget a recurring job; the jobs that it has brought stay."""
        return self._ask(calls.recurring.delete(name))

    def pause_recurring(self, name: str) -> RecurringView:
        return self._ask(calls.recurring.pause(name))

    def resume_recurring(self, name: str) -> RecurringView:
        """Let it fire again, from now on: what it did not fire meanwhile is not made up for."""
        return self._ask(calls.recurring.resume(name))

    def trigger_recurring(self, name: str) -> JobView:
        """Submit a job as the recurring one would bring it, now. Its schedule does not move."""
        return self._ask(calls.recurring.trigger(name))

    def preview_recurring(
        self,
        cron_expression: str | None = None,
        *,
        every: Duration | None = None,
        timezone: str | None = None,
        count: int | None = None,
    ) -> PreviewView:
        """When a schedule would fire, from now on; ten times unless `count` is given. Nothing is made."""
        return self._ask(calls.recurring.preview(cron_expression, every, timezone, count))

    def _ask(self, call: Call[T]) -> T:
        raise NotImplementedError

    def _walk(self, listing: Listing[T]) -> Iterator[T]:
        raise NotImplementedError


class AsyncRecurringJobs:
    """The part of `AsyncClient` that is about recurring jobs."""

    async def create_recurring(
        self, name: str, type: str, payload: Any = None, **options: Unpack[RecurringOptions]
    ) -> RecurringView:
        """
        Make a recurring job: of a `cron_expression` (with a `timezone`, else UTC), or an interval, `every`.

        Told again with the same content it is answered as it is. Another content for a name that is taken raises
        RecurringExists; see `edit_recurring`.
        """
        return await self._ask(calls.recurring.create(name, type, payload, options))

    def recurring_jobs(self, *, limit: int | None = None) -> AsyncIterator[RecurringView]:
        """The recurring jobs, at most `limit`, by name; of each the next fire."""
        return self._walk(calls.recurring.page(limit))

    async def recurring_job(self, name: str) -> RecurringView:
        """A recurring job, with its next five fires."""
        return await self._ask(calls.recurring.get(name))

    async def edit_recurring(self, name: str, **changes: Unpack[RecurringChanges]) -> RecurringView:
        """Change when a recurring job fires, or what its jobs are; those that it has brought stay as they are."""
        return await self._ask(calls.recurring.edit(name, changes))

    async def delete_recurring(self, name: str) -> None:
        """Forget a recurring job; the jobs that it has brought stay."""
        return await self._ask(calls.recurring.delete(name))

    async def pause_recurring(self, name: str) -> RecurringView:
        return await self._ask(calls.recurring.pause(name))

    async def resume_recurring(self, name: str) -> RecurringView:
        """Let it fire again, from now on: what it did not fire meanwhile is not made up for."""
        return await self._ask(calls.recurring.resume(name))

    async def trigger_recurring(self, name: str) -> JobView:
        """Submit a job as the recurring one would bring it, now. Its schedule does not move."""
        return await self._ask(calls.recurring.trigger(name))

    async def preview_recurring(
        self,
        cron_expression: str | None = None,
        *,
        every: Duration | None = None,
        timezone: str | None = None,
        count: int | None = None,
    ) -> PreviewView:
        """When a schedule would fire, from now on; ten times unless `count` is given. Nothing is made."""
        return await self._ask(calls.recurring.preview(cron_expression, every, timezone, count))

    async def _ask(self, call: Call[T]) -> T:
        raise NotImplementedError

    def _walk(self, listing: Listing[T]) -> AsyncIterator[T]:
        raise NotImplementedError
