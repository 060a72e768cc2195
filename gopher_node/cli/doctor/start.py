"""
What a node would refuse to start with although each setting can be read: its handlers, its secrets, its certificate.

As a program it imports the handlers, for importing is running somebody's code; the doctor does not do that itself.
"""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

from gopher_node.cli.doctor.finding import Finding, error, warning
from gopher_node.errors import GopherError, SettingError, StoreError
from gopher_node.settings import Settings
from gopher_node.store import Connections, Store
from gopher_node.store.embedded import EmbeddedValkey

PATIENCE = 60.0
"""Seconds that the handlers may take to be imported."""


def check_start(settings: Settings, config: Path | None) -> Iterator[Finding]:
    if settings.handlers or settings.push or settings.worker.types or settings.webhook.secret:
        yield from _check_handlers(config)
    server = settings.server
    if server.tls_cert and server.tls_key:
        from gopher_node.api.access.tls import Certificate

        try:
            Certificate(server.tls_cert, server.tls_key)
        except SettingError as problem:
            yield refusal(problem)
    yield from _check_access(settings)


def _check_access(settings: Settings) -> Iterator[Finding]:
    """Whether other machines would reach a node that has no keys."""
    if settings.api_keys or settings.server.anonymous or _is_loopback(settings.server.host):
        return
    where = f"SERVER_HOST={settings.server.host} lets other machines in, and"
    keys = asyncio.run(_stored_keys(settings))
    if keys is None:
        yield warning(
            "settings",
            f"{where} GOPHER_API_KEYS has no key: no node starts unless its store holds one, which cannot be seen now.",
            "Give the node a key in GOPHER_API_KEYS, or see that the store is there and look once more.",
        )
    elif not keys:
        yield error(
            "settings",
            f"{where} there is no API key: no node starts.",
            "Set GOPHER_API_KEYS; or let a node listen on 127.0.0.1, and make a key with `gopher-node keys create`; or "
            "set SERVER_ANONYMOUS=true to let everybody in.",
        )


def _is_loopback(host: str) -> bool:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return False
    return all(ip_address(str(entry[4][0]).partition("%")[0]).is_loopback for entry in found)


async def _stored_keys(settings: Settings) -> int | None:
    """How many the store holds; None if that cannot be seen."""
    url = settings.redis.connection_url
    if url is None:
        embedded = EmbeddedValkey(settings.data_dir)
        if not embedded.socket_path.exists():
            # One that was never started holds none.
            return None if embedded.log_path.exists() else 0
        url = embedded.url
    store = Store(Connections(url, timeout=min(settings.redis.timeout, 5.0), size=1), namespace=settings.namespace)
    try:
        return len(await store.keys.all())
    except StoreError:
        return None
    finally:
        with suppress(StoreError, OSError):
            await store.close()


def refusal(problem: GopherError | str) -> Finding:
    """What a start would say. Its first line says what, a list below what to do, and a traceback's last line why."""
    first, *rest = str(problem).strip().splitlines()
    steps = [line.strip().removeprefix("- ") for line in rest if line.startswith("  - ")]
    if rest and not steps:
        first = f"{first} {rest[-1].strip()}"
    return error("settings", first, "; ".join(steps) or "Mend it: no node starts with it here.")


def _check_handlers(config: Path | None) -> Iterator[Finding]:
    with tempfile.TemporaryDirectory(prefix="gopher-node-") as folder:
        told = Path(folder) / "refusal"
        command = [sys.executable, "-m", __name__, str(told), *([str(config)] if config else [])]
        try:
            # What the modules write themselves is not what was asked.
            ended = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=PATIENCE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            yield warning(
                "settings",
                f"The handlers (GOPHER_HANDLERS) have not been imported within {PATIENCE:g} s; nor will a node be up.",
                "See what the modules do when they are imported; `@startup` is the place for what takes long.",
            )
            return
        if told.exists():
            text = told.read_text()
            if text:
                yield refusal(text)
            return
    yield error(
        "settings",
        f"Importing the handlers (GOPHER_HANDLERS) ended the process, with the code {ended.returncode}.",
        "See what the modules do when they are imported.",
    )


def _find_refusal(config: Path | None) -> str:
    """As a start does it; empty if nothing is refused."""
    from gopher_node.handlers import registry
    from gopher_node.handlers.push import register_push

    try:
        settings = Settings.load(config=config)
        registry.load_builtin()
        registry.load(settings.handlers)
        register_push(registry, settings)
    except GopherError as problem:
        return str(problem)
    unknown = sorted(set(settings.worker.types or ()) - registry.types())
    if unknown and settings.role != "api":
        return f"WORKER_TYPES names {', '.join(unknown)}, for which there is no handler."
    return ""


def _main(told: str, config: str | None = None) -> None:
    Path(told).write_text(_find_refusal(Path(config) if config else None))
    # Threads that the modules have started need not end.
    os._exit(0)


if __name__ == "__main__":
    _main(*sys.argv[1:])
