"""
The program, started warm: forked from a server that has imported all of it, instead of importing it again each time.

What is started is the real thing. It is a process of its own, in a session of its own, with the signals, environment,
directory, descriptors and arguments that `python -m gopher_node.cli` would have, and it runs that program's main and
ends as it ends; only what one second of imports has left in memory is there from the start. So a warm start does not
show that the program can be imported, in which order that happens, nor how long it takes. Cold starts do: in
tests/cli/test_program.py wherever there is no terminal, in tests/cli/test_reload.py, in tests/node/test_open_node.py,
and in one test of tests/node/test_roles.py. tests/test_warm_start.py compares the two.

Each test process has one server, from its first warm start to its own end.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import secrets
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

COLD = [sys.executable, "-m", "gopher_node.cli"]
POSSIBLE = sys.platform == "linux" and hasattr(socket, "send_fds")
PATIENCE = 50.0
"""Seconds that the server may take to start, to answer or to end. No test has as many."""

CHILD = "--child"
"""In place of arguments: not the program is wanted, but a process that runs handlers."""

LENGTH = 4
"""Bytes that give the length of the request which follows them."""

ALSO = ["PIL.PngImagePlugin", "PIL.JpegImagePlugin", "cyclopts.help", "encodings.idna", "rich.table", "zoneinfo"]
"""What the program imports only when it needs it, from elsewhere."""


class WarmProcess:
    """A started program. Whoever starts it waits for its end, or it stays open."""

    def __init__(self, pid: int, status: socket.socket) -> None:
        self.pid = pid
        self._status: socket.socket | None = status
        self._code: int | None = None

    @property
    def returncode(self) -> int | None:
        """As subprocess has it: what a signal ended has its number, negative. None while the program runs."""
        if self._status is not None and select.select([self._status], [], [], 0)[0]:
            word = _word(self._status)
            self._status.close()
            self._status = None
            assert word.startswith("ended "), "The server of warm starts has gone."
            self._code = int(word.removeprefix("ended "))
        return self._code

    def wait(self, timeout: float | None = None) -> int:
        if self._status is not None:
            select.select([self._status], [], [], timeout)
        code = self.returncode
        if code is None:
            raise subprocess.TimeoutExpired(COLD, timeout or 0)
        return code

    async def ended(self) -> int:
        if self._status is not None:
            loop = asyncio.get_running_loop()
            descriptor, ended = self._status.fileno(), asyncio.Event()
            loop.add_reader(descriptor, ended.set)
            try:
                await ended.wait()
            finally:
                loop.remove_reader(descriptor)
        return self.wait()

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Reading(asyncio.StreamReaderProtocol):
    """Closes its pipe at the end of what is read."""

    def eof_received(self) -> bool:
        super().eof_received()
        return False


async def start_async(
    arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path
) -> tuple[WarmProcess, asyncio.StreamReader]:
    """The program and what it writes on stderr. Only where it is possible to start it warm."""
    ours, theirs = os.pipe()
    try:
        process = _start(arguments, env, cwd, [0, 1, theirs])
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)
    lines = asyncio.StreamReader()
    pipe = open(ours, "rb", 0)  # noqa: ASYNC230, SIM115 – it is closed with the transport
    await asyncio.get_running_loop().connect_read_pipe(lambda: Reading(lines), pipe)
    return process, lines


def start_child(pipe: int, *, cwd: Path) -> WarmProcess:
    """A process that runs handlers, and that reads from this descriptor and writes to it."""
    return _start([CHILD], os.environ, cwd, [pipe, pipe, 2])


def possible(environment: Mapping[str, str]) -> bool:
    """Whether a program with this environment can be started warm, and would be as if it were started cold."""
    return POSSIBLE and _interpreter(environment) == _interpreter(os.environ)


def start(
    arguments: Sequence[str],
    *,
    env: Mapping[str, str],
    cwd: Path | str | None = None,
    stdin: int = 0,
    stdout: int = 1,
    stderr: int = 2,
) -> WarmProcess | subprocess.Popen[bytes]:
    """The program in a session of its own, and cold where it must be."""
    if not possible(env):
        return subprocess.Popen(
            [*COLD, *arguments],
            env=env,
            cwd=cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
    return _start(arguments, env, cwd or os.curdir, [stdin, stdout, stderr])


def _start(
    arguments: Sequence[str], env: Mapping[str, str], cwd: Path | str, descriptors: Sequence[int]
) -> WarmProcess:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        ours.settimeout(PATIENCE)
        request = json.dumps([list(arguments), dict(env), os.path.abspath(cwd)]).encode()
        server = _server()
        socket.send_fds(server, [len(request).to_bytes(LENGTH, "big")], [*descriptors, theirs.fileno()])
        server.sendall(request)
    word = _word(ours)
    if not word.startswith("started "):
        ours.close()
        raise RuntimeError(f"The program could not be started warm: {word or 'its server has gone'}.")
    return WarmProcess(int(word.removeprefix("started ")), ours)


def _interpreter(environment: Mapping[str, str]) -> dict[str, str]:
    """What an interpreter reads of the environment before it runs anything."""
    read = ("PYTHON", "LC_", "LANG")
    return {name: value for name, value in environment.items() if name.startswith(read) and name != "PYTHONPATH"}


def _word(status: socket.socket) -> str:
    return status.recv(100).decode()


@functools.cache
def _server() -> socket.socket:
    """The way to the server, which ends when nobody holds this end any more."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, __file__, str(theirs.fileno())],
            env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    ours.settimeout(PATIENCE)
    atexit.register(_stop, ours, process)
    return ours


def _stop(way: socket.socket, server: subprocess.Popen[bytes]) -> None:
    way.close()
    try:
        server.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


# From here on, what the server does.


def _preload() -> None:
    del sys.path[0]  # where this file lies, which no program would have there
    import gopher_node

    names = [found.name for found in pkgutil.walk_packages(gopher_node.__path__, "gopher_node.")]
    for name in [*names, *ALSO]:
        if not name.endswith("__main__"):
            importlib.import_module(name)
    assert len(os.listdir("/proc/self/task")) == 1, "An import has started a thread, which no fork would have."
    # What is there stays as it is: a collection in a child would only copy it.
    gc.collect()
    gc.freeze()


def _serve(way: socket.socket) -> list[Any]:
    """Until the tests end. Returns in the children alone, each of which has become the program it is asked for."""
    news, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    running: dict[int, socket.socket] = {}
    while True:
        ready, _, _ = select.select([way, news], [], [])
        if news in ready:
            os.read(news, 4096)
            _bury(running)
        if way in ready:
            length, descriptors, _, _ = socket.recv_fds(way, LENGTH, 4, socket.MSG_CMSG_CLOEXEC)
            if not length:
                _end(running)
            arguments, environment, cwd = json.loads(_exactly(way, int.from_bytes(length, "big")))
            status = socket.socket(fileno=descriptors.pop())
            pid = os.fork()
            if pid == 0:
                _become(environment, cwd, descriptors, status)
                # They are closed by number, and none may close what the program has under that number later.
                for other in (way, status, *running.values()):
                    other.detach()
                return arguments
            running[pid] = status
            for descriptor in descriptors:
                os.close(descriptor)


def _exactly(way: socket.socket, length: int) -> bytes:
    request = b""
    while len(request) < length and (piece := way.recv(length - len(request))):
        request += piece
    return request


def _bury(running: dict[int, socket.socket]) -> None:
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            break
        with running.pop(pid) as told, contextlib.suppress(OSError):
            told.send(f"ended {os.waitstatus_to_exitcode(status)}".encode())


def _end(running: Mapping[int, object]) -> NoReturn:
    """The tests are gone, and what they have left running has nobody that would stop it."""
    for pid in running:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    os._exit(0)


def _become(environment: Mapping[str, str], cwd: str, descriptors: Sequence[int], status: socket.socket) -> None:
    """Make of this fork of the server what a new interpreter would be, before it runs its program."""
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])

    for target, descriptor in enumerate(descriptors):
        os.dup2(descriptor, target)
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        stream = _stream(descriptor, getattr(sys, name))
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)

    middleware: Any = sys.modules["gopher_node.api.middleware"]
    middleware._process = secrets.token_hex(6)  # drawn when it is imported, and each process has another

    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    os.chdir(cwd)
    added = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    sys.path[:] = [os.getcwd(), *(os.path.abspath(path) for path in added), *sys.path]
    importlib.invalidate_caches()

    status.send(f"started {os.getpid()}".encode())
    os.closerange(3, os.sysconf("SC_OPEN_MAX"))


def _stream(descriptor: int, like: io.TextIOWrapper) -> io.TextIOWrapper:
    """What an interpreter makes of this descriptor, whose buffering depends on where it leads to."""
    unbuffered = like.write_through
    mode = "wb" if descriptor else "rb"
    bytes_of_it: Any = open(descriptor, mode, 0 if unbuffered and descriptor else -1, closefd=False)  # noqa: SIM115
    by_line = not unbuffered and (descriptor == 2 or bytes_of_it.isatty())
    return io.TextIOWrapper(bytes_of_it, like.encoding, like.errors, line_buffering=by_line, write_through=unbuffered)


if __name__ == "__main__":
    _preload()
    sys.argv[1:] = _serve(socket.socket(fileno=int(sys.argv[1])))
    if sys.argv[1:] == [CHILD]:
        sys.argv[:] = ["-c", str(os.getppid())]
        importlib.import_module("gopher_node.worker.child").main()
    else:
        runpy.run_module("gopher_node.cli", run_name="__main__", alter_sys=True)
