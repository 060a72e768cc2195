"""How many connections there may be, and how many requests of a key."""

from __future__ import annotations

import asyncio
import contextlib
import re

import pytest

from gopher_node.api.access.limits import ConnectionLimits
from gopher_node.settings import ServerSettings

PROBE = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Client:
    """A connection that stays open."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def served(self) -> bool:
        """Whether a request is answered."""
        self.writer.write(PROBE)
        head = await self.reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"Content-Length: (\d+)", head)
        assert length
        await self.reader.readexactly(int(length[1]))
        return head.startswith(b"HTTP/1.1 200")

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


@pytest.fixture
async def connect(serve):
    clients: list[Client] = []

    async def connect(api) -> Client:
        client = Client(*await asyncio.open_connection(*api.server.address))
        clients.append(client)
        return client

    yield connect
    for client in clients:
        client.writer.close()


@pytest.mark.parametrize("caps", [{"max_connections": 2}, {"max_connections_per_address": 2}])
async def test_connections_beyond_the_cap_are_told_so_and_closed(serve, connect, caps, monkeypatch):
    """Whoever has one keeps it, one more gets a whole answer at once, and there is room again when one has gone."""
    api = await serve(**caps)
    held = [await connect(api), await connect(api)]
    assert [await client.served() for client in held] == [True, True]

    late = await connect(api)
    answer = api.read(await asyncio.wait_for(late.reader.read(), 10))

    assert (answer.status, answer.problem) == (503, "too-many-connections")
    assert int(answer.headers["Content-Length"]) == len(answer.body)
    assert (answer.headers["Retry-After"], answer.headers["Connection"]) == ("1", "close")
    assert [await client.served() for client in held] == [True, True]
    assert api.server.connections == 2

    left = asyncio.Event()
    leave = ConnectionLimits.leave
    monkeypatch.setattr(ConnectionLimits, "leave", lambda self, place: (leave(self, place), left.set()))
    await held.pop().close()
    await asyncio.wait_for(left.wait(), 10)
    assert await (await connect(api)).served()


async def test_what_a_refused_connection_sends_is_not_read(serve, connect):
    """Not even a request that has come with it."""
    api = await serve(max_connections=1)
    assert await (await connect(api)).served()

    late = await connect(api)
    late.writer.write(b"POST /api/v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n")
    late.writer.write(b'Content-Length: 15\r\n\r\n{"type":"mail"}')
    with contextlib.suppress(ConnectionError):
        assert b" 503 " in await asyncio.wait_for(late.reader.read(), 10)

    assert await api.stored() == 0


async def test_a_trusted_proxy_has_no_cap_of_its_own(serve, connect):
    """It brings the requests of everybody; the cap of all still holds."""
    api = await serve(max_connections=3, max_connections_per_address=1, trusted_proxies=["127.0.0.0/8"])

    clients = [await connect(api) for _ in range(3)]

    assert all([await client.served() for client in clients])
    assert b" 503 " in await asyncio.wait_for((await connect(api)).reader.read(), 10)


def limits(**caps) -> ConnectionLimits:
    return ConnectionLimits(ServerSettings(**caps))


def test_addresses_are_counted_apart():
    """One that is full says nothing about another, and what has left does not count."""
    counted = limits(max_connections=3, max_connections_per_address=1)

    place = counted.enter("203.0.113.1")
    assert place
    assert counted.enter("203.0.113.1") is None
    assert counted.enter("203.0.113.2")
    counted.leave(place)
    assert counted.enter("203.0.113.1")
    assert counted.enter("203.0.113.3")
    assert counted.enter("203.0.113.4") is None


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:203.0.113.1", "203.0.113.1", True),
        ("203.0.113.1", "203.0.113.2", False),
    ],
)
def test_a_network_of_the_new_kind_counts_as_one_address(one, other, same):
    """A single machine has all of a /64 to call from."""
    counted = limits(max_connections_per_address=1)

    assert counted.enter(one)
    assert (counted.enter(other) is None) is same


def test_nothing_is_remembered_of_who_has_gone():
    """Or the addresses of years would stay in memory."""
    counted = limits()
    for number in range(100):
        counted.leave(counted.enter(f"203.0.113.{number}"))

    assert not counted._places
    assert counted._total == 0
