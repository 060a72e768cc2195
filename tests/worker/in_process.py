"""Handlers that run in a process, which has to be able to import them."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from typing import Any

from gopher_node.handlers import JobContext


def double(n: int) -> dict[str, int]:
    print("what a handler prints is no part of the protocol")  # noqa: T201
    return {"double": 2 * n, "pid": os.getpid()}


def tell(ctx: JobContext, word: str) -> dict[str, Any]:
    ctx.progress(0.5, word)
    ctx.enqueue("double", {"n": 21})
    ctx.logger.info("told")
    return {"job_id": ctx.job_id, "attempt": ctx.attempt, "key": ctx.idempotency_key}


def belongings(ctx: JobContext) -> list[Any]:
    return [ctx.group, ctx.tags, ctx.max_retries]


def spin(ctx: JobContext, path: str) -> None:
    """Write the process id into a pipe, and keep the processor busy for a minute."""
    tell_pid(path)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        pass


def hold_interpreter(path: str) -> None:
    """Write the process id into a pipe, and stay for a minute in C code that lets no other thread run."""
    tell_pid(path)
    ctypes.PyDLL(None).poll(None, 0, 60_000)


def tell_pid(path: str) -> None:
    with open(path, "w") as pipe:
        pipe.write(f"{os.getpid()}\n")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def go_on() -> tuple[int, int]:
    """Be told to end, as a service manager tells all processes of a node; and start a program that can be told so."""
    os.kill(os.getpid(), signal.SIGTERM)
    program = subprocess.Popen(["sleep", "60"])
    program.terminate()
    return os.getpid(), program.wait()


def leave() -> None:
    sys.exit(3)


def refuse() -> None:
    raise ValueError("no")


def add_up(ctx: JobContext) -> dict[str, Any]:
    parents = ctx.parents_sync()
    return {"sum": 8 + parents["step2"].result["sum"], "workflow": ctx.workflow_id}


def write_log(ctx: JobContext) -> None:
    for n in range(300):
        ctx.log(f"line {n}")
    ctx.progress(0.5)
    ctx.log("last", level="error")


def raise_one(kind: str) -> None:
    raise {"IndexError": IndexError, "KeyError": KeyError, "ValueError": ValueError}[kind]("it went wrong")
