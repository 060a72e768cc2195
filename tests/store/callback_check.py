"""Whether what is answered again, and who is told of a job's end, fits the rest of a store."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from tests.store.keyspace import Dump

Jobs = dict[str, dict[str, str]]

FINAL = ("completed", "failed", "cancelled")
NAMES = {"url", "job_id", "type", "status", "attempt", "created", "finished", "result", "error"}


def find_wrong_replies(found: Dump, jobs: Jobs) -> Iterator[str]:
    for name, key in found.items():
        if name.startswith("once:") and not (
            re.fullmatch(r"once:[0-9a-f]{64}", name)
            and re.fullmatch(r"\d{13} [0-9a-f]{32} .+(\n\d+ \w+ \d+ \d* \S+)*", key.value)
        ):
            yield f"{name}: holds {key.value!r}"
        if name.startswith("reply:") and not re.fullmatch(r"reply:[0-9a-f]{32}", name):
            yield f"{name}: is named by no operation"
    for id, job in jobs.items():
        if "operation" in job and not re.fullmatch(r"(\w+):(\w+)", job["operation"]):
            yield f"job:{id}: has the operation {job['operation']!r}"


def find_wrong_callbacks(found: Dump, jobs: Jobs, submitted: int) -> Iterator[str]:
    """`submitted` is how many jobs there ever were: only if all are still there, a callback may be missed."""
    told: Counter[tuple[str, str, int]] = Counter()
    for id, job in jobs.items():
        if job.get("type") != "job_callback":
            continue
        said: dict[str, Any] = json.loads(job["payload"] if "payload" in job else found[f"payload:{id}"].value)
        told[said["job_id"], said["status"], said["finished"]] += 1
        if said.keys() - {"result_omitted"} != NAMES or said.get("result_omitted", True) is not True:
            yield f"job:{id}: is a callback that says {sorted(said)}"
        if (job["priority"], job["max_retries"], job.get("callback")) != ("2", "17", None):
            yield f"job:{id}: is no callback of ours, {job}"
        if not re.fullmatch(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-8[0-9a-f]{3}-[0-9a-f]{12}", id):
            yield f"job:{id}: is a callback, and its id is no UUID of version 7"
        parent = jobs.get(said["job_id"])
        if parent and (said["url"], said["type"], str(said["created"])) != (
            parent.get("callback"),
            parent.get("type"),
            parent.get("created"),
        ):
            yield f"job:{id}: calls back for another job than {said['job_id']}"
        if said["status"] not in FINAL or (said["result"] is not None and said["error"] is not None):
            yield f"job:{id}: tells of {said['status']} with a result and an error"
    for (id, status, finished), times in told.items():
        if times > 1 and status != "cancelled":  # only a cancel can end a job twice within a millisecond
            yield f"job:{id}: {times} callbacks tell that it was {status} at {finished}"
    for id, job in jobs.items():
        ended = "callback" in job and job.get("state") in FINAL and "finished" in job
        if ended and submitted == len(jobs) and not told[id, job["state"], int(job["finished"])]:
            yield f"job:{id}: no callback tells that it is {job['state']}"
