"""The commands about workflows, against a real node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

pytestmark = pytest.mark.process


def test_a_workflow_from_a_file_is_followed_to_its_end(at_node: Any, tmp_path: Path) -> None:
    """Submitted, shown, its jobs listed, waited for; each as people and as programs want it."""
    fibonacci = {"type": "math", "payload": {"operation": "fibonacci", "n": 10}}
    chain = [{**fibonacci, "name": "one"}, {**fibonacci, "name": "two"}, {**fibonacci, "name": "three"}]
    (tmp_path / "flow.json").write_bytes(orjson.dumps({"name": "sums", "chain": chain, "on_success": fibonacci}))

    made = at_node("workflows", "submit", str(tmp_path / "flow.json"), "--wait", "20s", "--json")
    assert made.code == 0, made.err
    id = made.json["workflow_id"]
    assert (made.json["status"], made.json["ended"]) == ("completed", 3)

    shown = dict(line.split(None, 1) for line in at_node("workflows", "show", id).lines)
    assert (shown["Workflow"], shown["Name"], shown["Status"], shown["Jobs"]) == (
        id,
        "sums",
        "completed",
        "3 (3 ended)",
    )
    assert at_node("workflows", "wait", id).code == 0
    jobs = [orjson.loads(line) for line in at_node("workflows", "jobs", id, "--json").lines]
    ids = {job["name"]: job["job_id"] for job in jobs}
    parents = {job["name"]: job["depends_on"] for job in jobs}
    assert parents == {"one": [], "two": [ids["one"]], "three": [ids["two"]]}
    header, *rows = at_node("workflows", "jobs", id).lines
    assert header.split()[:4] == ["ID", "NAME", "TYPE", "STATUS"]
    assert {row.split()[1] for row in rows} == {"one", "two", "three"}
    assert id in at_node("workflows").out


def test_a_workflow_is_cancelled(at_node: Any, queue: str) -> None:
    """Its jobs end, and who waits is told so. What waits for others is blocked until then."""
    flow = orjson.dumps({"jobs": [{"type": queue, "name": "a"}, {"type": queue, "depends_on": ["a"]}]})
    id = at_node("workflows", "submit", "-", "--json", stdin=flow).json["workflow_id"]
    blocked = at_node("jobs", "list", "--status", "blocked", "--type", queue, "--json")
    assert [orjson.loads(line)["workflow_id"] for line in blocked.lines] == [id]

    late = at_node("workflows", "wait", id, "--timeout", "0s")
    assert (late.code, "is still running" in late.err) == (1, True)
    ran = at_node("workflows", "cancel", id)
    assert (ran.code, ran.out) == (0, f"{id}  cancelled  2 of 2 jobs ended\n")
    assert at_node("workflows", "wait", id).code == 1


def test_a_job_waits_for_another(at_node: Any, queue: str) -> None:
    """Its parents and its name are options of submit, and are shown."""
    first = at_node("submit", "-t", queue, "--json").json["job_id"]
    options = ("--depends-on", first, "--on-parent-failure", "run", "--name", "second")
    second = at_node("submit", "-t", queue, *options, "--json").json
    assert (second["status"], second["depends_on"], second["on_parent_failure"]) == ("blocked", [first], "run")
    shown = at_node("get", second["job_id"]).lines
    assert ["Name", "second"] in [line.split() for line in shown]
    assert ["Waits", "for", first] in [line.split() for line in shown]


def test_slips_are_told_before_anything_is_sent(at_node: Any) -> None:
    """A file that is none, and one that is no workflow, are usage errors; a workflow that there is not is not found."""
    assert at_node("workflows", "submit", "nothing.json").code == 2
    for content in (b"[]", b"{", b'{"jbs": []}', b'{"name": "x"}', b'{"jobs": [{"type": "a", "colour": 1}]}'):
        assert at_node("workflows", "submit", "-", stdin=content).code == 2, content
    assert at_node("workflows", "show", "b3864208-5177-41ad-8fa2-451fed8ec84f").code == 3
