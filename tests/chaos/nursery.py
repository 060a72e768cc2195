"""
The warm parent of the workers: it has imported all that they need, and forks one in milliseconds when it is told to.

It reads orders as lines of JSON, and writes `born <node> <pid>` and `ended <pid> <code>`. All that it has borne ends
with it.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import select
import signal
import sys
from typing import Any

import gopher_node


def main() -> None:
    for found in pkgutil.walk_packages(gopher_node.__path__, "gopher_node."):
        if not found.name.endswith("__main__"):
            importlib.import_module(found.name)
    from tests.chaos import worker_process

    assert len(os.listdir("/proc/self/task")) == 1, "An import has started a thread, which no fork would have."
    gc.collect()
    gc.freeze()  # or a collection in a child would copy all of it
    words = _serve()
    if words is not None:
        worker_process.main(words)


def _serve() -> dict[str, Any] | None:
    """Until the orders end. Returns in a child, with what it is to be."""
    news, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    children: set[int] = set()
    pending = b""
    while True:
        ready, _, _ = select.select([0, news], [], [])
        if news in ready:
            os.read(news, 4096)
            _bury(children)
        if 0 in ready:
            said = os.read(0, 1 << 16)
            if not said:
                for pid in children:
                    _end(pid)
                return None
            *lines, pending = (pending + said).split(b"\n")
            for line in lines:
                words = json.loads(line)
                pid = os.fork()
                if pid == 0:
                    _become_a_worker()
                    return words
                children.add(pid)
                _say(f"born {words['node']} {pid}")


def _bury(children: set[int]) -> None:
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            break
        children.discard(pid)
        _say(f"ended {pid} {os.waitstatus_to_exitcode(status)}")


def _end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _say(line: str) -> None:
    os.write(1, line.encode() + b"\n")


def _become_a_worker() -> None:
    os.setsid()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    with open(os.devnull, "r+b") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115 - until it ends


if __name__ == "__main__":
    main()
