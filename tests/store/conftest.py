"""
Every store test runs on a real Valkey, and after each the whole store has to be consistent.

What the scripts do on other servers is seen from those that tell each transition once; with --all, all run on fakeredis
and on the Redis that is installed, too.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import fakeredis
import pytest

from gopher_node.store import Connections, Store
from tests.store import consistency
from tests.store.keyspace import erase

Connect = Callable[..., Store]
OpenStore = Callable[..., Awaitable[Store]]


TRANSITIONS = {"test_transitions", "test_submitting"}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """On which servers a test runs."""
    if "connect" not in metafunc.fixturenames:
        return
    everything = metafunc.config.getoption("--all")
    servers: list[Any] = ["valkey"]
    if everything or metafunc.module.__name__.rpartition(".")[2] in TRANSITIONS:
        servers.append("fakeredis")
    if everything:
        servers.append(pytest.param("redis", marks=pytest.mark.tool("redis-server")))
    metafunc.parametrize("connect", servers, indirect=True)


@pytest.fixture
def connect(request: pytest.FixtureRequest) -> Connect:
    """Makes stores that all stand on one server."""
    if request.param != "fakeredis":
        url: str = request.getfixturevalue(f"{request.param}_url")
        return lambda **options: Store(Connections(url), **options)
    server = fakeredis.FakeServer()

    def on_fakeredis(**options: Any) -> Store:
        connections = Connections("redis://fake", connection_class=fakeredis.FakeAsyncRedisConnection, server=server)
        return Store(connections, script_flags=False, **options)

    return on_fakeredis


@pytest.fixture
async def open_store(connect: Connect, namespace: str) -> AsyncIterator[OpenStore]:
    """Opens further stores in the test's namespace, as other nodes would."""
    async with contextlib.AsyncExitStack() as stores:

        async def open_one(**options: Any) -> Store:
            store = connect(**{"namespace": namespace, **options})
            stores.push_async_callback(store.close)
            stores.push_async_callback(erase, store)
            await store.open()
            return store

        yield open_one


@pytest.fixture
async def unchecked_store(open_store: OpenStore) -> Store:
    """An open store that may be left inconsistent."""
    return await open_store()


@pytest.fixture
async def store(unchecked_store: Store) -> AsyncIterator[Store]:
    """An open store; when the test is over, all of it must be consistent."""
    yield unchecked_store
    await consistency.check(unchecked_store)


@pytest.fixture
async def valkey_store(valkey_url: str, namespace: str) -> AsyncIterator[Store]:
    """Like `store`, for what only a real server shows."""
    store = Store(Connections(valkey_url), namespace=namespace)
    await store.open()
    yield store
    store._connections.timeout = 30.0  # there may be very many keys to look at
    await consistency.check(store)
    await erase(store)
    await store.close()
