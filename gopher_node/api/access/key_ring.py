"""The keys in force: those of the settings, and those of the store, whose changes every node hears of."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gopher_node.errors import StoreError
from gopher_node.settings.kinds import ConfiguredKey, Scope
from gopher_node.store.keys import KeyRecord, Keys

LOOK_EVERY = 60.0
"""Seconds after which the store is told which keys were used, and is asked for its keys although nothing was heard."""
AGAIN_AFTER = 1.0
"""Seconds after which a store that did not answer is asked again."""

# Compared with where no key has the id that was shown: no text has this SHA-256 that anybody knows of.
_NO_DIGEST = "0" * 64


@dataclass(frozen=True, slots=True)
class Key:
    """A key as requests are checked against it. `rate` is how many requests it may make in how many seconds."""

    id: str
    name: str
    digest: str
    scopes: tuple[str, ...]
    expires_ms: int | None = None
    rate: tuple[int, float] | None = None

    def allows(self, scope: Scope) -> bool:
        return scope in self.scopes or "admin" in self.scopes

    def is_over(self, now_ms: int) -> bool:
        return self.expires_ms is not None and self.expires_ms <= now_ms


def digest_of(key: str) -> str:
    """What is kept of a key: its SHA-256. A key is 256 random bits, so a slow hash would protect it no better."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


class KeyRing:
    """
    Knows every key, and which of them a request shows.

    `run` keeps it up to date; while the store is away, the keys that were known last stay in force. A key that has
    expired opens nothing, but counts as a key until it is revoked: that all keys are over must not let everybody in.
    """

    def __init__(
        self, store: Keys, configured: Iterable[ConfiguredKey], on_trouble: Callable[[StoreError], None]
    ) -> None:
        self._store = store
        self._on_trouble = on_trouble
        self.configured = tuple(
            Key(f"settings-{number}", "GOPHER_API_KEYS", key.digest, key.scopes)
            for number, key in enumerate(configured, start=1)
        )
        self._stored: dict[str, Key] = {}
        self.known = False
        """Whether the store has told its keys, once."""
        self._changed = asyncio.Event()
        self._lock = asyncio.Lock()
        self._first_look: asyncio.Task[None] | None = None
        self._used: dict[str, int] = {}
        self._told_at = time.monotonic()

    @property
    def in_force(self) -> bool:
        """Whether requests must show a key."""
        return bool(self.configured or self._stored)

    def find(self, shown: str, now_ms: int | None = None) -> Key | None:
        """The key that was shown, if it is one and not over. It takes as long for an id that no key has."""
        digest = digest_of(shown)
        stored = self._stored.get(shown[3:].partition("_")[0])
        matches = hmac.compare_digest(digest, _NO_DIGEST if stored is None else stored.digest)
        found = stored if matches else None
        for key in self.configured:
            if hmac.compare_digest(digest, key.digest):
                found = key
        now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
        if found is None or found.is_over(now_ms):
            return None
        if found is stored:
            self._used[found.id] = now_ms
        return found

    def last_used(self, id: str) -> int | None:
        """When the key was used last, in epoch milliseconds, as far as the store has not been told."""
        return self._used.get(id)

    async def ensure_known(self) -> None:
        """Raises StoreError if the store has never told its keys and does not now."""
        if self.known:
            return
        # One question for all requests that came too early.
        if self._first_look is None or self._first_look.done():
            self._first_look = asyncio.create_task(self.look())
            self._first_look.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.shield(self._first_look)

    async def look(self) -> None:
        """Ask the store for its keys. Raises StoreError."""
        # One after the other, or a slow answer could bring a key back that was revoked in the meantime.
        async with self._lock:
            self._stored = {record.id: _key(record) for record in await self._store.all()}
            self.known = True

    async def tell_used(self) -> None:
        """Let the store know when each key was used last. Raises StoreError."""
        used, self._used = self._used, {}
        self._told_at = time.monotonic()
        if used:
            try:
                await self._store.touch(used)
            except (StoreError, asyncio.CancelledError):
                # When the node stops in the middle of it, it is told once more.
                self._used = {**used, **self._used}
                raise

    async def run(self) -> None:
        """Until cancelled: look whenever a key has changed, and once a minute."""
        self._store.on_change(self._changed.set)
        try:
            while True:
                pause = AGAIN_AFTER
                try:
                    await self.look()
                    if time.monotonic() - self._told_at >= LOOK_EVERY / 2:
                        await self.tell_used()
                    pause = LOOK_EVERY
                except StoreError as error:
                    self._on_trouble(error)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause * random.uniform(0.8, 1.0)):
                        await self._changed.wait()
                self._changed.clear()
        finally:
            with contextlib.suppress(StoreError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await self.tell_used()


def _key(record: KeyRecord) -> Key:
    return Key(record.id, record.name, record.digest, tuple(record.scopes), record.expires_ms, record.rate)
