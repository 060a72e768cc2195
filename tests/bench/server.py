"""A private Valkey without persistence, so that what is measured is not the disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Generator
from pathlib import Path

from gopher_node.store.embedded import GUARDIAN, find_binary


@contextlib.contextmanager
def private_server(*options: str) -> Generator[str]:
    """Yields its URL. `options` go before its own. It ends with this process, even if that is killed."""
    folder = Path(tempfile.mkdtemp(prefix="gopher-bench-"))
    path = folder / "store.sock"
    command = [str(find_binary()), "--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700"]
    command += ["--dir", str(folder), "--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"]
    command += ["--hash-max-listpack-value", "1024", *options]
    process = subprocess.Popen(
        ["/bin/sh", "-c", GUARDIAN, "bench-store", *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if "ready to accept connections" in line.lower():
                break
        yield f"unix://{path}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdin.close()
        process.stdout.close()
        shutil.rmtree(folder, ignore_errors=True)
