"""Concurrent calls of one kind, gathered while the last request is under way and sent together in the next."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class GroupCommit(Generic[Item, Answer]):
    """
    One request in flight; whoever calls meanwhile shares the next one, and each gets its own answer.

    Many jobs then cost one round trip and one fsync, and a lone caller waits for nobody. A request carries at most
    `max_items` items, of `max_bytes` and `max_weight` together unless one alone is larger.
    """

    def __init__(
        self,
        send: Callable[[list[Item]], Awaitable[list[Answer]]],
        *,
        size: Callable[[Item], int],
        weight: Callable[[Item], int] = lambda item: 1,
        max_items: int = 200,
        max_bytes: int = 4 * 1024 * 1024,
        max_weight: int = 500,
    ) -> None:
        self._send = send
        self._size = size
        self._weight = weight
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._max_weight = max_weight
        self._waiting: deque[tuple[Item, asyncio.Future[Answer]]] = deque()
        self._sender: asyncio.Task[None] | None = None

    async def call(self, item: Item) -> Answer:
        """What the request answered for this item. Raises what the request raised."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_all())
        return await future

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                batch = self._next_batch()
                try:
                    answers = await self._send([item for item, _ in batch])
                except Exception as error:
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(error)
                    continue
                for (_, future), answer in zip(batch, answers, strict=True):
                    if not future.done():
                        future.set_result(answer)
        finally:
            self._sender = None

    def _next_batch(self) -> list[tuple[Item, asyncio.Future[Answer]]]:
        batch: list[tuple[Item, asyncio.Future[Answer]]] = []
        total = heft = 0
        while self._waiting and len(batch) < self._max_items:
            size = self._size(self._waiting[0][0])
            weight = self._weight(self._waiting[0][0])
            if batch and (total + size > self._max_bytes or heft + weight > self._max_weight):
                break
            total += size
            heft += weight
            batch.append(self._waiting.popleft())
        return batch
