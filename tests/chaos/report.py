"""What a scenario has found, for people and for programs."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.checker import INVARIANTS, Verdict

ROOT = Path(__file__).parent.parent.parent
EXAMPLES = 3


@dataclass
class Result:
    """
    A verdict, and what it has to be. `control` names the figure that must not be 0, for a safety net was taken out, and
    the checker has to find what that net holds off. `wanted` are bounds of figures: the most that each may be.
    """

    verdict: Verdict = field(default_factory=Verdict)
    control: str = ""
    wanted: dict[str, float] = field(default_factory=dict[str, float])

    @property
    def missed(self) -> list[str]:
        """Figures beyond their bounds."""
        figures = self.verdict.figures
        return [name for name, most in self.wanted.items() if float(figures.get(name, "inf")) > most]

    @property
    def passed(self) -> bool:
        if self.control:
            return float(self.verdict.figures.get(self.control, 0)) > 0
        return self.verdict.sound and not self.missed


def as_json(scenario: str, result: Result, command: str, seed: int) -> dict[str, Any]:
    findings = {letter: len(found) for letter, found in result.verdict.findings.items()}
    return {
        "scenario": scenario,
        "passed": result.passed,
        "control": result.control or None,
        "seed": seed,
        "command": command,
        "machine": machine(),
        "commit": _commit(),
        "findings": findings,
        "examples": {letter: found[:EXAMPLES] for letter, found in result.verdict.findings.items() if found},
        "figures": result.verdict.figures,
        "wanted": result.wanted,
    }


def as_markdown(told: dict[str, Any], result: Result) -> str:
    lines = [
        f"## {told['scenario']}: {_word(result)}",
        "",
        f"`{told['command']}` on {told['machine']}, {told['commit']}",
        "",
    ]
    lines += ["| invariant | violations |", "| --- | --- |"]
    lines += [f"| **{letter}** {INVARIANTS[letter]} | {number} |" for letter, number in told["findings"].items()]
    lines += ["", "| figure | measured | wanted |", "| --- | --- | --- |"]
    for name, value in told["figures"].items():
        lines.append(f"| {name} | {value} | {f'≤ {result.wanted[name]:g}' if name in result.wanted else ''} |")
    for letter, examples in told["examples"].items():
        lines += ["", *(f"- {letter}: {example}" for example in examples)]
    return "\n".join(lines) + "\n"


def _word(result: Result) -> str:
    if result.control:
        found = f"{result.verdict.figures.get(result.control, 0)} {result.control}"
        return f"without its net, as it must: {found}" if result.passed else f"FAILED, without its net: {found}"
    return "passed" if result.passed else "FAILED"


def machine() -> str:
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return f"{os.cpu_count()} processors, {memory:.0f} GiB, {platform.system()} {platform.release().split('-')[0]}"


def _commit() -> str:
    told = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return told.stdout.strip() or "no commit"
