"""The commands about a node and its queues, against a real node and against one that is not well."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.process
def test_stats_show_each_queue(at_node: Any, queue: str) -> None:
    """The counters are lines, and each queue is a row."""
    for priority in ("high", "high", "low"):
        at_node("submit", "-t", queue, "--priority", priority)
    at_node("submit", "-t", queue, "--delay", "1h")

    ran = at_node("stats")

    assert ran.code == 0
    assert {"Node", "Up", "Durability", "Submitted", "Completed", "Failed", "Waiting"} <= {
        line.split("  ")[0] for line in ran.lines
    }
    header = next(line for line in ran.lines if line.startswith("QUEUE")).split()
    row = next(line for line in ran.lines if line.startswith(queue)).split()
    assert header[9:] == ["RUN", "P50/P95/P99", "WAIT", "P50/P95/P99"]
    assert dict(zip(header[:9], row, strict=True)) == {
        **{"QUEUE": queue, "URGENT": "0", "HIGH": "2", "NORMAL": "0", "LOW": "1"},
        **{"SCHEDULED": "1", "PROCESSING": "0", "COMPLETED": "0", "FAILED": "0"},
    }


@pytest.mark.process
def test_stats_as_json_are_the_nodes_own(at_node: Any) -> None:
    """--json has what the API has."""
    stats = at_node("stats", "--json").json

    assert {"jobs_submitted", "jobs_completed", "jobs_failed", "workers_active", "queue_size", "uptime"} <= stats.keys()


@pytest.mark.process
def test_a_healthy_node_ends_with_0(at_node: Any) -> None:
    """The state comes first, then each check."""
    ran = at_node("health")

    assert ran.code == 0
    assert ran.lines[0].split() == ["Status", "healthy"]
    assert ["store", "ok"] in [line.split() for line in ran.lines]
    assert at_node("health", "--json").json["status"] == "healthy"


@pytest.mark.process
def test_a_purge_empties_a_queue(at_node: Any, queue: str) -> None:
    """Where nobody can be asked, it does what it was told; one level or the whole queue."""
    for priority in ("high", "low", "low"):
        at_node("submit", "-t", queue, "--priority", priority)

    ran = at_node("purge", queue, "--priority", "high")
    assert ran.err == ""
    assert ran.out == f"1 waiting job of {queue} deleted.\n"
    assert at_node("purge", queue, "--yes", "--json").json == {"purged": 2}


@pytest.mark.parametrize(("status", "http", "code"), [("unhealthy", 503, 1), ("degraded", 200, 0), ("healthy", 200, 0)])
def test_health_is_an_exit_code(gopher: Any, told: Any, status: str, http: int, code: int) -> None:
    """Only a node that cannot do its work is a failure; the checks say why."""
    told.answer({"status": status, "checks": {"store": "It is away.", "disk": {"status": "ok", "free": "1G"}}}, http)

    ran = gopher("health", "--url", told.url)

    assert ran.code == code
    assert ran.lines == [f"Status  {status}", "store   It is away.", "disk    ok free=1G"]


def test_a_node_without_its_store_is_told_as_such(gopher: Any, told: Any) -> None:
    """The node was reached, so this is a refusal and no missing node."""
    told.refuse(503, "store-timeout", detail="What was asked may or may not have been done.", outcome="unknown")

    ran = gopher("purge", "a", "--url", told.url)

    assert ran.code == 1
    assert ran.err == "gopher-node: A title. What was asked may or may not have been done.\n"
    assert len(told.asked) == 1


def test_another_server_is_told_as_such(gopher: Any, told: Any) -> None:
    """A web server that is no node is named, and not quoted."""
    told.answer("<html>", 404, "text/html")

    ran = gopher("stats", "--url", told.url)

    assert ran.code == 1
    assert f"What answers at {told.url} does not seem to be a gopher-node (HTTP status 404)" in ran.err


def test_an_unknown_queue_ends_with_3(gopher: Any, told: Any) -> None:
    """Not found is one code, whatever is not found."""
    told.refuse(404, "queue-not-found", detail="There is no such queue.")

    ran = gopher("purge", "email", "--url", told.url)

    assert (ran.code, ran.err) == (3, "gopher-node: There is no such queue.\n")


def test_what_a_job_holds_cannot_steer_a_terminal(gopher: Any, told: Any) -> None:
    """A payload is a stranger's: control characters, and those that turn text around, are written out."""
    told.answer(
        {
            "job_id": "1",
            "type": "email",
            "status": "failed",
            "payload": {"a": "\x1b[2J\x9b2J\u202edeb"},
            "error": {"code": "x", "message": "\x1b]0;title\x07\r\n"},
            "tags": ["\u200b"],
        }
    )

    for arguments in (["get", "1"], ["get", "1", "--json"], ["cancel", "1"]):
        out = gopher(*arguments, "--url", told.url).out
        assert not set(out) & set("\x1b\x9b\x07\r\u202e\u200b")
    assert "\\u001b[2J\\u009b2J\\u202edeb" in gopher("get", "1", "--url", told.url).out
