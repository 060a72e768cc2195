"""What kind of server the store runs on, and whether jobs are safe there."""

from __future__ import annotations

import asyncio
from typing import Any

from redis.exceptions import NoPermissionError

from gopher_node.errors import StoreError, StoreUnavailable, UnusableStore
from gopher_node.store.connections import Connections, unreachable

OLDEST = (7, 0)


async def check(connections: Connections) -> str:
    """
    The durability of an accepted job: "fsync", "replica", "memory", or "unknown" where the server hides it.

    Raises UnusableStore for a server that is too old, or that may evict jobs when its memory is full.
    """
    info = await _info(connections)
    if not info:
        return "unknown"
    version = info.get("redis_version", "")
    # Valkey tells the Redis version that it is compatible with, and its own in another field.
    if version and tuple(int(part) for part in version.split(".")[:2] if part.isdigit()) < OLDEST:
        raise UnusableStore(f"The store runs version {version}; gopher-node needs Redis 7.0, Valkey 8, or newer.")
    policy = info.get("maxmemory_policy", "noeviction")
    if policy != "noeviction":
        raise UnusableStore(
            f"The store's maxmemory-policy is {policy}: it would throw jobs away when memory runs short. "
            "Set it to noeviction (CONFIG SET maxmemory-policy noeviction, and in the server's configuration)."
        )
    if info.get("aof_enabled") != "1":
        return "memory"
    fsync = await _setting(connections, "appendfsync")
    return {"always": "fsync", "everysec": "memory", "no": "memory"}.get(fsync, "unknown")


async def check_channels(connections: Connections, prefix: str) -> None:
    """
    Raises UnusableStore if the store's user may not publish or subscribe in the namespace.

    Scripts do not fail for it, but nobody would hear that a job has ended or is to be cancelled.
    """
    channel = f"{prefix}probe"
    right = "publish"
    try:
        await connections.request("PUBLISH", channel, "")
        right = "subscribe"
        async with connections.dedicated() as connection, asyncio.timeout(connections.timeout):
            await connection.send_command("SUBSCRIBE", channel)
            await connection.read_response(disconnect_on_error=False, push_request=True)
    except (UnusableStore, NoPermissionError) as error:
        raise UnusableStore(
            f"The store's user may not {right} on the channels {prefix}*: {error} "
            f"Grant it (ACL SETUSER <user> +{right} &{prefix}*)."
        ) from error
    except StoreError:
        raise
    except unreachable as error:
        raise StoreUnavailable(f"The store did not answer: {error or type(error).__name__}") from error


async def _info(connections: Connections) -> dict[str, str]:
    try:
        answer: Any = await connections.request("INFO")
    except StoreUnavailable:
        raise
    except StoreError:
        return {}  # a managed server may forbid it
    text: str = answer.decode() if isinstance(answer, bytes) else str(answer)
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)


async def _setting(connections: Connections, name: str) -> str:
    try:
        answer: Any = await connections.request("CONFIG", "GET", name)
    except StoreUnavailable:
        raise
    except StoreError:
        return ""
    # RESP3 answers with a map; RESP2 with a list of name and value.
    value: bytes = answer.get(name.encode(), b"") if hasattr(answer, "get") else b"".join(answer[1:])
    return value.decode()
