"""`--reload`: a changed file stops the node gracefully and starts the next one."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from gopher_node.cli.reload import Sources, node_command
from gopher_node.client import Client
from gopher_node.settings import Settings
from tests.cli.processes import PROGRAM, Lines, clean_environment, end

HANDLER = """
from gopher_node import handler

@handler("version")
async def version() -> int:
    return {number}
"""

# Makes the standard input the terminal whose Ctrl-C reaches this process and its children.
OWN_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


def names(sources: Sources) -> set[str]:
    return {os.path.basename(path) for path in sources.snapshot()}


def test_only_a_users_sources_are_watched(tmp_path: Path) -> None:
    """Python files in the working directory, without what tools and the node itself keep there."""
    watched = ["app.py", "package/jobs.py", "package/deep/er.py"]
    left_out = ["notes.txt", ".hidden/a.py", "package/__pycache__/b.py", "venv/c.py", "data/d.py", "node_modules/e.py"]
    for name in [*watched, *left_out, "venv/pyvenv.cfg"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()

    assert names(Sources([tmp_path], [tmp_path / "data"])) == {"app.py", "jobs.py", "er.py"}


def test_handlers_elsewhere_are_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of handlers is followed to wherever it is installed, and is not imported for that."""
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "my_package_of_jobs").mkdir(parents=True)
    (elsewhere / "my_package_of_jobs" / "__init__.py").write_text("raise RuntimeError")
    (elsewhere / "my_module_of_jobs.py").write_text("raise RuntimeError")
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.syspath_prepend(str(elsewhere))

    settings = Settings(handlers=["my_package_of_jobs.mail", "my_module_of_jobs", "missing_jobs"])

    assert names(Sources.of(settings)) == {"__init__.py", "my_module_of_jobs.py"}


def test_a_snapshot_shows_every_change(tmp_path: Path) -> None:
    """New, changed and deleted files all make a difference."""
    sources = Sources([tmp_path])
    file = tmp_path / "app.py"

    empty = sources.snapshot()
    file.write_text("1")
    created = sources.snapshot()
    os.utime(file, ns=(1, 1))
    changed = sources.snapshot()

    assert empty != created != changed
    file.unlink()
    assert sources.snapshot() == empty


def test_the_child_gets_the_same_flags() -> None:
    """What was given is passed on under the settings' own names; what was not is not."""
    command = node_command({"role": "all", "server.port": "0", "log.level": None}, Path("a.toml"))

    assert command == [sys.executable, "-m", "gopher_node.cli", "run", "--role=all", "--port=0", "--config=a.toml"]


@pytest.mark.process
def test_a_changed_handler_runs_at_once(tmp_path: Path) -> None:
    """The next node has the new code; a mistake in it is waited out; SIGTERM ends both processes well."""
    (tmp_path / "app.py").write_text(HANDLER.format(number=1))
    process = subprocess.Popen(
        [*PROGRAM, "--reload", "--port=0", "--handlers=app", "--log-format=json"],
        cwd=tmp_path,
        env=clean_environment(),
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    lines = Lines(process.stderr)

    def version() -> object:
        url = orjson.loads(lines.next_with("node.started"))["url"]
        with Client(url) as client:
            return client.wait(client.submit("version").job_id, "30s").result

    try:
        assert version() == 1
        (tmp_path / "app.py").write_text("this is no Python")
        assert lines.next_with("app.py changed") == "gopher-node: app.py changed; the node starts anew.\n"
        lines.next_with("node.stopped")
        assert "exit code 78" in lines.next_with("The node ended with")
        (tmp_path / "app.py").write_text(HANDLER.format(number=2))
        assert version() == 2

        process.send_signal(signal.SIGTERM)
        lines.next_with("node.stopped")
        assert process.wait(30) == 0
    finally:
        end(process, lines)


@pytest.mark.process
def test_a_setting_that_cannot_be_used_ends_it(tmp_path: Path) -> None:
    """No change of a Python file would mend that, so nothing is started."""
    done = subprocess.run(
        [*PROGRAM, "--reload", "--port=many"], cwd=tmp_path, env=clean_environment(), capture_output=True, text=True
    )

    assert done.returncode == 78
    assert '--port="many"' in done.stderr


@pytest.mark.process
def test_ctrl_c_stops_both_gracefully(tmp_path: Path) -> None:
    """The terminal's signal reaches parent and child; the node drains once, and is not hurried."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", OWN_TERMINAL, *PROGRAM, "--reload", "--port=0", "--log-format=json"],
        cwd=tmp_path,
        env=clean_environment(),
        stdin=theirs,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    os.close(theirs)
    lines = Lines(process.stderr)

    try:
        lines.next_with("node.started")
        os.write(ours, b"\x03")
        lines.next_with("node.stopped")
        assert process.wait(30) == 0
    finally:
        end(process, lines)
        os.close(ours)
    assert not lines.any_with("node.stopping_now")
