"""What the store pushes: that a watched job has ended, and that a running one should be cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio.client import PubSub

from gopher_node.errors import StoreError
from gopher_node.store.connections import Connections, unreachable


class Listener:
    """
    One subscription for all that a node wants to hear, kept alive by reconnecting.

    What was published while it was away is not heard; each channel's `catch_up` is called after every (re)connection so
    that its owner can ask the store for what it may have missed.
    """

    def __init__(self, connections: Connections, prefix: str) -> None:
        self._connections = connections
        self._prefix = prefix
        self._heard: dict[str, Callable[[str], None]] = {}
        self._catch_up: dict[str, Callable[[], Awaitable[None]]] = {}
        self._pubsub: PubSub | None = None
        self._task: asyncio.Task[None] | None = None

    async def subscribe(
        self, channel: str, heard: Callable[[str], None], catch_up: Callable[[], Awaitable[None]]
    ) -> None:
        """Call `heard` with each message of the channel. `catch_up` runs once before the first and after each outage."""
        self._heard[channel] = heard
        self._catch_up[channel] = catch_up
        if self._task is None:
            self._task = asyncio.create_task(self._listen(), name="listener")
        elif self._pubsub is not None:
            # If the connection has just gone, the next one subscribes to every channel anyway.
            with contextlib.suppress(*unreachable):
                await self._pubsub.subscribe(self._prefix + channel)

    async def unsubscribe(self, channel: str) -> None:
        self._heard.pop(channel, None)
        self._catch_up.pop(channel, None)
        if self._pubsub is not None:
            with contextlib.suppress(*unreachable):
                await self._pubsub.unsubscribe(self._prefix + channel)

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _listen(self) -> None:
        while True:
            try:
                async with self._connections.subscription() as pubsub:
                    # One channel always, for a connection without any cannot listen.
                    first = {"ended", *self._heard}
                    await pubsub.subscribe(*[self._prefix + channel for channel in first])
                    self._pubsub = pubsub
                    # Those that were asked for meanwhile found no connection to subscribe on.
                    for channel in self._heard.keys() - first:
                        await pubsub.subscribe(self._prefix + channel)
                    while True:
                        message = await pubsub.get_message(ignore_subscribe_messages=False, timeout=None)
                        if message is not None:
                            await self._take(message)
            except (*unreachable, StoreError):
                self._pubsub = None
                await asyncio.sleep(random.uniform(0.05, 0.5))
            finally:
                self._pubsub = None

    async def _take(self, message: dict[str, Any]) -> None:
        channel = message["channel"].decode().removeprefix(self._prefix)
        if message["type"] == "subscribe":
            catch_up = self._catch_up.get(channel)
            if catch_up is not None:
                await catch_up()
        elif message["type"] == "message":
            heard = self._heard.get(channel)
            if heard is not None:
                heard(message["data"].decode())
