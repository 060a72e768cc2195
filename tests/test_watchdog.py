"""A test that hangs ends, however it hangs, and is named; what fails is told at once."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Loop

CONFTEST = """
from tests import watchdog

def pytest_configure(config):
    watchdog.install(config)
"""

HANGING = """
import re
import pytest

@pytest.fixture
def hard_to_leave():
    yield
    re.match("(a+)+$", "a" * 50 + "b")

def test_fails_and_hangs_then(hard_to_leave):
    assert 1 == 2, "the first failure"
"""


def test_what_is_left_open_is_told_and_hangs_nothing() -> None:
    """Although each warning is an error here."""
    loop = Loop()
    loop.run_until_complete(loop.create_server(asyncio.Protocol, "127.0.0.1", 0))

    with pytest.raises(ResourceWarning, match="left open: unclosed resource <TCPServer"):
        loop.close()


@pytest.mark.process
def test_a_test_that_hangs_after_its_failure_ends(tmp_path: Path) -> None:
    """Even with the interpreter's lock. The failure has been told by then, and where it hangs is."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_hanging.py").write_text(HANGING)
    options = ["-p", "xdist", "-p", "pytest_timeout", "-n1", "-q", "--timeout=2", "--max-worker-restart=0"]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "-c", os.devnull, "--rootdir", str(tmp_path), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=50,
    )

    assert "crashed while running 'test_hanging.py::test_fails_and_hangs_then'" in ran.stdout, ran.stdout
    assert ran.stdout.index("the first failure") < ran.stdout.index("in hard_to_leave")
    assert ran.stdout.index("in hard_to_leave") < ran.stdout.index("node down")
