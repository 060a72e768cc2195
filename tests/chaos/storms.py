"""Storms: workers killed and paused, the store killed, at random and under load; and the same with a net taken out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

from tests.chaos.arena import SLOTS, Arena, Say, Wish, arena
from tests.chaos.checker import Verdict
from tests.chaos.client import Load, plan_jobs
from tests.chaos.faults import Faults, plan_faults
from tests.chaos.report import Result

TOO_MANY = "runs beyond those needed, %"

AHEAD = 2000
"""How many jobs may wait. There is always work, and never so much that an end is far off."""


async def storm(wish: Wish, say: Say) -> Result:
    """As many faults as wished: with 1,000 kills go 150 pauses beyond the lease and 20 kills of the store."""
    return await _storm(wish, say, Result(wanted={"lost": 0, "completed twice": 0}))


async def unfenced(wish: Wish, say: Say) -> Result:
    """The same storm where settle does not look at tokens: a checker that finds nothing there is broken."""
    return await _storm(wish, say, Result(control="completed twice"), without="fence")


async def _storm(wish: Wish, say: Say, result: Result, without: str = "") -> Result:
    jobs, kills = wish.jobs or 10_000, wish.kills or 100
    # Without pauses there are no zombies, and a control needs some.
    pauses, bounces = max(5 if without else 2, round(kills * 0.15)), max(1, round(kills * 0.02))
    if not without:
        # Each of these blows costs at most the runs that a worker has.
        result.wanted[TOO_MANY] = round(max(3.0, 100 * (wish.slots or SLOTS) * (kills + pauses) / jobs), 1)
    plan = plan_faults(wish.seed, wish.lease, kills=kills, pauses=pauses, bounces=bounces)
    async with arena(wish, say) as place:
        urls = await place.api_nodes(2)
        fleet = await place.fleet(wish.workers or 8, place.order(without=without))
        load = Load(urls, place.ledger, wish.seed, plan_jobs(jobs, wish.seed))
        faults = Faults(plan, fleet, place.server, lambda: place.ended_runs / jobs)
        seconds = await drive(place, load, jobs, faults.run())
        await place.sessions_gone(len(fleet.members))
        await place.ask()
        result.verdict = await place.judge()
        _figures(result.verdict, place, faults, seconds)
    return result


async def drive(place: Arena, load: Load, jobs: int, *besides: Coroutine[Any, Any, None]) -> float:
    """Submit, do what is to happen besides, and wait until all has ended. Returns the seconds that it took."""
    began = time.monotonic()
    watching = asyncio.create_task(_watch(place, load, jobs))
    try:
        async with asyncio.TaskGroup() as group:
            for task in (load.run(), *besides):
                group.create_task(task)
    finally:
        watching.cancel()
    await place.all_ended()
    return time.monotonic() - began


async def _watch(place: Arena, load: Load, jobs: int) -> None:
    """Holds the client back when it is far ahead, and tells how far all is."""
    told = time.monotonic()
    while True:
        ended = place.look()
        if len(place.ledger.promises) - ended < AHEAD:
            load.ahead.set()
        else:
            load.ahead.clear()
        if time.monotonic() > told + 10:
            told = time.monotonic()
            place.say(f"{len(place.ledger.promises)} accepted, {ended} runs ended, of {jobs} jobs")
        await asyncio.sleep(0.02)


def _figures(verdict: Verdict, place: Arena, faults: Faults, seconds: float) -> None:
    done = {"kills of workers": "kill", "pauses beyond the lease": "pause", "kills of the store": "bounce"}
    verdict.figures = {
        **{name: faults.done.get(kind, 0) for name, kind in done.items()},
        **verdict.figures,
        "workers that died otherwise": sum(blow.kind == "died" for fleet in place.fleets for blow in fleet.blows),
        "seconds": round(seconds, 1),
    }
