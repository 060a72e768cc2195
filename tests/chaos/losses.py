"""Answers that get lost: the store has done what it was asked, and whoever asked does not know."""

from __future__ import annotations

from tests.chaos.arena import Arena, Say, Wish, arena
from tests.chaos.client import Load, plan_jobs
from tests.chaos.proxy import Losing, losing
from tests.chaos.report import Result
from tests.chaos.storms import drive

CHANCE = 0.02
UNSTARTED = "leases that nobody knew of"


async def lost_answers(wish: Wish, say: Say) -> Result:
    """No job twice, no lease that nobody works under, no run too many."""
    wanted = {UNSTARTED: 0, "runs beyond those needed, %": 0, "runs that crashed": 0, "stale settlements refused": 0}
    return await _lost_answers(wish, say, Result(wanted=wanted))


async def forgetful(wish: Wish, say: Say) -> Result:
    """The same where a claim that is told twice takes twice."""
    return await _lost_answers(wish, say, Result(control=UNSTARTED), without="claim-memory")


async def _lost_answers(wish: Wish, say: Say, result: Result, without: str = "") -> Result:
    jobs = wish.jobs or 10_000
    async with (
        arena(wish, say) as place,
        losing(place.server.url, place.folder, CHANCE, wish.seed) as relay,
    ):
        place.still = 3.0 if without else place.still
        urls = await place.api_nodes(2, relay.url)
        fleet = await place.fleet(wish.workers or 8, place.order(url=relay.url, without=without))
        load = Load(urls, place.ledger, wish.seed, plan_jobs(jobs, wish.seed), batch=5)
        await drive(place, load, jobs)
        await place.sessions_gone(len(fleet.members))
        await place.ask()
        result.verdict = await place.judge()
        _figures(result, place, relay)
    return result


def _figures(result: Result, place: Arena, relay: Losing) -> None:
    verdict = result.verdict
    started = {(run.job_id, run.attempt) for run in place.executions.read()}
    unknown = [
        f"{life.id}: attempt {claim.attempt} on {claim.node}"
        for life in place.history.lives.values()
        for claim in life.claims
        if (life.id, claim.attempt) not in started
    ]
    for lease in unknown:
        verdict.find("O", f"nobody ran what was claimed, {lease}")
    figures = {"answers lost": relay.lost, "of answers": relay.asked.total(), UNSTARTED: len(unknown)}
    figures |= {f"lost: {verb}": number for verb, number in relay.losses.most_common() if number}
    verdict.figures = {**figures, **verdict.figures}
