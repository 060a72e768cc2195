"""A smaller storm of whole nodes: each hosts the API, the scheduler and the workers, and is killed with all of them."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import time

from tests.chaos import handlers
from tests.chaos.arena import Arena, Say, Wish, arena
from tests.chaos.client import Load, plan_jobs
from tests.chaos.faults import Fault, plan_faults
from tests.chaos.fleet import ROOT, Blow
from tests.chaos.report import Result
from tests.chaos.storms import drive
from tests.node.node_process import NodeProcess


async def gale(wish: Wish, say: Say) -> Result:
    """Requests, ticks and runs are cut off in the middle; the client repeats what was not answered."""
    kills = wish.kills or 30
    jobs, size = wish.jobs or kills * 150, wish.workers or 3
    plan = plan_faults(wish.seed, wish.lease, kills=kills, bounces=max(1, kills // 20))
    async with arena(wish, say) as place:
        nodes = _Nodes(place, size)
        await nodes.start()
        load = Load(nodes.urls, place.ledger, wish.seed, plan_jobs(jobs, wish.seed), batch=5)
        seconds = await drive(place, load, jobs, nodes.suffer(plan, jobs))
        await place.ask()
        nodes.tell_who_watched()
        result = Result(await place.judge())
        result.verdict.figures = {
            "kills of whole nodes": len(place.blows),
            "kills of the store": len(place.server.outages),
            **result.verdict.figures,
            "seconds": round(seconds, 1),
        }
    return result


class _Nodes:
    """So many nodes at a time; one that was killed is followed by another, at another address."""

    def __init__(self, place: Arena, size: int) -> None:
        self.urls = [""] * size
        self._place = place
        self._births: set[asyncio.Task[None]] = set()
        self._born = [0.0] * size
        self._watches: list[tuple[float, float]] = []

    async def start(self) -> None:
        self._place.nodes = [self._node() for _ in self.urls]
        await asyncio.gather(*(self._bear(number) for number in range(len(self.urls))))

    def _node(self) -> NodeProcess:
        environment = self._place.environment(
            **{handlers.EXECUTIONS: str(self._place.executions.path), handlers.NODE: handlers.UNNAMED},
            PYTHONPATH=str(ROOT),
            WORKER_CONCURRENCY="4",
        )
        return NodeProcess("--role=all", "--handlers=tests.chaos.handlers", **environment)

    async def _bear(self, number: int) -> None:
        node = self._place.nodes[number]
        await node.start()
        self.urls[number] = node.url
        self._born[number] = time.time()

    async def suffer(self, plan: list[Fault], jobs: int) -> None:
        for fault in plan:
            while self._place.ended_runs < fault.at * jobs:  # noqa: ASYNC110 - other processes make it
                await asyncio.sleep(0.005)
            if fault.kind == "kill":
                await self._kill(int(fault.choice * len(self.urls)))
            else:
                await self._place.server.bounce(fault.seconds)
        if self._births:
            await asyncio.wait(self._births)

    def tell_who_watched(self) -> None:
        """A node that dies is missed by one that was there before and is there until then; not if all die in turn."""
        watches = [*self._watches, *((born, math.inf) for born in self._born)]
        for blow in self._place.blows:
            until = blow.at + self._place.wish.lease + 1
            if not any(born < blow.at and until < died for born, died in watches):
                self._place.unwatched.append((blow.at, until))

    async def _kill(self, number: int) -> None:
        node = self._place.nodes[number]
        if not node.url:
            return  # it is only being born
        name = next(line["node_id"] for line in node.log if "node_id" in line)
        self._place.blows.append(Blow("kill", name, time.time()))
        self._watches.append((self._born[number], time.time()))
        os.kill(node.pid, signal.SIGKILL)
        await node.wait()
        self._place.nodes[number] = self._node()
        birth = asyncio.create_task(self._bear(number))
        self._births.add(birth)
        birth.add_done_callback(self._births.discard)
