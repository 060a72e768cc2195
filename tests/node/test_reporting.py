"""A node tells the others of itself: from its start until a clean stop."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Annotated, Any

import orjson
import pytest
from pydantic import Field, create_model

from gopher_node import __version__
from gopher_node.handlers import Registry
from gopher_node.reporting import MAX_HANDLERS, MAX_SCHEMA, publish
from gopher_node.store import Connections, Store
from tests.node.node_process import running

pytestmark = pytest.mark.process


async def reported(store: Store, number: int) -> list[dict[str, Any]]:
    """The nodes, once so many are known."""
    while len(found := await store.nodes.all()) != number:
        pass
    return found


async def test_nodes_know_of_each_other(valkey_url: str, store: Store) -> None:
    """Each node is told with what it is and does; one that has stopped is gone at once."""
    shared = {"REDIS_URL": valkey_url, "GOPHER_NAMESPACE": store.namespace}
    async with running("--role=api", **shared) as api, running("--role=worker", **shared) as worker:
        by_pid = {node["pid"]: node for node in await reported(store, 2)}
        assert (by_pid[api.pid]["role"], by_pid[api.pid]["slots"], by_pid[api.pid]["types"]) == ("api", 0, [])
        node = by_pid[worker.pid]
        assert (node["role"], node["version"], node["url"]) == ("worker", __version__, worker.url)
        assert node["host"] == os.uname().nodename
        assert node["slots"] > 0
        assert "email" in node["types"]
        assert node["id"].split("-")[-2] == str(worker.pid)

        await worker.stop()

        assert [node["pid"] for node in await store.nodes.all()] == [api.pid]


async def test_a_killed_node_is_not_forgotten_at_once(valkey_url: str) -> None:
    """Only a minute of silence tells that a node without a farewell is gone."""
    store = Store(Connections(valkey_url), namespace="killed")
    await store.open()
    async with running("--role=api", REDIS_URL=valkey_url, GOPHER_NAMESPACE="killed") as node:
        await reported(store, 1)
        node.kill()
        await node.wait()

        (found,) = await store.nodes.all()

    now = (await store.survey()).now_ms
    assert found["pid"] == node.pid
    assert await store.nodes.all(now=now + 70_000) == []
    await store.close()


async def test_a_node_without_a_worker_is_seen_to_drain(valkey_url: str, store: Store) -> None:
    """While a request is under way."""
    async with running("--role=api", REDIS_URL=valkey_url, GOPHER_NAMESPACE=store.namespace) as node:
        assert [one["draining"] for one in await reported(store, 1)] == [False]
        reader, writer = await asyncio.open_connection("127.0.0.1", int(node.url.rsplit(":", 1)[1]))
        writer.write(
            b"POST /api/v1/leases HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Expect: 100-continue\r\nContent-Length: 19\r\n\r\n"
        )
        assert b" 100 " in await reader.readline()
        node.kill(signal.SIGTERM)
        async with asyncio.timeout(10):
            while not (await store.nodes.all())[0]["draining"]:
                pass
        writer.close()
        await node.wait()

        assert await store.nodes.all() == []


# What a node tells of its handlers


def test_handlers_are_published_unless_they_are_built_in() -> None:
    """Those that the node runs; one that takes the place of a built-in one is not built in."""
    registry = Registry()
    registry.load_builtin()
    registry.handler("email", max_retries=0)(lambda payload: None)
    registry.handler("mine", description="d" * 5000)(lambda payload: None)
    registry.handler("not-run")(lambda payload: None)

    told = {entry["type"]: entry for entry in publish(registry, ["default", "email", "mine"])}

    assert told.keys() == {"email", "mine"}
    assert told["email"]["max_retries"] == 0
    assert len(told["mine"]["description"]) == 500


def _take(registry: Registry, type: str, size: int) -> None:
    """A handler whose schema has at least so many bytes."""
    model = create_model("Model", __doc__="x" * size, name=(str, ...))

    def run(payload: Any) -> None:
        pass

    run.__annotations__["payload"] = model
    registry.handler(type, max_retries=0)(run)


def test_a_large_schema_is_not_published() -> None:
    """The rest is, and the other handlers' schemas are."""
    registry = Registry()
    _take(registry, "large", MAX_SCHEMA)
    _take(registry, "small", MAX_SCHEMA // 2)

    large, small = publish(registry, ["large", "small"])

    assert (large["payload_schema"], large["max_retries"]) == ({}, 0)
    assert small["payload_schema"]["required"] == ["name"]


def test_many_schemas_are_not_published() -> None:
    """Together they would make every look at the nodes costly."""
    registry = Registry()
    types = [f"t{number}" for number in range(40)]
    for type in types:
        _take(registry, type, MAX_SCHEMA // 2)

    few, many = publish(registry, types[:20]), publish(registry, types)

    assert all(entry["payload_schema"] for entry in few)
    assert [(entry["type"], entry["payload_schema"], entry["max_retries"]) for entry in many] == [
        (type, {}, 0) for type in types
    ]
    assert len(orjson.dumps(few)) <= MAX_HANDLERS


def test_a_schema_that_is_no_json_here_is_not_published() -> None:
    """It does not keep the node from starting."""
    registry = Registry()

    def run(number: Annotated[int, Field(le=2**70)]) -> None:
        pass

    run.__annotations__["number"] = Annotated[int, Field(le=2**70)]
    registry.handler("vast")(run)

    (told,) = publish(registry, ["vast"])

    assert told["payload_schema"] == {}
