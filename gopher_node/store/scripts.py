"""The Lua scripts: read once, sent by their hash, and loaded again wherever the server does not know them."""

from __future__ import annotations

import asyncio
import hashlib
import random
import re
import time
from collections.abc import Awaitable
from functools import cache
from importlib.resources import files
from typing import Any, Protocol

from gopher_node.errors import OutcomeUnknown, StoreUnavailable
from gopher_node.store.connections import Connections, ServerRefusal

_PART = re.compile(r"\bparts\.(\w+)")


@cache
def source(name: str, flags: bool = True) -> str:
    """
    The text of a script: its `#!lua` line, the prelude that all share, the parts that are used, and its own steps.

    A part is a file that ends with what it gives. Whoever calls `parts.<part>.<name>()` uses it, be it a script, the
    prelude or another part. It is made in a run that comes to such a call and in no other, for to make a function costs
    about half as much as to call the server. Without `flags` the first line is left out, for a server that cannot
    parse it.
    """
    first, _, body = _text(name).partition("\n")
    prelude = _text("prelude")
    return (first + "\n" if flags else "") + prelude + _maker(parts_of(prelude + body)) + body


def _maker(parts: list[str]) -> str:
    """What makes a part when it is first asked for. It is one function for all, because every run pays for it."""
    made = [f"if name == '{part}' then\ncontent = (function()\n{_text(part)}end)()\nend\n" for part in parts]
    return (
        "setmetatable(parts, {__index = function(_, name)\nlocal content\n"
        + "".join(made)
        + "made[name] = true\nparts[name] = content\nreturn content\nend})\n"
    )


def parts_of(text: str) -> list[str]:
    """The parts that a text uses, and those that these use."""
    parts = list(dict.fromkeys(_PART.findall(text)))
    for part in parts:
        parts += [other for other in dict.fromkeys(_PART.findall(_text(part))) if other not in parts]
    return parts


def _text(name: str) -> str:
    return (files("gopher_node.store") / "lua" / f"{name}.lua").read_text()


class Run(Protocol):
    """Runs a script until the server answers. `now`, in epoch ms, stands in for the server's clock."""

    def __call__(self, script: str, *arguments: Any, now: int | None = None) -> Awaitable[Any]: ...


class Scripts:
    """
    Runs scripts in one namespace.

    A script is named by the hash of its text, so nodes of different versions work side by side, each with its own.
    Those that are `hasty` ask nothing while the store is known to be away.
    """

    def __init__(self, connections: Connections, namespace: str, *, flags: bool = True, hasty: bool = False) -> None:
        self._connections = connections
        self._flags = flags
        self._hasty = hasty
        self._hashes: dict[str, str] = {}
        # The braces make it a hash tag: all keys of a namespace live in one slot of a cluster.
        self.prefix = "{" + namespace + "}:"

    async def run(self, script: str, *arguments: Any, now: int | None = None) -> Any:
        """Run a script once. `now`, in epoch ms, stands in for the server's clock."""
        if self._too_late:
            raise StoreUnavailable("The store does not answer.")
        text = source(script, self._flags)
        digest = self._hashes.get(script)
        if digest is None:
            digest = self._hashes[script] = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        command = ("EVALSHA", digest, 1, self.prefix, "" if now is None else now, *arguments)
        try:
            return await self._connections.request(*command, operation=script)
        except ServerRefusal as refusal:
            # The server forgets scripts when it restarts, fails over, or has seen too many others.
            if not refusal.unknown_script:
                raise
        await self._connections.request("SCRIPT", "LOAD", text)
        return await self._connections.request(*command, operation=script)

    @property
    def _too_late(self) -> bool:
        return self._hasty and self._connections.outage.lasts

    async def insist(self, patience: float, name: str, *arguments: Any, now: int | None = None) -> Any:
        """
        Run a script again and again until the server answers, or for `patience` seconds.

        Raises StoreUnavailable if no try reached anybody, or OutcomeUnknown if one may have been carried out.
        """
        give_up = time.monotonic() + patience
        maybe_done = False
        pause = 0.02
        while True:
            try:
                return await self.run(name, *arguments, now=now)
            except StoreUnavailable as error:
                maybe_done = maybe_done or isinstance(error, OutcomeUnknown)
                if self._too_late or time.monotonic() + pause > give_up:
                    if maybe_done and not isinstance(error, OutcomeUnknown):
                        raise OutcomeUnknown(str(error)) from error
                    raise
            await asyncio.sleep(random.uniform(0, pause))
            pause = min(pause * 2, 0.5)
