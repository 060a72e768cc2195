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


def script(gopher: Any, shell: str, place: Path) -> Path:
    """Printed in one test only: that takes a while. All commands are in it, those in groups too."""
    ran = gopher("completion", shell)
    assert (ran.code, ran.err) == (0, "")
    assert all(word in ran.out for word in ("run-now", "list-failed", "revoke", "idempotency-key", "doctor"))
    path = place / f"completion.{shell}"
    path.write_text(ran.out)
    return path


@pytest.mark.tool("bash")
def test_bash_completes(gopher: Any, tmp_path: Path) -> None:
    """The script is sound, and knows commands, those in groups, and options."""
    path = script(gopher, "bash", tmp_path)
    assert subprocess.run(["bash", "-n", path], capture_output=True, text=True, timeout=30).stderr == ""

    for line, word in (
        ("gopher-node subm", "submit"),
        ("gopher-node jobs ", "run-now"),
        ("gopher-node dead-letters ret", "retry"),
        ("gopher-node submit --idem", "--idempotency-key"),
    ):
        words = line.split(" ")
        told = " ".join(f"'{each}'" for each in words)
        program = COMPLETE.format(script=path, words=told, place=len(words) - 1, line=line, point=len(line))
        done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, timeout=30)

        assert word in done.stdout.split(), done.stderr


@pytest.mark.parametrize(("shell", "check"), [("zsh", "-n"), ("fish", "--no-execute")])
def test_the_script_is_sound(gopher: Any, tmp_path: Path, shell: str, check: str) -> None:
    """The shell, where there is one, reads it without a complaint."""
    path = script(gopher, shell, tmp_path)
    if shutil.which(shell) is None:
        pytest.skip(f"all commands are in it, but whether it is sound needs {shell}, which is NOT INSTALLED here")
    done = subprocess.run([shell, check, path], capture_output=True, text=True, timeout=30)

    assert (done.returncode, done.stderr) == (0, "")
