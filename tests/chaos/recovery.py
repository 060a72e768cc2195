"""How long it takes from a worker's death until others may run, and do run, what it held."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence

from tests.chaos.checker import Verdict, path
from tests.chaos.fleet import Blow
from tests.chaos.history import Life

CALM, DISTURBED, SUSPECT = "calm", "disturbed", "crash suspects"


def judge(
    verdict: Verdict, lives: Iterable[Life], blows: Sequence[Blow], outages: Sequence[tuple[float, float]], lease: float
) -> None:
    """
    Adds the figures to the verdict, and what no blow explains.

    What is promised is when others may run a job. When they do is up to their free slots too, and for a crash suspect,
    to its process. Where the store was away meanwhile, or nobody was there who could take jobs back, recovery is
    disturbed, and its time says nothing: these are the `outages`.
    """
    struck: defaultdict[str, list[Blow]] = defaultdict(list)
    for blow in sorted(blows, key=lambda blow: blow.at):
        struck[blow.node].append(blow)
    taken: defaultdict[str, list[float]] = defaultdict(list)
    running: defaultdict[str, list[float]] = defaultdict(list)
    for life in lives:
        crashes = 0
        for n, step in enumerate(life.steps):
            crashes += step.outcome == "crashed"
            if step.outcome != "crashed" or step.settled_by:
                continue
            claim = life.steps[n - 1]
            felt = struck[claim.node]
            last = bisect_right(felt, step.at / 1000, key=lambda blow: blow.at) - 1
            if last < 0 or (felt[last].kind == "pause" and claim.started / 1000 > felt[last].at + felt[last].seconds):
                verdict.find("R", f"{life.id} was taken from {claim.node}, which lived: {path(life)}")
                continue
            fell = felt[last].at
            seconds = step.at / 1000 - fell
            touched = any(went < step.at / 1000 and back + lease > fell for went, back in outages)
            taken[DISTURBED if touched else CALM].append(seconds)
            again = next((later for later in life.steps[n + 1 :] if later.state == "processing"), None)
            if again is not None:
                kind = SUSPECT if crashes > 1 else DISTURBED if touched else CALM
                running[kind].append(again.started / 1000 - fell)
    _tell(verdict, "taken back after", taken)
    _tell(verdict, "running again after", running)
    calm = taken[CALM]
    if calm and quantile(calm, 0.99) >= lease + 1:
        verdict.find("R", f"p99 of {len(calm)} jobs is {quantile(calm, 0.99):.2f} s, with a lease of {lease} s")


def _tell(verdict: Verdict, what: str, found: dict[str, list[float]]) -> None:
    for kind, seconds in found.items():
        name = what if kind == CALM else f"{what}, {kind}"
        for part, value in (("p50", quantile(seconds, 0.5)), ("p99", quantile(seconds, 0.99)), ("most", max(seconds))):
            verdict.figures[f"{name}: {part} s"] = round(value, 2)
        verdict.figures[f"{name}: jobs"] = len(seconds)


def quantile(values: Sequence[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(part * len(values)))]
