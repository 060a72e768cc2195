"""A relay that loses a part of all answers: the server has done what it was asked, and nobody is told."""

from __future__ import annotations

import contextlib
import hashlib
import random
import re
from collections import Counter
from collections.abc import AsyncIterator
from importlib.resources import files
from pathlib import Path

from gopher_node.store.scripts import source
from tests.store.relay import Relay

_HASH = re.compile(rb"[0-9a-f]{40}")


class Losing(Relay):
    """Loses the answers to scripts and blocking pops, each with the same chance. `losses` counts them by verb."""

    def __init__(self, server: str, path: str, chance: float, seed: int) -> None:
        super().__init__(server, path)
        self.losses: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self._chance = chance
        self._rng = random.Random(f"losses {seed}")
        self._verbs = {_digest(name): name for name in _scripts()}

    def _loses_answer(self, data: bytes) -> bool:
        verb = self._verb(data)
        if verb is None:
            return False
        self.asked[verb] += 1
        loses = self._rng.random() < self._chance
        self.losses[verb] += loses
        return loses

    def _verb(self, data: bytes) -> str | None:
        head = data[:200]
        if b"EVALSHA" in head and (found := _HASH.search(head)):
            return self._verbs.get(found.group(), "another script")
        return "wait for work" if b"BLPOP" in head else None


def _scripts() -> list[str]:
    names = (path.name.removesuffix(".lua") for path in (files("gopher_node.store") / "lua").iterdir())
    return [name for name in names if name != "prelude"]


def _digest(name: str) -> bytes:
    return hashlib.sha1(source(name).encode(), usedforsecurity=False).hexdigest().encode()


@contextlib.asynccontextmanager
async def losing(url: str, folder: Path, chance: float, seed: int) -> AsyncIterator[Losing]:
    """A relay to the server at this unix:// address."""
    relay = Losing(url.removeprefix("unix://"), str(folder / "relay.sock"), chance, seed)
    await relay.up()
    try:
        yield relay
    finally:
        await relay.down()
