"""Whether the node lets this caller in, and what it may do there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from gopher_node.cli.connect import Remote
from gopher_node.cli.doctor.finding import Finding, error, ok, warning
from gopher_node.client import ApiError, Client, Forbidden, Unauthenticated
from gopher_node.errors import GopherError

if TYPE_CHECKING:
    from gopher_node.cli.doctor.node import Reached

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

# Questions that change nothing, for what they name cannot exist; how they are refused tells whether they were allowed.
_NOBODY = "00000000-0000-0000-0000-000000000000"
_PROBES: tuple[tuple[str, Callable[[Client], Any]], ...] = (
    ("read", lambda client: client.stats()),
    ("submit", lambda client: client.cancel(_NOBODY)),
    ("work", lambda client: client.release("none")),
    ("admin", lambda client: client.keys()),
)


def check(remote: Remote, reached: Reached) -> Iterator[Finding]:
    shown = bool(remote.api_key_file or os.environ.get("GOPHER_API_KEY", "").strip())
    with remote.client(url=reached.url, timeout=5.0, retries=0, api_key="") as stranger:
        open_to_all = _allows(stranger, _PROBES[0][1])
    if open_to_all is None:
        return
    if open_to_all:
        yield from _open(reached.url, shown)
        return
    if shown and not reached.url.startswith("https:") and urlsplit(reached.url).hostname not in LOOPBACK:
        yield warning(
            "key",
            "Your API key travels over plain HTTP to another machine; whoever listens on the way has it.",
            "Serve HTTPS (SERVER_TLS_CERT and SERVER_TLS_KEY, or a proxy in front), use an https:// address, "
            "and rotate the key.",
        )
    if not shown:
        yield error(
            "key",
            "The node wants an API key, and none is set here.",
            "Set GOPHER_API_KEY or give --api-key-file; whoever has the scope admin makes a key with "
            "`gopher-node keys create NAME --scopes read,submit`.",
        )
        return
    yield _scopes(remote, reached)


def _open(url: str, shown: bool) -> Iterator[Finding]:
    if urlsplit(url).hostname not in LOOPBACK:
        yield warning(
            "key",
            f"The node at {url} lets everybody do everything.",
            "Make a key, `gopher-node keys create NAME --scopes admin`; from then on every request needs one.",
        )
    elif shown:
        yield warning("key", "You show an API key, and the node asks for none.", "Unset it, or make keys at the node.")
    else:
        yield ok("key", "The node asks this machine for no key.")


def _scopes(remote: Remote, reached: Reached) -> Finding:
    with remote.client(url=reached.url, timeout=5.0, retries=0) as client:
        try:
            scopes = [scope for scope, probe in _PROBES if _may(client, probe)]
        except Unauthenticated:
            return error(
                "key",
                "The API key that is set here is not valid: it is unknown to the node, has expired, or was revoked.",
                "Compare it with `gopher-node keys list` (scope admin), or have a new one made; look also whether "
                "it is meant for another node.",
            )
    if "admin" in scopes:
        return ok("key", "Your API key is valid and may do everything (admin).")
    told = (
        f"Your API key is valid and has the scopes {', '.join(scopes)}." if scopes else "Your API key may do nothing."
    )
    if "read" not in scopes:
        return warning(
            "key",
            f"{told} Without read, little of what follows can be looked at.",
            "Use a key with the scope read to see more.",
        )
    return ok("key", told)


def _may(client: Client, probe: Callable[[Client], Any]) -> bool:
    """Raises Unauthenticated."""
    try:
        probe(client)
    except Forbidden:
        return False
    except Unauthenticated:
        raise
    except ApiError:
        pass
    except GopherError:
        return False
    return True


def _allows(client: Client, probe: Callable[[Client], Any]) -> bool | None:
    """None if the node cannot say at the moment."""
    try:
        probe(client)
    except (Forbidden, Unauthenticated):
        return False
    except ApiError as problem:
        return None if problem.status == 503 else True
    except GopherError:
        return None
    return True
