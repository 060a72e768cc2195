"""The store's server, where the settings here name it: what it is, and whether jobs are safe there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlsplit

from gopher_node.cli.doctor.finding import Finding, error, ok, warning
from gopher_node.cli.doctor.key import LOOPBACK
from gopher_node.errors import SettingError, StoreError, UnusableStore
from gopher_node.settings import Settings
from gopher_node.settings.layers import hide_credentials
from gopher_node.store import Connections
from gopher_node.store.embedded import EmbeddedValkey
from gopher_node.store.server import Facts, examine
from gopher_node.store.server import check as check_server
from gopher_node.store.valkey_binary import find_binary

SLOW = 0.02
LISTPACK = 1024
FULL = 0.8


def check(settings: Settings, *, durability: str | None, url: str | None) -> Iterator[Finding]:
    """`durability` is what the node says of it, and `url` where that is, if it was reached."""
    shared = settings.redis.connection_url
    if shared is not None:
        yield from _check_server(shared, settings)
        return
    if url is not None and urlsplit(url).hostname not in LOOPBACK:
        yield from _told_by_node(durability)
        return
    embedded = EmbeddedValkey(settings.data_dir)
    found = list(_check_server(embedded.url, settings, own=True)) if embedded.socket_path.exists() else []
    if found:
        yield from found
        return
    yield from _told_by_node(durability)
    if url is None:
        yield from _check_place(settings)


def _check_server(url: str, settings: Settings, *, own: bool = False) -> Iterator[Finding]:
    """Nothing is found of a node's own server that has ended, for it does so with the node."""
    facts, refusal = asyncio.run(_look(url, settings))
    if own and facts is None:
        return
    place = hide_credentials(url)
    if refusal is not None and facts is None:
        unusable = isinstance(refusal, UnusableStore)
        advice = (
            "Mend REDIS_URL or REDIS_PASSWORD, or the user's rights at the server."
            if unusable
            else "See that the server runs and that REDIS_URL leads to it; a `rediss://` address needs TLS there."
        )
        yield error("store", f"{place}: {refusal}", advice)
        return
    assert facts is not None
    if refusal is not None:
        yield error("store", str(refusal), "Change the server as said; until then no node starts with it.")
    else:
        yield ok("store", f"{facts.name} {facts.version} at {place}; round trip {facts.latency * 1000:.1f} ms.")
    yield from _check_facts(facts)


def _check_facts(facts: Facts) -> Iterator[Finding]:
    yield _check_persistence(facts)
    if facts.listpack_value is not None and facts.listpack_value < LISTPACK:
        yield warning(
            "store",
            f"hash-max-listpack-value is {facts.listpack_value}: each job takes twice the memory it needs, or more.",
            f"CONFIG SET hash-max-listpack-value {LISTPACK}, and the same in the server's configuration.",
        )
    if facts.latency > SLOW:
        yield warning(
            "store",
            f"A round trip to the server takes {facts.latency * 1000:.0f} ms, and every step of a job waits for some.",
            "Place the nodes near it: in the same zone or on the same host.",
        )
    if facts.max_memory and facts.used_memory > FULL * facts.max_memory:
        share = 100 * facts.used_memory // facts.max_memory
        yield warning(
            "store",
            f"{share} % of the server's maxmemory are used; when it is full, no more jobs are taken.",
            "Raise maxmemory, shorten the retention (RETENTION_COMPLETED), or delete failed jobs.",
        )


_PERSISTENCE = {
    "everysec": ("Up to a second of accepted jobs is lost if the server's machine fails (appendfsync everysec).", True),
    "no": ("Accepted jobs of up to half a minute are lost if the server's machine fails (appendfsync no).", True),
    "none": ("Accepted jobs are lost if the server ends: it keeps no append-only file.", False),
}


def _check_persistence(facts: Facts) -> Finding:
    if facts.persistence == "always":
        return ok("durability", "An accepted job is on disk (fsync).")
    if facts.persistence == "unknown":
        return _unknown_durability()
    finding, has_file = _PERSISTENCE[facts.persistence]
    on = "" if has_file else "CONFIG SET appendonly yes, "
    return warning(
        "durability",
        finding,
        f"{on}CONFIG SET appendfsync always, and the same in the server's configuration; batches make it affordable.",
    )


def _told_by_node(durability: str | None) -> Iterator[Finding]:
    if durability in ("fsync", "replica"):
        yield ok("durability", f"By what the node says, an accepted job is safe ({durability}).")
    elif durability == "memory":
        yield warning(
            "durability",
            "By what the node says, its store may lose accepted jobs if its machine fails.",
            "Run doctor where the node runs, with its settings, to see what to change at the server.",
        )
    elif durability is not None:
        yield _unknown_durability()


def _unknown_durability() -> Finding:
    return warning(
        "durability",
        "The server hides whether accepted jobs are on disk.",
        "Look in its configuration or the provider's console: an append-only file with fsync, or replicas.",
    )


def _check_place(settings: Settings) -> Iterator[Finding]:
    """Whether a node could keep its store here."""
    try:
        find_binary()
    except SettingError as problem:
        yield error("store", str(problem), "Install it, or set REDIS_URL.")
        return
    place = settings.data_dir
    while not place.exists() and place != place.parent:
        place = place.parent
    if not os.access(place, os.W_OK | os.X_OK):
        yield error(
            "store",
            f"{settings.data_dir} cannot hold a store: this user may not write to {place}.",
            "Name another directory with --data-dir or GOPHER_DATA_DIR, or set REDIS_URL.",
        )
    else:
        yield ok("store", f"None runs in {settings.data_dir}; a node that is started here keeps its own there.")


async def _look(url: str, settings: Settings) -> tuple[Facts | None, StoreError | None]:
    connections = Connections(url, timeout=min(settings.redis.timeout, 5.0), size=1)
    try:
        facts = await examine(connections)
    except StoreError as problem:
        return None, problem
    else:
        try:
            await check_server(connections)
        except StoreError as problem:
            return facts, problem
        return facts, None
    finally:
        with suppress(StoreError, OSError):
            await connections.close()
