"""
What measuring costs each job: submitted, claimed, performed and settled by a real worker, with all that is measured on
the way, and with Events and connections that measure nothing.

The two take turns, round by round, so that a machine that is busy for a while is busy for both. What counts is the
processor time of this process; a ratio is that of one round to its neighbour, and the median of these is what is wanted
to be small. The time of a scrape is measured too, of a node that has seen a hundred types.
"""

from __future__ import annotations

import asyncio
import gzip
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

from gopher_node.handlers import Registry
from gopher_node.job import Job, JobError, NewJob, State
from gopher_node.settings import Settings
from gopher_node.store import Connections, Store
from gopher_node.telemetry import Events, configure_logging
from gopher_node.telemetry.cluster_metrics import Seen
from gopher_node.telemetry.latency import Latency
from gopher_node.telemetry.measures import MAX_TYPES
from gopher_node.telemetry.metrics import Metrics, Reading
from gopher_node.worker import Worker
from tests.bench.server import private_server

ROUNDS = 61
JOBS = 800  # of each variant in each round; short, so that a busy moment spoils few of them
TYPE = "measured"
SLOTS = 100
MOST = 1.05
"""The ratio that is wanted at most."""


class Unmeasured(Events):
    """Counts and logs as ever, and measures nothing: what Events did before there was anything to be measured."""

    def submitted(self, types: Any) -> None:
        for _ in types:
            self.counts["submitted"] += 1

    def started(self, job: Job) -> None:
        self.counts["started"] += 1
        if self._log_starts:
            self._log.debug("job.started", **self._of(job))

    def settled(
        self, job: Job, state: State | None, outcome: str, seconds: float, error: JobError | None = None
    ) -> None:
        if state is None:
            self.stale(job)
            return
        self.counts["settled"] += 1
        self.counts[state.value] += 1
        if error is not None and error.code == "process-died":
            self.counts["crashed"] += 1
        if self._may_log_end(state):
            self._log_end(job, state, outcome, seconds, error)


class Side:
    """A store of its own, and a worker on it, with one kind of Events."""

    def __init__(self, url: str, name: str, events: Events, *, measured: bool) -> None:
        self.events = events
        connections = Connections(url, onlooker=events.measures if measured else None)
        self.store = Store(connections, namespace=name)
        registry = Registry()

        @registry.handler(TYPE)
        async def perform() -> None:
            pass

        settings = Settings(worker={"concurrency": SLOTS}, log={"level": "error"})
        self.worker = Worker(self.store, registry, settings, events, store_url=url, node=name)

    async def round(self, jobs: int) -> float:
        """Microseconds of processor time a job."""
        before, began = self.events.counts["settled"], time.process_time()
        for start in range(0, jobs, SLOTS):
            count = min(SLOTS, jobs - start)
            await asyncio.gather(*(self.store.submit(NewJob(type=TYPE)) for _ in range(count)))
            self.events.submitted([TYPE] * count)
        while self.events.counts["settled"] - before < jobs:  # noqa: ASYNC110 -- what is measured must not tell us
            await asyncio.sleep(0.005)
        return (time.process_time() - began) / jobs * 1e6


async def run(say: Callable[[str], None], scale: float) -> dict[str, Any]:
    """The figures: microseconds a job, their ratio, and milliseconds a scrape."""
    configure_logging("error", "json")
    jobs, rounds = max(SLOTS, round(JOBS * scale)), max(5, round(ROUNDS * min(1.0, scale)))
    spent: dict[str, list[float]] = {"measured": [], "unmeasured": []}
    with private_server() as url:
        sides = {
            "measured": Side(url, "measured", Events(job_lines="none"), measured=True),
            "unmeasured": Side(url, "unmeasured", Unmeasured(job_lines="none"), measured=False),
        }
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for side in sides.values():
                await side.store.open()
                group.create_task(side.worker.run(stop))
            for side in sides.values():
                await side.round(jobs)
            for n in range(rounds):
                # Whoever comes first in a round may always be the luckier one.
                for name in sorted(sides, reverse=bool(n % 2)):
                    spent[name].append(await sides[name].round(jobs))
            stop.set()
        for side in sides.values():
            await side.store.close()
        scrape_ms = await _scrape(url)
    ratios = [one / other for one, other in zip(spent["measured"], spent["unmeasured"], strict=True)]
    ratio = _spread(ratios, 3)
    say(f"{rounds} rounds of {jobs} jobs: submit, claim, perform, settle; microseconds of processor time a job")
    for name, values in spent.items():
        say(f"{name:12}" + "".join(f"{what:>8} {value:8.2f}" for what, value in _spread(values, 2).items()))
    say(f"{'ratio':12}" + "".join(f"{what:>8} {value:8.3f}" for what, value in ratio.items()))
    say(f"Measuring: {ratio['median']:.3f} times the cost; at most {MOST} is wanted.")
    say(f"A scrape of {MAX_TYPES} types: {scrape_ms:.1f} ms of processor time, off the loop.")
    told = {name: _spread(values, 2) for name, values in spent.items()}
    return {
        "jobs": jobs,
        "rounds": rounds,
        **told,
        "ratios": ratio,
        "ratio": ratio["median"],
        "wanted": MOST,
        "scrape_ms": round(scrape_ms, 2),
    }


def _spread(values: Sequence[float], digits: int) -> dict[str, float]:
    told = {"median": statistics.median(values), "least": min(values), "most": max(values)}
    return {what: round(value, digits) for what, value in told.items()}


async def _scrape(url: str) -> float:
    """Milliseconds that the text of a node takes which has seen much, of a store that has as much, zipped."""
    events = Events()
    chance = random.Random(4)
    for n in range(MAX_TYPES):
        totals = events.measures.types[f"type-{n}"]
        totals.created = 1000
        totals.ended.update(dict.fromkeys(("completed", "failed", "retried", "cancelled"), 250))
        totals.failures.update({"error": 100, "timeout": 3})
        _fill(chance, totals.run, totals.wait)
    for n in range(30):
        _fill(chance, events.measures.http[f"GET /route/{n} 2xx"], events.measures.store_calls[f"script-{n}"])
    store = Store(Connections(url), namespace="scraped")
    await store.open()
    await store.submit_many([NewJob(type=f"type-{n}") for n in range(MAX_TYPES)])
    seen = Seen(await store.snapshots.take(MAX_TYPES), 0.0, "memory")
    await store.close()
    metrics = Metrics(events, "all")
    metrics.reading = Reading(seen=seen)
    taken: list[float] = []
    for _ in range(11):
        began = time.thread_time()
        gzip.compress(metrics.render(openmetrics=True), 1)
        taken.append(time.thread_time() - began)
    return statistics.median(taken) * 1000


def _fill(chance: random.Random, *latencies: Latency) -> None:
    for latency in latencies:
        for _ in range(100):
            latency.observe(chance.lognormvariate(-3, 2))
