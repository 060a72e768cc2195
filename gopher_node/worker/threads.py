"""Runs synchronous handlers in threads that never keep the program from ending."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

Work = tuple[Callable[[], Any], "asyncio.Future[Any]", contextvars.Context]


class Threads:
    """
    Owns the threads of one event loop: as many as there were ever calls at once, each reused.

    They are daemons, unlike those of concurrent.futures, which are joined at exit: a handler that never returns would
    keep a drained node alive. Whoever calls bounds how many calls there are at once.
    """

    def __init__(self) -> None:
        self._waiting: SimpleQueue[Work | None] = SimpleQueue()
        self._threads: int = 0
        self._busy = 0

    def call(self, function: Callable[[], Any]) -> asyncio.Future[Any]:
        """
        Start `function` in a thread, in the caller's context. Call it on the loop.

        Cancelling the future stops nobody. It is resolved with whatever the function raises, SystemExit included;
        only StopIteration, which no future can carry, becomes a RuntimeError. Raises RuntimeError when it needs another
        thread and the system gives none; the function is not called then.
        """
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if self._busy == self._threads:
            # First, for it may fail: nothing must have been counted or queued then.
            threading.Thread(target=self._work, name=f"gopher-handler-{self._threads + 1}", daemon=True).start()
            self._threads += 1
        self._busy += 1
        self._waiting.put((function, future, contextvars.copy_context()))
        return future

    def close(self) -> None:
        """Let idle threads end; a busy one ends after its call."""
        for _ in range(self._threads):
            self._waiting.put(None)

    def _work(self) -> None:
        while work := self._waiting.get():
            function, future, context = work
            result, error = None, None
            try:
                result = context.run(function)
            except BaseException as raised:
                error = raised
            try:
                future.get_loop().call_soon_threadsafe(self._resolve, future, result, error)
            except RuntimeError:
                return  # the loop was closed: nobody is left to hear of this call
            # A waiting thread must not keep the last call's objects alive.
            del work, function, future, context, result, error

    def _resolve(self, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        self._busy -= 1
        if future.cancelled():
            return
        if error is None:
            future.set_result(result)
        elif isinstance(error, StopIteration):
            future.set_exception(RuntimeError(f"the function raised {error!r}"))
        else:
            future.set_exception(error)
