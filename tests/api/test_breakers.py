"""Circuit breakers through the API: how they stand, how they moved, and what an operator can do."""

from __future__ import annotations

import pytest

from gopher_node.api.answers.flow import BreakerDetailDocument, BreakerDocument, BreakerListDocument
from gopher_node.store import Pool
from tests.api.conftest import Api

PATH = "/api/v1/breakers/email"


@pytest.fixture
async def guarded(api: Api) -> Api:
    """A type with a breaker that opens at its first failure."""
    edit = {"breaker": {"ratio": 1, "minimum": 1, "cooldown": "1h"}}
    assert (await api.call("PATCH", "/api/v1/queues/email", json=edit)).status == 200
    return api


async def fail_one(api: Api) -> str:
    await api.submit(type="email")
    await api.submit(type="email")
    session = await api.store.open_session("n", 15.0)
    (lease,) = (await api.store.claim(session, Pool.of(["email"]), 1)).leases
    await api.store.fail(lease, b'{"code":"broken","message":""}')
    assert not (await api.store.claim(session, Pool.of(["email"]), 1)).leases
    return lease.job.id


async def test_an_open_breaker_is_seen_everywhere(guarded: Api) -> None:
    """In the list, alone with its history, at its queue, and in /health."""
    assert (await guarded.get("/health")).json["checks"]["breakers"] == "ok"
    await fail_one(guarded)

    shown = (await guarded.get(PATH)).json
    listed = (await guarded.get("/api/v1/breakers")).json

    BreakerDetailDocument.model_validate(shown)
    BreakerListDocument.model_validate(listed)
    assert shown["state"] == "open"
    assert shown["since"] < shown["until"]
    assert shown["policy"] == {"ratio": 1.0, "minimum": 1, "window": 60.0, "cooldown": 3600.0}
    assert [(move["before"], move["after"], move["reason"], move["failed"]) for move in shown.pop("history")] == [
        ("closed", "open", "failures", 1)
    ]
    assert listed["items"] == [shown]
    assert (await guarded.get("/api/v1/queues/email")).json["breaker"] == "open"


async def test_health_names_what_is_held_back(guarded: Api) -> None:
    """The node is well, and something is amiss."""
    await fail_one(guarded)

    health = await guarded.get("/health")

    assert (health.status, health.json["status"]) == (200, "degraded")
    assert health.json["checks"]["breakers"] == "Held back, as their runs fail: email (open)"


async def test_an_operator_opens_closes_and_resets(guarded: Api) -> None:
    """Each is answered with the breaker as it is then, and told twice it is the same."""
    for act, state in (
        ("open", "forced-open"),
        ("open", "forced-open"),
        ("close", "forced-closed"),
        ("reset", "closed"),
    ):
        answer = await guarded.post(f"{PATH}/{act}")
        BreakerDocument.model_validate(answer.json)
        assert (answer.status, answer.json["state"]) == (200, state)
    history = (await guarded.get(PATH)).json["history"]
    assert [move["after"] for move in history] == ["closed", "forced-closed", "forced-open"]


async def test_no_such_breaker(api: Api) -> None:
    """Of a type without one, and of what is no type."""
    await api.submit(type="email")

    for method, path in (("GET", PATH), ("POST", f"{PATH}/open"), ("POST", "/api/v1/breakers/a%20b/reset")):
        answer = await api.call(method, path)
        assert (answer.status, answer.problem) == (404, "breaker-not-found")
    assert (await api.get("/api/v1/breakers")).json == {"items": []}
