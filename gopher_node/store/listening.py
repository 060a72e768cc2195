"""What the store pushes: that a watched job has ended, and that a running one should be cancelled."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import cast

from redis.asyncio.connection import AbstractConnection

from gopher_node.errors import StoreError
from gopher_node.store.connections import Connections, unreachable


@dataclass(frozen=True, slots=True, eq=False)
class _Subscription:
    heard: Callable[[str], None]
    catch_up: Callable[[], Awaitable[None]]


class Listener:
    """
    One connection for all that a node wants to hear, kept alive by reconnecting.

    What was published while it was away is not heard; each channel's `catch_up` is called after every (re)connection so
    that its owner can ask the store for what it may have missed. A connection that says nothing for `quiet` seconds is
    asked whether it still stands, and given up after as long again. An error that nobody foresaw, such as one of a
    channel's owner, is told to `on_trouble` and handled like an outage.
    """

    def __init__(
        self, connections: Connections, prefix: str, on_trouble: Callable[[Exception], None], *, quiet: float = 5.0
    ) -> None:
        self.quiet = quiet
        self._connections = connections
        self._prefix = prefix
        self._on_trouble = on_trouble
        self._wanted: dict[str, _Subscription] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    def subscribe(self, channel: str, heard: Callable[[str], None], catch_up: Callable[[], Awaitable[None]]) -> None:
        """Call `heard` with each message of the channel, and `catch_up` before the first and after each outage."""
        self._wanted[channel] = _Subscription(heard, catch_up)
        self._changed.set()
        if self._task is None or self._task.done():
            self._closing = False
            self._task = asyncio.create_task(self._listen(), name="listener")

    def unsubscribe(self, channel: str) -> None:
        self._wanted.pop(channel, None)
        self._changed.set()

    async def close(self) -> None:
        if self._task is not None:
            self._closing = True
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _listen(self) -> None:
        # Not redis-py's PubSub: it reconnects by itself, and two tasks that do so at once ruin its connection.
        pause = 0.5
        # A connection that breaks in the moment of the cancellation hides that: to a task group, errors go first.
        while not self._closing:
            foreseen = True
            try:
                async with self._connections.dedicated() as connection, asyncio.TaskGroup() as group:
                    group.create_task(self._ask(connection))
                    group.create_task(self._hear(connection))
            except* (*unreachable, StoreError):
                pass
            except* Exception as troubles:
                foreseen = False
                with contextlib.suppress(Exception):
                    self._on_trouble(troubles)
            pause = 0.5 if foreseen else min(pause * 2, 5.0)
            if not self._closing:
                await asyncio.sleep(random.uniform(0.05, pause))

    async def _ask(self, connection: AbstractConnection) -> None:
        """Subscribe to what is wanted, as that changes. Whoever took a channel over has to catch up for itself."""
        asked: dict[str, _Subscription] = {}
        while True:
            self._changed.clear()
            wanted = dict(self._wanted)
            new = [self._prefix + channel for channel in wanted if asked.get(channel) is not wanted[channel]]
            old = [self._prefix + channel for channel in asked if channel not in wanted]
            asked = wanted
            if new:
                await connection.send_command("SUBSCRIBE", *new)
            if old:
                await connection.send_command("UNSUBSCRIBE", *old)
            await self._changed.wait()

    async def _hear(self, connection: AbstractConnection) -> None:
        asked = False
        while True:
            said = cast(
                "list[bytes] | None",
                await connection.read_response(timeout=self.quiet, disconnect_on_error=False, push_request=True),
            )
            if said is not None:
                asked = False
                await self._take(said)
            elif asked:
                raise TimeoutError
            else:
                # The other end may be long gone: a network that is cut says nothing, and neither does this connection.
                await connection.send_command("PING")
                asked = True

    async def _take(self, said: list[bytes]) -> None:
        # Answers to UNSUBSCRIBE and PING need nothing; the latter may be no list at all.
        if said[0] not in (b"subscribe", b"message"):
            return
        kind, channel, message = said
        subscription = self._wanted.get(channel.decode().removeprefix(self._prefix))
        if subscription is None:
            return
        if kind == b"subscribe":
            await subscription.catch_up()
        else:
            subscription.heard(message.decode())
