"""The measurements can be taken; what they say is for people to judge, on a machine that does nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_claim_ends_with_its_figures() -> None:
    """A table for people, and in the last line the figures as a JSON object."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.bench", "claim", "--scale=0.02"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    *table, last = ran.stdout.splitlines()
    figures = json.loads(last)

    assert figures["ratio"] == figures["limited"]["ratio"] > 0
    assert 0 < figures["plain"]["least"] <= figures["plain"]["median"] <= figures["plain"]["most"]
    assert [line.split()[0] for line in table[2:5]] == ["plain", "beside", "limited"]


def test_metrics_ends_with_its_figures() -> None:
    """What measuring costs each job as a ratio, and a scrape in milliseconds."""
    ran = subprocess.run(
        [sys.executable, "-m", "tests.bench", "metrics", "--scale=0.05", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    figures = json.loads(ran.stdout)

    assert figures["ratios"]["least"] <= figures["ratio"] == figures["ratios"]["median"] <= figures["ratios"]["most"]
    assert min(figures["measured"]["least"], figures["unmeasured"]["least"], figures["scrape_ms"]) > 0
