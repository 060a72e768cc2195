"""A program that is started warm is what it would be if it were started cold."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import warm_start

HANDLERS = Path(__file__).parent / "handlers_that_look"

pytestmark = pytest.mark.skipif(not warm_start.POSSIBLE, reason="Nothing can be started warm on this system.")


def look(start: Callable[..., Any], place: Path, end: str) -> tuple[int, dict[str, Any], str]:
    """The exit code, what the program has seen, and what it has written."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GOPHER_")}
    environment |= {"PYTHONPATH": str(HANDLERS), "SEEN": str(place / "seen"), "END": end, "TZ": "Asia/Tokyo"}
    with open(place / "out", "wb") as out, open(os.devnull, "rb") as nothing:
        process = start(
            ["run", "--handlers=looking"],
            env=environment,
            cwd=place,
            stdin=nothing.fileno(),
            stdout=out.fileno(),
            stderr=out.fileno(),
        )
        code = process.wait(30)
    return code, json.loads((place / "seen").read_text()), (place / "out").read_text()


def cold(arguments: list[str], **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*warm_start.COLD, *arguments], start_new_session=True, **options)


def test_the_program_sees_no_difference(tmp_path: Path) -> None:
    """Arguments, paths, environment, zone, session, descriptors, signals and streams; and it ends with its code."""
    warm = look(warm_start.start, tmp_path, "7")

    assert warm == look(cold, tmp_path, "7")
    assert warm[0] == 7
    assert warm[1]["zone"] == ["JST", "JST"]


def test_a_signal_that_ended_it_is_told(tmp_path: Path) -> None:
    """With a negative number; nothing of it is left, not even a zombie."""
    descriptors = len(os.listdir("/proc/self/fd"))

    assert look(warm_start.start, tmp_path, "SIGKILL")[0] == -9
    assert look(warm_start.start, tmp_path, "SIGTERM")[0] == -15
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 1  # the way to the server, if it is the first time


def test_another_interpreter_is_started_cold() -> None:
    """What it reads before it runs a program, nobody can change afterwards."""
    assert warm_start.possible({**os.environ, "PYTHONPATH": "anywhere"})
    assert not warm_start.possible({**os.environ, "PYTHONIOENCODING": "ascii"})
