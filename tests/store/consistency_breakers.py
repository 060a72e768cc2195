"""Whether the circuit breakers of a store are consistent: with their policies, their probes and their own history."""

from __future__ import annotations

import json
import re
from itertools import pairwise

from tests.store.keyspace import Dump

FIELDS = {"state", "since", "until", "probe", "operation"}
COUNTS = {"closed", "forced-closed"}
STATES = {*COUNTS, "open", "half-open", "forced-open"}


def find_wrong_breakers(found: Dump, jobs: dict[str, dict[str, str]]) -> list[str]:
    problems: list[str] = []
    policies = found["flow"].value if "flow" in found else {}
    for name, key in found.items():
        kind, _, type = name.partition(":")
        if kind not in ("breaker", "breaker-log"):
            continue
        if "breaker" not in json.loads(policies.get(type, "{}")):
            problems.append(f"{name}: the type has no breaker")
        if kind == "breaker":
            problems += [f"{name}: {problem}" for problem in _of_one(key.value, type, jobs)]
        else:
            state = found[f"breaker:{type}"].value if f"breaker:{type}" in found else {}
            problems += [f"{name}: {problem}" for problem in _of_history(key.value, state)]
    return problems


def _of_one(fields: dict[str, str], type: str, jobs: dict[str, dict[str, str]]) -> list[str]:
    problems: list[str] = []
    state = fields.get("state", "closed")
    parts = {name: value for name, value in fields.items() if name not in FIELDS}
    if state not in STATES or ("since" in fields) != ("state" in fields):
        problems.append(f"is {fields}")
    if (state == "open") != ("until" in fields):
        problems.append(f"is {state} until {fields.get('until')}")
    probe = jobs.get(fields.get("probe", ""), {})
    if "probe" in fields and (state, probe.get("state"), probe.get("type")) != ("half-open", "processing", type):
        problems.append(f"is {state} with {fields['probe']} as its probe, a job {probe.get('state')}")
    if parts and state not in COUNTS:
        problems.append(f"is {state} and counts {parts}")
    for part, counted in parts.items():
        numbers = re.fullmatch(r"[0-9]+ ([0-9]+) ([0-9]+)", counted)
        if part not in set("0123456789") or not numbers or not int(numbers[1]) + int(numbers[2]):
            problems.append(f"counts {part}: {counted}")
    return problems


def _of_history(entries: list[str], fields: dict[str, str]) -> list[str]:
    problems: list[str] = []
    moves = [json.loads(entry) for entry in entries]
    if not 0 < len(moves) <= 100:
        problems.append(f"has {len(moves)} moves")
    for before, after in pairwise(moves):
        if before["to"] != after["from"]:
            problems.append(f"went to {before['to']} and on from {after['from']}")
    if moves and (moves[-1]["to"], str(moves[-1]["at"])) != (fields.get("state"), fields.get("since")):
        problems.append(f"ends with {moves[-1]}, and the breaker is {fields}")
    return problems
