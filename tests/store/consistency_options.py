"""Whether names, deadlines and logs fit the jobs that have them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from tests.store.keyspace import Dump

Jobs = dict[str, dict[str, str]]

WAITING = ("scheduled", "enqueued", "blocked")
FINAL = ("completed", "failed", "cancelled")
MAX_LINES = 1000
MAX_BYTES = 64 * 1024


def find_wrong_options(found: Dump, jobs: Jobs) -> Iterator[str]:
    yield from _names(found, jobs)
    yield from _deadlines(found, jobs)
    yield from _logs(found, jobs)
    for id, job in jobs.items():
        if "error" in job and (job["state"] not in ("cancelled", "failed") or "code" not in json.loads(job["error"])):
            yield f"job:{id}: is {job['state']}, and ended by {job['error']}"


def _names(found: Dump, jobs: Jobs) -> Iterator[str]:
    borne: dict[str, tuple[str, dict[str, Any]]] = {}
    for id, job in jobs.items():
        unique = json.loads(job.get("options", "{}")).get("unique")
        if unique:
            borne[id] = (f"unique:{job['type']}:{unique['key']}", unique)
    for name, key in found.items():
        if name.startswith("unique:"):
            bearer = re.fullmatch(r"(\S+)( \d+)?", key.value)
            own, unique = borne.get(bearer[1] if bearer else "", ("", {}))
            if not bearer or own != name:
                yield f"{name}: is borne by {key.value}, which has the name {own!r}"
                continue
            state = jobs[bearer[1]]["state"]
            for_a_time = unique["until"] == "time"
            if for_a_time != (key.ttl != -1) or for_a_time != bool(bearer[2]):
                yield f"{name}: has the time to live {key.ttl} and holds {key.value!r}, until {unique['until']}"
            if (state in FINAL and not for_a_time) or (state not in WAITING and unique["until"] == "started"):
                yield f"{name}: its job is {state}, so it should be free"
    for id, (name, unique) in borne.items():
        held = unique["until"] == "finished" and jobs[id]["state"] not in FINAL and not _gave_way(id, borne[id], jobs)
        if held and (name not in found or found[name].value != id):
            yield f"job:{id}: is {jobs[id]['state']} and has lost its name"


def _gave_way(id: str, name: tuple[str, dict[str, Any]], jobs: Jobs) -> bool:
    """Whether a job had expired when another of its name came; a tick will end it."""
    job, key = jobs[id], name[1]["key"]
    if job["state"] not in WAITING or "expires" not in job:
        return False
    others = (other for one, other in jobs.items() if one != id and other["type"] == job["type"])
    return any(
        float(other.get("requeued", other["created"])) >= float(job["expires"])
        for other in others
        if (json.loads(other.get("options", "{}")).get("unique") or {}).get("key") == key
    )


def _deadlines(found: Dump, jobs: Jobs) -> Iterator[str]:
    expected = {id: float(job["expires"]) for id, job in jobs.items() if "expires" in job and job["state"] in WAITING}
    actual: dict[str, float] = found["deadlines"].value if "deadlines" in found else {}
    if actual != expected:
        yield f"deadlines: are {actual}, should be {expected}"


def _logs(found: Dump, jobs: Jobs) -> Iterator[str]:
    for id, job in jobs.items():
        lines = found[f"log:{id}"].value if f"log:{id}" in found else []
        size = sum(len(line.encode("utf-8", "surrogateescape")) for line in lines)
        told, gone, _ = job.get("log", "0 0 -").split()
        if size != int(told) or size > MAX_BYTES or len(lines) > MAX_LINES or int(gone) < 0:
            yield f"log:{id}: has {len(lines)} lines and {size} bytes, and its job says {job.get('log')}"
    for name in found:
        if name.startswith("log:") and name.removeprefix("log:") not in jobs:
            yield f"{name}: there is no such job"
