"""What this node knows of the workers that come over HTTP: by the names they give, what each has done and holds."""

from __future__ import annotations

import itertools
import time
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from aiohttp import web

from gopher_node.job import Job, JobError, Lease, State, Token
from gopher_node.telemetry import Events

MAX_NAMES = 1000
MAX_LEASES = 20_000
MAX_TYPES = 200
LATELY_MS = 120_000
"""Whoever was seen so lately still works."""
NAMELESS = "http"

End = Literal["completed", "failed", "released"]

_OUTCOMES = {"completed": "completed", "failed": "error", "released": "released"}


@dataclass(slots=True)
class HttpWorker:
    """A worker, since this node began to know it. `failed` counts runs; `active` the leases that it holds."""

    name: str
    last_seen_ms: int = 0
    claimed: int = 0
    completed: int = 0
    failed: int = 0
    released: int = 0
    active: int = 0
    types: tuple[str, ...] = ()
    """What it asked for in its claims of the last minutes."""


@dataclass(slots=True)
class _Held:
    name: str
    job: Job
    began: float
    expires_ms: int


class HttpWorkers:
    """
    Counts for each name, of which the last thousand are kept.

    Whoever claims at one node may settle at another, which then knows the run only as one of `NAMELESS`, or of whom
    the API key is called after. A settlement that is told again counts once.
    """

    def __init__(self, events: Events) -> None:
        self._events = events
        self._workers: OrderedDict[str, HttpWorker] = OrderedDict()
        self._asked: dict[str, dict[str, int]] = {}
        self._held: OrderedDict[Token, _Held] = OrderedDict()
        self._ended: OrderedDict[Token, None] = OrderedDict()
        self.ended: Counter[str] = Counter()
        """Of the runs that were reported as settled, how many brought their job into which state."""

    def all(self, now_ms: int | None = None) -> list[HttpWorker]:
        """Every worker that is known, by name."""
        now_ms = _now_ms() if now_ms is None else now_ms
        for run, held in list(self._held.items()):
            if held.expires_ms <= now_ms:
                del self._held[run]
        active = Counter(held.name for held in self._held.values())
        return [replace(worker, active=active[name]) for name, worker in sorted(self._workers.items())]

    def records(self, most: int = MAX_NAMES) -> list[dict[str, Any]]:
        """The same as JSON values, of those last seen."""
        latest = sorted(self.all(), key=lambda worker: worker.last_seen_ms, reverse=True)[:most]
        return [asdict(worker) for worker in latest]

    def seen(self, name: str, types: Sequence[str] = ()) -> HttpWorker:
        """Take note that a worker has asked for something: with a claim, for jobs of these types."""
        worker = self._workers.get(name)
        if worker is None:
            worker = self._workers[name] = HttpWorker(name)
            if len(self._workers) > MAX_NAMES:
                gone, _ = self._workers.popitem(last=False)
                self._asked.pop(gone, None)
        self._workers.move_to_end(name)
        now_ms = worker.last_seen_ms = _now_ms()
        if types:
            # Several may share a name, and a run may last longer than any claim is remembered: until the next one.
            asked = {type: at for type, at in self._asked.get(name, {}).items() if at > now_ms - LATELY_MS}
            asked = dict(sorted({**asked, **dict.fromkeys(types, now_ms)}.items(), key=lambda one: -one[1]))
            self._asked[name] = dict(itertools.islice(asked.items(), MAX_TYPES))
            worker.types = tuple(self._asked[name])
        return worker

    def claimed(self, name: str, leases: Sequence[Lease]) -> None:
        worker = self.seen(name)
        for lease in leases:
            run = lease.token
            if run in self._held:
                continue  # a claim that was repeated
            worker.claimed += 1
            self._events.claimed(1)
            # Not its payload: that may be large, and nobody asks here.
            job = replace(lease.job, payload=b"")
            self._events.started(job)
            self._held[run] = _Held(name, job, time.monotonic(), lease.expires_ms or 0)
            if len(self._held) > MAX_LEASES:
                self._held.popitem(last=False)

    def renewed(self, token: Token, name: str, expires_ms: int) -> None:
        held = self._held.get(token)
        if held is not None:
            held.expires_ms = expires_ms
        self.seen(name if held is None else held.name)

    def claimed_elsewhere(self, token: Token, name: str, job: Job) -> None:
        """A run was claimed at another node, and is about to be reported as settled here, where it counts."""
        if token not in self._ended and token not in self._held and job.started_ms is not None:
            ran = max(0, _now_ms() - job.started_ms) / 1000
            self._held[token] = _Held(name, replace(job, payload=b""), time.monotonic() - ran, 0)

    def job_of(self, token: Token) -> Job | None:
        """The job of a run that was claimed here and not settled yet, without its payload."""
        held = self._held.get(token)
        return None if held is None else held.job

    def has_ended(self, token: Token) -> bool:
        """Whether this node was told that the run is settled."""
        return token in self._ended

    def settled(self, token: Token, name: str, end: End, state: State | None, error: JobError | None = None) -> None:
        """A run was settled, or refused as stale: then `state` is None. `name` holds if nobody knows who claimed."""
        held = self._held.pop(token, None)
        worker = self.seen(name if held is None else held.name)
        if held is not None:
            self._events.settled(held.job, state, _OUTCOMES[end], time.monotonic() - held.began, error)
            if state is not None:
                self.ended[state.value] += 1
        if state is None or token in self._ended:
            return
        self._ended[token] = None
        if len(self._ended) > MAX_LEASES:
            self._ended.popitem(last=False)
        setattr(worker, end, getattr(worker, end) + 1)


HTTP_WORKERS: web.AppKey[HttpWorkers] = web.AppKey("HTTP_WORKERS", HttpWorkers)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
