"""The keys that the store holds: made, shown once, listed, used, limited, rotated, revoked."""

from __future__ import annotations

import asyncio
import re

import pytest

from gopher_node.api.access.auth import ACCESS
from gopher_node.api.access.key_ring import KeyRing, digest_of
from gopher_node.errors import StoreUnavailable
from gopher_node.store import Connections, Store

MASTER = "master-".ljust(40, "k")


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
async def locked(serve):
    """An API with one key of an operator in its settings."""
    return await serve(api_keys=MASTER)


async def make(api, *scopes: str, key: str = MASTER, **fields) -> dict:
    content = {"name": "a key", "scopes": scopes or ["read"], **fields}
    answer = await api.post("/api/v1/keys", content, headers=bearer(key))
    assert answer.status == 201, answer.body
    return answer.json


async def listed(api, key: str = MASTER) -> dict[str, dict]:
    answer = await api.get("/api/v1/keys", headers=bearer(key))
    return {item["id"]: item for item in answer.json["items"]}


async def status(api, key: str, path: str = "/api/v1/jobs") -> int:
    return (await api.get(path, headers=bearer(key))).status


def ring(api) -> KeyRing:
    return api.server._app[ACCESS].keys


async def test_a_key_is_made_and_works_at_once(locked):
    """It has 256 random bits behind its id, and allows what it was made for."""
    made = await make(locked, "read", "submit")

    assert re.fullmatch(r"gn_[0-9a-f]{12}_[0-9a-f]{64}", made["key"])
    assert made["key"].split("_")[1] == made["id"]
    assert (made["name"], made["scopes"], made["source"]) == ("a key", ["read", "submit"], "store")
    assert made["expires_at"] is None
    assert made["rate_limit"] is None
    assert await status(locked, made["key"]) == 200
    assert await status(locked, made["key"], "/api/v1/keys") == 403
    assert (await make(locked))["key"] != made["key"]


async def test_only_its_digest_is_kept(locked, store):
    """Nobody who reads the store, or lists the keys, learns a key."""
    made = await make(locked)

    (record,) = await store.keys.all()
    assert record.digest == digest_of(made["key"])
    secret = made["key"].split("_")[2]
    assert secret not in f"{record} {await listed(locked)}"
    assert "key" not in (await listed(locked))[made["id"]]


async def test_the_list_has_all_keys(locked):
    """Those of the settings too, and none of their digests."""
    made = await make(locked, expires_in="1h", rate_limit={"limit": 5, "window": "1m"})

    items = await listed(locked)

    assert set(items) == {"settings-1", made["id"]}
    assert (items["settings-1"]["source"], items["settings-1"]["scopes"]) == ("settings", ["admin"])
    assert items[made["id"]] == {name: value for name, value in made.items() if name != "key"}
    assert items[made["id"]]["rate_limit"] == {"limit": 5, "window": 60.0}
    assert items[made["id"]]["last_used_at"] is None


BAD = [
    ({"scopes": ["read"]}, "invalid-body"),
    ({"name": "x", "scopes": []}, "invalid-body"),
    ({"name": "x", "scopes": ["boss"]}, "invalid-body"),
    ({"name": "x", "scopes": "read"}, "invalid-body"),
    ({"name": "", "scopes": ["read"]}, "invalid-name"),
    ({"name": "a\nb", "scopes": ["read"]}, "invalid-name"),
    ({"name": "x" * 101, "scopes": ["read"]}, "invalid-name"),
    ({"name": "x", "scopes": ["read"], "expires_in": "soon"}, "invalid-duration"),
    ({"name": "x", "scopes": ["read"], "expires_in": 0}, "out-of-range"),
    ({"name": "x", "scopes": ["read"], "rate_limit": {"limit": 0, "window": "1s"}}, "invalid-body"),
    ({"name": "x", "scopes": ["read"], "rate_limit": {"limit": 1, "window": "10ms"}}, "out-of-range"),
    ({"name": "x", "scopes": ["read"], "rate_limit": 5}, "invalid-body"),
    ({"name": "x", "scopes": ["read"], "key": "mine"}, "unknown-field"),
]


@pytest.mark.parametrize(("content", "problem"), BAD)
async def test_a_key_that_cannot_be_made(locked, store, content, problem):
    """What is wrong is named, and there is no key."""
    answer = await locked.post("/api/v1/keys", content, headers=bearer(MASTER))

    assert (answer.status, answer.problem) == (422, problem)
    assert await store.keys.all() == []


async def test_the_first_key_locks_the_door(api, serve):
    """On a node without keys anybody may make one, which must be an operator's; from then on all need one."""
    refused = await api.post("/api/v1/keys", {"name": "x", "scopes": ["read"]})
    assert (refused.status, refused.problem) == (409, "last-admin-key")
    assert (await api.get("/api/v1/jobs")).status == 200

    made = (await api.post("/api/v1/keys", {"name": "x", "scopes": ["admin"]})).json

    assert (await api.get("/api/v1/jobs")).status == 401
    assert await status(api, made["key"]) == 200
    # A node that starts later knows it from its first request on.
    assert (await (await serve()).get("/api/v1/jobs")).status == 401


# Revoking


async def test_a_revoked_key_opens_nothing(locked):
    """At once, and it is answered like one that never was."""
    made = await make(locked)
    unknown = await locked.get("/api/v1/jobs", headers=bearer("x" * 40))

    answer = await locked.call("DELETE", f"/api/v1/keys/{made['id']}", headers=bearer(MASTER))
    after = await locked.get("/api/v1/jobs", headers=bearer(made["key"]))

    assert (answer.status, answer.body) == (204, b"")
    assert {**after.json, "instance": ""} == {**unknown.json, "instance": ""}
    assert made["id"] not in await listed(locked)
    again = await locked.call("DELETE", f"/api/v1/keys/{made['id']}", headers=bearer(MASTER))
    assert (again.status, again.problem) == (404, "key-not-found")


@pytest.mark.parametrize("method", ["DELETE /api/v1/keys/{}", "POST /api/v1/keys/{}/rotate"])
async def test_keys_that_cannot_be_changed(locked, method):
    """One that does not exist, and one of the settings."""
    verb, path = method.split()

    for id, code, problem in (("0123456789ab", 404, "key-not-found"), ("settings-1", 409, "key-in-settings")):
        answer = await locked.call(verb, path.format(id), headers=bearer(MASTER))
        assert (answer.status, answer.problem) == (code, problem)


async def test_the_last_operators_key_stays(api):
    """Or nobody could make another one. The very last key may go: then a local node needs none."""
    admin = (await api.post("/api/v1/keys", {"name": "x", "scopes": ["admin"]})).json
    reader = await make(api, "read", key=admin["key"])

    refused = await api.call("DELETE", f"/api/v1/keys/{admin['id']}", headers=bearer(admin["key"]))
    assert (refused.status, refused.problem) == (409, "last-admin-key")

    for id in (reader["id"], admin["id"]):
        answer = await api.call("DELETE", f"/api/v1/keys/{id}", headers=bearer(admin["key"]))
        assert answer.status == 204
    assert (await api.get("/api/v1/jobs")).status == 200


# Expiry and rotation


async def test_an_expired_key_opens_nothing(locked, store):
    """It still counts as a key: that all are over must not let everybody in."""
    made = await make(locked, expires_in="1h")
    (record,) = await store.keys.all()

    assert ring(locked).find(made["key"], record.created_ms + 3_599_999)
    assert not ring(locked).find(made["key"], record.created_ms + 3_600_000)

    alone = KeyRing(store.keys, (), lambda error: None)
    await alone.look()
    assert alone.in_force


async def test_rotation(locked, store):
    """The new key is like the old one; the old one works for the overlap and no longer."""
    old = await make(locked, "read", "work", expires_in="10d", rate_limit={"limit": 100, "window": "1m"})

    answer = await locked.post(f"/api/v1/keys/{old['id']}/rotate", {"overlap": "10m"}, headers=bearer(MASTER))
    new = answer.json

    assert answer.status == 201
    assert new["key"] != old["key"]
    assert {name: new[name] for name in ("name", "scopes", "rate_limit")} == {
        name: old[name] for name in ("name", "scopes", "rate_limit")
    }
    records = {record.id: record for record in await store.keys.all()}
    begun = records[new["id"]].created_ms
    assert records[new["id"]].expires_ms == begun + 10 * 86_400_000
    assert records[old["id"]].expires_ms == begun + 600_000
    assert [await status(locked, key["key"]) for key in (old, new)] == [200, 200]
    assert not ring(locked).find(old["key"], begun + 600_000)


async def test_an_hour_is_the_overlap_where_nobody_says(locked, store):
    """A body is not needed."""
    old = await make(locked)

    new = (await locked.call("POST", f"/api/v1/keys/{old['id']}/rotate", headers=bearer(MASTER))).json

    records = {record.id: record for record in await store.keys.all()}
    assert records[old["id"]].expires_ms == records[new["id"]].created_ms + 3_600_000
    assert new["expires_at"] is None


async def test_one_key_is_shown(locked):
    """As it is listed, those of the settings too."""
    made = await make(locked, "read")
    assert "key" in made

    for id, expected in (await listed(locked)).items():
        answer = await locked.get(f"/api/v1/keys/{id}", headers=bearer(MASTER))
        assert (answer.status, {**answer.json, "last_used_at": None}) == (200, {**expected, "last_used_at": None})
    missing = await locked.get("/api/v1/keys/nothing", headers=bearer(MASTER))
    assert (missing.status, missing.problem) == (404, "key-not-found")


async def test_rotation_at_once(locked):
    """With no overlap the old key is over; and a key never gains time by it."""
    old = await make(locked)

    await locked.post(f"/api/v1/keys/{old['id']}/rotate", {"overlap": 0}, headers=bearer(MASTER))
    ended = (await listed(locked))[old["id"]]["expires_at"]
    assert await status(locked, old["key"]) == 401

    await locked.post(f"/api/v1/keys/{old['id']}/rotate", {"overlap": "5d"}, headers=bearer(MASTER))
    assert (await listed(locked))[old["id"]]["expires_at"] == ended


# Rate limits


async def test_a_key_that_asks_too_often(locked):
    """Each answer says how much is left; beyond, 429 and when to come again. Other keys do not suffer."""
    made = await make(locked, rate_limit={"limit": 2, "window": "1m"})

    answers = [await locked.get("/api/v1/jobs", headers=bearer(made["key"])) for _ in range(3)]

    assert [answer.status for answer in answers] == [200, 200, 429]
    assert answers[2].problem == "rate-limited"
    assert 1 <= int(answers[2].headers["Retry-After"]) <= 60
    for answer, left in zip(answers, (1, 0, 0), strict=True):
        assert answer.headers["RateLimit-Policy"] == '"key";q=2;w=60'
        found = re.fullmatch(r'"key";r=(\d+);t=(\d+)', answer.headers["RateLimit"])
        assert int(found[1]) == left
        assert 0 <= int(found[2]) <= 60
    assert await status(locked, MASTER) == 200
    assert "RateLimit" not in (await locked.get("/api/v1/jobs", headers=bearer(MASTER))).headers


async def test_what_a_key_may_not_do_does_not_count(locked):
    """Nor do probes."""
    made = await make(locked, rate_limit={"limit": 1, "window": "1m"})

    assert await status(locked, made["key"], "/api/v1/keys") == 403
    assert await status(locked, made["key"], "/health") == 200
    assert await status(locked, made["key"]) == 200


async def test_the_limit_waits_for_nobody_while_the_store_is_away(locked, store, monkeypatch):
    """It protects the store; what is asked says itself that the store is away."""
    made = await make(locked, rate_limit={"limit": 1, "window": "1m"})

    async def away(*arguments: object) -> None:
        raise StoreUnavailable

    monkeypatch.setattr(type(store.keys), "admit", away)

    assert [await status(locked, made["key"]) for _ in range(2)] == [200, 200]


# All nodes


async def looked(ring: KeyRing) -> asyncio.Event:
    """Set when the ring has looked anew."""
    seen = asyncio.Event()
    look = ring.look

    async def and_tell() -> None:
        await look()
        seen.set()

    ring.look = and_tell
    return seen


async def test_all_nodes_hear_of_a_change(serve, valkey_url, namespace):
    """A key that is made or revoked on one node is so on the other, without a restart."""
    far = Store(Connections(valkey_url), namespace=namespace)
    await far.open()
    one, other = await serve(api_keys=MASTER), await serve(api_keys=MASTER, behind=far)
    assert await status(other, MASTER) == 200

    async def until(key: str, expected: int) -> None:
        async with asyncio.timeout(10):
            while await status(other, key) != expected:
                seen = await looked(ring(other))
                if await status(other, key) != expected:
                    await seen.wait()

    made = await make(one)
    await until(made["key"], 200)
    await one.call("DELETE", f"/api/v1/keys/{made['id']}", headers=bearer(MASTER))
    await until(made["key"], 401)
    await other.server.stop()
    await far.close()


async def test_known_keys_stay_in_force_while_the_store_is_away(locked, store, monkeypatch):
    """And the node looks again."""
    made = await make(locked)

    async def away(*arguments: object) -> None:
        raise StoreUnavailable

    monkeypatch.setattr(type(store.keys), "all", away)
    with pytest.raises(StoreUnavailable):
        await ring(locked).look()

    assert await status(locked, made["key"]) == 200
    assert await status(locked, "x" * 40) == 401


async def test_the_last_use_is_written_down(locked, store):
    """The list knows it at once, the store within a minute; what it could not be told is told later."""
    made = await make(locked)
    await status(locked, made["key"])
    shown = (await listed(locked))[made["id"]]["last_used_at"]
    assert shown
    (record,) = await store.keys.all()
    assert record.last_used_ms is None

    await ring(locked).tell_used()

    (record,) = await store.keys.all()
    assert record.last_used_ms
    assert (await listed(locked))[made["id"]]["last_used_at"] == shown


async def test_a_use_that_could_not_be_told_is_kept(locked, store, monkeypatch):
    """Until the store is back."""
    made = await make(locked)
    await status(locked, made["key"])

    async def away(*arguments: object) -> None:
        raise StoreUnavailable

    monkeypatch.setattr(type(store.keys), "touch", away)
    with pytest.raises(StoreUnavailable):
        await ring(locked).tell_used()
    monkeypatch.undo()
    await ring(locked).tell_used()

    (record,) = await store.keys.all()
    assert record.last_used_ms


async def test_a_use_that_is_being_told_when_the_node_stops_is_told_again(locked, store, monkeypatch):
    """As the last thing that is done with the keys."""
    made = await make(locked)
    await status(locked, made["key"])
    touch = store.keys.touch
    began = asyncio.Event()

    async def hang_once(used: dict[str, int]) -> None:
        if began.is_set():
            return await touch(used)
        began.set()
        return await asyncio.Future()

    monkeypatch.setattr(store.keys, "touch", hang_once)
    monkeypatch.setattr("gopher_node.api.access.key_ring.LOOK_EVERY", 0.0)
    keys = KeyRing(store.keys, (), lambda error: None)
    await keys.look()
    assert keys.find(made["key"])
    running = asyncio.create_task(keys.run())
    await began.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    (record,) = await store.keys.all()
    assert record.last_used_ms
