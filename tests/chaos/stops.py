"""Nodes that are told to stop, and a store that goes and comes back while workers wait for it."""

from __future__ import annotations

import asyncio
import signal
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from gopher_node.job import NewJob, Priority
from tests.chaos import handlers
from tests.chaos.arena import Arena, Say, Wish, arena
from tests.chaos.client import Load
from tests.chaos.fleet import ROOT, Blow, Fleet
from tests.chaos.recovery import quantile
from tests.chaos.report import Result
from tests.chaos.storms import drive
from tests.node.node_process import NodeProcess

GRACE = 2.0
BACK = "every worker runs again: most s"


async def sigterm(wish: Wish, say: Say) -> Result:
    """
    Whole worker nodes are replaced one after the other while jobs run.

    Most runs end within the grace; of four stops in a row one meets runs that do not, one is told twice, and one is
    killed before its grace is over.
    """
    result = Result(wanted={"exit: most s beyond the grace": 1.0, "second signal: most s to the exit": 1.5})
    stops = wish.kills or 12
    jobs = wish.jobs or stops * 100
    async with arena(wish, say) as place:
        urls = await place.api_nodes(1)
        nodes = _Nodes(place)
        await nodes.replace(0)
        await nodes.replace(1)
        load = Load(urls, place.ledger, wish.seed, _jobs(place, jobs))
        await drive(place, load, jobs, nodes.roll(stops, jobs))
        for number in (0, 1):
            await nodes.members[number].stop()
        result.verdict = verdict = await place.judge()
        for (way, outcome), number in nodes.cut_short().items():
            if (way, outcome) not in (("beyond", "released"), ("twice", "released"), ("killed", "crashed")):
                verdict.find("D", f"{number} runs were {outcome} of nodes that were stopped: {way}")
        for what in nodes.complaints:
            verdict.find("A", what)
        verdict.figures = {
            "stops within the grace": len(nodes.took["within"]),
            "stops with runs beyond the grace": len(nodes.took["beyond"]),
            "stops told twice": len(nodes.took["twice"]),
            "stops that end in a kill": len(nodes.took["killed"]),
            "exit: most s beyond the grace": round(max([0.0, *(s - GRACE for s in nodes.took["beyond"])]), 2),
            "second signal: most s to the exit": round(max([0.0, *nodes.took["twice"]]), 2),
            **verdict.figures,
        }
    return result


class _Nodes:
    """Two worker nodes at a time. `took` says how many seconds each way to stop has taken, from the last signal on."""

    def __init__(self, place: Arena) -> None:
        self.members: dict[int, NodeProcess] = {}
        self.took: dict[str, list[float]] = {"within": [], "beyond": [], "twice": [], "killed": []}
        self.complaints: list[str] = []
        self.ways: dict[str, str] = {}
        self._long: set[str] = set()
        self._place = place
        self._born = 0

    async def replace(self, number: int) -> None:
        self._born += 1
        environment = self._place.environment(
            **{handlers.EXECUTIONS: str(self._place.executions.path), handlers.NODE: handlers.UNNAMED},
            PYTHONPATH=str(ROOT),
            WORKER_SHUTDOWN_TIMEOUT=f"{GRACE}s",
            WORKER_CONCURRENCY="20",
        )
        node = NodeProcess("--role=worker", "--handlers=tests.chaos.handlers", **environment)
        await node.start()
        self.members[number] = node

    async def roll(self, stops: int, jobs: int) -> None:
        """Stop one after the other, each when so much of the work has ended; another takes its place."""
        for n in range(stops):
            while self._place.ended_runs < jobs * n / (stops + 2):  # noqa: ASYNC110 - other processes make it
                await asyncio.sleep(0.01)
            way = ("within", "beyond", "twice", "killed")[n % 4]
            await self._stop(n % 2, way)

    async def _stop(self, number: int, way: str) -> None:
        node, rng = self.members[number], self._place.rng
        if way == "within":
            while not self._long <= self._ended():  # noqa: ASYNC110 - other processes end them
                await asyncio.sleep(0.05)
        else:
            # Runs that take longer than the grace, on whichever node.
            payload = b'{"seconds": %.1f}' % (GRACE + 2)
            jobs = [NewJob(type="effect", payload=payload, priority=Priority.URGENT) for _ in range(40)]
            self._long |= {job.id for job in jobs}
            await self._place.submit(jobs)
            await self._begun({job.id for job in jobs}, node.pid)
        began = time.time()
        node.kill(signal.SIGTERM)
        if way in ("twice", "killed"):
            await asyncio.sleep(rng.uniform(0.1, GRACE / 2))
            began = time.time()
            node.kill(signal.SIGTERM if way == "twice" else signal.SIGKILL)
        code = await node.wait(30)
        self.took[way].append(time.time() - began)
        name = next(line["node_id"] for line in node.log if "node_id" in line)
        self.ways[name] = way
        if way == "killed":
            self._place.blows.append(Blow("kill", name, began))
        elif code:
            self.complaints.append(f"a node that was told to stop ({way}) ended with {code}")
        await self.replace(number)

    async def _begun(self, jobs: set[str], process: int) -> None:
        """Wait until the process runs one of these jobs."""
        async with asyncio.timeout(30):
            while not self._runs(jobs, process):  # noqa: ASYNC110 - another process does
                await asyncio.sleep(0.05)

    def _runs(self, jobs: set[str], process: int) -> bool:
        return any(run.process == process and run.job_id in jobs for run in self._place.executions.read())

    def _ended(self) -> set[str]:
        return {run.job_id for run in self._place.executions.read() if run.ended}

    def cut_short(self) -> Counter[tuple[str, str]]:
        """How many runs did not come to their own end: by how their node was stopped, and how they are on record."""
        return Counter(
            (self.ways.get(life.steps[n - 1].node, "not at all"), step.outcome)
            for life in self._place.history.lives.values()
            for n, step in enumerate(life.steps)
            if step.outcome in ("crashed", "released")
        )


def _jobs(place: Arena, count: int) -> Iterator[dict[str, Any]]:
    for _ in range(count):
        yield {"type": "effect", "payload": {"seconds": round(place.rng.uniform(0.05, 0.5), 3)}}


async def store_restart(wish: Wish, say: Say) -> Result:
    """The store is killed while all workers wait for work; when it is back, every one of them runs jobs again soon."""
    bounces = wish.kills or 10
    result = Result(wanted={BACK: 5.0})
    async with arena(wish, say) as place:
        fleet = await place.fleet(wish.workers or 8, place.order())
        times: list[float] = []
        for _ in range(bounces):
            await _all_run(place, fleet)
            await asyncio.sleep(place.rng.uniform(0.0, 1.5))  # by now they wait for work
            back = await place.server.bounce(place.rng.uniform(0.0, 2.0))
            times.append(await _all_run(place, fleet) - back)
        await place.all_ended()
        result.verdict = verdict = await place.judge()
        verdict.figures = {
            "kills of the store": bounces,
            "every worker runs again: p50 s": round(quantile(times, 0.5), 2),
            BACK: round(max(times), 2),
            **verdict.figures,
        }
    return result


async def _all_run(place: Arena, fleet: Fleet) -> float:
    """Submit until every worker has begun a run that it was given from now on. Returns when the last did."""
    asked, seen = time.time(), dict[str, float]()
    waiting = {member.name for member in fleet.members.values()}
    async with asyncio.timeout(60):
        while waiting - seen.keys():
            count = 2 * len(waiting)
            await place.submit([NewJob(type="effect", payload=b'{"seconds": 0.1}') for _ in range(count)])
            await asyncio.sleep(0.1)
            for run in place.executions.read():
                if run.started > asked:
                    seen[run.node] = min(run.started, seen.get(run.node, run.started))
    return max(seen[name] for name in waiting)
