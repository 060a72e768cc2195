"""Whether what bounds the jobs of a store's types is consistent: policies, what runs, and what is held back by them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

from tests.store.keyspace import Dump

PARKED = 9e15
PRIORITIES = ("4", "3", "2", "1")

Jobs = dict[str, dict[str, str]]


def find_wrong_flow(found: Dump, jobs: Jobs) -> list[str]:
    """What is wrong with the policies, the numbers of running jobs, and the scores of what waits."""
    flow, declared, set_ = (_policies(found, name) for name in ("flow", "flow-declared", "flow-set"))
    problems: list[str] = []
    for type in sorted(flow.keys() | declared.keys() | set_.keys()):
        expected = {**declared.get(type, {}), **set_.get(type, {})}
        actual = {name: value for name, value in flow.get(type, {}).items() if name != "reopen"}
        if actual != expected:
            problems.append(f"flow: {type} has {actual}, should have {expected}")
    problems += _wrong_numbers(found, jobs)
    problems += _wrong_rates(found, flow)
    problems += _wrong_scores(found, jobs, flow)
    return problems


def _policies(found: Dump, name: str) -> dict[str, dict[str, Any]]:
    return {type: json.loads(text) for type, text in found[name].value.items()} if name in found else {}


def _under(found: Dump, kind: str) -> Iterator[tuple[str, Any]]:
    for name, key in found.items():
        if name.startswith(kind + ":"):
            yield name.removeprefix(kind + ":"), key.value


def _wrong_numbers(found: Dump, jobs: Jobs) -> Iterator[str]:
    running = Counter(
        (job["type"], job["group"]) for job in jobs.values() if job.get("state") == "processing" and job.get("group")
    )
    told = {(type, group): int(number) for type, value in _under(found, "running") for group, number in value.items()}
    if told != dict(running):
        yield f"running: is {told}, should be {dict(running)}"


def _wrong_rates(found: Dump, flow: dict[str, dict[str, Any]]) -> Iterator[str]:
    for type, value in _under(found, "rate-state"):
        for group, state in value.items():
            rate = flow.get(type, {}).get("group_rate" if group else "rate")
            _, left = state.split(" ")
            if rate is None or float(left) < -1e-6:
                yield f"rate-state:{type}: {group!r} has {state}, and the rate is {rate}"


def _wrong_scores(found: Dump, jobs: Jobs, flow: dict[str, dict[str, Any]]) -> Iterator[str]:
    """What waits is only held back while something holds it: nothing that may be served is parked or late for ever."""
    turn = float(found["turn"].value) if "turn" in found else 0.0
    processing = [job for job in jobs.values() if job.get("state") == "processing"]
    runs = Counter(job["type"] for job in processing)
    group_runs = Counter((job["type"], job.get("group", "")) for job in processing)
    lowest: dict[tuple[str, str], float] = {}
    for rest, value in _under(found, "groups"):
        priority, _, type = rest.partition(":")
        policy = flow.get(type, {})
        lowest[priority, type] = min(value.values())
        if priority in policy.get("reopen", ""):
            continue
        for group, score in value.items():
            full = group_runs[type, group] >= policy.get("group_cap", 1e9) or group in policy.get("paused_groups", ())
            if score > turn and not (group and (full if score == PARKED else "group_rate" in policy)):
                yield f"groups:{rest}: {group!r} has score {score}, and the last turn was {turn}"
    for rest, value in _under(found, "ready"):
        priority = rest.partition(":")[0]
        for type, score in value.items():
            policy = flow.get(type, {})
            held = policy.get("paused") or priority in policy.get("paused_priorities", ())
            full = runs[type] >= policy.get("cap", 1e9)
            waits = lowest.get((priority, type), 0.0) > turn or "rate" in policy or "breaker" in policy
            if score > turn and not (held or full or waits):
                yield f"ready:{rest}: {type} has score {score}, and the last turn was {turn}"
            if score == PARKED and not (
                held or full or lowest.get((priority, type)) == PARKED or f"breaker:{type}" in found
            ):
                yield f"ready:{rest}: {type} is parked, and nothing holds it"
