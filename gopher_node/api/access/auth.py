"""Who asks, and what they may do: the key that a request shows, its scopes, and what goes without any key."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from gopher_node.api.access.key_ring import Key, KeyRing
from gopher_node.api.answers.problems import Problem
from gopher_node.api.parts import PARTS
from gopher_node.errors import SettingError, StoreError
from gopher_node.settings import ServerSettings
from gopher_node.settings.kinds import Scope

__all__ = ["ACCESS", "Access", "Scope", "authorize", "caller_of", "may_look", "note"]

REALM = 'Bearer realm="gopher-node"'
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})

ANONYMOUS = Key("anonymous", "anonymous", "", ("admin",))

_HERE = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(slots=True)
class Access:
    """What decides over requests. `loopback` is whether nobody on another machine can reach the listener."""

    keys: KeyRing
    server: ServerSettings
    loopback: bool = False

    @property
    def needs_keys(self) -> bool:
        """Whether nobody may do anything while there is no key."""
        return not self.loopback and not self.server.anonymous

    def refuse_to_be_open(self) -> None:
        """Raises SettingError if other machines reach the node, it has no keys, and nobody told it to do without."""
        if self.keys.in_force or not self.needs_keys:
            return
        raise SettingError(
            f"SERVER_HOST={self.server.host} lets other machines in, and there is no API key. Do one of these:\n"
            "  - give the node a key:    export GOPHER_API_KEYS="
            "$(python3 -c 'import secrets; print(secrets.token_hex(32))')\n"
            "  - store one:              gopher-node run --host 127.0.0.1, then elsewhere: "
            "gopher-node keys create NAME --scopes admin\n"
            "  - listen locally:         gopher-node run --host 127.0.0.1\n"
            "  - let everybody in:       export SERVER_ANONYMOUS=true"
        )


ACCESS: web.AppKey[Access] = web.AppKey("ACCESS", Access)
CALLER: web.RequestKey[Key] = web.RequestKey("CALLER", Key)
ACT: web.RequestKey[bool] = web.RequestKey("ACT", bool)
"""Set if the request is an operator's act, which the log keeps."""
FACTS: web.RequestKey[dict[str, Any]] = web.RequestKey("FACTS", dict)
"""What the act was done to, where the address does not say so."""
LIMIT: web.RequestKey[tuple[str, str]] = web.RequestKey("LIMIT", tuple)
"""The RateLimit-Policy and RateLimit headers of the answer."""


def key_of(request: web.Request) -> Key:
    """The key that the request was let in with."""
    return request.get(CALLER, ANONYMOUS)


def caller_of(request: web.Request) -> str:
    """The id of that key; "anonymous" without any."""
    return key_of(request).id


def note(request: web.Request, **facts: Any) -> None:
    """Have the line that the log keeps of an operator's act say this too. Never a payload, a token or a key."""
    request.setdefault(FACTS, {}).update(facts)


async def keep_keys(app: web.Application) -> AsyncIterator[None]:
    """Keep the known keys up to date while the application runs."""
    task = asyncio.create_task(app[ACCESS].keys.run(), name="keys")
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def authorize(request: web.Request, scope: Scope) -> None:
    """Let the request pass, or raise the Problem that says why not."""
    access = request.app[ACCESS]
    keys = access.keys
    if not keys.known:
        try:
            await keys.ensure_known()
        except StoreError:
            raise Problem(
                "store-unavailable",
                "The node does not know its keys yet. Nothing was done. Try again.",
                outcome="not-done",
            ) from None
    if keys.in_force:
        key = _find_key(request, keys)
        if key is None:
            raise _unauthenticated()
        if not key.allows(scope):
            raise Problem(
                "forbidden",
                f"This needs a key with the scope {scope}.",
                headers={"WWW-Authenticate": f'{REALM}, error="insufficient_scope", scope="{scope}"'},
                scope=scope,
            )
        if key.rate is not None:
            await _limit(request, key, key.rate)
    else:
        _check_anonymous(request, access)
        key = ANONYMOUS
    request[CALLER] = key
    if scope == "admin" and request.method not in SAFE:
        request[ACT] = True


def may_look(request: web.Request) -> bool:
    """Whether the request may see what an open address says only to those with the scope read."""
    access = request.app[ACCESS]
    if access.keys.in_force:
        key = _find_key(request, access.keys)
        return key is not None and key.allows("read")
    try:
        _check_anonymous(request, access)
    except Problem:
        return False
    return True


def _find_key(request: web.Request, keys: KeyRing) -> Key | None:
    bearers = request.headers.getall("Authorization", [])
    plain = request.headers.getall("X-API-Key", [])
    # Of two, nobody could say which one was meant.
    if len(bearers) + len(plain) != 1:
        return None
    if plain:
        return keys.find(plain[0].strip())
    scheme, _, key = bearers[0].partition(" ")
    return keys.find(key.strip()) if scheme.lower() == "bearer" else None


def _unauthenticated() -> Problem:
    # The same for every reason: which ids there are, or were, is nobody's business.
    return Problem(
        "unauthenticated",
        "Send a valid API key, once, in the header Authorization: Bearer KEY or X-API-Key: KEY.",
        headers={"WWW-Authenticate": REALM},
    )


async def _limit(request: web.Request, key: Key, rate: tuple[int, float]) -> None:
    limit, window = rate
    try:
        admission = await request.app[PARTS].store.keys.admit(key.id, limit, window)
    except StoreError:
        # The limit protects the store. While that is away, the operation says so itself.
        return
    reset = math.ceil(admission.reset)
    policy = f'"key";q={limit};w={math.ceil(window)}'
    request[LIMIT] = (policy, f'"key";r={admission.remaining};t={reset}')
    if not admission.allowed:
        raise Problem(
            "rate-limited",
            f"This key may make {limit} requests in {window:g} s.",
            headers={"Retry-After": str(max(reset, 1))},
        )


def _check_anonymous(request: web.Request, access: Access) -> None:
    """
    Raises Problem unless the request may pass without a key.

    A browser on this machine reaches a local node for any web page that it shows. Such a request is known by its Host,
    if the page's name was pointed at this machine, and by its Origin. One that came through a proxy came from beyond.
    """
    if access.needs_keys:
        raise _unauthenticated()
    host = request.headers.get("Host", "")
    if not access.server.anonymous:
        name = _name_in(host)
        if name not in _HERE and name != access.server.host.lower():
            raise Problem(
                "forbidden",
                "Without API keys, a node that listens locally answers only under the name localhost or its address. "
                "Send such a Host header, or give the node a key (GOPHER_API_KEYS).",
            )
        headers = request.headers
        if "Forwarded" in headers or ("X-Forwarded-For" in headers and not all(map(_is_local, _forwarders(request)))):
            raise Problem(
                "forbidden",
                "Without API keys, a node that listens locally answers no requests that a proxy brings from other "
                "machines. Give the node a key (GOPHER_API_KEYS).",
            )
    origin = request.headers.get("Origin")
    if origin is None or request.method in SAFE or origin in access.server.cors_origins:
        return
    if _place_of(origin) != host.lower():
        raise Problem(
            "forbidden",
            "Without API keys, no web page of another origin may change anything. Name its origin in "
            "SERVER_CORS_ORIGINS, or give the node a key (GOPHER_API_KEYS).",
        )


def _place_of(origin: str) -> str:
    """Host and port of an origin, as a Host header would name them; "" for "null" and for what is none."""
    return origin.lower().partition("://")[2]


@lru_cache(maxsize=128)
def _name_in(host: str) -> str:
    """The name in a Host header, in lower case and without the port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _forwarders(request: web.Request) -> list[str]:
    return [part.strip() for line in request.headers.getall("X-Forwarded-For", []) for part in line.split(",")]


def _is_local(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False


def address_of(request: web.Request, access: Access) -> str:
    """Where the request came from: the peer, or whom a trusted proxy names as having asked it."""
    address = request.remote or ""
    for named in reversed(_forwarders(request)):
        if not is_among(address, access.server):
            break
        address = named
    return address


def is_among(address: str, server: ServerSettings) -> bool:
    """Whether this is the address of a trusted proxy."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in server.trusted_proxies)
