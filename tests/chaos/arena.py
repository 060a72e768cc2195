"""Where a scenario takes place: a server, api nodes, workers, and the books in which all is written down."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from gopher_node.job import NewJob
from gopher_node.store import Connections, Retention, Store
from tests.chaos import recovery
from tests.chaos.checker import FINAL, Checker, Verdict
from tests.chaos.fleet import Blow, Fleet
from tests.chaos.history import History
from tests.chaos.ledger import ClientLedger, ExecutionLedger
from tests.chaos.server import Server
from tests.chaos.worker_process import Order
from tests.node.node_process import NodeProcess
from tests.store.consistency import find_problems
from tests.store.keyspace import dump

NAMESPACE = "gopher"
SLOTS = 2
"""Of a worker, unless told otherwise: what a kill costs is as much as that."""

STILL = 30.0
"""Seconds without any progress after which what has not ended counts as lost, unless the scenario says otherwise."""


class Skipped(Exception):
    """The scenario cannot be had here; the text says why."""


@dataclass
class Wish:
    """What a scenario is asked for; 0 is the scenario's own choice."""

    seed: int
    jobs: int = 0
    kills: int = 0
    workers: int = 0
    slots: int = 0
    lease: float = 1.5
    keep: bool = False


Say = Callable[[str], None]


class Arena:
    """The parts, which a scenario starts as it needs them; all end with it."""

    def __init__(self, wish: Wish, say: Say, folder: Path) -> None:
        self.wish = wish
        self.say = say
        self.folder = folder
        self.server = Server(folder)
        """A scenario that needs another kind puts it here, before it opens this place."""
        self.ledger = ClientLedger(folder)
        self.executions = ExecutionLedger(folder)
        self.nodes: list[NodeProcess] = []
        self.fleets: list[Fleet] = []
        self.rng = random.Random(f"scenario {wish.seed}")
        self._store: Store | None = None
        self._position = 0
        self.ended_runs = 0
        self.still = STILL
        self.blows: list[Blow] = []
        self.unwatched: list[tuple[float, float]] = []

    async def open(self) -> None:
        await self.server.start()
        await self.store.open()

    @property
    def store(self) -> Store:
        """The scenario's own view, which no fault stands between."""
        if self._store is None:
            retention = Retention(max_jobs=10**9)
            connections = Connections(self.server.url, timeout=120.0)
            self._store = Store(connections, namespace=NAMESPACE, retention=retention, patience=120.0)
        return self._store

    async def api_nodes(self, count: int, url: str = "") -> list[str]:
        """Start nodes that take jobs over HTTP. Returns their addresses."""
        for _ in range(count):
            node = NodeProcess("--role=api", **self.environment(url))
            self.nodes.append(node)
            await node.start()
        return [node.url for node in self.nodes]

    def environment(self, url: str = "", **more: str) -> dict[str, str]:
        """Of a whole node: where the store is, and what it may keep."""
        return {
            "REDIS_URL": url or self.server.url,
            "GOPHER_DATA_DIR": str(self.folder),
            "GOPHER_NAMESPACE": NAMESPACE,
            "WORKER_LEASE": f"{self.wish.lease}s",
            "LOG_JOBS": "none",
            **more,
        }

    def order(self, **changes: Any) -> Order:
        wished: dict[str, Any] = {"url": self.server.url, "lease": self.wish.lease, "slots": self.wish.slots or SLOTS}
        return Order(node="", executions=str(self.executions.path), namespace=NAMESPACE, **{**wished, **changes})

    async def fleet(self, size: int, order: Order, environment: Mapping[str, str] | None = None) -> Fleet:
        fleet = Fleet(size, order, self.folder / "workers.log", environment or {})
        self.fleets.append(fleet)
        await fleet.start()
        return fleet

    async def submit(self, jobs: Sequence[NewJob]) -> None:
        """Store jobs past the api nodes, and enter them in the client's ledger all the same."""
        await self.store.submit_many(jobs)
        plans = [{"type": job.type, "payload": json.loads(job.payload)} for job in jobs]
        self.ledger.accepted("direct", list(zip((job.id for job in jobs), plans, strict=True)))

    def look(self) -> int:
        """How many runs have ended by now."""
        lines, self._position = self.executions.tail(self._position)
        self.ended_runs += sum(line.startswith("end ") for line in lines)
        return self.ended_runs

    async def counts(self) -> Counter[str]:
        """How many jobs the store says are in each state."""
        counts: Counter[str] = Counter()
        for (state, _, _), number in (await self.store.stats()).counts.items():
            counts[state.value] += number
        return counts

    async def all_ended(self) -> None:
        """Wait until no job waits or runs, or nothing has moved for too long."""
        moved, last = time.monotonic(), -1
        while time.monotonic() < moved + self.still:
            counts = await self.counts()
            done = sum(counts[state] for state in FINAL)
            if not any(number > 0 for state, number in counts.items() if state not in FINAL):
                return
            if done != last:
                moved, last = time.monotonic(), done
            await asyncio.sleep(0.1)
        self.say(f"Nothing has moved for {self.still:.0f} s.")

    async def sessions_gone(self, but: int) -> None:
        """Wait until only as many sessions are left as workers live."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.wish.lease + 5):
                while len((await self.store.survey()).sessions) > but:  # noqa: ASYNC110 - others end them
                    await asyncio.sleep(0.05)

    async def ask(self, sample: int = 100) -> None:
        """Ask the nodes about some of the jobs that were accepted: they say what the store has."""
        chosen = self.rng.sample(self.ledger.promises, min(sample, len(self.ledger.promises)))
        async with aiohttp.ClientSession() as session:
            for promise in chosen:
                url = f"{self.rng.choice(self.nodes).url}/api/v1/jobs/{promise.job_id}"
                async with session.get(url) as answer:
                    told = await answer.json()
                if answer.status != 200 or told["status"] not in FINAL:
                    self.ledger.dishonest.append(f"asked about {promise.job_id}: {answer.status} {told}")

    async def judge(self, *, ends: bool = True) -> Verdict:
        """End all, and hold the books against each other. Where no job is to end, none has to be promised either."""
        for fleet in self.fleets:
            await fleet.stop()
        await self.sessions_gone(0)
        for node in self.nodes:
            await node.stop()
        counts = await self.counts()
        found = await dump(self.store)
        drift = find_problems(found)
        drift += [f"session {name} is left" for name in found["sessions"].value] if "sessions" in found else []
        await self.store.close()
        self.server.kill()
        history = self.history = History(self.server.folder, NAMESPACE)
        verdict = Checker(history, self.ledger, self.executions.read()).run(counts, drift, ends=ends)
        blows = self.blows + [blow for fleet in self.fleets for blow in fleet.blows]
        recovery.judge(verdict, history.lives.values(), blows, self.server.outages + self.unwatched, self.wish.lease)
        return verdict

    async def close(self) -> None:
        for fleet in self.fleets:
            await fleet.close()
        for node in self.nodes:
            if node._process is not None and node._process.returncode is None:
                node.kill()
                await node.wait()
        self.server.kill()
        self.ledger.close()


@asynccontextmanager
async def arena(wish: Wish, say: Say, *, server: bool = True) -> AsyncIterator[Arena]:
    """A scenario's place, with its server started or without. What lies there is deleted unless it is to be kept."""
    folder = Path(tempfile.mkdtemp(prefix="gopher-chaos-"))
    place = Arena(wish, say, folder)
    try:
        if server:
            await place.open()
        yield place
    finally:
        await place.close()
        if wish.keep:
            say(f"The books are in {folder}.")
        else:
            shutil.rmtree(folder, ignore_errors=True)
