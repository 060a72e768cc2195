"""The fault suite in short: that its scenarios can be run, and that its checker sees what its controls do."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = [pytest.mark.process, pytest.mark.chaos]

SEED = 1


def chaos(scenario: str, *flags: str) -> dict[str, Any]:
    """What a scenario says at its end."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.chaos", scenario, "--json", f"--seed={SEED}", *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode in (0, 1), ran.stderr
    told = json.loads(ran.stdout.splitlines()[-1])
    assert told["passed"] is (ran.returncode == 0)
    return told


def test_storm_breaks_nothing() -> None:
    """Workers and the store killed under load: nothing is lost, and nothing completes twice."""
    told = chaos("storm", "--jobs=400", "--kills=6")

    assert told["examples"] == {}
    assert told["passed"]
    assert told["figures"]["kills of workers"] == 6
    assert told["figures"]["jobs accepted"] == 400


def test_storm_without_the_fence_is_found_out() -> None:
    """Where settle looks at no token, jobs complete twice, and the checker says so."""
    told = chaos("unfenced", "--jobs=400", "--kills=6")

    assert told["passed"]
    assert told["figures"]["completed twice"] > 0
    assert told["findings"]["F"] > 0


def test_lost_answers_leave_nothing_behind() -> None:
    """Two answers of a hundred get lost: no job is there twice, no lease without its worker."""
    told = chaos("lost-answers", "--jobs=400")

    assert told["examples"] == {}
    assert told["passed"]
    assert told["figures"]["answers lost"] > 0


def test_claims_without_memory_are_found_out() -> None:
    """Where a claim that is told twice takes twice, leases are left that nobody knows of, and the checker says so."""
    assert chaos("forgetful", "--jobs=300")["passed"]
