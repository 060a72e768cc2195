"""Who may do what: keys and their scopes, and what goes without any key."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Iterator

import pytest

from gopher_node.api import middleware
from gopher_node.api.access import key_ring
from gopher_node.api.access.auth import Access
from gopher_node.api.access.key_ring import KeyRing, digest_of
from gopher_node.api.app import RESOURCES
from gopher_node.errors import SettingError, StoreUnavailable
from gopher_node.settings import ServerSettings, Settings
from gopher_node.store import Connections, Store

ID = "b3864208-5177-41ad-8fa2-451fed8ec84f"
KEYS = {scope: f"{scope}-".ljust(40, "k") for scope in ("submit", "read", "work", "admin")}
API_KEYS = ",".join(f"{key}:{scope}" for scope, key in KEYS.items())


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.fixture
async def locked(serve):
    """An API whose settings hold one key for each scope."""
    return await serve(api_keys=API_KEYS)


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, object]]]:
    """What the API logs."""
    found: list[dict[str, object]] = []

    class Log:
        def __getattr__(self, level: str):
            return lambda event, **fields: found.append({"msg": event, "level": level, **fields})

    monkeypatch.setattr(middleware, "log", Log())
    return found


# With keys

ENDPOINTS = [endpoint for resource in RESOURCES for endpoint in resource.ENDPOINTS]
GUARDED = [endpoint for endpoint in ENDPOINTS if endpoint.scope is not None]
OPEN = [endpoint for endpoint in ENDPOINTS if endpoint.scope is None]


def address(endpoint) -> str:
    return re.sub(r"\{(\w+)\}", lambda found: ID if found[1] == "job_id" else "nothing-of-this-name", endpoint.path)


async def test_each_address_needs_its_scope(locked):
    """Without a key nobody gets in; a key of another scope is told which one it lacks; admin may do everything."""
    for endpoint in GUARDED:
        which = f"{endpoint.method} {endpoint.path}"
        unknown = await locked.call(endpoint.method, address(endpoint))
        assert (unknown.status, unknown.problem) == (401, "unauthenticated"), which
        for scope, key in KEYS.items():
            answer = await locked.call(endpoint.method, address(endpoint), headers=bearer(key))
            if scope in (endpoint.scope, "admin"):
                assert answer.status not in (401, 403), which
            else:
                assert (answer.status, answer.problem) == (403, "forbidden"), which
                assert answer.json["scope"] == endpoint.scope, which
                assert f"the scope {endpoint.scope}" in answer.json["detail"], which


async def test_what_is_refused_is_not_read(locked):
    """Whoever has no key does not learn what is wrong with a body, and a parameter is not looked at."""
    answer = await locked.call("POST", "/api/v1/jobs?x=1", data=b"{", headers={"Content-Type": "application/json"})

    assert answer.problem == "unauthenticated"
    assert await locked.stored() == 0


@pytest.mark.parametrize("endpoint", OPEN, ids=lambda endpoint: f"{endpoint.method} {endpoint.path}")
async def test_what_is_open_to_all(locked, endpoint):
    """Probes and documentation need no key, and one that is wrong does no harm there."""
    for headers in ({}, bearer("wrong")):
        answer = await locked.call(endpoint.method, address(endpoint), headers=headers)
        assert answer.status in (200, 404)


@pytest.mark.parametrize("path", ["/health", "/readyz", "/livez", "/startupz"])
async def test_details_of_the_health_need_the_scope_read(locked, path):
    """Once keys are in force, everybody sees the status, and only those who may read see why."""
    locked.status.store = "It does not answer."
    for headers, seen in (
        ({}, False),
        (bearer("wrong"), False),
        (bearer(KEYS["submit"]), False),
        (bearer(KEYS["read"]), True),
        (bearer(KEYS["admin"]), True),
    ):
        content = (await locked.get(path, headers=headers)).json
        assert ("checks" in content) is seen
        assert content["status"]
        assert ("timestamp" in content) is (path == "/health")


async def test_both_headers_carry_a_key(locked):
    """Authorization: Bearer, in any case of the word, or X-API-Key."""
    for headers in (bearer(KEYS["read"]), {"Authorization": f"bearer  {KEYS['read']}"}, {"X-API-Key": KEYS["read"]}):
        assert (await locked.get("/api/v1/jobs", headers=headers)).status == 200


async def test_a_key_given_as_its_digest(serve):
    """The settings need not know the key itself."""
    key = "a key of more than thirty-two characters"
    api = await serve(api_keys=f"sha256:{hashlib.sha256(key.encode()).hexdigest()}:read")

    assert (await api.get("/api/v1/jobs", headers=bearer(key))).status == 200
    assert (await api.get("/api/v1/jobs", headers=bearer(digest_of(key)))).status == 401


SHOWN = {
    "nothing": [],
    "unknown": [("Authorization", f"Bearer {'u' * 40}")],
    "unknown of our form": [("Authorization", f"Bearer gn_0123456789ab_{'0' * 64}")],
    "cut short": [("Authorization", f"Bearer {KEYS['admin'][:-1]}")],
    "another scheme": [("Authorization", f"Basic {KEYS['admin']}")],
    "no scheme": [("Authorization", KEYS["admin"])],
    "empty": [("Authorization", "Bearer ")],
    "empty too": [("X-API-Key", "")],
    "two headers": [("Authorization", f"Bearer {KEYS['admin']}"), ("X-API-Key", KEYS["admin"])],
    "twice": [("Authorization", f"Bearer {KEYS['admin']}"), ("Authorization", f"Bearer {KEYS['admin']}")],
    "twice plain": [("X-API-Key", KEYS["admin"]), ("X-API-Key", KEYS["admin"])],
    "not ASCII": [("X-API-Key", "ä" * 40)],
    "the digest": [("X-API-Key", digest_of(KEYS["admin"]))],
}


@pytest.mark.parametrize("shown", SHOWN.values(), ids=SHOWN)
async def test_all_that_is_no_key_is_answered_alike(locked, shown):
    """Which of all reasons it was, the answer does not tell."""
    answer = await locked.get("/api/v1/jobs", headers=shown)
    reference = await locked.get("/api/v1/jobs")

    assert (answer.status, answer.problem) == (401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"] == 'Bearer realm="gopher-node"'
    assert {**answer.json, "instance": ""} == {**reference.json, "instance": ""}
    assert set(answer.headers) == set(reference.headers)


async def test_a_key_in_the_address_is_none(locked):
    """Addresses end in logs and histories, so a key is not looked for there."""
    for name in ("api_key", "access_token", "key"):
        assert (await locked.get(f"/api/v1/jobs?{name}={KEYS['admin']}")).problem == "unauthenticated"


# Without keys, on this machine


async def with_host(api, host: str, method: str = "GET", **headers: str):
    return await api.call(method, "/api/v1/jobs?limit=1", headers={"Host": host, **headers})


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:8080"])
async def test_a_local_node_answers_to_its_own_names(api, host):
    """The port may be another one: it may have been forwarded."""
    assert (await with_host(api, host)).status == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "evil.example:8080", "10.0.0.1", "[::1"],
)
async def test_a_name_pointed_at_this_machine_is_refused(api, host):
    """DNS rebinding: a web page whose own name leads here could read everything otherwise."""
    answer = await with_host(api, host)

    assert (answer.status, answer.problem) == (403, "forbidden")
    assert "GOPHER_API_KEYS" in answer.json["detail"]


async def test_no_host_is_no_name_of_ours(api):
    """What every client sends may be asked of every client."""
    answer = await api.exchange(b"GET /api/v1/jobs HTTP/1.0\r\n\r\n")

    assert (answer.status, answer.problem) == (403, "forbidden")


async def test_the_configured_name_is_one_of_ours(serve):
    """Whoever has the node listen under another local name may call it so."""
    api = await serve(host="127.0.0.2")

    assert (await with_host(api, "127.0.0.2:80")).status == 200
    assert (await with_host(api, "127.0.0.3:80")).status == 403


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost:1", "https://localhost.evil", "x"]
)
async def test_a_foreign_page_may_change_nothing(api, origin):
    """A browser sends a form anywhere; the page's origin tells on it. To look is harmless: the page sees no answer."""
    headers = {"Host": "localhost:8080", "Origin": origin}
    answer = await api.call("POST", "/api/v1/jobs", json={"type": "mail"}, headers=headers)

    assert (answer.status, answer.problem) == (403, "forbidden")
    assert "SERVER_CORS_ORIGINS" in answer.json["detail"]
    assert await api.stored() == 0
    assert (await api.get("/api/v1/jobs", headers=headers)).status == 200


async def test_a_page_of_our_own_or_a_named_one_may(serve):
    """The node's own pages, and those of origins that the settings name; "*" names nobody."""
    api = await serve(cors_origins=["https://ok.example", "*"])
    for origin, status in (("http://localhost:8080", 201), ("https://ok.example", 201), ("https://no.example", 403)):
        headers = {"Host": "localhost:8080", "Origin": origin}
        answer = await api.call("POST", "/api/v1/jobs", json={"type": "mail"}, headers=headers)
        assert answer.status == status


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ({"X-Forwarded-For": "203.0.113.9"}, 403),
        ({"X-Forwarded-For": "127.0.0.1, 203.0.113.9"}, 403),
        ({"X-Forwarded-For": "nonsense"}, 403),
        ({"Forwarded": "for=203.0.113.9"}, 403),
        ({"X-Forwarded-For": "127.0.0.1"}, 200),
    ],
)
async def test_what_a_proxy_brings_from_elsewhere_is_refused(api, header, status):
    """A proxy on this machine must not open the node to the world by accident."""
    assert (await api.get("/api/v1/jobs", headers=header)).status == status


async def test_keys_take_the_place_of_all_that(locked):
    """With a key, name and origin do not matter: no web page knows one."""
    headers = {"Host": "jobs.example", "Origin": "https://x.example", "X-Forwarded-For": "203.0.113.9"}
    answer = await locked.call(
        "POST", "/api/v1/jobs", json={"type": "mail"}, headers={**headers, **bearer(KEYS["submit"])}
    )

    assert answer.status == 201


# Without keys, beyond this machine


async def test_a_node_that_others_reach_lets_nobody_in_without_keys(serve):
    """Also if the last key was revoked while it ran."""
    api = await serve(host="0.0.0.0")

    assert (await api.get("/api/v1/jobs", headers={"Host": "localhost"})).problem == "unauthenticated"
    assert "checks" not in (await api.get("/health")).json
    with pytest.raises(SettingError, match=r"SERVER_HOST=0\.0\.0\.0 lets other machines in") as refused:
        await api.server.check_access()
    for way in ("export GOPHER_API_KEYS=", "gopher-node keys create", "--host 127.0.0.1", "SERVER_ANONYMOUS=true"):
        assert way in str(refused.value)


async def test_a_node_may_be_told_to_let_everybody_in(serve):
    """Then under any name; but no web page of another origin changes anything."""
    api = await serve(host="0.0.0.0", anonymous=True)

    await api.server.check_access()
    assert (await with_host(api, "jobs.example")).status == 200
    answer = await with_host(api, "jobs.example", "DELETE", Origin="https://evil.example")
    assert answer.status in (403, 405)


async def test_that_holds_only_while_there_is_no_key(serve):
    """A key that exists is a key that is needed."""
    api = await serve(host="0.0.0.0", anonymous=True, api_keys=API_KEYS)

    assert (await api.get("/api/v1/jobs")).status == 401


@pytest.mark.parametrize(
    ("loopback", "server", "keys", "refused"),
    [
        (True, {}, [], False),
        (False, {}, [], True),
        (False, {"anonymous": True}, [], False),
        (False, {}, "k" * 32, False),
    ],
)
async def test_which_nodes_may_start(store, loopback, server, keys, refused):
    """Only one that others reach, that has no key, and that was not told to do without one is refused."""
    ring = KeyRing(store.keys, Settings(api_keys=keys).api_keys, lambda error: None)
    access = Access(ring, ServerSettings(**server), loopback)
    if refused:
        with pytest.raises(SettingError):
            access.refuse_to_be_open()
    else:
        access.refuse_to_be_open()


# While the store is away


async def test_before_the_keys_are_known_nobody_gets_in(serve, tmp_path):
    """A node that starts while its store is away does not know which keys there are. Probes are answered."""
    away = Store(Connections(f"unix://{tmp_path}/nothing.sock"), namespace="away", hasty=True)
    for keys in (None, API_KEYS):
        api = await serve(behind=away, api_keys=keys)
        answer = await api.get("/api/v1/jobs", headers=bearer(KEYS["read"]))
        assert (answer.status, answer.problem) == (503, "store-unavailable")
        assert answer.headers["Retry-After"]
        assert (await api.get("/livez")).status == 200
    await away.close()


# The ring


class Records:
    """A store's keys that a test makes up."""

    def __init__(self) -> None:
        self.broken = False
        self.asked = 0

    async def all(self):
        self.asked += 1
        if self.broken:
            raise StoreUnavailable
        return []


async def test_one_question_for_all_that_come_too_early():
    """A hundred requests to a node that has just started do not ask the store a hundred times."""
    records = Records()
    ring = KeyRing(records, (), lambda error: None)

    await asyncio.gather(*(ring.ensure_known() for _ in range(100)))
    await ring.ensure_known()

    assert records.asked == 1


async def test_a_store_that_did_not_answer_is_asked_again():
    """Its failure is not remembered."""
    records = Records()
    ring = KeyRing(records, (), lambda error: None)
    records.broken = True
    with pytest.raises(StoreUnavailable):
        await ring.ensure_known()
    records.broken = False

    await ring.ensure_known()

    assert ring.known


def test_every_digest_is_compared_in_constant_time(monkeypatch):
    """An id that no key has is compared with too, so that the time tells nothing."""
    compared: list[tuple[str, str]] = []
    monkeypatch.setattr(
        key_ring.hmac, "compare_digest", lambda one, other: compared.append((one, other)) or one == other
    )
    ring = KeyRing(Records(), Settings(api_keys=API_KEYS).api_keys, lambda error: None)

    assert ring.find("gn_0123456789ab_secret") is None
    unknown = len(compared)
    assert ring.find(KEYS["admin"]).name == "GOPHER_API_KEYS"
    assert len(compared) - unknown == unknown == 1 + len(KEYS)


# Logs


async def test_an_operators_acts_are_kept(locked, lines):
    """Who did what to which job; what others do, what fails, and what only looks is no act."""
    job_id = (
        await locked.post("/api/v1/jobs", {"type": "mail", "payload": {"a": "hush"}}, headers=bearer(KEYS["submit"]))
    ).json["job_id"]
    admin = bearer(KEYS["admin"])
    await locked.get("/api/v1/jobs", headers=admin)
    await locked.call("DELETE", f"/api/v1/jobs/{ID}", headers=admin)
    assert lines == []

    answer = await locked.post("/api/v1/queues/mail/purge", headers={**admin, "X-Forwarded-For": "203.0.113.9"})

    assert answer.status == 200
    (line,) = lines
    assert line["msg"] == "audit"
    assert (line["key_id"], line["key_name"], line["address"]) == ("settings-4", "GOPHER_API_KEYS", "127.0.0.1")
    assert (line["method"], line["route"]) == ("POST", "/api/v1/queues/{type}/purge")
    assert (line["job_type"], line["status"]) == ("mail", 200)
    assert line["request_id"] == answer.headers["X-Request-ID"]
    assert "hush" not in str(lines)
    assert job_id not in str(lines)


async def test_a_trusted_proxy_says_who_asked(serve, lines):
    """Of the addresses that it names, the last that is no proxy's own counts: the others anybody could write."""
    api = await serve(api_keys=API_KEYS, trusted_proxies=["127.0.0.1", "10.0.0.0/8"])
    for named, address in (
        ("203.0.113.9", "203.0.113.9"),
        ("198.51.100.1, 203.0.113.9, 10.0.0.7", "203.0.113.9"),
        ("10.0.0.7", "10.0.0.7"),
    ):
        await api.post("/api/v1/queues/plain/purge", headers={**bearer(KEYS["admin"]), "X-Forwarded-For": named})
        assert lines[-1]["address"] == address


async def test_no_log_line_has_a_key_or_a_token(serve, lines):
    """Routes are logged as patterns, and headers not at all."""
    api = await serve(api_keys=API_KEYS, log_level="debug")
    token = f"{ID}.1.nonceofthelease"
    for key in (KEYS["admin"], "wrong" * 10):
        for method, path in (
            ("POST", f"/api/v1/leases/{token}/complete"),
            ("GET", f"/api/v1/jobs?cursor={token}&api_key={key}"),
            ("DELETE", f"/api/v1/keys/{key}"),
            ("POST", "/api/v1/queues/mail/purge"),
        ):
            await api.call(method, path, headers={**bearer(key), "Gopher-Lease": token})

    assert [line["msg"] for line in lines].count("http.request") == 8
    assert not re.search(f"{token}|nonceofthelease|{KEYS['admin']}|wrongwrong", str(lines))


async def test_no_answer_repeats_a_key(locked):
    """Not even a wrong one."""
    for key in ("wrong" * 10, KEYS["submit"]):
        answer = await locked.get("/api/v1/jobs", headers=bearer(key))
        assert key not in f"{answer.headers} {answer.body}"


def test_every_address_is_declared_with_a_scope():
    """Only probes and documentation are open: a new address is not, unless this list says so."""
    assert {endpoint.path for endpoint in OPEN} == {
        "/livez",
        "/readyz",
        "/startupz",
        "/health",
        "/openapi.json",
        "/docs",
        "/",
        "/problems",
        "/problems/{name}",
    }
