"""The main program of a child process that runs handlers, and the messages it exchanges with its parent."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from queue import SimpleQueue
from types import SimpleNamespace
from typing import Any, BinaryIO

from structlog.contextvars import bind_contextvars

from gopher_node.handlers import JobContext, registry
from gopher_node.handlers.parents import ParentResult
from gopher_node.job import RetryPolicy
from gopher_node.settings import Settings
from gopher_node.telemetry import configure_logging
from gopher_node.worker.outcome import Outcome
from gopher_node.worker.verdict import raised, returned

PREFIX = 4
"""Bytes that give the length of the message which follows them."""

REQUEST, REPLY = b"?", b"!"
"""What each message to a child begins with, beside the first one: a run for it, or the answer to a question of its."""

READY = b"ready"
"""A child's first word. Those that follow are progress and log lines, both bytes, questions, and the runs' outcomes."""

PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Setup:
    """What a child is told first."""

    path: list[str]
    settings: Settings
    node: str


class ParentsWanted:
    """What a child asks for the parents of the job that it runs. It is answered with them, or with an exception."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """One run. `errors` are those of the job's earlier runs."""

    function: Callable[..., Any]
    takes_context: bool
    arguments: dict[str, Any]
    job_id: str
    type: str
    attempt: int
    max_retries: int
    group: str
    tags: tuple[str, ...]
    workflow_id: str
    token: str
    errors: int
    policy: RetryPolicy
    trace: str


def frame(message: bytes) -> bytes:
    return len(message).to_bytes(PREFIX, "big") + message


def main() -> None:
    """Its argument is the parent's process id."""
    _end_with_parent(int(sys.argv[1]))
    requests, answers = _take_over_pipes()
    inbox: SimpleQueue[bytes] = SimpleQueue()
    replies: SimpleQueue[bytes] = SimpleQueue()
    setup: Setup = pickle.loads(_read(requests))
    sys.path[:] = setup.path
    threading.Thread(target=_listen, args=(requests, inbox, replies), name="gopher-requests", daemon=True).start()

    answering = threading.Lock()

    def answer(word: Outcome | bytes | ParentsWanted) -> None:
        with answering:
            answers.write(frame(pickle.dumps(word)))
            answers.flush()

    asking = threading.Lock()

    def ask_for_parents() -> Future[Mapping[str, ParentResult]]:
        told: Future[Mapping[str, ParentResult]] = Future()
        with asking:
            answer(ParentsWanted())
            found = pickle.loads(replies.get())
        if isinstance(found, Exception):
            told.set_exception(found)
        else:
            told.set_result(found)
        return told

    log = setup.settings.log
    tracing = setup.settings.tracing.endpoint is not None
    configure_logging(log.level, log.format, node_id=setup.node, traced=tracing)
    if tracing:
        from gopher_node.telemetry.traces import open_traces

        open_traces(setup.settings.tracing, setup.node, of_handler=True)  # for the spans of handlers
    # Follow-up jobs are checked and filled in by the handlers of their types, so all of them must be known here too.
    registry.load(setup.settings.handlers)
    registry.load_builtin()
    state = SimpleNamespace()
    answer(READY)
    while True:
        answer(_run(inbox.get(), setup.settings, state, answer, ask_for_parents))


def _run(
    request: bytes,
    settings: Settings,
    state: SimpleNamespace,
    report: Callable[[bytes], None],
    ask_for_parents: Callable[[], Future[Mapping[str, ParentResult]]],
) -> Outcome:
    errors, policy = 0, RetryPolicy()
    try:
        assignment: Assignment = pickle.loads(request)
        errors, policy = assignment.errors, assignment.policy
        bind_contextvars(job_id=assignment.job_id, job_type=assignment.type, attempt=assignment.attempt)
        if settings.tracing.endpoint is not None:
            from gopher_node.telemetry.traces import enter_trace

            enter_trace(assignment.trace)
        if not assignment.takes_context:
            return returned(assignment.function(**assignment.arguments), ())
        context = JobContext(
            job_id=assignment.job_id,
            type=assignment.type,
            settings=settings,
            attempt=assignment.attempt,
            max_retries=assignment.max_retries,
            group=assignment.group,
            tags=assignment.tags,
            token=assignment.token,
            state=state,
            registry=registry,
            on_progress=report,
            workflow_id=assignment.workflow_id,
            parents=ask_for_parents,
        )
        return returned(assignment.function(context, **assignment.arguments), context.follow_ups)
    except BaseException as error:
        return raised(error, errors, policy)


def _take_over_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The pipes to the parent, moved to where a handler that prints, or reads its input, cannot get at them."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    return requests, answers


def _listen(requests: BinaryIO, inbox: SimpleQueue[bytes], replies: SimpleQueue[bytes]) -> None:
    try:
        while True:
            message = _read(requests)
            (inbox if message[:1] == REQUEST else replies).put(message[1:])
    except EOFError:
        # The parent is gone, or done with this child. The handler that may be running has nobody to answer to.
        os._exit(0)


def _read(requests: BinaryIO) -> bytes:
    size = requests.read(PREFIX)
    message = requests.read(int.from_bytes(size, "big"))
    if len(size) < PREFIX or not message:
        raise EOFError
    return message


def _end_with_parent(parent: int) -> None:
    """Where the system can do that, end even while C code holds the interpreter and no thread can look."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit()
