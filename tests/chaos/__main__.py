"""Runs one scenario: `scripts/chaos SCENARIO [--jobs N] [--kills N] [--seed S] [--json]`."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from tests.chaos import clocks, gales, herds, losses, pills, stops, storms
from tests.chaos.arena import Say, Skipped, Wish
from tests.chaos.report import Result, as_json, as_markdown

SCENARIOS: dict[str, tuple[str, Callable[[Wish, Say], Coroutine[Any, Any, Result]]]] = {
    "clock": ("the wall clocks of the store and of the nodes jump by an hour", clocks.clock),
    "forgetful": (
        "control: lost answers where a claim told twice takes twice, which must leave leases",
        losses.forgetful,
    ),
    "gale": ("whole nodes killed, the API with them, and the store", gales.gale),
    "herd": ("500,000 jobs that are due at the same moment", herds.herd),
    "lost-answers": ("2 % of the store's answers get lost, of all verbs", losses.lost_answers),
    "poison": ("20 jobs that kill their process, among harmless ones", pills.poison),
    "sigterm": ("worker nodes told to stop under load, within and beyond their grace", stops.sigterm),
    "store-restart": ("the store killed while all workers wait for work", stops.store_restart),
    "storm": ("workers killed and paused, and the store killed, at random and under load", storms.storm),
    "unfenced": ("control: the storm where no token is looked at, which must complete jobs twice", storms.unfenced),
}


def main() -> None:
    """Ends with 1 if what is promised did not hold, or a control found nothing; with 2 for an unknown scenario."""
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("scenario", nargs="?", choices=sorted(SCENARIOS), metavar="SCENARIO")
    parser.add_argument("--list", action="store_true", help="name the scenarios")
    parser.add_argument("--json", action="store_true", help="write nothing but the last line")
    parser.add_argument("--jobs", type=int, default=0, help="how many jobs, in place of the scenario's own number")
    parser.add_argument("--kills", type=int, default=0, help="how many kills; other faults in proportion")
    parser.add_argument("--workers", type=int, default=0, help="how many workers at a time")
    parser.add_argument("--slots", type=int, default=0, help="how many jobs each runs at a time")
    parser.add_argument("--seed", type=int, help="draws the same jobs and faults again")
    parser.add_argument("--keep", action="store_true", help="leave the server's files and the ledgers, and say where")
    wished = parser.parse_args()
    if wished.list or wished.scenario is None:
        width = max(map(len, SCENARIOS)) + 2
        lines = [f"{name:{width}}{what}\n" for name, (what, _) in sorted(SCENARIOS.items())]
        (sys.stdout if wished.list else sys.stderr).writelines(lines)
        sys.exit(0 if wished.list else 2)

    def say(line: str) -> None:
        if not wished.json:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    seed = random.SystemRandom().randrange(10**6) if wished.seed is None else wished.seed
    say(f"seed {seed}")
    wish = Wish(seed, wished.jobs, wished.kills, wished.workers, wished.slots, keep=wished.keep)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            result = runner.run(SCENARIOS[wished.scenario][1](wish, say))
        except Skipped as reason:
            sys.stdout.write(json.dumps({"scenario": wished.scenario, "skipped": str(reason)}) + "\n")
            return
    numbers = [
        f" --{name} {getattr(wish, name)}" for name in ("jobs", "kills", "workers", "slots") if getattr(wish, name)
    ]
    told = as_json(wished.scenario, result, f"scripts/chaos {wished.scenario}{''.join(numbers)} --seed {seed}", seed)
    say(as_markdown(told, result))
    sys.stdout.write(json.dumps(told) + "\n")
    sys.exit(0 if result.passed else 1)


if __name__ == "__main__":
    main()
