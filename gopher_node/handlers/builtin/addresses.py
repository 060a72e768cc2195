"""Which addresses a request may go to when a job names them: public ones, and those the operator allows."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import DefaultResolver

Address = IPv4Address | IPv6Address
Allowed = IPv4Network | IPv6Network | str

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
    inner = _unwrap(address)
    if _is_public(inner):
        return
    for network in allow:
        if not isinstance(network, str) and (address in network or inner in network):
            return
    raise AddressRefused(f"{text} is no public address; the setting WEBHOOK_ALLOW can allow it.")


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
