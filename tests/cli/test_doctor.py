"""What the doctor finds, each trouble made on purpose; and that there is no trouble where there is none."""

from __future__ import annotations

import resource
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from gopher_node import __version__
from gopher_node.cli.doctor import node
from gopher_node.client import ServerUnavailable
from gopher_node.store.embedded import find_binary
from tests.conftest import server

Visit = Callable[..., list[dict[str, Any]]]

STATS: dict[str, Any] = {
    "jobs_submitted": 0,
    "jobs_completed": 0,
    "jobs_failed": 0,
    "workers_active": 0,
    "queue_size": 0,
    "uptime": 1.0,
    "jobs": {"failed": 0},
    "durability": "fsync",
    "node": {"id": "n", "role": "all", "version": __version__},
}


@pytest.fixture
def visit(gopher: Any) -> Visit:
    """Runs the doctor and gives its findings."""

    def run(*arguments: str, code: int = 0) -> list[dict[str, Any]]:
        ran = gopher("doctor", "--json", *arguments)
        found = [orjson.loads(line) for line in ran.lines]
        assert (ran.code, ran.err) == (code, ""), found
        assert bool(code) == any(finding["level"] == "error" for finding in found)
        return found

    return run


@pytest.fixture
def well(told: Any) -> Any:
    """A node that is well, as far as it says."""
    told.refuse(404, "job-not-found", detail="No such job.")
    told.paths = {
        "/health": {"status": "healthy", "timestamp": datetime.now(UTC).isoformat(), "checks": {"store": "ok"}},
        "/api/v1/stats": STATS,
        "/api/v1/queues": {"items": []},
        "/api/v1/nodes": {"items": [{"id": "n", "version": __version__}]},
        "/api/v1/stats/history": {"items": []},
        "/api/v1/keys": {"items": []},
    }
    return told


def about(found: list[dict[str, Any]], check: str, level: str = "") -> list[str]:
    """What was found about this, with the advice."""
    return [
        f"{finding['finding']} {finding['advice'] or ''}".strip()
        for finding in found
        if finding["check"] == check and finding["level"] in (level or finding["level"])
    ]


@pytest.mark.process
def test_a_node_that_is_well_is_found_so(at_node: Any, visit: Visit, node_data: Path, monkeypatch: Any) -> None:
    """With its embedded store, which lies where the settings say; nothing is an error."""
    monkeypatch.setenv("GOPHER_DATA_DIR", str(node_data))

    found = visit()

    assert about(found, "node", "ok")
    assert about(found, "clock") == ["The node's clock and this one agree."]
    assert about(found, "health") == ["The node is healthy."]
    assert about(found, "key") == ["The node asks this machine for no key."]
    assert about(found, "version") == [f"The command line and the node are both {__version__}."]
    assert about(found, "durability") == ["An accepted job is on disk (fsync)."]
    (store,) = about(found, "store")
    assert store.startswith("Valkey ")


def test_all_is_well_in_one_sentence(gopher: Any, well: Any) -> None:
    """For people each finding is a line, and the sum is the last."""
    ran = gopher("doctor", "--url", well.url)

    assert (ran.code, ran.lines[-1]) == (0, "All is well.")
    assert all(line.startswith("ok ") for line in ran.lines[:-2])


def test_errors_and_warnings_come_with_advice(gopher: Any, monkeypatch: Any) -> None:
    """The advice stands below, and the numbers at the end."""
    monkeypatch.setenv("SMTP_PASSWORD", "secret")
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"

        ran = gopher("doctor", "--url", url)

    assert ran.code == 1
    place = ran.lines.index(f"error    node        Nothing listens at {url}.")
    assert ran.lines[place + 1].strip().startswith("→ Start a node there with `gopher-node`")
    assert "warning  settings    SMTP_PASSWORD has no effect: without SMTP_HOST" in ran.out
    assert "secret" not in ran.out
    assert ran.lines[-1] == "1 error and 1 warning."


def test_each_bad_setting_is_an_error(visit: Visit, well: Any, monkeypatch: Any) -> None:
    """All of them, and the node is looked at nevertheless."""
    monkeypatch.setenv("SERVER_PORT", "http")
    monkeypatch.setenv("GOPHER_NAMESPAZE", "x")

    found = visit("--url", well.url, code=1)

    settings = about(found, "settings", "error")
    assert len(settings) == 2
    assert any("SERVER_PORT" in text for text in settings)
    assert any("did you mean GOPHER_NAMESPACE?" in text for text in settings)
    assert about(found, "node", "ok")


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ({"WORKER_CONCURENCY": "5"}, "did you mean WORKER_CONCURRENCY?"),
        ({"REDIS_DB": "1"}, "REDIS_DB has no effect: without REDIS_URL"),
        ({"GOPHER_ROLE": "api", "WORKER_CONCURRENCY": "5"}, "WORKER_CONCURRENCY has no effect: a node with the role"),
        ({"PAYMENT_SECRET": "s"}, "PAYMENT_SECRET has no effect: without PAYMENT_URL"),
        ({"SERVER_ANONYMOUS": "true", "GOPHER_API_KEYS": "k" * 32}, "SERVER_ANONYMOUS has no effect: where there are"),
    ],
)
def test_what_has_no_effect_is_told(visit: Visit, well: Any, monkeypatch: Any, environment: Any, text: str) -> None:
    """A setting that does nothing is one that somebody relies on."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    (found,) = about(visit("--url", well.url), "settings", "warning")

    assert text in found


@pytest.mark.parametrize(
    ("reason", "finding", "advice"),
    [
        ("Connection refused", "Nothing listens at", "Start a node"),
        ("Name or service not known", "cannot be resolved", "DNS"),
        ("Temporary failure in name resolution", "cannot be resolved", "DNS"),
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate has expired", "not trusted here", "--ca or SSL_CERT_FILE"),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number", "does not speak TLS", "http://"),
        ("no connection within 5 s", "No way leads to", "firewall"),
        ("No route to host", "No way leads to", "firewall"),
        ("Server disconnected without sending a response", "No answer came from", "https://"),
        ("something new", "No answer came from", "log"),
    ],
)
def test_each_reason_for_silence_has_its_advice(reason: str, finding: str, advice: str) -> None:
    """What stands in the way decides what is to be done."""
    found = node.unreachable(ServerUnavailable("http://jobs.example", reason))

    assert (found.level, finding in found.finding) == ("error", True)
    assert advice in str(found.advice)


def test_another_server_is_no_node(visit: Visit, told: Any) -> None:
    """A wrong port is told as such."""
    told.answer("<html>", 404, "text/html")

    (text,) = about(visit("--url", told.url, code=1), "node")

    assert "does not seem to be a gopher-node" in text
    assert "host, port and base path" in text


def test_an_address_that_is_none_is_told(visit: Visit) -> None:
    """Before anything is asked."""
    (text,) = about(visit("--url", "nonsense", code=1), "node")

    assert "'nonsense' is not the address of a node" in text


@pytest.mark.parametrize(
    ("skew", "level", "text"),
    [(0, "ok", "agree"), (20, "warning", "ahead of"), (-20, "warning", "behind"), (7200, "error", "2h ahead of")],
)
def test_a_clock_that_differs_is_told(visit: Visit, well: Any, skew: int, level: str, text: str) -> None:
    """By how much, and in which direction."""
    well.paths["/health"]["timestamp"] = (datetime.now(UTC) + timedelta(seconds=skew + 0.5 * (skew > 0))).isoformat()

    (found,) = about(visit("--url", well.url, code=level == "error"), "clock", level)

    assert text in found


@pytest.mark.parametrize(("status", "level"), [("unhealthy", "error"), ("degraded", "warning")])
def test_each_check_that_fails_is_told(visit: Visit, well: Any, status: str, level: str) -> None:
    """In the node's own words, which say what mends it; one that is well is not mentioned."""
    said = {"node": "ok", "store": "It is away. See to REDIS_URL.", "new": "Odd."}
    well.paths["/health"] |= {"status": status, "checks": said}

    found = about(visit("--url", well.url, code=level == "error"), "health", level)

    assert [text.partition(" ")[0] for text in found] == ["store:", "new:"]
    assert found[0].endswith("See to REDIS_URL.")


def test_another_version_is_told(visit: Visit, well: Any) -> None:
    """Of one node, and of several that differ."""
    well.paths["/api/v1/nodes"] = {"items": [{"id": "n", "version": "9.9.9"}]}
    (one,) = about(visit("--url", well.url), "version", "warning")
    well.paths["/api/v1/nodes"]["items"].append({"id": "m", "version": __version__})
    (several,) = about(visit("--url", well.url), "version", "warning")

    assert f"This command line is {__version__}, and what runs there is 9.9.9." in one
    assert f"9.9.9 (1), {__version__} (1)" in several
    assert "Finish the upgrade" in several


def test_types_that_nobody_serves_are_told(visit: Visit, well: Any) -> None:
    """The fullest first; those that are served, or empty, are not mentioned."""
    queue = {"type": "email", "waiting": 0, "served_by": 0, "oldest_age": None}
    well.paths["/api/v1/queues"] = {
        "items": [
            queue,
            {**queue, "type": "mine", "waiting": 5, "served_by": 1},
            {**queue, "type": "few", "waiting": 1, "oldest_age": 7200.5},
            *({**queue, "type": f"type-{n}", "waiting": 9} for n in range(11)),
        ]
    }

    found = about(visit("--url", well.url), "queues", "warning")

    assert len(found) == 11
    assert found[0].startswith("No node runs jobs of type type-0, and 9 wait. Start a node")
    assert "The same holds for 2 more types." in found[-1]
    well.paths["/api/v1/queues"]["items"] = well.paths["/api/v1/queues"]["items"][:3]
    (few,) = about(visit("--url", well.url), "queues", "warning")
    assert few.startswith("No node runs jobs of type few, and 1 wait, the first for 2h.")


@pytest.mark.parametrize(
    ("failed", "recent", "level", "text"),
    [(0, 0, "ok", "none"), (3, 0, "ok", "3 failed jobs"), (3, 2, "warning", "and 2 failures in the last hour")],
)
def test_failed_jobs_that_grow_are_told(
    visit: Visit, well: Any, failed: int, recent: int, level: str, text: str
) -> None:
    """Old ones are somebody's business already; new ones are news."""
    well.paths["/api/v1/stats"] = {**STATS, "jobs": {"failed": failed}}
    well.paths["/api/v1/stats/history"] = {"items": [{"at": "2030-01-01T00:00:00Z", "failed": recent}]}

    (found,) = about(visit("--url", well.url), "failed jobs", level)

    assert text in found


def test_an_older_node_is_looked_at_as_far_as_it_goes(visit: Visit, told: Any) -> None:
    """What it does not have is not reported as wrong."""
    told.refuse(404, "not-found", detail="There is nothing at this address.")
    told.paths = {"/health": {"status": "healthy", "checks": {}}, "/api/v1/stats": STATS}

    found = visit("--url", told.url)

    assert all(finding["level"] == "ok" for finding in found)


def test_a_node_without_its_store_is_looked_at_to_the_end(visit: Visit, told: Any) -> None:
    """What cannot be asked then is left out, and the reason is the one error."""
    told.refuse(503, "store-unavailable", detail="Try again.")
    told.paths = {"/health": {"status": "unhealthy", "checks": {"store": "It is away."}}}

    found = visit("--url", told.url, code=1)

    assert [finding["check"] for finding in found if finding["level"] == "error"] == ["health"]


def test_a_low_limit_of_open_files_is_told(visit: Visit, well: Any, monkeypatch: Any) -> None:
    """A node takes as many connections as its settings say."""
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1024, 1_000_000))
    monkeypatch.setenv("SERVER_MAX_CONNECTIONS", "5000")

    (found,) = about(visit("--url", well.url), "open files", "warning")

    assert "1024" in found
    assert "`ulimit -n 5256`" in found


@pytest.mark.parametrize(
    ("options", "level", "texts"),
    [
        (["--appendonly", "yes", "--appendfsync", "always"], "ok", ["An accepted job is on disk (fsync)."]),
        (["--appendonly", "yes", "--appendfsync", "everysec"], "warning", ["Up to a second", "appendfsync always"]),
        (["--appendonly", "yes", "--appendfsync", "no"], "warning", ["half a minute", "appendfsync always"]),
        ([], "warning", ["keeps no append-only file", "CONFIG SET appendonly yes"]),
    ],
)
def test_the_stores_durability_is_told(
    visit: Visit, well: Any, monkeypatch: Any, options: list[str], level: str, texts: list[str]
) -> None:
    """As the server itself says, and not the node."""
    with server(str(find_binary()), *options) as url:
        monkeypatch.setenv("REDIS_URL", url)
        (found,) = about(visit("--url", well.url), "durability", level)

    assert all(text in found for text in texts)


def test_a_store_that_would_lose_jobs_is_an_error(visit: Visit, well: Any, monkeypatch: Any) -> None:
    """What no node starts with; the rest is advice."""
    options = ["--maxmemory-policy", "allkeys-lru", "--hash-max-listpack-value", "64", "--maxmemory", "4mb"]
    with server(str(find_binary()), *options) as url:
        monkeypatch.setenv("REDIS_URL", url)
        found = visit("--url", well.url, code=1)

    (refusal,) = about(found, "store", "error")
    assert "allkeys-lru" in refusal
    assert any("CONFIG SET hash-max-listpack-value 1024" in text for text in about(found, "store", "warning"))


def test_a_store_that_is_away_is_an_error(visit: Visit, well: Any, monkeypatch: Any, tmp_path: Path) -> None:
    """And so is one that does not let us in; the password is not shown."""
    monkeypatch.setenv("REDIS_URL", f"unix://{tmp_path}/none.sock")
    (away,) = about(visit("--url", well.url, code=1), "store", "error")
    assert "cannot be reached" in away
    assert "REDIS_URL" in away

    with server(str(find_binary()), "--requirepass", "right") as url:
        monkeypatch.setenv("REDIS_URL", url.replace("unix://", "unix://:wrong-one@"))
        (refused,) = about(visit("--url", well.url, code=1), "store", "error")
    assert "refused to let us in" in refused
    assert "wrong-one" not in refused


def test_a_redis_is_examined_too(visit: Visit, well: Any, monkeypatch: Any, redis_url: str) -> None:
    """The same words from the other server."""
    monkeypatch.setenv("REDIS_URL", redis_url)

    found = visit("--url", well.url)

    assert about(found, "store", "ok")[0].startswith("Redis 7")


def test_a_directory_for_the_store_must_be_writable(visit: Visit, monkeypatch: Any, tmp_path: Path) -> None:
    """Where no node runs, the doctor looks whether one could."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("GOPHER_DATA_DIR", str(tmp_path / "file" / "data"))
    monkeypatch.setenv("GOPHER_URL", "http://127.0.0.1:1")

    (found,) = about(visit(code=1), "store", "error")

    assert "cannot hold a store" in found
    monkeypatch.setenv("GOPHER_DATA_DIR", str(tmp_path / "new" / "data"))
    assert about(visit(code=1), "store", "ok")


def test_the_nodes_word_is_taken_where_the_store_is_not_known(visit: Visit, well: Any) -> None:
    """Its durability is told with the stats."""
    well.paths["/api/v1/stats"] = {**STATS, "durability": "memory"}
    (found,) = about(visit("--url", well.url), "durability", "warning")
    assert "may lose accepted jobs" in found

    well.paths["/api/v1/stats"] = {**STATS, "durability": "unknown"}
    (found,) = about(visit("--url", well.url), "durability", "warning")
    assert "hides" in found


@pytest.mark.parametrize(
    ("environment", "texts"),
    [
        ({"GOPHER_HANDLERS": "broken_module"}, ["fails when it is imported: RuntimeError: no luck"]),
        ({"GOPHER_HANDLERS": "leaving_module"}, ["ended the process, with the code 3"]),
        ({"SERVER_HOST": "0.0.0.0"}, ["SERVER_HOST=0.0.0.0", "there is no API key", "SERVER_ANONYMOUS=true"]),
        ({"WEBHOOK_SECRET": "abc"}, ["WEBHOOK_SECRET is no secret", "openssl rand -base64 32"]),
        ({"GOPHER_PUSH": "resize=https://example.org/"}, ["WEBHOOK_SECRET is not set"]),
        ({"WORKER_TYPES": "nosuch"}, ["WORKER_TYPES names nosuch"]),
        ({"SERVER_TLS_CERT": "none.pem", "SERVER_TLS_KEY": "none.key"}, ["none.pem", "No such file"]),
    ],
)
def test_what_stops_a_start_is_an_error(
    visit: Visit, well: Any, monkeypatch: Any, tmp_path: Path, environment: Any, texts: list[str]
) -> None:
    """Though each setting can be read; then nothing says that all can be used."""
    (tmp_path / "broken_module.py").write_text("raise RuntimeError('no luck')")
    (tmp_path / "leaving_module.py").write_text("raise SystemExit(3)")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)

    found = visit("--url", well.url, code=1)

    (refused,) = about(found, "settings", "error")
    assert all(text in refused for text in texts), refused
    assert not about(found, "settings", "ok")


def test_what_a_start_takes_is_well(visit: Visit, well: Any, monkeypatch: Any, tmp_path: Path) -> None:
    """Handlers that can be imported, a secret that is one, and other machines where everybody may come in."""
    (tmp_path / "mine.py").write_text("print('imported')")
    monkeypatch.setenv("GOPHER_HANDLERS", "mine")
    monkeypatch.setenv("WEBHOOK_SECRET", "whsec_" + "A" * 32)
    monkeypatch.setenv("SERVER_HOST", "0.0.0.0")
    monkeypatch.setenv("SERVER_ANONYMOUS", "true")

    assert len(about(visit("--url", well.url), "settings", "ok")) == 1


def test_a_guess_ends_with_one_stop(gopher: Any, well: Any, tmp_path: Path) -> None:
    """The question mark."""
    (tmp_path / "c.toml").write_text("[server]\nprot = 1\n")

    assert "did you mean server.port?\n" in gopher("doctor", "--config", "c.toml", "--url", well.url).out
