"""The program in processes of its own, as a user starts it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import orjson

from gopher_node.client import Client
from tests import warm_start
from tests.warm_start import WarmProcess

HANDLERS = Path(__file__).parent / "handlers_of_a_user"
PROGRAM = [sys.executable, "-m", "gopher_node.cli"]


def clean_environment(**changes: str) -> dict[str, str]:
    """An environment in which nothing is set that the program would read."""
    mine = ("GOPHER_", "SERVER_", "REDIS_", "WORKER_", "LOG_", "NO_COLOR", "FORCE_COLOR", "PYTHONUNBUFFERED")
    return {name: value for name, value in os.environ.items() if not name.startswith(mine)} | changes


class Lines:
    """What a process writes on stderr, line by line. Nobody waits longer than 30 s for a line."""

    def __init__(self, stderr: IO[bytes] | None) -> None:
        assert stderr is not None
        self._stderr = stderr
        self._lines: list[bytes] = []
        self._news = threading.Condition()
        self._ended = False
        self._seen = 0
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for line in self._stderr:
            with self._news:
                self._lines.append(line)
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def next_with(self, text: str) -> str:
        """The next line that holds this text, from where the last search ended."""
        with self._news:
            while True:
                while self._seen < len(self._lines):
                    line = self._lines[self._seen].decode()
                    self._seen += 1
                    if text in line:
                        return line
                assert not self._ended, b"".join(self._lines).decode()
                assert self._news.wait(30), b"".join(self._lines).decode()

    def any_with(self, text: str) -> bool:
        """Whether any line so far holds this text."""
        with self._news:
            return any(text in line.decode() for line in self._lines)

    def close(self) -> None:
        self._thread.join(30)
        self._stderr.close()


def end(process: subprocess.Popen[bytes] | WarmProcess, lines: Lines) -> int:
    """Stop a process as an operator would, and by force if that does not help."""
    process.terminate()
    try:
        return process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
    finally:
        lines.close()


@contextmanager
def running_node(
    data: Path, *arguments: str, api_key: str = "", ca: Path | None = None, **environment: str
) -> Iterator[str]:
    """A real node with the embedded store and the handlers beside this file. The value is its address."""
    arguments = ["--port=0", "--handlers=clijobs", f"--data-dir={data}", "--log-format=json", *arguments]
    ours, theirs = os.pipe()
    try:
        process = warm_start.start(arguments, cwd=HANDLERS, env=clean_environment(**environment), stderr=theirs)
    finally:
        os.close(theirs)
    lines = Lines(os.fdopen(ours, "rb"))
    try:
        url = orjson.loads(lines.next_with("node.started"))["url"]
        # A job that has run shows that the worker is there too, without which the node is not yet healthy.
        with Client(url, api_key=api_key, ca=ca) as client:
            client.wait(client.submit("echo").job_id, "30s")
        yield url
    finally:
        end(process, lines)
