"""What other nodes publish of their handlers holds for the jobs that are submitted here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
import pytest

from gopher_node.api.requests import catalogue as module
from gopher_node.api.requests.catalogue import Catalogue
from gopher_node.api.resources.handlers import HandlerListDocument
from gopher_node.errors import StoreError, StoreUnavailable
from gopher_node.flow import FlowPolicy
from gopher_node.handlers import Registry
from gopher_node.job import NewJob, Priority, new_job_id
from gopher_node.limits import show_policy
from gopher_node.reporting import publish
from gopher_node.store import Store
from tests.api.conftest import Api

SCHEMA = {"type": "object", "properties": {"sum": {"type": "integer"}}, "title": "flaky"}
FLAKY = {
    "type": "flaky",
    "description": "Pays.",
    "mode": "async",
    "endpoint": None,
    "timeout": 7.5,
    "max_retries": 0,
    "priority": "low",
    "concurrency": 2,
    "policy": show_policy(FlowPolicy(max_running=5)),
    "payload_schema": SCHEMA,
}


def node(id: str, *handlers: dict[str, Any], started_at: int = 1, types: tuple[str, ...] = ()) -> dict[str, Any]:
    types = (*types, *(handler["type"] for handler in handlers))
    return {"id": id, "started_at": started_at, "types": types, "handlers": handlers}


async def report(store: Store, id: str, *handlers: dict[str, Any], **more: Any) -> None:
    await store.nodes.report(id, orjson.dumps(node(id, *handlers, **more)))


class Told:
    """What the store tells of the nodes; a test may have it fail, or say nothing for now."""

    def __init__(self, *nodes: dict[str, Any]) -> None:
        self.nodes = list(nodes)
        self.asked = 0
        self.asks: asyncio.Queue[None] = asyncio.Queue()
        self.fault: StoreError | None = None
        self.answers = asyncio.Event()
        self.answers.set()

    async def all(self) -> list[dict[str, Any]]:
        self.asked += 1
        self.asks.put_nowait(None)
        await self.answers.wait()
        if self.fault is not None:
            raise self.fault
        return self.nodes


def catalogue_of(told: Told, registry: Registry | None = None) -> tuple[Catalogue, list[StoreError]]:
    trouble: list[StoreError] = []
    return Catalogue(told, registry or Registry(), trouble.append), trouble  # type: ignore[arg-type]


# Submitting


async def by_submit(api: Api, job: dict[str, Any]) -> str:
    return (await api.post("/api/v1/jobs", job)).json["job_id"]


async def by_batch(api: Api, job: dict[str, Any]) -> str:
    return (await api.post("/api/v1/jobs/bulk", [job])).json["items"][0]["job_id"]


async def by_line(api: Api, job: dict[str, Any]) -> str:
    headers = {"Content-Type": "application/x-ndjson"}
    answer = await api.call("POST", "/api/v1/jobs/bulk", data=orjson.dumps(job), headers=headers)
    return answer.json["job"]["job_id"]


async def by_follow_up(api: Api, job: dict[str, Any]) -> str:
    await api.store.submit(NewJob(id=new_job_id(), type="first", payload=b"{}"))
    claimed = await api.post("/api/v1/leases", {"types": ["first"]})
    (lease,) = claimed.json["items"]
    answer = await api.post(f"/api/v1/leases/{lease['token']}/complete", {"follow_ups": [job]})
    return answer.json["follow_ups"][0]


WAYS = [by_submit, by_batch, by_line, by_follow_up]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["type", "queue"])
async def test_what_is_published_holds_for_a_new_job(
    api: Api, way: Callable[[Api, dict[str, Any]], Awaitable[str]], name: str
) -> None:
    """Also if it was published a moment ago; what the job says counts for more."""
    await report(api.store, "n1", FLAKY)

    job = await api.store.get(await way(api, {name: "flaky"}))
    own = await api.store.get(await api.submit(type="flaky", max_retries=4, priority="urgent", timeout="9s"))

    assert (job.max_retries, job.priority, job.timeout_ms) == (0, Priority.LOW, 7500)
    assert (own.max_retries, own.priority, own.timeout_ms) == (4, Priority.URGENT, 9000)


async def test_by_query(api: Api) -> None:
    await report(api.store, "n1", FLAKY)

    id = (await api.post("/jobs?type=flaky")).json["job_id"]

    assert (await api.store.get(id)).max_retries == 0


async def test_a_type_that_nobody_publishes(api: Api) -> None:
    """Such as one of a worker over HTTP: what the node's settings say holds."""
    await report(api.store, "n1", {"type": "silent"}, types=("faxes",))

    for type in ("faxes", "silent", "polled"):
        job = await api.store.get(await api.submit(type=type))
        assert (job.max_retries, job.priority, job.timeout_ms) == (2, Priority.NORMAL, None)


async def test_an_own_handler_counts_for_more(api: Api) -> None:
    """Its payloads are checked as before."""
    await report(api.store, "n1", {**FLAKY, "type": "greet"})
    await api.get("/api/v1/handlers")

    job = await api.store.get(await api.submit(type="greet", payload={"name": "Ada"}))

    assert (job.max_retries, job.priority, job.timeout_ms) == (7, Priority.HIGH, 40_000)
    assert (await api.post("/api/v1/jobs", {"type": "greet", "payload": {}})).problem == "invalid-payload"


async def test_another_in_the_place_of_a_built_in_one(
    registry: Registry, serve: Callable[..., Awaitable[Api]], store: Store
) -> None:
    """Its node knows its payloads, so that the built-in handler's check and defaults are none of its jobs."""
    registry.load_builtin()
    await report(store, "n1", {**FLAKY, "type": "process_payment"})
    api = await serve(role="api")

    job = await api.store.get(await api.submit(type="process_payment", payload={"iban": "x"}))

    assert (job.max_retries, job.priority) == (0, Priority.LOW)
    listed = {item["type"]: item for item in (await api.get("/api/v1/handlers")).json["items"]}
    assert (listed["process_payment"]["description"], listed["process_payment"]["nodes"]) == ("Pays.", ["n1"])
    assert listed["email"]["mode"] == "async"


# The list


async def test_handlers_of_other_nodes_are_listed(api: Api) -> None:
    """As they are published, with the nodes that run them; of those that are not, no more is known than their name."""
    await report(api.store, "n1", FLAKY, types=("faxes",))
    await report(api.store, "n2", FLAKY)

    answer = await api.get("/api/v1/handlers")

    HandlerListDocument.model_validate(answer.json)
    assert [item["type"] for item in answer.json["items"]] == ["greet", "plain", "flaky", "faxes"]
    flaky, faxes = answer.json["items"][2:]
    assert flaky == {**FLAKY, "nodes": ["n1", "n2"]}
    assert (faxes["mode"], faxes["payload_schema"], faxes["nodes"]) == (None, {}, ["n1"])


async def test_a_handler_comes_out_as_it_went_in(api: Api, registry: Registry) -> None:
    """What a node publishes is what it would list itself."""
    there = Registry()

    @there.handler("mine", description="Mine.", timeout="3s", max_retries=1, priority="urgent", concurrency=4)
    def mine(name: str) -> None:
        pass

    await report(api.store, "n1", *publish(there, there.types()))

    listed = {item["type"]: item for item in (await api.get("/api/v1/handlers")).json["items"]}
    handler = there.get("mine")
    assert handler is not None
    assert listed["mine"] == {**handler.describe(), "nodes": ["n1"]}


# The catalogue


async def test_a_known_type_never_waits_for_the_store() -> None:
    """Neither a handler that is here, nor one that was published before."""
    registry = Registry()
    registry.handler("here")(lambda: None)
    catalogue, _ = catalogue_of(Told(), registry)

    assert not catalogue.lacks({"type": "here"})
    assert catalogue.lacks({"type": "flaky"})
    assert catalogue.lacks({"queue": "flaky"})
    catalogue.take([node("n1", FLAKY)])
    assert not catalogue.lacks({"type": "flaky"})
    assert catalogue.lacks({"type": "other"})
    assert not any(map(catalogue.lacks, ({}, {"type": 1}, [], None)))


async def test_a_built_in_type_is_known_once_the_others_were_heard() -> None:
    registry = Registry()
    registry.load_builtin()
    catalogue, _ = catalogue_of(Told(), registry)

    assert catalogue.lacks({"type": "email"})
    await catalogue.ask()
    assert not catalogue.lacks({"type": "email"})


async def test_the_store_is_asked_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many ask at once, and after one another."""
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    told = Told()
    catalogue, _ = catalogue_of(told)

    await asyncio.gather(*(catalogue.ask() for _ in range(20)))
    now[0] += 0.9
    await catalogue.ask()
    assert told.asked == 1

    told.nodes.append(node("n1", FLAKY))
    now[0] += 0.2
    await catalogue.ask()
    assert (told.asked, list(catalogue.published)) == (2, ["flaky"])


async def test_a_silent_store_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second together at most, however many jobs are read one after the other."""
    monkeypatch.setattr(module, "AGAIN_AFTER", 0.05)
    told = Told()
    told.answers.clear()
    catalogue, _ = catalogue_of(told)
    loop = asyncio.get_running_loop()
    began = loop.time()

    for _ in range(200):
        await catalogue.ask()

    assert told.asked == 1
    assert loop.time() - began < 5
    told.answers.set()


async def test_an_outage_leaves_it_as_it_was() -> None:
    told = Told(node("n1", FLAKY))
    catalogue, trouble = catalogue_of(told)
    await catalogue.ask()
    told.fault = StoreUnavailable()
    catalogue._next = 0.0

    await catalogue.ask()

    assert trouble == [told.fault]
    assert catalogue.published["flaky"].max_retries == 0


async def test_it_is_read_at_the_start_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the API runs, and past an outage; nobody needs to ask."""
    monkeypatch.setattr(module, "LOOK_EVERY", 0.01)
    monkeypatch.setattr(module, "AGAIN_AFTER", 0.01)
    told = Told()
    told.fault = StoreUnavailable()
    catalogue, trouble = catalogue_of(told)
    running = asyncio.create_task(catalogue.run())

    async with asyncio.timeout(10):
        while not trouble:
            await told.asks.get()
        told.fault = None
        for type in ("one", "two"):
            told.nodes = [node("n1", {**FLAKY, "type": type})]
            while type not in catalogue.published:
                await told.asks.get()

    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_the_api_keeps_it(serve: Callable[..., Awaitable[Api]], store: Store) -> None:
    await report(store, "n1", FLAKY)
    api = await serve(role="api")
    (catalogue,) = (value.catalogue for value in api.app.values() if hasattr(value, "catalogue"))

    async with asyncio.timeout(10):
        while "flaky" not in catalogue.published:
            await store.nodes.all()


def test_the_node_that_was_started_last_is_right() -> None:
    """While a fleet is renewed, that is the new one."""
    nodes = [
        node(id, {**FLAKY, "max_retries": retries}, started_at=at)
        for id, retries, at in (("a", 1, 10), ("b", 2, 30), ("c", 3, 20))
    ]
    catalogue, _ = catalogue_of(Told())
    catalogue.take(nodes)

    assert catalogue.published["flaky"].max_retries == 2


def test_what_nodes_said_that_have_gone() -> None:
    """Jobs that come while all of them are started anew are as the others; a handler that is given up is forgotten."""
    catalogue, _ = catalogue_of(Told())
    catalogue.take([node("n1", FLAKY)])

    catalogue.take([])
    assert catalogue.published["flaky"].max_retries == 0
    catalogue.take([node("n1", types=("flaky",))])
    assert catalogue.published == {}


def test_what_has_gone_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_GONE", 3)
    catalogue, _ = catalogue_of(Told())
    for number in range(10):
        catalogue.take([node("n1", {**FLAKY, "type": f"t{number}"})])

    assert list(catalogue.published) == ["t6", "t7", "t8", "t9"]


@pytest.mark.parametrize(
    "bad",
    [
        {"max_retries": -1},
        {"max_retries": "many"},
        {"priority": "extreme"},
        {"timeout": 0},
        {"mode": "warp"},
        {"payload_schema": 7},
    ],
)
def test_what_means_nothing_here_is_passed_over(bad: dict[str, Any]) -> None:
    """The other handlers of that node count."""
    catalogue, _ = catalogue_of(Told())
    catalogue.take([node("n1", {**FLAKY, **bad}, {**FLAKY, "type": "good", "mood": "new"})])

    assert list(catalogue.published) == ["good"]
