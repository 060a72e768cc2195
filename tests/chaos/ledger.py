"""What the outside has seen: what the client was promised, and what the handlers did."""

from __future__ import annotations

import json
import os
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Promise:
    """A job that was accepted: the client's key and place in the batch, the job's id, what is to become of it."""

    key: str
    job_id: str
    plan: dict[str, Any]


class ClientLedger:
    """
    The client's book. What it is told is on disk before it goes on, so it can be held against the store whatever dies.

    `dishonest` are answers that no client should get; `answers` counts all by status, or by what came instead.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "client.jsonl"
        self.promises: list[Promise] = []
        self.answers: Counter[str] = Counter()
        self.dishonest: list[str] = []
        self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def accepted(self, key: str, jobs: Sequence[tuple[str, dict[str, Any]]]) -> None:
        """Jobs, with their plans, that the answer to this key has promised."""
        os.write(self._file, json.dumps({"key": key, "at": time.time(), "jobs": jobs}).encode() + b"\n")
        os.fdatasync(self._file)
        self.promises += [Promise(key, id, plan) for id, plan in jobs]

    def close(self) -> None:
        os.close(self._file)


@dataclass(frozen=True, slots=True)
class Execution:
    """One run of a handler: `process` is where it ran, `ended` is absent if its process did not live to say so."""

    job_id: str
    attempt: int
    node: str
    process: int
    started: float
    ended: float | None


class ExecutionLedger:
    """
    What the handlers have done, a line before the effect and one after it.

    Each line is one append, which the system neither tears nor mixes with another's, and which outlives the process.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "executions"
        self.path.touch()

    def read(self) -> list[Execution]:
        ends: dict[tuple[str, str, str], float] = {}
        starts: list[tuple[str, str, str, str, float]] = []
        for line in self.path.read_text().splitlines():
            what, job, attempt, node, process, at = line.split()
            if what == "start":
                starts.append((job, attempt, node, process, float(at)))
            else:
                ends[job, attempt, process] = float(at)
        return [
            Execution(job, int(attempt), node, int(process), at, ends.get((job, attempt, process)))
            for job, attempt, node, process, at in starts
        ]

    def tail(self, position: int) -> tuple[list[str], int]:
        """The whole lines from a position in the file on, and where the next begin."""
        with self.path.open("rb") as file:
            file.seek(position)
            whole, newline, _ = file.read().rpartition(b"\n")
        return whole.decode().splitlines() if newline else [], position + len(whole) + len(newline)


def by_job(executions: Sequence[Execution]) -> dict[str, list[Execution]]:
    """In the order in which they started."""
    found: defaultdict[str, list[Execution]] = defaultdict(list)
    for execution in executions:
        found[execution.job_id].append(execution)
    return found
