"""
What it costs to claim and settle a job: of a type without limits, of one beside a type that has them, and of one that
has a rate limit, a cap and a breaker, all wide enough that they hold nothing back.

The variants take turns, round by round, so that a machine that is busy for a while is busy for all of them. A ratio is
the median of those of the rounds. What counts is the server's processor time, for all nodes share that; `wall` is the
time that passed, with the client's part in it.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from gopher_node.flow import BreakerPolicy, Rate
from gopher_node.job import NewJob
from gopher_node.store import Connections, Pool, Session, Store
from tests.bench.server import private_server

ROUNDS = 9
JOBS = 4000  # of each variant in each round
BATCH = 100
TYPE = "measured"
WIDE: dict[str, Any] = {
    "rate": Rate(1_000_000_000, burst=1_000_000_000),
    "max_running": 1_000_000,
    "breaker": BreakerPolicy(),
}
MOST = 1.15
"""The ratio that is wanted at most."""


async def _nothing(store: Store) -> None:
    pass


async def _limit_another(store: Store) -> None:
    await store.flow.set("another", WIDE)


async def _limit(store: Store) -> None:
    await store.flow.set(TYPE, WIDE)


VARIANTS: dict[str, Callable[[Store], Awaitable[None]]] = {
    "plain": _nothing,
    "beside": _limit_another,
    "limited": _limit,
}


async def run(say: Callable[[str], None], scale: float) -> dict[str, Any]:
    """The figures, in microseconds a job."""
    jobs, rounds = max(BATCH, round(JOBS * scale)), max(3, round(ROUNDS * min(1.0, scale)))
    server_us: dict[str, list[float]] = {name: [] for name in VARIANTS}
    wall_us: dict[str, list[float]] = {name: [] for name in VARIANTS}
    with private_server() as url:
        connections = Connections(url)
        stores: dict[str, tuple[Store, Session]] = {}
        for name, prepare in VARIANTS.items():
            store = Store(connections, namespace=name)
            await store.open()
            await prepare(store)
            stores[name] = store, await store.open_session("bench", 3600.0)
            await _round(connections, *stores[name], BATCH)
        names = list(VARIANTS)
        for n in range(rounds):
            # Whoever comes first in a round may always be the luckier one.
            for name in names[n % len(names) :] + names[: n % len(names)]:
                server, wall = await _round(connections, *stores[name], jobs)
                server_us[name].append(server)
                wall_us[name].append(wall)
        await connections.close()
    figures: dict[str, Any] = {"jobs": jobs, "rounds": rounds}
    say(f"{rounds} rounds of {jobs} jobs; microseconds a job, claim and settle")
    say(f"{'':10}{'server: median':>16}{'least':>8}{'most':>8}{'ratio':>8}{'wall: median':>16}{'ratio':>8}")
    for name in VARIANTS:
        figures[name] = one = {
            **_spread(server_us[name]),
            "ratio": _ratio(server_us[name], server_us["plain"]),
            "wall_median": round(statistics.median(wall_us[name]), 2),
            "wall_ratio": _ratio(wall_us[name], wall_us["plain"]),
        }
        say(
            f"{name:10}{one['median']:16.2f}{one['least']:8.2f}{one['most']:8.2f}{one['ratio']:8.3f}"
            f"{one['wall_median']:16.2f}{one['wall_ratio']:8.3f}"
        )
    ratio = figures["limited"]["ratio"]
    say(f"With limits: {ratio:.3f} times the cost; at most {MOST} is wanted.")
    return {**figures, "ratio": ratio, "wanted": MOST}


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 2),
        "least": round(min(values), 2),
        "most": round(max(values), 2),
    }


def _ratio(values: Sequence[float], plain: Sequence[float]) -> float:
    return round(statistics.median(one / other for one, other in zip(values, plain, strict=True)), 3)


async def _round(connections: Connections, store: Store, session: Session, jobs: int) -> tuple[float, float]:
    """Server's and wall time, in microseconds a job."""
    for start in range(0, jobs, 1000):
        await store.submit_many([NewJob(type=TYPE) for _ in range(min(1000, jobs - start))])
    pool = Pool.of([TYPE])
    server, wall, done = await _server_time(connections), time.perf_counter(), 0
    while done < jobs:
        claimed = await store.claim(session, pool, min(BATCH, jobs - done))
        if not claimed.leases:
            raise RuntimeError(f"{store.namespace}: no job was given out, though {jobs - done} wait")
        await asyncio.gather(*(store.complete(lease) for lease in claimed.leases))
        done += len(claimed.leases)
    wall = time.perf_counter() - wall
    server = await _server_time(connections) - server
    return server / jobs * 1e6, wall / jobs * 1e6


async def _server_time(connections: Connections) -> float:
    """The seconds of processor time that the server's main thread has taken."""
    text = str(await connections.request("INFO", "cpu"), "utf-8")
    told = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return float(told["used_cpu_user_main_thread"]) + float(told["used_cpu_sys_main_thread"])
