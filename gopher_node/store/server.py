"""What kind of server the store runs on, and whether jobs are safe there."""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass
from typing import Any, Literal

from redis.exceptions import NoPermissionError

from gopher_node.errors import StoreError, StoreUnavailable, UnusableStore
from gopher_node.store.connections import Connections, unreachable

OLDEST = (7, 0)

Persistence = Literal["always", "everysec", "no", "none", "unknown"]


@dataclass(frozen=True, slots=True)
class Facts:
    """
    What a server is and how it is set up; what it hides is None or "unknown".

    `persistence` is appendfsync's word, or "none" without an append-only file; `latency` is the median of some round
    trips, in seconds; memory is in bytes, and no limit is 0.
    """

    name: str
    version: str
    policy: str | None
    persistence: Persistence
    listpack_value: int | None
    used_memory: int
    max_memory: int
    latency: float


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


async def refuses_jobs(connections: Connections) -> str | None:
    """Why the server takes no new job at the moment, and what to do; None if nothing speaks against it."""
    info = await _info(connections)
    used = _number(info.get("used_memory")) - _number(info.get("mem_not_counted_for_evict"))
    most = _number(info.get("maxmemory"))
    if most and used >= most:
        return (
            f"The store is full: it has reached its maxmemory of {most / 2**20:.0f} MiB, and takes no new job until "
            "others have ended or been deleted. Give it more memory, or keep finished jobs for a shorter time."
        )
    if info.get("role") == "slave" and info.get("slave_read_only", "1") == "1":
        return "The store is a replica and takes no writes. Point REDIS_URL to its primary, or fail over."
    if info.get("aof_last_write_status", "ok") != "ok":
        return "The store cannot write its append-only file. See whether its disk is full or broken, and its log."
    return None


async def examine(connections: Connections) -> Facts:
    """Look at a server without changing anything, however it is set up. Raises StoreError if it cannot be asked."""
    info = await _info(connections)
    enabled = info.get("aof_enabled")
    words = "none" if enabled == "0" else await _setting(connections, "appendfsync") if enabled == "1" else ""
    known: dict[str, Persistence] = {"always": "always", "everysec": "everysec", "no": "no", "none": "none"}
    listpack = await _setting(connections, "hash-max-listpack-value")
    valkey = "valkey_version" in info or info.get("server_name") == "valkey"
    return Facts(
        name="Valkey" if valkey else "Redis",
        version=info.get("valkey_version") or info.get("redis_version", "unknown"),
        policy=info.get("maxmemory_policy"),
        persistence=known.get(words, "unknown"),
        listpack_value=int(listpack) if listpack.isdigit() else None,
        used_memory=_number(info.get("used_memory")),
        max_memory=_number(info.get("maxmemory")),
        latency=await _latency(connections),
    )


async def _latency(connections: Connections, rounds: int = 11) -> float:
    taken: list[float] = []
    for _ in range(rounds):
        began = time.perf_counter()
        await connections.request("PING")
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def _number(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0


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
        if not isinstance(error, NoPermissionError) and not isinstance(error.__cause__, NoPermissionError):
            raise  # a wrong password, and no right that could be granted
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
