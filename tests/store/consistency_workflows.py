"""Whether what waits for what, and what belongs to which workflow, fits the jobs of a store."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from tests.store.keyspace import Dump

Jobs = dict[str, dict[str, str]]

FINAL = ("completed", "failed", "cancelled")
CALLBACKS = ("on_complete", "on_success", "on_failure")
OUTLIVED = 1e14

KINDS = {
    "dependents": "zset",
    "fanned": "string",
    "fanout": "list",
    "workflows": "zset",
    "workflow": "hash",
    "members": "zset",
    "unfinished": "zset",
    "callback": "list",
    "cancelling": "zset",
}


def shift(job: dict[str, str]) -> float:
    """By how much the scores of a finished job are beyond what they say: it is over, and still needed."""
    return OUTLIVED if "outlived" in job else 0.0


def find_wrong_workflows(found: Dump, jobs: Jobs) -> Iterator[str]:
    options = {id: json.loads(job["options"]) for id, job in jobs.items() if "options" in job}
    yield from _edges(found, jobs, options)
    yield from _workflows(found, jobs, options)


def _under(found: Dump, kind: str) -> dict[str, dict[str, float]]:
    start = kind + ":"
    return {name.removeprefix(start): key.value for name, key in found.items() if name.startswith(start)}


def _edges(found: Dump, jobs: Jobs, options: dict[str, dict[str, list[str]]]) -> Iterator[str]:
    dependents = _under(found, "dependents")
    fanned = int(found["fanned"].value) if "fanned" in found else 0
    fanning: dict[str, int] = {}
    for record in found["fanout"].value if "fanout" in found else []:
        said = re.fullmatch(r"(\d+) (completed|failed) (\S+)", record)
        if not said or int(said[1]) > fanned:
            yield f"fanout: holds {record!r}, and the last number given was {fanned}"
        else:
            fanning[said[3]] = int(said[1])
    expected: dict[str, set[str]] = {}
    for id, given in options.items():
        if jobs[id]["state"] not in FINAL:
            for parent in given.get("depends_on", []):
                expected.setdefault(parent, set()).add(id)
    actual = {parent: set(children) for parent, children in dependents.items()}
    if actual != expected:
        yield f"dependents: are {actual}, should be {expected}"
    unresolved = dict.fromkeys(jobs, 0)
    for parent, children in dependents.items():
        job = jobs.get(parent)
        if job and "options" not in job:
            yield f"job:{parent}: others depend on it, and nothing in it tells so"
        for child, score in children.items():
            if score == -1:
                continue
            unresolved[child] = unresolved.get(child, 0) + 1
            waits = job is not None and job["state"] not in FINAL
            if not 0 <= score <= fanned or not (waits or fanning.get(parent, 0) > score):
                yield f"dependents:{parent}: nobody will release {child}, of {score}"
    for id, job in jobs.items():
        blocked = job["state"] == "blocked"
        pending = int(job.get("pending", 0)) if blocked else 0
        if pending != unresolved[id] or (blocked and id in options and options[id].get("depends_on") and not pending):
            yield f"job:{id}: is {job['state']}, waits for {job.get('pending')}, and has {unresolved[id]} edges"
        if "outlived" in job and (job["state"] not in FINAL or id not in dependents):
            yield f"job:{id}: is {job['state']}, over, and kept for nobody"


def _workflows(found: Dump, jobs: Jobs, options: dict[str, dict[str, str]]) -> Iterator[str]:
    records: dict[str, dict[str, str]] = _under(found, "workflow")  # type: ignore[assignment]
    members, unfinished = _under(found, "members"), _under(found, "unfinished")
    listed = found["workflows"].value if "workflows" in found else {}
    if listed != {id: float(record["created"]) for id, record in records.items()}:
        yield f"workflows: are {listed}, there are {list(records)}"
    for id, given in options.items():
        workflow = given.get("workflow")
        record = records.get(workflow or "")
        if record and id not in members.get(workflow or "", {}):
            late = "finished" in record and float(jobs[id]["created"]) >= float(record["finished"])
            if id not in [record.get(which) for which in CALLBACKS] and not late:
                yield f"job:{id}: is no member of {workflow}"
    for id in (members.keys() | unfinished.keys()) - records.keys():
        yield f"workflow:{id}: has members, and is not there"
    for id, record in records.items():
        mine, open_ones = members.get(id, {}), unfinished.get(id, {})
        states = [jobs[member]["state"] for member in mine if member in jobs]
        if any(options.get(member, {}).get("workflow") != id for member in mine):
            yield f"members:{id}: has others than its own"
        numbers = set(mine.values())
        if (
            len(numbers) < len(mine)
            or not numbers <= set(range(1, int(record["total"]) + 1))
            or mine.keys() - jobs.keys()
        ):
            yield f"members:{id}: have the numbers {mine}, of {record['total']}"
        if open_ones != {member: score for member, score in mine.items() if jobs[member]["state"] not in FINAL}:
            yield f"unfinished:{id}: are {set(open_ones)}"
        ended = [int(record[state]) for state in FINAL]
        gone = int(record["gone"])
        if int(record["total"]) != sum(ended) + len(open_ones) or int(record["total"]) != gone + len(mine):
            yield f"workflow:{id}: does not add up: {record}, {len(mine)} members, {len(open_ones)} unfinished"
        for state, number in zip(FINAL, ended, strict=True):
            if states.count(state) > number or (not gone and states.count(state) != number):
                yield f"workflow:{id}: counts {number} {state}, of {states}"
        if ("finished" in record) == bool(open_ones) or not mine:
            yield f"workflow:{id}: finished {record.get('finished')}, with {len(open_ones)} unfinished of {len(mine)}"
        failed = ended[1] + ended[2] > 0
        due = {"on_failure": failed, "on_complete": not open_ones, "on_success": not open_ones and not failed}
        for which in CALLBACKS:
            waits = f"callback:{id}:{which}" in found
            if waits and (which in record or due[which] or len(found[f"callback:{id}:{which}"].value) != 14):
                yield f"callback:{id}:{which}: should be gone, {record}"
    for name in found:
        if name.startswith("callback:") and name.split(":")[1] not in records:
            yield f"{name}: there is no such workflow"
    for id, at in (found["cancelling"].value if "cancelling" in found else {}).items():
        record = records.get(id, {})
        if record.get("cancelling") != f"{at:.0f}" or "finished" in record:
            yield f"cancelling: holds {id}, of {record}"
