"""What bounds the jobs of a type, through the API: rate limits, caps, backlogs, pauses, and what is declared."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gopher_node.api.answers.flow import RateLimitDocument, RateLimitListDocument
from gopher_node.api.resources.handlers import HandlerDocument
from gopher_node.api.resources.queues import QueueDocument, QueueListDocument
from gopher_node.flow import BreakerPolicy, FlowPolicy, Rate
from gopher_node.handlers import Registry
from gopher_node.job import NewJob, Priority
from gopher_node.limits import read_flow
from gopher_node.reporting import Declaration, policies_of
from gopher_node.store import Pool, Store
from tests.api.conftest import Api

LIMIT = "/api/v1/rate-limits/email"
QUEUE = "/api/v1/queues/email"
NO_LIMITS = {
    "rate_limit": None,
    "group_rate_limit": None,
    "max_running": None,
    "group_max_running": None,
    "max_backlog": None,
    "breaker": None,
}


async def claimed(api: Api, *types: str, slots: int = 50) -> int:
    session = await api.store.open_session(f"n{slots}-{types[0]}", 15.0)
    return len((await api.store.claim(session, Pool.of(types), slots)).leases)


async def test_a_rate_limit_holds_at_once(api: Api) -> None:
    """As the older system took it: jobs a second, and a burst; another type beside it does not wait."""
    for type in ("email", "other"):
        await api.store.submit_many([NewJob(type=type) for _ in range(20)])

    answer = await api.post(LIMIT, {"limit": 0.001, "burst": 10})

    RateLimitDocument.model_validate(answer.json)
    assert answer.json == {"type": "email", "limit": 0.001, "per": 1.0, "burst": 10, "group": None}
    assert (await api.get(LIMIT)).json == answer.json
    assert await claimed(api, "email", "other") == 30

    deleted = (await api.call("DELETE", LIMIT)).json
    assert deleted == {"type": "email", "limit": None, "per": None, "burst": None, "group": None}
    assert await claimed(api, "email") == 10


async def test_what_is_left_out_of_a_rate_limit_stays(api: Api) -> None:
    """That of the groups beside that of the type; and all that are limited are listed."""
    await api.post(LIMIT, {"limit": 600, "per": "1m"})
    await api.post(LIMIT, {"group": {"limit": 1, "per": 10}})
    await api.call("PATCH", "/api/v1/queues/capped", json={"max_running": 1})

    listed = (await api.get("/api/v1/rate-limits")).json

    RateLimitListDocument.model_validate(listed)
    group = {"limit": 1.0, "per": 10.0, "burst": 1}
    assert listed["items"] == [{"type": "email", "limit": 600.0, "per": 60.0, "burst": 1, "group": group}]


async def test_a_queue_shows_what_bounds_it(api: Api) -> None:
    """A type may be bounded before its first job; a null takes back what was set, and no more than that."""
    edit = {
        "rate_limit": "100/s",
        "group_rate_limit": {"limit": 10, "per": "1m", "burst": 2},
        "max_running": 20,
        "group_max_running": 2,
        "max_backlog": 1000,
        "breaker": {"minimum": 20, "window": "2m"},
    }
    shown = (await api.call("PATCH", QUEUE, json=edit)).json

    QueueDocument.model_validate(shown)
    assert shown["policy"] == {
        **edit,
        "rate_limit": {"limit": 100.0, "per": 1.0, "burst": 10},
        "group_rate_limit": {"limit": 10.0, "per": 60.0, "burst": 2},
        "breaker": {"ratio": 0.5, "minimum": 20, "window": 120.0, "cooldown": 30.0},
    }
    assert (shown["breaker"], shown["paused"], shown["draining"]) == ("closed", False, False)
    assert (await api.get(QUEUE)).json == shown

    taken = (await api.call("PATCH", QUEUE, json=dict.fromkeys(edit))).json
    assert (taken["policy"], taken["breaker"]) == (NO_LIMITS, None)


async def test_pause_and_resume(api: Api) -> None:
    """A type, one of its priorities, one of its groups; told twice it is the same."""
    for fields in ({}, {"priority": "low"}, {"group": "acme"}):
        await api.submit(type="email", **fields)
    for part in ({"priority": "low"}, {"group": "acme"}, {"group": "acme"}, None):
        shown = await api.post(f"{QUEUE}/pause", part)
        assert shown.status == 200, shown.body
    QueueDocument.model_validate(shown.json)
    assert (shown.json["paused"], shown.json["paused_priorities"], shown.json["paused_groups"]) == (
        *(True, ["low"], ["acme"]),
    )
    assert [item["paused_groups"] for item in (await api.get("/api/v1/queues")).json["items"]] == [["acme"]]
    assert await claimed(api, "email", slots=1) == 0

    for part, count in ((None, 1), ({"priority": "low"}, 1), ({"group": "acme"}, 1)):
        assert (await api.post(f"{QUEUE}/resume", part)).status == 200
        assert await claimed(api, "email", slots=10 + len(str(part))) == count
    QueueListDocument.model_validate((await api.get("/api/v1/queues")).json)


async def ways(api: Api) -> list[tuple[int, str]]:
    """What each way to submit a job of the type is answered."""
    found: list[tuple[int, str]] = []
    for path in ("/api/v1/jobs", "/api/jobs", "/jobs/create"):
        answer = await api.post(path, {"type": "email"})
        found.append((answer.status, answer.problem if answer.status > 299 else ""))
    answer = await api.post("/jobs?type=email")
    found.append((answer.status, answer.problem if answer.status > 299 else ""))
    return found


async def test_a_full_queue_says_try_later(api: Api) -> None:
    """Alone, in an array, of which then nothing is stored, as a line, whose neighbours are stored, and by aliases."""
    await api.call("PATCH", QUEUE, json={"max_backlog": 2})
    await api.submit(type="email")

    both = await api.post("/api/v1/jobs/bulk", [{"type": "email"}, {"type": "other"}, {"type": "email"}])
    assert (both.status, both.problem, both.json["limit"]) == (429, "queue-full", 2)
    assert int(both.headers["Retry-After"]) > 0
    assert [fault["pointer"] for fault in both.json["errors"]] == ["/0/type"]
    assert await api.stored() == 1
    lines = b'{"type": "email"}\n{"type": "email"}\n{"type": "other"}\n'
    headers = {"Content-Type": "application/x-ndjson"}
    told = await api.call("POST", "/api/v1/jobs/bulk", data=lines, headers=headers)
    answers = [json.loads(line) for line in told.body.splitlines()]
    assert sorted(answer["status"] for answer in answers[:2]) == [201, 429]
    assert answers[2]["status"] == 201
    assert await ways(api) == [(429, "queue-full")] * 4
    page = await api.get("/problems/queue-full")
    assert b"max_backlog" in page.body


async def test_a_draining_queue_takes_nothing(api: Api) -> None:
    """Until it is resumed; what was there is run."""
    await api.submit(type="email")
    shown = (await api.post(f"{QUEUE}/drain")).json

    assert shown["draining"] is True
    assert await ways(api) == [(409, "queue-draining")] * 4
    assert await claimed(api, "email") == 1
    assert (await api.post(f"{QUEUE}/resume")).json["draining"] is False
    await api.submit(type="email")


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        (LIMIT, {}, "/limit"),
        (LIMIT, {"limit": 0}, "/limit"),
        (LIMIT, {"limit": "100"}, "/limit"),
        (LIMIT, {"limit": 5, "burst": 1.5}, "/burst"),
        (LIMIT, {"limit": 5, "per": "soon"}, "/per"),
        (LIMIT, {"burst": 5, "group": {"limit": 1}}, "/burst"),
        (LIMIT, {"group": {"burst": 1}}, "/group/limit"),
        (LIMIT, {"limt": 5}, "/limt"),
        (QUEUE, {}, ""),
        (QUEUE, {"rate_limit": "fast"}, "/rate_limit"),
        (QUEUE, {"rate_limit": "0/s"}, "/rate_limit"),
        (QUEUE, {"rate_limit": 5}, "/rate_limit"),
        (QUEUE, {"group_rate_limit": {"limit": 5, "brst": 1}}, "/group_rate_limit/brst"),
        (QUEUE, {"max_running": 0}, "/max_running"),
        (QUEUE, {"max_backlog": True}, "/max_backlog"),
        (QUEUE, {"breaker": {"ratio": 1.5}}, "/breaker/ratio"),
        (QUEUE, {"breaker": True}, "/breaker"),
        (f"{QUEUE}/pause", {"priority": "low", "group": "a"}, "/group"),
        (f"{QUEUE}/resume", {"group": "a b"}, "/group"),
    ],
)
async def test_bad_words_change_nothing(api: Api, path: str, body: Any, pointer: str) -> None:
    answer = await api.call("PATCH" if path == QUEUE else "POST", path, json=body)

    assert answer.status == 422, answer.body
    assert pointer in [fault["pointer"] for fault in answer.json["errors"]]
    assert await api.store.flow.all() == {}


async def test_no_such_type(api: Api) -> None:
    for method, path in (("GET", ""), ("DELETE", "")):
        answer = await api.call(method, f"/api/v1/rate-limits/a%20b{path}")
        assert (answer.status, answer.problem) == (404, "queue-not-found")
    assert (await api.post("/api/v1/queues/a%20b/pause")).problem == "queue-not-found"


# What is declared


def a_registry() -> Registry:
    registry = Registry()

    @registry.handler("email", rate_limit="5/s", max_running=3, breaker=True)
    def email() -> None: ...

    @registry.handler("plain")
    def plain() -> None: ...

    return registry


def declared(store: Store, registry: Registry, settings: dict[str, FlowPolicy]) -> Declaration:
    registry.limit(settings)
    return Declaration(store, "me", policies_of(registry, ["email", "plain"], settings))


async def test_an_operator_goes_before_a_setting_before_a_handler(api: Api) -> None:
    """Limit by limit; and what an operator takes back is as it was declared."""
    settings = read_flow({"email": {"rate_limit": {"limit": 7, "burst": 2}}, "sms": {"max_backlog": 9}})
    await declared(api.store, a_registry(), settings).make()
    both = FlowPolicy(rate=Rate(7, burst=2), max_running=3, breaker=BreakerPolicy())
    assert await api.store.flow.all() == {"email": both, "sms": FlowPolicy(max_backlog=9)}

    shown = (await api.call("PATCH", QUEUE, json={"rate_limit": "1/h"})).json["policy"]
    assert (shown["rate_limit"]["per"], shown["max_running"]) == (3600.0, 3)
    await api.call("DELETE", LIMIT)
    assert await api.store.flow.get("email") == both


async def test_what_a_handler_no_longer_declares_is_taken_away(api: Api) -> None:
    """Unless another node declares it still."""
    await api.store.flow.declare({"plain": FlowPolicy(max_running=1)})
    await api.store.nodes.report("other", b'{"id": "other", "types": ["plain"], "limited": ["plain"]}')
    declaration = declared(api.store, a_registry(), {})
    await declaration.make()
    assert (declaration.limited(), declaration.due) == (["email"], False)
    assert (await api.store.flow.get("plain")).max_running == 1

    await api.store.nodes.forget("other")
    await declaration.make()
    assert (await api.store.flow.get("plain")).max_running is None


async def test_handlers_show_what_they_declare(api: Api, registry: Registry) -> None:
    registry.limit(read_flow({"greet": {"max_running": 4}}))

    shown = (await api.get("/api/v1/handlers/greet")).json

    HandlerDocument.model_validate(shown)
    assert shown["policy"] == {**NO_LIMITS, "max_running": 4}


async def test_a_priority_is_paused_by_its_number_too(api: Api) -> None:
    assert (await api.post(f"{QUEUE}/pause", {"priority": 1})).json["paused_priorities"] == ["low"]
    assert (await api.store.flow.get("email")).paused_priorities == (Priority.LOW,)
