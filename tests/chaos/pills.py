"""Poison pills: jobs that kill the process they run in, among many that do no harm."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

from tests.chaos.arena import Say, Wish, arena
from tests.chaos.client import Load, plan_jobs
from tests.chaos.report import Result
from tests.chaos.storms import drive

PILLS = 20


async def poison(wish: Wish, say: Say) -> Result:
    """Every pill ends in the dead letters after at most two runs alone, and takes no innocent job there."""
    jobs, pills = wish.jobs or 2000, wish.kills or PILLS
    result = Result(wanted={"pills that did not fail": 0, "runs alone of a pill, most": 2, "innocents that failed": 0})
    async with arena(wish, say) as place:
        urls = await place.api_nodes(1)
        fleet = await place.fleet(wish.workers or 4, place.order(slots=wish.slots or 8))
        load = Load(urls, place.ledger, wish.seed, _among(plan_jobs(jobs, wish.seed), jobs, pills, wish.seed))
        await drive(place, load, jobs)
        result.verdict = await place.judge()
        lives = place.history.lives
        alone = Counter(run.job_id for run in place.executions.read() if run.process != fleet.processes.get(run.node))
        dead = [life for life in lives.values() if life.state == "failed"]
        harmless = {promise.job_id for promise in place.ledger.promises if not _may_fail(promise.plan)}
        poisonous = {life.id for life in lives.values() if life.type == "pill"}
        result.verdict.figures = {
            "pills": len(poisonous),
            "pills that did not fail": len(poisonous - {life.id for life in dead}),
            "runs alone of a pill, most": max((alone[id] for id in poisonous), default=0),
            "innocents that failed": sum(life.id in harmless for life in dead),
            "innocents that ran alone": len(alone.keys() - poisonous),
            "workers that died of pills": sum(blow.kind == "died" for blow in fleet.blows),
            **result.verdict.figures,
        }
    return result


def _may_fail(plan: dict[str, Any]) -> bool:
    return plan["type"] == "pill" or bool(plan["payload"].get("hopeless"))


def _among(innocents: Iterator[dict[str, Any]], count: int, pills: int, seed: int) -> Iterator[dict[str, Any]]:
    rng = random.Random(f"pills {seed}")
    places = Counter(rng.randrange(count) for _ in range(pills))
    for n, job in enumerate(innocents):
        yield job
        for _ in range(places[n]):
            yield {"type": "pill", "payload": {"seconds": round(rng.uniform(0.0, 0.02), 4)}}
