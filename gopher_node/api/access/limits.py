"""How many connections there may be: in all, and from one address."""

from __future__ import annotations

from collections import Counter
from ipaddress import IPv6Address, ip_address

from gopher_node.api.answers.problems import Problem, answer
from gopher_node.settings import ServerSettings


class ConnectionLimits:
    """Counts connections. Trusted proxies bring everybody's requests, so no cap of a single address holds for them."""

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._total = 0
        self._places: Counter[str] = Counter()

    def enter(self, address: str) -> str | None:
        """The place to name when the connection ends; None if there is no room for it."""
        if self._total >= self._settings.max_connections:
            return None
        place = self._place(address)
        if place and self._places[place] >= self._settings.max_connections_per_address:
            return None
        self._total += 1
        if place:
            self._places[place] += 1
        return place

    def leave(self, place: str) -> None:
        self._total -= 1
        if place:
            self._places[place] -= 1
            if not self._places[place]:
                del self._places[place]

    def _place(self, address: str) -> str:
        try:
            parsed = ip_address(address)
        except ValueError:
            return address
        if any(parsed in network for network in self._settings.trusted_proxies):
            return ""
        if isinstance(parsed, IPv6Address):
            # Whoever has one address of the new kind has 2^64 of them.
            return str(parsed.ipv4_mapped or int(parsed) >> 64)
        return address


def refusal_bytes(request_id: str) -> bytes:
    """A whole answer for a connection that there is no room for."""
    response = answer(Problem("too-many-connections", "Close some, or try again shortly."), request_id)
    body = response.body
    assert isinstance(body, bytes)
    lines = [f"{name}: {value}" for name, value in response.headers.items() if name != "Content-Length"]
    head = ["HTTP/1.1 503 Service Unavailable", *lines, f"Content-Length: {len(body)}", "Connection: close", "", ""]
    return "\r\n".join(head).encode() + body
