"""Whether recurring jobs fit the rest of a store: their indexes, their next fires, and the jobs that they brought."""

from __future__ import annotations

import json
from collections.abc import Iterator

from gopher_node.schedules import fire_id
from tests.store.keyspace import Dump

Jobs = dict[str, dict[str, str]]

NEEDED = {"content", "payload", "missed", "overlap", "revision", "anchor", "created", "updated"}


def find_wrong_recurring(found: Dump, jobs: Jobs) -> Iterator[str]:
    known = {name.removeprefix("recurring:"): key.value for name, key in found.items() if name.startswith("recurring:")}
    names = found["recurring-names"].value if "recurring-names" in found else {}
    if names != dict.fromkeys(known, 0.0):
        yield f"recurring-names: holds {names}, should hold {sorted(known)}"
    due = found["recurring-due"].value if "recurring-due" in found else {}
    if due != {name: float(fields["next"]) for name, fields in known.items() if "next" in fields}:
        yield f"recurring-due: holds {due}, which is not when they fire next"
    for name, fields in known.items():
        if NEEDED - fields.keys():
            yield f"recurring:{name}: lacks {NEEDED - fields.keys()}"
        if "paused" in fields and "next" in fields:
            yield f"recurring:{name}: is paused, and fires at {fields['next']}"
        if ("last" in fields) != ("job" in fields) or ("skipped" in fields) != ("why" in fields):
            yield f"recurring:{name}: half of its last fire is missing"
        if "last" in fields and fields["job"] != fire_id(name, int(fields["last"])):
            yield f"recurring:{name}: its job {fields['job']} is not that of {fields['last']}"
        if int(fields.get("fired", 0)) < ("job" in fields):
            yield f"recurring:{name}: fired {fields.get('fired')} times"
    for id, job in jobs.items():
        name = json.loads(job.get("options", "{}") or "{}").get("recurring")
        if name in known and id == known[name].get("job") and job.get("due") != known[name]["last"]:
            yield f"job:{id}: is due at {job.get('due')}, and was fired for {known[name]['last']}"
