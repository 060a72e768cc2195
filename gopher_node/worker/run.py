"""One attempt at a job on this node, from its claim until its handler has really ended."""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import TYPE_CHECKING, Any

from gopher_node.job import Lease, RetryPolicy

if TYPE_CHECKING:
    from gopher_node.handlers import Handler, JobContext
    from gopher_node.handlers.registry import Mode
    from gopher_node.worker.traced import TracedRun


class Stop(Enum):
    """Why a run is asked to end before it is through."""

    TIMEOUT = "timeout"
    CANCEL = "cancel"
    RELEASE = "release"


class Run:
    """
    What is known of a run, and the one way to break it off.

    `timeout` is in seconds, `began` on the loop's clock. `thread` is the call of a handler that runs in a thread; it
    can outlive the run. `waiting` is true while a handler that needs a process waits for one. `decided` is true once
    the outcome stands, whether or not the handler has ended. `alone` is true of a crash suspect, which runs in a
    process of its own whatever its handler's mode.
    """

    __slots__ = (
        "alone",
        "began",
        "context",
        "decided",
        "ended",
        "handler",
        "lease",
        "performing",
        "policy",
        "stopping",
        "task",
        "thread",
        "timeout",
        "timer",
        "traced",
        "waiting",
    )

    context: JobContext
    task: asyncio.Task[None]
    timer: asyncio.TimerHandle

    def __init__(self, lease: Lease, handler: Handler, timeout: float, policy: RetryPolicy, began: float) -> None:
        self.lease = lease
        self.handler = handler
        self.timeout = timeout
        self.policy = policy
        self.began = began
        self.thread: asyncio.Future[Any] | None = None
        self.traced: TracedRun | None = None
        self.stopping: Stop | None = None
        self.performing = False
        self.waiting = False
        self.alone = False
        self.decided = False
        self.ended = False

    def stop(self, why: Stop) -> bool:
        """
        Ask the run to end; the first reason stands. Returns whether it may go on nevertheless, as a coroutine can.

        A thread that is to be cancelled may go on too, until it looks at its context; for the other reasons, the run
        ends without its thread.
        """
        in_thread = self.mode == "thread"
        if self.ended or (self.stopping is not None and not (in_thread and self.stopping is Stop.CANCEL)):
            return False
        again = self.stopping is why
        self.stopping = why
        self.context.request_cancel()
        if in_thread and why is Stop.CANCEL:
            return not again
        # Before its first step, perform() sees `stopping` itself.
        if self.performing:
            self.task.cancel()
        return self.mode == "async"

    @property
    def mode(self) -> Mode:
        """How it runs here."""
        return "process" if self.alone else self.handler.mode

    def leave_thread(self) -> bool:
        """End the run without the thread that its handler runs in. False if that runs in none."""
        if self.thread is None:
            return False
        self.task.cancel()
        return True

    def end(self) -> None:
        """The handler has ended, or is a thread that nobody waits for any more."""
        self.ended = True
        self.timer.cancel()
        # The context refers back to the run. Waiting for the garbage collector would cost a third more time per job.
        del self.context
