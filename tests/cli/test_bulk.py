"""The submit of many jobs from a file, against a real node."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.cli.test_program import on_terminal

pytestmark = pytest.mark.process


def lines_of(*jobs: Any) -> bytes:
    return b"".join(orjson.dumps(job) + b"\n" for job in jobs)


def test_each_line_is_a_job(at_node: Any, queue: str, tmp_path: Path) -> None:
    """More than fit into one request; blank lines are nothing."""
    jobs = [{"type": queue, "payload": {"n": n}, "tags": [queue]} for n in range(1203)]
    (tmp_path / "jobs.ndjson").write_bytes(lines_of(*jobs) + b"\n\n")

    ran = at_node("submit", "--file", "jobs.ndjson")

    assert (ran.code, ran.out, ran.err) == (0, "1203 jobs submitted.\n", "")
    assert at_node("queues", "show", queue, "--json").json["waiting"] == 1203


def test_a_faulty_line_is_named_and_stops_no_other(at_node: Any, queue: str) -> None:
    """In the order of the lines, whoever refuses it: the command line, the client or the node."""
    good = {"type": queue}
    faulty = [
        b'{"type": ',
        orjson.dumps({"type": queue, "colour": 1}),
        b'{"type": "no type"}',
        b'{"type": "%s", "payload": 123456789012345678901234567890}' % queue.encode(),
        b'{"type": "%s", "payload": 1e999}' % queue.encode(),
        b'{"type": "%s", "payload": NaN}' % queue.encode(),
        b"[1]",
        b"[" * 100_000,
    ]
    content = b"".join(lines_of(good) + line + b"\n" for line in faulty)

    ran = at_node("submit", "-f", "-", stdin=content)

    assert (ran.code, ran.out) == (1, "8 jobs submitted, 8 lines refused.\n")
    told = ran.err.splitlines()
    assert [line.partition(": ")[2].partition(":")[0] for line in told] == [f"line {n}" for n in range(2, 17, 2)]
    for line, reason in zip(
        told,
        [
            "is not valid JSON: ",
            "colour",
            "/type",
            "64-bit",
            "too large",
            "no NaN",
            "must be an object",
            "nested too deeply",
        ],
        strict=True,
    ):
        assert reason in line


def test_as_json_each_line_has_its_answer(at_node: Any, queue: str) -> None:
    """A program learns the id of each job, under the number of its line."""
    content = b"\n" + lines_of({"type": queue}, {"payload": 1}, {"type": queue, "delay": "1h"})

    ran = at_node("submit", "--file", "-", "--json", stdin=content)

    first, second, third = map(orjson.loads, ran.lines)
    assert ran.code == 1
    assert (first["line"], first["status"]) == (2, "enqueued")
    assert at_node("get", first["job_id"]).code == 0
    assert second["line"] == 3
    assert "type" in second["error"]
    assert (third["line"], third["status"]) == (4, "scheduled")


def test_an_empty_file_is_no_fault(at_node: Any) -> None:
    """There is nothing to do, and that is said."""
    ran = at_node("submit", "--file", "-", stdin=b"\n")

    assert (ran.code, ran.out) == (0, "0 jobs submitted.\n")


def test_a_file_that_cannot_be_read_is_told(at_node: Any, tmp_path: Path) -> None:
    """A directory is none."""
    os.mkdir(tmp_path / "folder")

    ran = at_node("submit", "--file", "folder")

    assert ran.code == 2
    assert ran.err == "gopher-node: The file folder cannot be read: Is a directory.\n"


def test_a_terminal_gets_a_bar(node_url: str, queue: str, tmp_path: Path) -> None:
    """It shows how many of all are done."""
    path = tmp_path / "jobs.ndjson"
    path.write_bytes(lines_of(*({"type": queue} for _ in range(7))))

    code, screen = on_terminal("submit", "--file", str(path), f"--url={node_url}")

    assert code == 0
    assert "7/7" in screen
    assert "7 jobs submitted." in screen


def test_a_node_that_goes_away_is_told_with_how_far_it_came(gopher: Any, told: Any) -> None:
    """What was stored by then, and how to go on."""
    told.refuse(503, "draining", detail="Try another node.")

    ran = gopher("submit", "--file", "-", "--url", told.url, stdin=lines_of({"type": "a"}))

    assert ran.code == 1
    assert "0 jobs submitted by then" in ran.err
    assert "job_id" in ran.err
