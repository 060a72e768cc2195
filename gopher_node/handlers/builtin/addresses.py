"""Which addresses a request may go to when a job names them: public ones, and those the operator allows."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver
from yarl import URL

Address = IPv4Address | IPv6Address
Allowed = IPv4Network | IPv6Network | str

MAX_URL = 2048

# Beside what the ipaddress module knows, which depends on Python's version: shared address space (CGNAT), where a
# cloud's metadata also lives; Azure's metadata; benchmarks; translation prefixes; 6to4 and relays; discard-only; SRv6.
SPECIAL = [
    ip_network(text)
    for text in (
        "0.0.0.0/8",
        "100.64.0.0/10",
        "168.63.129.16/32",
        "192.0.0.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "64:ff9b:1::/48",
        "100::/64",
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",
        "3fff::/20",
        "5f00::/16",
        "fc00::/7",
        "fec0::/10",
    )
]
NAT64 = ip_network("64:ff9b::/96")


class AddressRefused(Exception):
    """A host has an address that jobs may not reach."""


def check_address(text: str, allow: Sequence[Allowed]) -> None:
    """Raises AddressRefused."""
    address = ip_address(text)
    if _is_public(_unwrap(address)) or _is_in(address, allow):
        return
    raise AddressRefused(f"{text} is no public address; the setting WEBHOOK_ALLOW can allow it.")


def _is_in(address: Address, allow: Sequence[Allowed]) -> bool:
    inner = _unwrap(address)
    return any(not isinstance(entry, str) and (address in entry or inner in entry) for entry in allow)


def _unwrap(address: Address) -> Address:
    """The IPv4 address that an IPv6 address is only another spelling of."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _is_public(address: Address) -> bool:
    if address.is_multicast or address.is_reserved or address.is_unspecified or address.is_loopback:
        return False
    return address.is_global and not any(address in network for network in SPECIAL)


class CheckedResolver(AbstractResolver):
    """
    Looks a name up once and hands out its addresses only if all of them may be reached.

    The connection then goes to one of these very addresses: there is no second look-up that could answer otherwise.
    """

    def __init__(self, allow: Sequence[Allowed], resolver: AbstractResolver | None = None) -> None:
        self._allow = allow
        self._names = {name for name in allow if isinstance(name, str)}
        self._resolver = resolver or DefaultResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        if host.rstrip(".").lower() not in self._names:
            for result in found:
                check_address(result["host"], self._allow)
        return found

    async def close(self) -> None:
        await self._resolver.close()


# What a name ends in that is never public, or names a cloud's metadata.
_INNER = ("localhost", "local", "internal", "localdomain", "home.arpa", "metadata.goog", "metadata.tencentyun.com")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\Z")
_NUMBER = re.compile(r"0x[0-9a-f]*\Z|[0-9]+\Z")
_EXAMPLE = "must be a URL such as https://example.org/hooks"
_ONLY_HTTPS = "must be an https URL; the setting WEBHOOK_ALLOW can name hosts and networks that http may reach"


def callback_refusal(url: str, allow: Sequence[Allowed]) -> str | None:
    """
    Why a job may not name this URL to be called, or None if it may.

    That is judged by the URL alone: what a public name stands for is looked up, and checked, when it is called.
    """
    if len(url) > MAX_URL:
        return f"must not be longer than {MAX_URL:,} characters"
    try:
        # As the delivery reads it, or the two could see different hosts in it.
        target = URL(url)
        host = (target.raw_host or "").lower()
    except ValueError:
        return _EXAMPLE
    authority = re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0]
    if target.scheme not in ("http", "https") or not host or target.explicit_port == 0:
        return _EXAMPLE
    # In brackets only IPv6, and without a zone; nothing percent-encoded in a name.
    if "%" in authority or ("[" in authority and ":" not in host):
        return _EXAMPLE
    if not url.isprintable() or re.search(r"[\s\\]", url):
        return _EXAMPLE
    if "@" in authority:
        return "must hold no user and password"
    if _is_allowed(host, allow):
        return None
    return _refusal_of(host) or (None if target.scheme == "https" else _ONLY_HTTPS)


def _is_allowed(host: str, allow: Sequence[Allowed]) -> bool:
    """Whether the operator names this host, or a network that its literal address is in."""
    try:
        return _is_in(ip_address(host), allow)
    except ValueError:
        return host.rstrip(".") in allow


def _refusal_of(host: str) -> str | None:
    if ":" in host:
        return _refusal_of_address(host)
    name = host.removesuffix(".")
    labels = name.split(".")
    if len(name) > 253 or not all(_LABEL.match(label) for label in labels):
        return _EXAMPLE
    if _NUMBER.match(labels[-1]):
        # No name ends in a number: it is an address, perhaps in one of the spellings that only C still reads.
        try:
            return _refusal_of_address(str(IPv4Address(name)))
        except ValueError:
            return "must hold an address as four decimal numbers, such as 192.0.2.1, or as an IPv6 address in brackets"
    if len(labels) == 1 or f".{name}".endswith(tuple(f".{inner}" for inner in _INNER)):
        return f"must not lead to {name}, which is no public host; the setting WEBHOOK_ALLOW can allow it"
    return None


def _refusal_of_address(text: str) -> str | None:
    try:
        check_address(text, ())
    except AddressRefused:
        return f"must not lead to {text}, which is no public address; the setting WEBHOOK_ALLOW can allow it"
    except ValueError:
        return _EXAMPLE
    return None
