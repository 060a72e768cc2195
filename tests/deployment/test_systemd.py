"""The systemd unit: systemd finds no fault with it, and it is shut off from what a node does not need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.deployment.deployed import UNIT, units

MOST_EXPOSED = 20
"""Tenths of what systemd-analyze calls the exposure: 2.0 is "OK", an ordinary service has 9.6."""


@pytest.mark.tool("systemd-analyze")
def test_systemd_takes_it(tmp_path: Path) -> None:
    """With a program that is there in the place of the one that is installed with it."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/gopher-node/bin/gopher-node", sys.executable))
    ran = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)

    # It looks at what is installed here, too.
    assert UNIT.name not in ran.stderr
    assert ran.returncode == 0, ran.stderr


@pytest.mark.tool("systemd-analyze")
def test_it_is_hardened() -> None:
    command = ["systemd-analyze", "security", "--offline=yes", f"--threshold={MOST_EXPOSED}", "--no-pager", str(UNIT)]
    ran = subprocess.run(command, capture_output=True, text=True)

    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_node_drains_before_its_store_goes() -> None:
    """Only the node is told to stop; and a setting that cannot be used is not tried for ever."""
    service = units()["Service"]

    assert service["KillMode"] == ["mixed"]
    assert service["RestartPreventExitStatus"] == ["78"]
    assert service["OOMPolicy"] == ["continue"]
    assert service["StateDirectory"] == ["gopher-node"]
    assert "GOPHER_DATA_DIR=/var/lib/gopher-node" in service["Environment"][0]
