"""The main program of a child process that runs handlers, and the messages it exchanges with its parent."""

from __future__ import annotations

import asyncio
import ctypes
import os
import pickle
import signal
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from queue import SimpleQueue
from types import SimpleNamespace
from typing import BinaryIO

from structlog.contextvars import bind_contextvars

from gopher_node.handlers import JobContext, registry
from gopher_node.handlers.parents import ParentResult
from gopher_node.handlers.push import register_push
from gopher_node.handlers.registry import Mode
from gopher_node.job import RetryPolicy
from gopher_node.settings import Settings
from gopher_node.telemetry import configure_logging
from gopher_node.worker.alone import run_alone
from gopher_node.worker.outcome import Outcome
from gopher_node.worker.verdict import raised, returned

PREFIX = 4
"""Bytes that give the length of the message which follows them."""

REQUEST, REPLY, STOP = b"?", b"!", b"."
"""What each message to a child begins with, beside the first one: a run, the answer to a question, or the run's end."""

READY = b"ready"
"""A child's first word. Those that follow are progress and log lines, both bytes, questions, and the runs' outcomes."""

PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, slots=True)
class Setup:
    """What a child is told first. One `with_loop` runs one coroutine or one thread, with all that hooks prepare."""

    path: list[str]
    settings: Settings
    node: str
    with_loop: bool = False


class ParentsWanted:
    """What a child asks for the parents of the job that it runs. It is answered with them, or with an exception."""


class HandlerMissing:
    """What a child with a loop answers that cannot import the function it is to run, nor knows it by its type."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """One run. `call` is a pickle of the function and its arguments, or empty. `errors` are those of earlier runs."""

    call: bytes
    takes_context: bool
    mode: Mode
    payload: bytes
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

    def enter(self, *, traced: bool) -> None:
        """Have every line that is logged from now on name the job, and every span belong to its trace."""
        bind_contextvars(job_id=self.job_id, job_type=self.type, attempt=self.attempt)
        if traced:
            from gopher_node.telemetry.traces import enter_trace

            enter_trace(self.trace)


Word = Outcome | bytes | ParentsWanted | HandlerMissing


class Parent:
    """The node, as a child sees it: `inbox` has runs, and `stops` an item once the run is to end."""

    def __init__(self, requests: BinaryIO, answers: BinaryIO, settings: Settings) -> None:
        self.settings = settings
        self.traced = settings.tracing.endpoint is not None
        self.inbox: SimpleQueue[bytes] = SimpleQueue()
        self.stops: SimpleQueue[None] = SimpleQueue()
        self._requests = requests
        self._answers = answers
        self._telling = threading.Lock()
        self._asking = threading.Lock()
        self._asked: SimpleQueue[Future[Mapping[str, ParentResult]]] = SimpleQueue()
        threading.Thread(target=self._listen, name="gopher-requests", daemon=True).start()

    def tell(self, word: Word) -> None:
        with self._telling:
            self._answers.write(frame(pickle.dumps(word)))
            self._answers.flush()

    def ask_for_parents(self) -> Future[Mapping[str, ParentResult]]:
        told: Future[Mapping[str, ParentResult]] = Future()
        with self._asking:
            self._asked.put(told)
            self.tell(ParentsWanted())
        return told

    def context(self, assignment: Assignment, state: SimpleNamespace) -> JobContext:
        return JobContext(
            job_id=assignment.job_id,
            type=assignment.type,
            settings=self.settings,
            attempt=assignment.attempt,
            max_retries=assignment.max_retries,
            group=assignment.group,
            tags=assignment.tags,
            token=assignment.token,
            state=state,
            registry=registry,
            on_progress=self.tell,
            workflow_id=assignment.workflow_id,
            parents=self.ask_for_parents,
        )

    def _listen(self) -> None:
        try:
            while True:
                message = read(self._requests)
                if message[:1] == REQUEST:
                    self.inbox.put(message[1:])
                elif message[:1] == STOP:
                    self.stops.put(None)
                else:
                    _resolve(self._asked.get(), pickle.loads(message[1:]))
        except EOFError:
            # The node is gone, or done with this child. The handler that may be running has nobody to answer to.
            os._exit(0)


def _resolve(told: Future[Mapping[str, ParentResult]], found: Mapping[str, ParentResult] | Exception) -> None:
    if isinstance(found, Exception):
        told.set_exception(found)
    else:
        told.set_result(found)


def frame(message: bytes) -> bytes:
    return len(message).to_bytes(PREFIX, "big") + message


def read(requests: BinaryIO) -> bytes:
    size = requests.read(PREFIX)
    message = requests.read(int.from_bytes(size, "big"))
    if len(size) < PREFIX or not message:
        raise EOFError
    return message


def main() -> None:
    """Its argument is the parent's process id."""
    _end_with_parent(int(sys.argv[1]))
    # A service manager's SIGTERM may reach all processes; it is the node that gives runs their grace. Not ignored, for
    # programs that a handler starts would inherit that.
    signal.signal(signal.SIGTERM, lambda number, frame: None)
    requests, answers = _take_over_pipes()
    setup: Setup = pickle.loads(read(requests))
    sys.path[:] = setup.path
    parent = Parent(requests, answers, setup.settings)
    log = setup.settings.log
    configure_logging(log.level, log.format, node_id=setup.node, traced=parent.traced)
    if parent.traced:
        from gopher_node.telemetry.traces import open_traces

        open_traces(setup.settings.tracing, setup.node, of_handler=True)  # for the spans of handlers
    # Follow-up jobs are checked and filled in by the handlers of their types, so all of them must be known here too.
    registry.load(setup.settings.handlers)
    registry.load_builtin()
    if setup.with_loop:
        register_push(registry, setup.settings)
        asyncio.run(run_alone(parent, registry, READY, HandlerMissing()))
        # Without waiting for threads that the handler may have left behind.
        sys.stderr.flush()
        os._exit(0)
    state = SimpleNamespace()
    parent.tell(READY)
    while True:
        parent.tell(_run(parent, parent.inbox.get(), state))


def _run(parent: Parent, request: bytes, state: SimpleNamespace) -> Outcome:
    errors, policy = 0, RetryPolicy()
    try:
        assignment: Assignment = pickle.loads(request)
        errors, policy = assignment.errors, assignment.policy
        assignment.enter(traced=parent.traced)
        function, arguments = pickle.loads(assignment.call)
        if not assignment.takes_context:
            return returned(function(**arguments), ())
        context = parent.context(assignment, state)
        return returned(function(context, **arguments), context.follow_ups)
    except BaseException as error:
        return raised(error, errors, policy)


def _take_over_pipes() -> tuple[BinaryIO, BinaryIO]:
    """The pipes to the parent, moved to where a handler that prints, or reads its input, cannot get at them."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    return requests, answers


def _end_with_parent(parent: int) -> None:
    """Where the system can do that, end even while C code holds the interpreter and no thread can look."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit()
