"""Wall clocks that jump: the store's, and those of the nodes. Nothing that is alive may be taken for dead by one."""

from __future__ import annotations

import asyncio
import shutil
import struct
import subprocess
from pathlib import Path

from gopher_node.job import NewJob
from tests.chaos.arena import Arena, Say, Skipped, Wish, arena
from tests.chaos.client import Load, plan_jobs
from tests.chaos.report import Result
from tests.chaos.server import Server
from tests.chaos.storms import drive

HOUR = 3600
JUMPS = (HOUR, 0, -HOUR, 0)
LATER = 100
"""How many jobs are for half an hour later by the store's clock: when that jumps, they are due, once."""


class Clock:
    """How far the wall clock of the processes is off that are started in `environment`."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / f"{name}.clock"
        self.jump(0)
        self.environment = {"LD_PRELOAD": str(_library(folder)), "CHAOS_CLOCK": str(self._path)}

    def jump(self, seconds: int) -> None:
        with self._path.open("r+b" if self._path.exists() else "wb", buffering=0) as file:
            file.write(struct.pack("=q", seconds))


def _library(folder: Path) -> Path:
    compiler, library = shutil.which("cc"), folder / "clock.so"
    if compiler is None:
        raise Skipped("it needs a C compiler (cc), which is not installed here")
    if not library.exists():
        source = Path(__file__).parent / "clock.c"
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source), "-ldl"], check=True)
    return library


async def clock(wish: Wish, say: Say) -> Result:
    """First the store's clock jumps, then the nodes': an hour ahead, back, behind, back, for three leases each."""
    jobs, workers, slots = wish.jobs or 4000, wish.workers or 4, wish.slots or 8
    rest = 3 * wish.lease
    result = Result(wanted={"runs that crashed": 0, "runs beyond those needed, %": 0, "stale settlements refused": 0})
    async with arena(wish, say, server=False) as place:
        store, nodes = Clock(place.folder, "store"), Clock(place.folder, "nodes")
        place.server = Server(place.folder / "shifted", store.environment)
        await place.open()
        urls = await place.api_nodes(2)
        await place.fleet(workers, place.order(slots=slots), nodes.environment)
        later = [NewJob(type="effect", payload=b'{"seconds": 0.01}', delay_ms=HOUR * 500) for _ in range(LATER)]
        await place.submit(later)
        # There is work from the first jump to the last.
        seconds = workers * slots * 2 * len(JUMPS) * rest / jobs
        load = Load(urls, place.ledger, wish.seed, plan_jobs(jobs, wish.seed, seconds=seconds, later=0.0))

        async def jumps() -> None:
            for shifted in (store, nodes):
                for offset in JUMPS:
                    await asyncio.sleep(rest)
                    shifted.jump(offset)

        await drive(place, load, jobs, jumps(), _long_runs(place))
        result.verdict = await place.judge()
        starts = {run.job_id for run in place.executions.read()}
        result.verdict.figures = {
            "jumps of the store's clock by an hour": len(JUMPS),
            "jumps of the nodes' clocks by an hour": len(JUMPS),
            "jobs that a jump made due": sum(job.id in starts for job in later),
            **result.verdict.figures,
        }
    return result


async def _long_runs(place: Arena) -> None:
    """Runs that last over several jumps."""
    seconds = 6 * place.wish.lease
    payload = b'{"seconds": %.1f}' % seconds
    for _ in range(4):
        await place.submit([NewJob(type="effect", payload=payload) for _ in range(4)])
        await asyncio.sleep(seconds / 2)
