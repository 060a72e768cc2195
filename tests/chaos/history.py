"""
The transition log: the server's own append-only file.

It has every change that any script made, in the one order in which all of them were made, and it was on disk before
anybody was answered. So nothing has to be added to the scripts that are judged by it, no observer can be slower than
what it observes, and a server that is killed and started again goes on in the same file.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hiredis

CHUNK = 1 << 20


@dataclass(slots=True)
class Step:
    """
    A job's change of state; `number` is that of the step that changed it.

    A claim has attempt, nonce, node and when it was, in ms. Whoever settles says which nonce gave it the right to, in
    `settled_by`. `outcome` is how the attempt before is on record, where it did not complete, and since when, in ms.
    """

    number: int
    before: str | None
    state: str
    attempt: int = 0
    nonce: str = ""
    node: str = ""
    started: int = 0
    settled_by: str = ""
    outcome: str = ""
    at: int = 0


@dataclass(slots=True)
class Life:
    """A job from its first step to its last, or until it was forgotten."""

    id: str
    type: str
    payload: bytes = b""
    steps: list[Step] = field(default_factory=list[Step])
    crashes: int = 0
    forgotten: bool = False

    @property
    def state(self) -> str:
        return self.steps[-1].state

    @property
    def claims(self) -> list[Step]:
        return [step for step in self.steps if step.state == "processing"]


class History:
    """All lives in one namespace, read from the files in the server's folder. `totals` is what the scripts counted."""

    def __init__(self, folder: Path, namespace: str) -> None:
        self.lives: dict[str, Life] = {}
        self.totals: Counter[str] = Counter()
        self.steps = 0
        self._prefix = ("{" + namespace + "}:").encode()
        self._verbs = {b"HSET": self._hash, b"RPUSH": self._attempt, b"HINCRBY": self._count}
        self._verbs |= dict.fromkeys((b"DEL", b"UNLINK"), self._forget)
        for command in _commands(folder):
            self._take(command)

    def _take(self, command: Sequence[bytes]) -> None:
        verb = command[0].upper()
        if verb == b"EXEC":
            self.steps += 1
        elif verb in self._verbs and command[1].startswith(self._prefix):
            self._verbs[verb](command[1][len(self._prefix) :], command)

    def _hash(self, key: bytes, command: Sequence[bytes]) -> None:
        if not key.startswith(b"job:"):
            return
        fields = dict(zip(command[2::2], command[3::2], strict=True))
        id = key[4:].decode()
        life = self.lives.get(id)
        if b"crashes" in fields and life:
            life.crashes = int(fields[b"crashes"])
        if b"state" not in fields:
            return
        if life is None or life.forgotten:
            life = self.lives[id] = Life(id, fields[b"type"].decode(), fields.get(b"payload", b""))
        state = fields[b"state"].decode()
        step = Step(self.steps, life.state if life.steps else None, state)
        if state == "processing":
            step.attempt, step.nonce = int(fields[b"attempt"]), fields[b"nonce"].decode()
            step.node, step.started = fields[b"node"].decode(), int(float(fields[b"started"]))
        elif b"settled" in fields:
            step.settled_by = fields[b"settled"].decode().partition(":")[0]
        life.steps.append(step)

    def _attempt(self, key: bytes, command: Sequence[bytes]) -> None:
        if key.startswith(b"attempts:") and (life := self.lives.get(key[9:].decode())):
            told: dict[str, Any] = json.loads(command[2])
            life.steps[-1].outcome, life.steps[-1].at = told["outcome"], told["finished_at"]

    def _count(self, key: bytes, command: Sequence[bytes]) -> None:
        if key == b"totals":
            self.totals[command[2].decode()] += int(command[3])

    def _forget(self, key: bytes, command: Sequence[bytes]) -> None:
        for name in command[1:]:
            life = self.lives.get(name.removeprefix(self._prefix + b"job:").decode())
            if life is not None and name.startswith(self._prefix + b"job:"):
                life.forgotten = True


def _commands(folder: Path) -> Iterator[list[bytes]]:
    """What was written, without what a power cut has left unfinished at the very end."""
    files = sorted(folder.glob("appendonlydir/*.incr.aof"), key=lambda path: int(path.name.split(".")[-3]))
    if len(files) != 1:
        raise RuntimeError(f"The append-only file was rewritten: there are {[path.name for path in files]}")
    reader = hiredis.Reader()
    with files[0].open("rb") as file:
        while chunk := file.read(CHUNK):
            reader.feed(chunk)
            while (command := reader.gets()) is not False:
                yield command
