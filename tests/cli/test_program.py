"""The program as a process: terminals, pipes, signals, and how long it takes to say hello."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from tests import warm_start
from tests.cli.processes import PROGRAM, clean_environment

pytestmark = pytest.mark.process

JOB = {"job_id": "7f7a2b1e-6f0e-4d7a-9a55-0d9a9f3ad001", "type": "email", "status": "processing"}


def on_terminal(*arguments: str, typed: bytes = b"", **environment: str) -> tuple[int, str]:
    """Run the program, started warm, on a terminal. Answers its exit code and all that stood on the screen."""
    ours, theirs = pty.openpty()
    os.write(ours, typed)
    env = clean_environment(TERM="xterm-256color", COLUMNS="200", **environment)
    process = warm_start.start(arguments, env=env, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    screen = b""
    while True:
        assert select.select([ours], [], [], 30)[0], screen
        try:
            piece = os.read(ours, 65536)
        except OSError:
            break
        if not piece:
            break
        screen += piece
    os.close(ours)
    return process.wait(30), screen.decode()


def test_a_terminal_gets_a_table_in_colours(node_url: str, queue: str) -> None:
    """On a terminal states are coloured, and nothing but colours is added to what is said."""
    code, screen = on_terminal("health", f"--url={node_url}")

    assert code == 0
    assert "\x1b[32mhealthy" in screen
    assert re.sub(r"\x1b\[[0-9;]*m", "", screen).split()[:2] == ["Status", "healthy"]


def test_no_color_is_honoured(told: Any) -> None:
    """NO_COLOR leaves the table and takes the colours."""
    told.answer({"items": [{**JOB, "status": "failed", "error": {"code": "c", "message": "m"}}], "next_cursor": None})

    code, screen = on_terminal("list-failed", f"--url={told.url}", NO_COLOR="1")

    assert code == 0
    assert "─" in screen
    assert JOB["job_id"] in screen
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", screen)


def test_json_has_no_colours(told: Any) -> None:
    """--json is for programs, on a terminal too."""
    told.answer(JOB)

    code, screen = on_terminal("get", JOB["job_id"], "--json", f"--url={told.url}")

    assert code == 0
    assert "\x1b" not in screen


@pytest.mark.parametrize(("typed", "code", "asked"), [(b"y\n", 0, 1), (b"n\n", 1, 0), (b"\n", 1, 0), (b"\x04", 1, 0)])
def test_a_purge_asks_on_a_terminal(told: Any, typed: bytes, code: int, asked: int) -> None:
    """Only a yes deletes; anything else sends nothing."""
    told.answer({"purged": 2})

    ended, screen = on_terminal("purge", "email", f"--url={told.url}", typed=typed)

    assert f"Delete all waiting jobs of email at {told.url}?" in screen
    assert ended == code
    assert len(told.asked) == asked
    assert ("2 waiting jobs of email deleted." in screen) == bool(asked)
    assert ("Nothing was deleted." in screen) != bool(asked)


def test_a_purge_with_yes_does_not_ask(told: Any) -> None:
    """--yes is for who has thought about it."""
    told.answer({"purged": 1})

    code, screen = on_terminal("purge", "email", "--yes", f"--url={told.url}")

    assert code == 0
    assert "[y/N]" not in screen


def test_an_interrupted_wait_names_the_job(told: Any) -> None:
    """Ctrl-C ends the wait with 130; the job goes on, and its id is not lost."""
    told.answer({**JOB, "status": "enqueued"})
    told.answer(JOB)
    waiting = threading.Event()
    told.on_request = lambda: waiting.set() if len(told.asked) > 1 else None
    process = subprocess.Popen(
        [*PROGRAM, "submit", "-t", "email", "--wait", "60s", f"--url={told.url}"],
        env=clean_environment(),
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    assert waiting.wait(30)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)

    assert process.returncode == 130
    assert out == ""
    assert err == (
        f"Job {JOB['job_id']} was submitted and goes on; see `gopher-node get {JOB['job_id']}`.\n"
        "gopher-node: Interrupted.\n"
    )


def test_a_reader_that_has_seen_enough_is_no_error(told: Any) -> None:
    """`gopher-node list-failed | head -1` ends without a word about the pipe."""
    told.answer({"items": [{**JOB, "payload": "x" * 1000}] * 200, "next_cursor": None})
    process = subprocess.Popen(
        [*PROGRAM, "list-failed", "--json", "--limit", "200", f"--url={told.url}"],
        env=clean_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()

    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait(30) == 141


def test_a_disk_that_is_full_is_told(told: Any) -> None:
    """What cannot be written is an error of one sentence."""
    if not Path("/dev/full").exists():
        pytest.skip("This system has no /dev/full.")
    told.answer(JOB)

    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [*PROGRAM, "get", "1", "--json", f"--url={told.url}"],
            env=clean_environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )

    assert done.returncode == 1
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_poor_terminal_gets_escapes(told: Any) -> None:
    """Where the encoding knows no umlauts, they are written out instead of failing."""
    told.answer({**JOB, "payload": "grün"})

    done = subprocess.run(
        [*PROGRAM, "get", "1", f"--url={told.url}"],
        env=clean_environment(PYTHONIOENCODING="ascii"),
        capture_output=True,
        text=True,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "gr\\xfcn" in done.stdout


def test_the_console_script_is_installed() -> None:
    """`gopher-node` is on the path of the environment."""
    script = Path(sys.executable).parent / "gopher-node"

    done = subprocess.run([script, "--version"], env=clean_environment(), capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")


def test_help_needs_neither_a_client_nor_a_node() -> None:
    """What takes long to import is imported by the commands that need it."""
    program = (
        "import sys; from gopher_node.cli.app import execute; "
        "[execute(words.split()) for words in ('--help', 'submit --help', 'jobs --help', 'keys create --help', "
        "'doctor --help', 'completion bash')]; "
        "heavy = {'httpx2', 'aiohttp', 'redis', 'pydantic', 'structlog', 'uvloop', 'asyncio'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else 0)"
    )

    done = subprocess.run([sys.executable, "-c", program], env=clean_environment(), capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")
