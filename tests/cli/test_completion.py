"""The scripts that complete commands and options."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

COMPLETE = """
source {script}
COMP_WORDS=({words}); COMP_CWORD={place}; COMP_LINE="{line}"; COMP_POINT={point}
$(complete -p gopher-node | sed 's/.*-F \\([^ ]*\\).*/\\1/')
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


PRINTED: dict[str, str] = {}


def script(gopher: Any, shell: str, place: Path) -> Path:
    """Printed once, for that takes a while, and it says the same each time."""
    if shell not in PRINTED:
        ran = gopher("completion", shell)
        assert (ran.code, ran.err) == (0, "")
        PRINTED[shell] = ran.out
    path = place / f"completion.{shell}"
    path.write_text(PRINTED[shell])
    return path


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
@pytest.mark.parametrize(
    ("line", "word"),
    [
        ("gopher-node subm", "submit"),
        ("gopher-node jobs ", "run-now"),
        ("gopher-node dead-letters ret", "retry"),
        ("gopher-node submit --idem", "--idempotency-key"),
    ],
)
def test_bash_completes(gopher: Any, tmp_path: Path, line: str, word: str) -> None:
    """The script is sound, and knows commands, those in groups, and options."""
    path = script(gopher, "bash", tmp_path)
    assert subprocess.run(["bash", "-n", path], capture_output=True, text=True).stderr == ""

    words = line.split(" ")
    told = " ".join(f"'{each}'" for each in words)
    program = COMPLETE.format(script=path, words=told, place=len(words) - 1, line=line, point=len(line))
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True)

    assert word in done.stdout.split(), done.stderr


@pytest.mark.tool("zsh")
def test_the_script_for_zsh_is_sound(gopher: Any, tmp_path: Path) -> None:
    """zsh reads it without a complaint."""
    done = subprocess.run(["zsh", "-n", script(gopher, "zsh", tmp_path)], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.tool("fish")
def test_the_script_for_fish_is_sound(gopher: Any, tmp_path: Path) -> None:
    """fish reads it without a complaint."""
    done = subprocess.run(["fish", "--no-execute", script(gopher, "fish", tmp_path)], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_all_commands_are_in_the_script(gopher: Any, shell: str, tmp_path: Path) -> None:
    """Also those in groups, whichever shell it is for."""
    text = script(gopher, shell, tmp_path).read_text()

    assert all(word in text for word in ("run-now", "list-failed", "revoke", "idempotency-key", "doctor"))
