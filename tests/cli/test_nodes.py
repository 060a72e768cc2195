"""The commands about nodes, workers, handlers, queues, the counts of each minute, and the settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

MINUTE = {"submitted": 4, "completed": 3, "failed": 1, "retried": 0, "crashed": 0, "cancelled": 0}


@pytest.mark.process
def test_nodes_are_listed_and_shown(at_node: Any) -> None:
    """Each is a row, and all of one is known by its id."""
    (node,) = [orjson.loads(line) for line in at_node("nodes", "--json").lines]

    rows = at_node("nodes").lines
    assert rows[0].split()[:3] == ["ID", "ROLE", "VERSION"]
    assert rows[1].split()[:2] == [node["id"], "all"]
    shown = at_node("nodes", "show", node["id"])
    assert shown.code == 0
    assert shown.lines[0].split() == ["Id", node["id"]]
    assert "echo" in shown.out
    assert at_node("nodes", "show", node["id"], "--json").json["id"] == node["id"]
    ran = at_node("nodes", "show", "nobody")
    assert (ran.code, ran.out) == (3, "")


@pytest.mark.process
def test_workers_are_listed(at_node: Any) -> None:
    """The node's own is there, with its slots."""
    ran = at_node("workers")

    assert ran.code == 0
    assert ran.lines[0].split()[:4] == ["NAME", "KIND", "RUNNING", "SLOTS"]
    assert "100" in ran.lines[1].split()
    assert ran.err == "100 jobs can run at the same time on the nodes.\n"
    assert orjson.loads(at_node("workers", "--json").lines[0])["kind"] == "node"


@pytest.mark.process
def test_handlers_are_listed_and_shown(at_node: Any) -> None:
    """One comes with the schema of its payload."""
    ran = at_node("handlers")
    assert {"echo", "math", "broken"} <= {line.split()[0] for line in ran.lines}

    ran = at_node("handlers", "show", "broken")
    assert ran.lines[0].split() == ["Type", "broken"]
    assert '"reason"' in ran.out.partition("Payload:")[2]
    assert at_node("handlers", "show", "broken", "--json").json["payload_schema"]["properties"]["reason"]
    ran = at_node("handlers", "show", "nobody")
    assert (ran.code, ran.err.startswith("gopher-node: No node has a handler for nobody;")) == (3, True)


@pytest.mark.process
def test_queues_are_listed_and_shown(at_node: Any, queue: str) -> None:
    """How much waits at which priority, and whether anybody serves it."""
    for priority in ("high", "high", "low"):
        at_node("submit", "-t", queue, "--priority", priority)

    ran = at_node("queues")
    header = ran.lines[0].split()
    row = next(line for line in ran.lines if line.startswith(queue)).split()
    assert header[:6] == ["QUEUE", "URGENT", "HIGH", "NORMAL", "LOW", "OLDEST"]
    assert row[1:5] == ["0", "2", "0", "1"]
    assert row[-1] == "0"

    shown = at_node("queues", "show", queue)
    assert shown.lines[0].split() == ["Queue", queue]
    assert shown.lines[1].split() == ["Waiting", "3"]
    assert at_node("queues", "show", queue, "--json").json["depth"]["high"] == 2
    assert at_node("queues", "purge", queue, "--json").json == {"purged": 3}
    assert at_node("queues", "show", f"{queue}-none").code == 3


@pytest.mark.process
def test_each_minute_is_counted(at_node: Any) -> None:
    """The last minutes, of all or of one type; the node's answer is taken as it is."""
    ran = at_node("stats", "--history", "5", "--json")

    assert ran.code == 0
    assert all("at" in orjson.loads(line) for line in ran.lines)
    assert at_node("stats", "--history", "5", "--type", "echo").code == 0


def test_minutes_are_rows(gopher: Any, told: Any) -> None:
    """With the minute in UTC, and how long jobs took in it."""
    took = {"p50": 0.0123, "p95": 0.5, "p99": 75.0}
    told.answer({"items": [{"at": "2030-01-01T10:01:00Z", **MINUTE, "run_seconds": took}]})

    ran = gopher("stats", "--history", "60", "--type", "email", "--url", told.url)

    assert ran.lines[0].split()[:7] == ["MINUTE", "SUBMITTED", "COMPLETED", "FAILED", "RETRIED", "CRASHED", "CANCELLED"]
    assert ran.lines[1].split() == ["2030-01-01", "10:01:00Z", "4", "3", "1", "0", "0", "0", "12ms/500ms/1m15s"]
    assert told.asked == [("GET", "/api/v1/stats/history?minutes=60&type=email", None)]


def test_a_node_of_another_version_is_told_as_such(gopher: Any, told: Any) -> None:
    """What it has no address for is not the same as what is not found there."""
    told.refuse(404, "not-found", detail="There is nothing at this address.")

    ran = gopher("nodes", "--url", told.url)

    assert ran.code == 1
    assert "does not know what this command asks for" in ran.err


def test_settings_are_shown_with_their_sources(gopher: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The environment, the file and the defaults; what is secret is hidden."""
    (tmp_path / "mine.toml").write_text('namespace = "shop"\n[worker]\nconcurrency = 7\n')
    monkeypatch.setenv("WORKER_CONCURRENCY", "9")
    monkeypatch.setenv("SMTP_PASSWORD", "very-secret")
    monkeypatch.setenv("REDIS_URL", "redis://:hidden@10.0.0.5/0")

    ran = gopher("config", "show", "--config", "mine.toml", "--json")

    found = {entry["setting"]: entry for entry in map(orjson.loads, ran.lines)}
    assert found["worker.concurrency"] == {
        "setting": "worker.concurrency",
        "value": 9,
        "source": "WORKER_CONCURRENCY",
    }
    assert found["namespace"]["source"] == "mine.toml: namespace"
    assert found["server.port"]["source"] == "default"
    assert "very-secret" not in ran.out
    assert "hidden" not in ran.out
    changed = gopher("config", "--config", "mine.toml", "--changed")
    assert len(changed.lines) == 5
    assert "WORKER_CONCURRENCY" in changed.out


def test_settings_that_cannot_be_used_are_told(gopher: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As at a start."""
    monkeypatch.setenv("SERVER_PORT", "http")

    ran = gopher("config", "show")

    assert ran.code == 78
    assert "SERVER_PORT" in ran.err


def test_a_node_that_is_none_is_named(at_node: Any) -> None:
    """With where to find those there are."""
    ran = at_node("nodes", "show", "nosuch")

    assert (ran.code, ran.out) == (3, "")
    assert "There is no node nosuch" in ran.err
