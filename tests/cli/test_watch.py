"""The live display, in a pipe and on a terminal."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
from typing import Any

import orjson

from tests.cli.processes import PROGRAM, clean_environment

STATS: dict[str, Any] = {
    "jobs_submitted": 10,
    "jobs_completed": 7,
    "jobs_failed": 1,
    "workers_active": 2,
    "queue_size": 3,
    "uptime": 100.0,
    "queues": [{"type": "email", "depth": {"high": 3}, "states": {"processing": 2}}],
}


def watching(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*PROGRAM, "watch", "--interval", "0.1s", *arguments], stderr=subprocess.PIPE, **options)


def interrupted(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    return process.returncode, err.decode()


def test_in_a_pipe_each_look_is_a_line(told: Any) -> None:
    """With rates from the second line on; Ctrl-C ends it as it ends all commands."""
    told.answer(STATS)
    told.answer({**STATS, "jobs_completed": 8})
    process = watching(f"--url={told.url}", env=clean_environment(), stdout=subprocess.PIPE)
    assert process.stdout is not None

    first, second = (process.stdout.readline().decode() for _ in range(2))

    assert interrupted(process) == (130, "gopher-node: Interrupted.\n")
    assert first.split()[1:] == ["waiting=3", "running=2", "submitted=10", "completed=7", "failed=1"]
    assert "submitted_per_second=0.0" in second
    assert "completed_per_second=0.0" not in second


def test_as_json_each_look_is_an_object(told: Any) -> None:
    """The node's own."""
    told.answer(STATS)
    process = watching("--json", f"--url={told.url}", env=clean_environment(), stdout=subprocess.PIPE)
    assert process.stdout is not None

    lines = [process.stdout.readline() for _ in range(2)]

    assert interrupted(process)[0] == 130
    assert [orjson.loads(line) for line in lines] == [STATS, STATS]


def test_a_node_that_goes_away_is_waited_for(told: Any) -> None:
    """Once it has answered; the gap is told on stderr."""
    told.answer(STATS)
    for _ in range(8):
        told.refuse(503, "draining", title="The node is shutting down.", detail="Try another one.")
    told.answer(STATS)
    process = watching(f"--url={told.url}", env=clean_environment(), stdout=subprocess.PIPE)
    assert process.stdout is not None

    lines = [process.stdout.readline() for _ in range(2)]

    code, err = interrupted(process)
    assert all(b"waiting=3" in line for line in lines)
    assert code == 130
    assert err.startswith("gopher-node: The node is shutting down. Try another one.\n")


def test_a_terminal_gets_a_display_that_is_kept_up_to_date(told: Any) -> None:
    """The numbers change in place, and the table has each queue."""
    told.answer(STATS)
    told.answer({**STATS, "queue_size": 4242})
    ours, theirs = pty.openpty()
    environment = clean_environment(TERM="xterm-256color", COLUMNS="120", LINES="40")
    process = watching(f"--url={told.url}", env=environment, stdin=theirs, stdout=theirs, start_new_session=True)
    os.close(theirs)
    screen = b""
    while b"4242" not in screen:
        assert select.select([ours], [], [], 30)[0], screen
        screen += os.read(ours, 65536)

    code, err = interrupted(process)

    os.close(ours)
    assert (code, err) == (130, "gopher-node: Interrupted.\n")
    assert b"email" in screen
    assert b"\x1b[" in screen
