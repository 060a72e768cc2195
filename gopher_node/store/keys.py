"""The keys that requests show: what is kept of them, which nodes hear of changes, and how often each may ask."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from gopher_node.store.listening import Listener
from gopher_node.store.scripts import Run

MAX_LIMIT = 1_000_000
MAX_WINDOW = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """
    What is kept of a key, which is not the key itself: `digest` is its SHA-256 as hex.

    Times are epoch milliseconds. `rate` is how many requests it may make in how many seconds.
    """

    id: str
    name: str
    digest: str
    scopes: tuple[str, ...]
    created_ms: int
    expires_ms: int | None = None
    rate: tuple[int, float] | None = None
    last_used_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Admission:
    """
    Whether a request is within its key's limit, and how many more would be at this moment.

    `reset` is seconds: until the whole limit is there again, or, for a request that is refused, until one is let in.
    """

    allowed: bool
    remaining: int
    reset: float


class Keys:
    """The keys of the namespace. Every node hears of each change at once."""

    def __init__(self, run: Run, run_once: Run, listener: Listener) -> None:
        self._run = run
        self._run_once = run_once
        self._listener = listener

    async def add(self, *records: KeyRecord) -> bool:
        """Store keys, or replace them, in one step. False: one of them has been revoked, so nothing was changed."""
        words = [word for record in records for word in (record.id, _encode(record))]
        return bool(await self._run("keys", "add", *words))

    async def all(self) -> list[KeyRecord]:
        records, used = await self._run("keys", "all")
        last = {id: int(ms) for id, ms in zip(used[::2], used[1::2], strict=True)}
        return [_decode(id, text, last.get(id)) for id, text in sorted(zip(records[::2], records[1::2], strict=True))]

    async def revoke(self, id: str, *, now: int | None = None) -> bool:
        """Forget a key for good; no copy of an earlier call brings it back. False: there is no such key."""
        return bool(await self._run("keys", "revoke", id, now=now))

    async def touch(self, used: Mapping[str, int]) -> None:
        """Note when keys were used last, in epoch ms. What is unknown, or older than known, changes nothing."""
        if used:
            await self._run("keys", "touch", *(word for pair in used.items() for word in pair))

    async def admit(self, id: str, limit: int, window: float, *, now: int | None = None) -> Admission:
        """
        Count a request, if it is within `limit` in `window` seconds: see admit.lua. All nodes count together.

        It is told once: where the answer is lost, the request may have been counted. Raises StoreError then, and
        ValueError for a limit or a window that cannot be counted exactly.
        """
        if not 1 <= limit <= MAX_LIMIT or not 0.001 <= window <= MAX_WINDOW:
            raise ValueError(f"A rate limit is 1 to {MAX_LIMIT} requests in 0.001 to {MAX_WINDOW:.0f} seconds.")
        allowed, remaining, reset_ms = await self._run_once("admit", id, limit, round(window * 1000), now=now)
        return Admission(bool(allowed), remaining, reset_ms / 1000)

    def on_change(self, callback: Callable[[], object]) -> None:
        """Call this whenever a key has changed, or may have while the store was out of reach. It must not wait."""

        def heard(id: str) -> None:
            callback()

        async def catch_up() -> None:
            callback()

        self._listener.subscribe("keys", heard, catch_up)


def _encode(record: KeyRecord) -> bytes:
    content: dict[str, Any] = {
        "name": record.name,
        "digest": record.digest,
        "scopes": record.scopes,
        "created": record.created_ms,
        "expires": record.expires_ms,
        "rate": record.rate,
    }
    return orjson.dumps(content)


def _decode(id: bytes, text: bytes, last_used_ms: int | None) -> KeyRecord:
    content = orjson.loads(text)
    rate = content["rate"]
    record = KeyRecord(
        id.decode(),
        content["name"],
        content["digest"],
        tuple(content["scopes"]),
        content["created"],
        content["expires"],
        None if rate is None else (rate[0], rate[1]),
    )
    return replace(record, last_used_ms=last_used_ms)
