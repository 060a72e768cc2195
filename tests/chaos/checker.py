"""
Whether what is promised has held, seen from three books: the client's, the handlers' and the store's own history.

The letters are those of the reference: C conservation, L no loss, S single completion, F fence, D duplicates,
R recovery, O no orphans, A honest answers.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tests.chaos.client import NEVER
from tests.chaos.handlers import UNNAMED
from tests.chaos.history import History, Life, Step
from tests.chaos.ledger import ClientLedger, Execution, by_job

FINAL = ("completed", "failed", "cancelled")

LEGAL = {
    None: ("scheduled", "enqueued"),
    "scheduled": ("enqueued", "cancelled"),
    "enqueued": ("processing", "scheduled", "cancelled"),  # a suspect for which there is no process is put off
    "processing": ("completed", "failed", "cancelled", "scheduled", "enqueued"),
}
"""What may follow on what, in scenarios where no operator gives a finished job back."""

INVARIANTS = {
    "C": "conservation: every job stands in one index, counters equal sets, none is there that nobody asked for",
    "L": "no loss: each accepted job ends, and as it was planned",
    "S": "single completion: legal steps, one end, each follow-up once",
    "F": "fence: no step by a token that is not the job's",
    "D": "duplicates: no run without a claim of its own, and no more runs than errors, crashes and releases explain",
    "R": "recovery: p99 within the lease and a second",
    "O": "no orphans: no key, session or lease that belongs to nobody",
    "A": "honest answers: no 500, durability as promised, nothing stored that was refused",
}


@dataclass
class Verdict:
    """What was found, by invariant; and figures of what happened."""

    findings: dict[str, list[str]] = field(default_factory=lambda: {letter: [] for letter in INVARIANTS})
    figures: dict[str, float | int | str] = field(default_factory=dict[str, float | int | str])

    def find(self, letter: str, what: str) -> None:
        self.findings[letter].append(what)

    @property
    def sound(self) -> bool:
        return not any(self.findings.values())


class Checker:
    """Holds the books against each other."""

    def __init__(self, history: History, ledger: ClientLedger, executions: Sequence[Execution]) -> None:
        self.history = history
        self.ledger = ledger
        self.runs = by_job(executions)
        self.verdict = Verdict()

    def run(self, counts: Mapping[str, int], drift: Sequence[str], *, ends: bool = True) -> Verdict:
        """`counts` is what the store says of each state, `drift` what its indexes contradict each other in."""
        for problem in drift:
            self.verdict.find("O" if "session" in problem or "explains" in problem else "C", problem)
        self._conservation(counts)
        if ends:
            self._promises()
            self._losses()
        for life in self.history.lives.values():
            self._steps(life)
            self._fence(life)
            self._duplicates(life)
        self._strangers()
        self._follow_ups()
        for answer in self.ledger.dishonest:
            self.verdict.find("A", answer)
        self._figures()
        return self.verdict

    def _conservation(self, counts: Mapping[str, int]) -> None:
        kept = Counter(life.state for life in self.history.lives.values() if not life.forgotten)
        told = {state: number for state, number in counts.items() if number}
        if told != dict(kept):
            self.verdict.find("C", f"the store counts {told}, and its history tells of {dict(kept)}")

    def _promises(self) -> None:
        promised = {promise.job_id for promise in self.ledger.promises}
        for life in self.history.lives.values():
            if life.type == NEVER:
                self.verdict.find("A", f"{life.id} was stored, and refused")
            elif life.type != "follow_up" and life.id not in promised:
                self.verdict.find("C", f"{life.id} is there, and no client was promised it")

    def _losses(self) -> None:
        times = Counter(promise.job_id for promise in self.ledger.promises)
        for promise in self.ledger.promises:
            life = self.history.lives.get(promise.job_id)
            plan = promise.plan["payload"]
            if life is None:
                self.verdict.find("L", f"{promise.job_id} was accepted, and is not there")
            elif life.state not in FINAL:
                self.verdict.find("L", f"{life.id} has not ended: {life.state} since step {life.steps[-1].number}")
            else:
                planned = "failed" if plan.get("hopeless") or promise.plan["type"] == "pill" else "completed"
                if life.state != planned:
                    self.verdict.find("L", f"{life.id} ended {life.state}, not {planned}: {path(life)}")
            if times[promise.job_id] > 1:
                self.verdict.find("L", f"{promise.job_id} was promised for {times[promise.job_id]} jobs")

    def _steps(self, life: Life) -> None:
        for step in life.steps:
            if step.state not in LEGAL.get(step.before, ()):
                self.verdict.find("S", f"{life.id} went from {step.before} to {step.state}: {path(life)}")
        ends = [step.state for step in life.steps if step.state in FINAL]
        if len(ends) > 1:
            self.verdict.find("S", f"{life.id} ended {len(ends)} times: {path(life)}")

    def _fence(self, life: Life) -> None:
        holder: Step | None = None
        seen: set[str] = set()
        for step in life.steps:
            if step.settled_by and (holder is None or step.settled_by != holder.nonce):
                self.verdict.find("F", f"{life.id} became {step.state} by a token that did not hold it: {path(life)}")
            if step.state == "processing":
                if step.nonce in seen:
                    self.verdict.find("F", f"{life.id} was claimed twice under one token")
                seen.add(step.nonce)
                holder = step
            else:
                holder = None

    def _duplicates(self, life: Life) -> None:
        runs, claims = self.runs.get(life.id, []), life.claims
        claimed = {(claim.attempt, node) for claim in claims for node in (claim.node, UNNAMED)}
        for attempt, times in Counter(run.attempt for run in runs).items():
            if times > 1:
                self.verdict.find("D", f"{life.id}: attempt {attempt} ran {times} times")
        for run in runs:
            if (run.attempt, run.node) not in claimed:
                self.verdict.find("D", f"{life.id}: attempt {run.attempt} ran on {run.node} without a claim")
        ended = Counter(step.outcome for step in life.steps if step.before == "processing" and step.outcome)
        allowed = 1 + ended["error"] + ended["crashed"] + ended["released"]
        if life.state != "completed":
            allowed -= 1
        if len(runs) > allowed:
            self.verdict.find("D", f"{life.id} ran {len(runs)} times, and {dict(ended)} explains {allowed}")
        if life.state == "completed" and not any(run.attempt == claims[-1].attempt for run in runs):
            self.verdict.find("D", f"{life.id} completed attempt {claims[-1].attempt}, which never ran")

    def _strangers(self) -> None:
        for id in self.runs.keys() - self.history.lives.keys():
            self.verdict.find("D", f"{id} ran, and there is no such job")

    def _follow_ups(self) -> None:
        children: defaultdict[str, int] = defaultdict(int)
        for life in self.history.lives.values():
            if life.type == "follow_up":
                children[json.loads(life.payload)["of"]] += 1
                if life.state != "completed":
                    self.verdict.find("L", f"the follow-up {life.id} has not completed: {path(life)}")
        for promise in self.ledger.promises:
            life = self.history.lives.get(promise.job_id)
            wanted = 1 if promise.plan["payload"].get("follow") and life and life.state == "completed" else 0
            if children[promise.job_id] != wanted:
                self.verdict.find("S", f"{promise.job_id} has {children[promise.job_id]} follow-ups, not {wanted}")

    def _figures(self) -> None:
        lives, figures = self.history.lives.values(), self.verdict.figures
        outcomes = Counter(step.outcome for life in lives for step in life.steps if step.outcome)
        runs = sum(len(found) for found in self.runs.values())
        figures["jobs accepted"] = len(self.ledger.promises)
        figures["jobs in the store's history"] = len(lives)
        figures["lost"] = len(self.verdict.findings["L"])
        completions = (sum(step.state == "completed" for step in life.steps) for life in lives)
        figures["completed twice"] = sum(times > 1 for times in completions)
        figures["steps in the history"] = self.history.steps
        for status, number in sorted(self.ledger.answers.items()):
            figures[f"answers: {status}"] = number
        if not runs:
            return
        figures["runs"] = runs
        needed = len(lives) + outcomes["error"] - sum(life.state == "failed" for life in lives)
        figures["runs beyond those needed, %"] = round(100 * (runs - needed) / max(1, len(lives)), 2)
        figures["runs that crashed"] = outcomes["crashed"]
        figures["runs that were released"] = outcomes["released"]
        figures["stale settlements refused"] = self.history.totals["stale"]


def path(life: Life) -> str:
    """A life in short, for people."""
    words = [
        f"{step.number}:{step.state}" + (f"#{step.attempt}@{step.node}" if step.nonce else "") for step in life.steps
    ]
    return " ".join(words)
