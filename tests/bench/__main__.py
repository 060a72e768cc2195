"""Runs one scenario: `scripts/bench SCENARIO [--json]`."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

from tests.bench import claim, metrics, sizing

Say = Callable[[str], None]

SCENARIOS: dict[str, tuple[str, Callable[[Say, float], Coroutine[Any, Any, dict[str, Any]]]]] = {
    "sizing": ("what a deployment is sized by: memory of jobs and nodes, and what one process does", sizing.run),
    "metrics": ("what measuring costs each job, and what a scrape costs", metrics.run),
    "claim": ("what claiming and settling a job costs, without and with limits on its type", claim.run),
}


def main() -> None:
    """Ends with exit code 2 for a scenario that there is none of."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("scenario", nargs="?", choices=sorted(SCENARIOS), metavar="SCENARIO")
    parser.add_argument("--list", action="store_true", help="name the scenarios")
    parser.add_argument("--json", action="store_true", help="write nothing but the last line")
    parser.add_argument("--scale", type=float, default=1.0, help="how much work, as a part of the usual amount")
    wished = parser.parse_args()
    if wished.list or wished.scenario is None:
        lines = [f"{name}  {what}\n" for name, (what, _) in sorted(SCENARIOS.items())]
        (sys.stdout if wished.list else sys.stderr).writelines(lines)
        sys.exit(0 if wished.list else 2)

    def say(line: str) -> None:
        if not wished.json:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()

    _, run = SCENARIOS[wished.scenario]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        figures = runner.run(run(say, wished.scale))
    sys.stdout.write(json.dumps({"scenario": wished.scenario, **figures}) + "\n")


if __name__ == "__main__":
    main()
