"""Connections to the store's server: one request at a time on each, and the server's refusals as our errors."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

from hiredis import pack_command  # pyright: ignore[reportUnknownVariableType]
from redis.asyncio import BlockingConnectionPool, ConnectionPool
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from gopher_node.errors import OutcomeUnknown, StoreError, StoreFull, StoreReadOnly, StoreUnavailable, UnusableStore
from gopher_node.store.outage import Outage

# redis-py would repeat any command ten times, also one that was carried out and whose answer was lost.
_ONCE: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), "retry_on_timeout": False}

# The server answers these while it cannot write; they end without anybody changing the request. Of an error that it
# has a class for, redis-py cuts the code off the text.
_PASSING_ERRORS = (ClusterDownError, MasterDownError, TryAgainError)
_PASSING = (
    "LOADING",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "TRYAGAIN",
    "BUSY",
    "UNBLOCKED",
)
_READ_ONLY = ("READONLY", "MISCONF", "NOREPLICAS")


_REASONS: tuple[tuple[type[StoreError], str], ...] = (
    (OutcomeUnknown, "no-answer"),
    (StoreReadOnly, "read-only"),
    (StoreUnavailable, "unavailable"),
    (StoreFull, "full"),
    (UnusableStore, "not-allowed"),
)


class Onlooker(Protocol):
    """Who wants to know how long requests take, and which fail. Errors pass through, and none are added."""

    def time(self, operation: str, request: Awaitable[Any], /) -> Awaitable[Any]:
        """A request of this name, as it is to be awaited."""
        ...

    def failed(self, reason: str, /) -> None:
        """A request, or a wait for something to happen, got no answer of use."""
        ...


@dataclass(frozen=True, slots=True)
class PoolUse:
    """How many connections are taken, and how many open ones are not; `most` is how many there may be."""

    busy: int
    idle: int
    most: int


class Connections:
    """
    Owns two pools: for requests, which are answered within `timeout` seconds, and for waiting, where blocking pops and
    subscriptions may stay silent for longer. After `lost_after` seconds without any answer the store counts as away.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 5.0,
        size: int = 16,
        lost_after: float = 3.0,
        onlooker: Onlooker | None = None,
        **connection: Any,
    ) -> None:
        self.url = url
        self._onlooker = onlooker
        self.timeout = timeout
        extra: dict[str, Any] = {**_ONCE, **connection, "socket_connect_timeout": timeout}
        extra["socket_timeout"] = None
        self._requests: ConnectionPool = BlockingConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType]
            url, max_connections=size, timeout=timeout, **extra
        )
        self._waits: ConnectionPool = ConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType]
            url, **extra
        )
        # A look that says as much as a script: a server that answers PING may still hold up whatever could write.
        self.outage = Outage(lambda: self._exchange(self._waits, ("EVAL", "return 1", 0), timeout), lost_after)

    async def request(self, *command: Any, operation: str = "") -> Any:
        """
        Send one command and return its answer. The onlooker is told `operation`, or else the command's name.

        Raises StoreUnavailable when nothing was sent, OutcomeUnknown when no answer came, StoreFull and StoreError when
        the server refused.
        """
        began = time.monotonic()
        exchange = self._exchange(self._requests, command, self.timeout)
        try:
            if self._onlooker is None:
                answer = await exchange
            else:
                answer = await self._onlooker.time(operation or str(command[0]).lower(), exchange)
        except StoreError as error:
            self.outage.note(error, began)
            self._tell(error)
            raise
        self.outage.answered()
        return answer

    async def wait(self, *command: Any, patience: float) -> Any:
        """Send one command that may block for up to `patience` seconds at the server."""
        # The server looks at its blocked clients only ten times a second, and the answer has to travel.
        try:
            return await self._exchange(self._waits, command, patience + min(self.timeout, 2.0))
        except StoreError as error:
            self._tell(error)
            raise

    def _tell(self, error: StoreError) -> None:
        # That a script has to be loaded first is nothing amiss.
        if self._onlooker is not None and not (isinstance(error, ServerRefusal) and error.unknown_script):
            self._onlooker.failed(next((reason for kind, reason in _REASONS if isinstance(error, kind)), "refused"))

    @property
    def use(self) -> Mapping[str, PoolUse]:
        """The pools: of connections for requests, and of those that wait."""
        return {"requests": _use(self._requests), "waits": _use(self._waits)}

    async def _exchange(self, pool: ConnectionPool, command: tuple[Any, ...], timeout: float) -> Any:
        connection = await self._connection(pool)
        try:
            async with asyncio.timeout(timeout):
                # redis-py would pack it in Python, which costs more than all else that it does for us.
                await connection.send_packed_command(cast("bytes", pack_command(command)))
                return cast("Any", await connection.read_response())
        except ResponseError as error:
            raise _refusal(error) from error
        except BusyLoadingError as error:
            raise StoreUnavailable("The store is still loading its data.") from error
        except (RedisError, OSError, TimeoutError) as error:
            await connection.disconnect(nowait=True)
            raise OutcomeUnknown(f"The store did not answer: {_sentence(error)}") from error
        except asyncio.CancelledError:
            # An answer that nobody reads must not be taken for the next one's.
            await connection.disconnect(nowait=True)
            raise
        finally:
            await pool.release(connection)

    async def _connection(self, pool: ConnectionPool) -> AbstractConnection:
        try:
            # redis-py would wait for ever for a server that takes a connection and then says nothing.
            async with asyncio.timeout(self.timeout):
                return await pool.get_connection()
        except (RedisError, OSError, TimeoutError) as error:
            raise _no_connection(error) from error

    @contextlib.asynccontextmanager
    async def dedicated(self) -> AsyncGenerator[AbstractConnection]:
        """A connection for a subscription, closed at the end. It raises redis-py's errors: see `unreachable`."""
        connection = await self._connection(self._waits)
        try:
            yield connection
        finally:
            await connection.disconnect(nowait=True)
            await self._waits.release(connection)

    async def close(self) -> None:
        self.outage.close()
        await self._requests.disconnect()
        await self._waits.disconnect()


def _use(pool: ConnectionPool) -> PoolUse:
    # What the library counts for telemetry of its own; it has no public name for the numbers.
    busy = len(cast("set[Any]", pool._in_use_connections))  # pyright: ignore[reportPrivateUsage]
    idle = len(cast("list[Any]", pool._available_connections))  # pyright: ignore[reportPrivateUsage]
    return PoolUse(busy, idle, pool.max_connections)


def _no_connection(error: Exception) -> StoreError:
    # What the server of a unix socket says in the handshake, redis-py wraps into another error.
    said = error.__cause__ if isinstance(error.__cause__, RedisError) else error
    if isinstance(said, (AuthenticationError, AuthorizationError)):
        return UnusableStore(f"The store refused to let us in: {said} Check REDIS_URL and REDIS_PASSWORD.")
    if isinstance(said, BusyLoadingError):
        return StoreUnavailable("The store is still loading its data.")
    return StoreUnavailable(f"The store cannot be reached: {_sentence(error)}")


def _refusal(error: ResponseError) -> StoreError:
    text = str(error)
    if isinstance(error, OutOfMemoryError) or text.startswith("OOM"):
        return StoreFull("The store has reached its maxmemory and takes no new jobs until others have been finished.")
    if isinstance(error, ReadOnlyError) or text.startswith(_READ_ONLY):
        return StoreReadOnly(f"The store takes no writes at the moment: {text}")
    if isinstance(error, _PASSING_ERRORS) or text.startswith(_PASSING):
        return StoreUnavailable(f"The store cannot write at the moment: {text}")
    if isinstance(error, NoPermissionError):
        return UnusableStore(f"The store's user lacks a right that gopher-node needs: {text}")
    return ServerRefusal(text)


def _sentence(error: BaseException) -> str:
    return str(error) or ("it took too long" if isinstance(error, TimeoutError) else type(error).__name__)


class ServerRefusal(StoreError):
    """The server answered with an error that has no meaning of its own here."""

    @property
    def unknown_script(self) -> bool:
        return str(self).upper().startswith(("NOSCRIPT", "NO MATCHING SCRIPT"))


# What a subscription raises when its connection is gone.
unreachable = (RedisError, OSError, TimeoutError)
