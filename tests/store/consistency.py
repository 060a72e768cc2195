"""Whether a whole store is consistent: every job in exactly one place that matches its state, every key explained."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from gopher_node.job import Priority, State
from gopher_node.store import Store
from tests.store.callback_check import find_wrong_callbacks, find_wrong_replies
from tests.store.consistency_breakers import find_wrong_breakers
from tests.store.consistency_flow import find_wrong_flow
from tests.store.consistency_options import find_wrong_options
from tests.store.consistency_recurring import find_wrong_recurring
from tests.store.consistency_workflows import KINDS as KINDS_OF_WORKFLOWS
from tests.store.consistency_workflows import find_wrong_workflows, shift
from tests.store.keyspace import Dump, Key, dump

FINAL = ("completed", "failed", "cancelled")
INLINE = 1024
ATTEMPTS_KEPT = 20
FRONT = -4e15
LEASE = {"lease", "deadline", "renewed", "open"}

# Every kind of key there may be, and what type it is.
KINDS = {
    "job": "hash",
    "payload": "string",
    "result": "string",
    "attempts": "list",
    "log": "list",
    "unique": "string",
    "deadlines": "zset",
    "lane": "zset",
    "due": "zset",
    "blocked": "zset",
    "processing": "zset",
    "final": "zset",
    "tag": "zset",
    "expiring": "zset",
    "groups": "zset",
    "ready": "zset",
    "credit": "hash",
    "pools": "zset",
    "pool": "set",
    "pools-of": "set",
    "waiting": "zset",
    "wake": "list",
    "sessions": "hash",
    "session": "hash",
    "held": "set",
    "seq": "string",
    "turn": "string",
    "layout": "string",
    "counts": "hash",
    "totals": "hash",
    "totals-by-type": "hash",
    "lanes": "zset",
    "minute": "hash",
    "history": "zset",
    "latency": "hash",
    "latency-history": "zset",
    "nodes": "hash",
    "keys": "hash",
    "keys-used": "hash",
    "keys-revoked": "zset",
    "rate": "string",
    "once": "string",
    "reply": "string",
    "recurring": "hash",
    "recurring-due": "zset",
    "recurring-names": "zset",
    "breaker": "hash",
    "flow": "hash",
    "flow-declared": "hash",
    "flow-set": "hash",
    "rate-state": "hash",
    "running": "hash",
    "breaker-log": "list",
    **KINDS_OF_WORKFLOWS,
}

# Answers that are kept to be told again, and tokens that nobody may come for: all that ends by itself.
EXPIRING = ("wake", "once", "reply", "rate", "latency")


class Inconsistent(AssertionError):
    """The store contradicts itself; each line says where."""


async def check(store: Store) -> None:
    """Raises Inconsistent, with all that is wrong with the store's namespace."""
    problems = find_problems(await dump(store))
    if problems:
        raise Inconsistent("\n".join(problems))


def find_problems(found: Dump) -> list[str]:
    return _Examination(found).run()


class _Examination:
    """Looks at one dump from every side, and gathers what is wrong."""

    def __init__(self, found: Dump) -> None:
        self.found = found
        self.problems: list[str] = []
        self.jobs: dict[str, dict[str, str]] = {rest: key.value for rest, key in self.under("job")}
        self.sessions: dict[str, str] = self.value("sessions", {})
        self.pools: dict[str, float] = self.value("pools", {})
        self.types_of: dict[str, set[str]] = {pool: key.value for pool, key in self.under("pool")}

    def run(self) -> list[str]:
        parts: Iterable[Callable[[], None]] = (
            self.fields,
            self.bodies,
            self.state_indexes,
            self.scores,
            self.finals,
            self.tags,
            self.turns,
            self.pools_and_types,
            self.holders,
            self.counters,
            self.types,
            self.minutes,
            self.of_keys,
            lambda: self.problems.extend(find_wrong_replies(self.found, self.jobs)),
            lambda: self.problems.extend(find_wrong_options(self.found, self.jobs)),
            lambda: self.problems.extend(find_wrong_workflows(self.found, self.jobs)),
            lambda: self.problems.extend(find_wrong_recurring(self.found, self.jobs)),
            lambda: self.problems.extend(find_wrong_breakers(self.found, self.jobs)),
            lambda: self.problems.extend(find_wrong_flow(self.found, self.jobs)),
            lambda: self.problems.extend(find_wrong_callbacks(self.found, self.jobs, self.totals()["submitted"])),
        )
        self.keys()
        if not self.problems:
            for part in parts:
                part()
        return self.problems

    def say(self, problem: str) -> None:
        self.problems.append(problem)

    def value(self, name: str, default: Any) -> Any:
        return self.found[name].value if name in self.found else default

    def under(self, kind: str) -> list[tuple[str, Key]]:
        start = kind + ":"
        return [(name.removeprefix(start), key) for name, key in self.found.items() if name.startswith(start)]

    def same(self, what: str, actual: object, expected: object) -> None:
        if actual != expected:
            self.say(f"{what}: is {actual}, should be {expected}")

    # Keys and fields

    def keys(self) -> None:
        for name, key in self.found.items():
            kind, colon, _ = name.partition(":")
            if KINDS.get(kind) != key.kind:
                self.say(f"{name}: nothing explains this {key.kind}")
            expires = kind in EXPIRING or name.startswith("session:http-")
            if key.ttl != -1 and not (expires and colon) and kind != "unique":
                self.say(f"{name}: has a time to live")
            if key.ttl == -1 and expires:
                self.say(f"{name}: stays for ever")
        if self.found:
            self.same("layout", self.value("layout", None), "1")

    def fields(self) -> None:
        for id, job in self.jobs.items():
            missing = {"type", "state", "priority", "created", "max_retries", "max_crashes"} - job.keys()
            state = job.get("state")
            if missing or state not in list(State):
                self.say(f"job:{id}: lacks {missing}, state {state}")
            if job.get("priority") not in [str(level.value) for level in Priority]:
                self.say(f"job:{id}: priority {job.get('priority')}")
            if state == "processing":
                lacking = {"attempt", "nonce", "session", "node", "started"} - job.keys()
                if lacking or len(job["nonce"]) != 16:
                    self.say(f"job:{id}: is processing without a whole lease, {lacking}")
            if state != "processing" and "cancel" in job and state not in FINAL:
                self.say(f"job:{id}: is {state} and to be cancelled, so it should have been")
            of_lease = LEASE & job.keys()
            if of_lease and (state != "processing" or not {"lease", "deadline"} <= of_lease):
                self.say(f"job:{id}: is {state} and has {of_lease} of an HTTP lease")
            if (state in FINAL) != ("finished" in job):
                self.say(f"job:{id}: is {state}, finished {job.get('finished')}")

    def bodies(self) -> None:
        for id, job in self.jobs.items():
            for name, wanted in (("payload", True), ("result", job.get("state") == "completed")):
                beside = self.value(f"{name}:{id}", None)
                bodies = [body for body in (job.get(name), beside) if body is not None]
                self.same(f"job:{id}: number of {name}s", len(bodies), int(wanted))
                if beside is not None and len(beside.encode("utf-8", "surrogateescape")) <= INLINE:
                    self.say(f"{name}:{id}: is small and should stand in the hash")
                if len(job.get(name, "").encode("utf-8", "surrogateescape")) > INLINE:
                    self.say(f"job:{id}: its {name} is large and should stand beside the hash")
        for kind in ("payload", "result", "attempts"):
            for id, _ in self.under(kind):
                if id not in self.jobs:
                    self.say(f"{kind}:{id}: there is no such job")
        for id, key in self.under("attempts"):
            if len(key.value) > ATTEMPTS_KEPT:
                self.say(f"attempts:{id}: has {len(key.value)} entries")
            numbers = [json.loads(entry)["attempt"] for entry in key.value]
            if numbers != sorted(set(numbers)):
                self.say(f"attempts:{id}: are numbered {numbers}")

    # Where jobs stand

    def places(self) -> list[tuple[str, str, tuple[str, ...]]]:
        """(id, key, what the job's fields must be) for each entry of each state index."""
        places: list[tuple[str, str, tuple[str, ...]]] = []
        for rest, key in self.under("lane"):
            priority, type, group = rest.split(":", 2)
            places += [(id, f"lane:{rest}", ("enqueued", priority, type, group)) for id in key.value]
        for name, state in (("due", "scheduled"), ("blocked", "blocked"), ("processing", "processing")):
            places += [(id, name, (state,)) for id in self.value(name, {})]
        for state in FINAL:
            places += [(id, f"final:{state}", (state,)) for id in self.value(f"final:{state}", {})]
        return places

    def state_indexes(self) -> None:
        places = self.places()
        for id, key, expected in places:
            job = self.jobs.get(id)
            if job is None:
                self.say(f"{key}: holds {id}, which is no job")
                continue
            actual = (job.get("state"), job.get("priority"), job.get("type"), job.get("group", ""))
            self.same(f"{key}: job {id}", actual[: len(expected)], expected)
        times = Counter(id for id, _, _ in places)
        for id, job in self.jobs.items():
            if times[id] != 1:
                self.say(f"job:{id}: is {job.get('state')} and stands in {times[id]} state indexes")

    def scores(self) -> None:
        seq = int(self.value("seq", 0))
        for rest, key in self.under("lane"):
            for id, place in key.value.items():
                if not (0 < place <= seq or FRONT < place <= FRONT + seq):
                    self.say(f"lane:{rest}: {id} has place {place}, and the last given was {seq}")
        for name, field in (("due", "due"), ("blocked", "created")):
            for id, score in self.value(name, {}).items():
                self.same(f"{name}: score of {id}", score, self.number(id, field))
        for id, deadline in self.value("processing", {}).items():
            if not deadline > (self.number(id, "started") or math.inf):
                self.say(f"processing: {id} has its deadline at {deadline}, before it started")
            job = self.jobs.get(id, {})
            if "lease" in job:
                ends = float(job.get("renewed", job["started"])) + float(job["lease"])
                self.same(f"processing: end of the lease of {id}", deadline, min(ends, float(job.get("deadline", 0))))

    def number(self, id: str, field: str) -> float | None:
        text = self.jobs.get(id, {}).get(field)
        return None if text is None else float(text)

    def finals(self) -> None:
        by_type: dict[str, dict[str, float]] = {}
        expiring: dict[str, float] = {}
        for id, job in self.jobs.items():
            state = job.get("state", "")
            if state in FINAL and "finished" in job:
                finished = float(job["finished"]) + shift(job)
                for name in (f"final:{state}", f"final:{state}:{job.get('type')}"):
                    by_type.setdefault(name, {})[id] = finished
                if "retention" in job and state != "failed":
                    expiring[id] = finished + float(job["retention"])
        actual = {f"final:{rest}": key.value for rest, key in self.under("final")}
        for name in sorted(actual.keys() | by_type.keys()):
            self.same(name, actual.get(name, {}), by_type.get(name, {}))
        self.same("expiring", self.value("expiring", {}), expiring)

    def tags(self) -> None:
        expected: dict[str, dict[str, float]] = {}
        for id, job in self.jobs.items():
            for tag in job.get("tags", "").split():
                expected.setdefault(tag, {})[id] = float(job["created"])
        self.same("tags", {tag: key.value for tag, key in self.under("tag")}, expected)

    # What is served next

    def turns(self) -> None:
        lanes: dict[tuple[str, str], set[str]] = {}
        for rest, _ in self.under("lane"):
            priority, type, group = rest.split(":", 2)
            lanes.setdefault((priority, type), set()).add(group)
        groups: dict[tuple[str, str], set[str]] = {}
        for rest, key in self.under("groups"):
            priority, _, type = rest.partition(":")
            groups[priority, type] = set(key.value)
        self.same("groups of the lanes", groups, lanes)
        named = {level: found - {""} for level, found in lanes.items() if found - {""}}
        listed: dict[tuple[str, str], set[str]] = {}
        for rest, key in self.under("lanes"):
            priority, _, type = rest.partition(":")
            listed[priority, type] = set(key.value)
            self.same(f"lanes:{rest}: scores", set(key.value.values()), {0.0})
        self.same("lanes by name", listed, named)

        expected: dict[str, set[str]] = {}
        for priority, type in lanes:
            for pool in self.pools:
                if type in self.types_of.get(pool, ()):
                    expected.setdefault(f"{priority}:{pool}", set()).add(type)
        self.same("ready", {rest: set(key.value) for rest, key in self.under("ready")}, expected)

    def pools_and_types(self) -> None:
        for kind in ("pool", "credit", "waiting", "wake"):
            for pool, _ in self.under(kind):
                if pool not in self.pools:
                    self.say(f"{kind}:{pool}: there is no such pool")
        expected: dict[str, set[str]] = {}
        for pool, types in self.types_of.items():
            for type in types:
                expected.setdefault(type, set()).add(pool)
        self.same("pools-of", {type: key.value for type, key in self.under("pools-of")}, expected)

    # Holders

    def holders(self) -> None:
        held: dict[str, set[str]] = {}
        for id, job in self.jobs.items():
            if job.get("state") == "processing" and "lease" not in job:
                held.setdefault(job.get("session", ""), set()).add(id)
        self.same("held", {session: key.value for session, key in self.under("held")}, held)
        for session in held:
            if session not in self.sessions:
                self.say(f"held:{session}: there is no such session")
        open_sessions = {session for session, _ in self.under("session")}
        for pool, key in self.under("waiting"):
            for session in key.value.keys() - open_sessions:
                self.say(f"waiting:{pool}: {session} is no session that could be woken")
        for session in open_sessions - self.sessions.keys():
            if session.startswith("http-"):
                continue  # a claim that is answered again
            self.say(f"session:{session}: is not among the sessions")
        for session in self.sessions.keys() - open_sessions - held.keys():
            self.say(f"sessions: {session} is closed and holds nothing, so it should be gone")

    # Counters

    def totals(self) -> Counter[str]:
        """How often each thing happened, of all types."""
        totals = Counter({name: int(number) for name, number in self.value("totals", {}).items()})
        for field, number in self.value("totals-by-type", {}).items():
            if field:
                totals[field.partition(":")[0]] += int(number)
        return totals

    def types(self) -> None:
        """The types that have totals of their own are counted, and are a thousand at most."""
        by_type: dict[str, int] = {name: int(number) for name, number in self.value("totals-by-type", {}).items()}
        counted = by_type.pop("", 0)
        known = {field.partition(":")[2] for field in by_type} - {"(other)"}
        self.same("totals-by-type: number of types", counted, len(known))
        if counted > 1000 or any(number <= 0 for number in by_type.values()):
            self.say(f"totals-by-type: {counted} types, {by_type}")
        beside = self.value("totals", {}).keys() & {field.partition(":")[0] for field in by_type}
        self.same("totals: counted by type too", sorted(beside), [])

    def minutes(self) -> None:
        """Each minute is told once and stands in its place; up to the last of them all is marked as told."""
        history: dict[str, float] = self.value("history", {})
        for record, score in history.items():
            self.same("history: a minute", json.loads(record)["at"], score)
        self.same("history: number of minutes", len(set(history.values())), len(history))
        if history:
            self.same("minute", float(self.value("minute", {}).get("", 0)), max(history.values()))

    def of_keys(self) -> None:
        keys, revoked = self.value("keys", {}), self.value("keys-revoked", {})
        self.same("keys that were revoked", sorted(keys.keys() & revoked.keys()), [])
        self.same("keys-used without a key", sorted(self.value("keys-used", {}).keys() - keys.keys()), [])
        for id, record in keys.items():
            if not re.fullmatch(r"[0-9a-f]{64}", json.loads(record)["digest"]):
                self.say(f"keys: {id} holds {record}")

    def counters(self) -> None:
        expected = Counter(f"{job.get('state')}:{job.get('priority')}:{job.get('type')}" for job in self.jobs.values())
        actual = {name: int(number) for name, number in self.value("counts", {}).items()}
        self.same("counts", {name: number for name, number in actual.items() if number}, dict(expected))
        totals = self.totals()
        if any(number <= 0 for number in totals.values()):
            self.say(f"totals: {totals}")
        for state in FINAL:
            # A job that was requeued ended more often than once, and a forgotten one ended too.
            now = sum(number for name, number in expected.items() if name.startswith(state))
            if totals.get(state, 0) < now:
                self.say(f"totals: {state} {totals.get(state, 0)} times, but there are {now} such jobs")
        if totals.get("submitted", 0) < len(self.jobs):
            self.say(f"totals: submitted {totals.get('submitted', 0)}, but there are {len(self.jobs)} jobs")
