"""Health: what a node says of itself in each condition."""

import asyncio
import threading
from datetime import datetime
from types import SimpleNamespace

import pytest
from structlog.testing import capture_logs

from gopher_node.node import Node
from gopher_node.telemetry import Events
from gopher_node.telemetry.loop_watch import LoopWatch

HEALTHY = {"/livez": 200, "/startupz": 200, "/readyz": 200, "/healthz": 200, "/health": 200}


async def statuses(api):
    return {path: (await api.get(path)).status for path in HEALTHY}


@pytest.mark.parametrize("role", ["all", "api", "worker"])
async def test_a_healthy_node(serve, role):
    """All is well in every role."""
    api = await serve(role=role)

    assert await statuses(api) == HEALTHY


async def test_the_seeds_shape(api):
    """GET /health has the fields that users of the older system read."""
    content = (await api.get("/health")).json

    assert content["status"] == "healthy"
    assert datetime.fromisoformat(content["timestamp"]).tzinfo is not None


async def test_a_node_that_starts(api):
    """Before its first contact with the store a node lives, but is neither started nor ready."""
    api.status.started = False

    assert await statuses(api) == {**dict.fromkeys(HEALTHY, 503), "/livez": 200}


@pytest.mark.parametrize(("role", "ready"), [("api", 200), ("all", 503), ("worker", 503)])
async def test_a_store_outage(serve, role, ready):
    """While the store is away a worker is not ready; an api node is, for it can answer; and /health says why."""
    api = await serve(role=role)
    api.status.store = "It does not answer."

    assert await statuses(api) == {**HEALTHY, "/readyz": ready, "/healthz": ready, "/health": 503}
    health = (await api.get("/health")).json
    assert (health["status"], health["checks"]["store"]) == ("unhealthy", "It does not answer.")


@pytest.mark.parametrize(("role", "ready"), [("api", 200), ("all", 503), ("worker", 503)])
async def test_a_deaf_worker(serve, role, ready):
    """A worker that gets no work although there is some is not ready; the node is degraded."""
    api = await serve(role=role)
    api.status.worker = "No claim was answered for 5 s."

    assert (await api.get("/readyz")).status == ready
    health = await api.get("/health")
    assert (health.status, health.json["status"]) == (200, "healthy" if role == "api" else "degraded")


async def test_a_dead_part(api):
    """A part that has ended is what a restart mends, so the node is no longer alive."""
    api.status.dead = "The scheduler has ended: KeyError."

    assert await statuses(api) == dict.fromkeys(HEALTHY, 503)
    assert (await api.get("/livez")).json["checks"] == {"node": "The scheduler has ended: KeyError.", "loop": "ok"}


async def test_a_wedged_loop(api):
    """A loop that is always far too late is mended by a restart, too; what has started stays so."""
    api.status.wedged = "It is late again and again."

    assert await statuses(api) == {**dict.fromkeys(HEALTHY, 503), "/startupz": 200}


GRADES = {
    "slow": ("lag", "degraded"),
    "writes": ("writes", "unhealthy"),
    "scheduler": ("scheduler", "degraded"),
    "slots": ("slots", "degraded"),
    "outcomes": ("outcomes", "degraded"),
    "certificate": ("certificate", "degraded"),
}


async def test_health_names_every_problem(api):
    """One alone, each by its name and without touching the probes; and all that are there at once."""
    for problem, (check, status) in GRADES.items():
        setattr(api.status, problem, f"{problem} is amiss.")
        content = (await api.get("/health")).json
        bad = {name: said for name, said in content["checks"].items() if said != "ok"}
        assert (content["status"], bad) == (status, {check: f"{problem} is amiss."})
        assert await statuses(api) == {**HEALTHY, "/health": 503 if status == "unhealthy" else 200}
        setattr(api.status, problem, None)
    for problem in GRADES:
        setattr(api.status, problem, "Amiss.")

    checks = (await api.get("/health")).json["checks"]
    assert {name for name, said in checks.items() if said != "ok"} == {check for check, _ in GRADES.values()}


async def test_jobs_in_memory_are_a_note(api):
    """How safe an accepted job is, is the operator's choice: told, and no problem."""
    api.store.durability = "fsync"
    assert "notes" not in (await api.get("/health")).json
    api.store.durability = "memory"

    content = (await api.get("/health")).json
    assert content["status"] == "healthy"
    assert "appendfsync always" in content["notes"]["durability"]


async def test_a_request_that_holds_up_the_loop_is_named(api, monkeypatch):
    """On every role, by its method and route, in the log as in /health."""
    reported = asyncio.Queue()
    node = SimpleNamespace(_worker=None)
    watch = LoopWatch(lambda task: Node._name_of(node, task), lambda *what: reported.put_nowait(what))
    watching = asyncio.create_task(watch.run())

    id = await api.submit()
    get = api.store.get

    async def slow(*arguments):
        threading.Event().wait(0.6)
        return await get(*arguments)

    monkeypatch.setattr(api.store, "get", slow)
    await api.get(f"/api/v1/jobs/{id}")
    seconds, name = await reported.get()
    watching.cancel()

    assert seconds > 0.4
    assert name == "GET /api/v1/jobs/{job_id}"
    assert watch.longest(60).name == name
    with capture_logs() as lines:
        Events("node-1").loop_blocked(seconds, name)
        Events("node-1").loop_blocked(seconds, "mail")
    assert [(line.get("route"), line.get("job_type")) for line in lines] == [(name, None), (None, "mail")]


@pytest.mark.parametrize("role", ["all", "worker"])
async def test_probes_ask_nothing_of_the_store(serve, store, monkeypatch, role):
    """They answer in an outage as ever, whatever is added to their address."""
    api = await serve(role=role)

    request = store._connections.request
    asked = []

    async def noted(*command, **options):
        asked.append(asyncio.current_task().get_name())
        return await request(*command, **options)

    monkeypatch.setattr(store._connections, "request", noted)

    for path in HEALTHY:
        assert (await api.get(f"{path}?verbose")).status == 200
    assert {name for name in asked if name.startswith("GET")} <= {"GET /health"}


@pytest.mark.parametrize("role", ["all", "api", "worker"])
async def test_a_node_that_drains(serve, role):
    """A node that shuts down lives and says that it is not ready."""
    api = await serve(role=role)

    api.server.drain()

    assert await statuses(api) == {**HEALTHY, "/readyz": 503, "/healthz": 503}
    assert (await api.get("/health")).json["status"] == "degraded"


async def test_a_worker_answers_only_probes(serve):
    """A node with the role worker takes no jobs over HTTP."""
    api = await serve(role="worker")

    assert (await api.post("/api/v1/jobs", {"type": "mail"})).problem == "not-found"
    assert (await api.get("/api/v1/stats")).problem == "not-found"


async def test_whether_jobs_are_accepted(api):
    """The check is called after what is well."""
    assert (await api.get("/readyz")).json["checks"]["accepting"] == "ok"
    api.server.drain()

    assert (await api.get("/readyz")).json["checks"]["accepting"].startswith("The node is shutting down.")
