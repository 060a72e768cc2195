"""Health: what a node says of itself in each condition."""

from datetime import datetime

import pytest

HEALTHY = {"/livez": 200, "/startupz": 200, "/readyz": 200, "/health": 200}


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

    assert await statuses(api) == {"/livez": 200, "/startupz": 503, "/readyz": 503, "/health": 503}


@pytest.mark.parametrize(("role", "ready"), [("api", 200), ("all", 503), ("worker", 503)])
async def test_a_store_outage(serve, role, ready):
    """While the store is away a worker is not ready; an api node is, for it can answer; and /health says why."""
    api = await serve(role=role)
    api.status.store = "It does not answer."

    assert await statuses(api) == {"/livez": 200, "/startupz": 200, "/readyz": ready, "/health": 503}
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
    assert (await api.get("/livez")).json["checks"] == {"node": "The scheduler has ended: KeyError."}


@pytest.mark.parametrize("role", ["all", "api", "worker"])
async def test_a_node_that_drains(serve, role):
    """A node that shuts down lives and says that it is not ready."""
    api = await serve(role=role)

    api.server.drain()

    assert await statuses(api) == {**HEALTHY, "/readyz": 503}
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

    assert (await api.get("/readyz")).json["checks"]["accepting"] == "The node is shutting down."
