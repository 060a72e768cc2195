"""Threads for handlers: reused, carrying context, and never in the way of the program's end."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import threading
import weakref
from collections.abc import AsyncIterator

import pytest

from gopher_node.worker.threads import Threads


@pytest.fixture
async def threads() -> AsyncIterator[Threads]:
    threads = Threads()
    yield threads
    threads.close()


async def test_calls_one_after_another_share_a_thread(threads: Threads) -> None:
    """There are never more threads than calls at once."""
    names = {await threads.call(lambda: threading.current_thread().name) for _ in range(10)}

    assert len(names) == 1


async def test_calls_at_once_run_at_once(threads: Threads) -> None:
    """Each of several calls at once gets a thread, so they may wait for each other."""
    barrier = threading.Barrier(5)

    await asyncio.gather(*(threads.call(lambda: barrier.wait(10)) for _ in range(5)))


async def test_call_sees_its_caller_s_context(threads: Threads) -> None:
    """Context variables, such as those of the logger, reach the thread."""
    variable = contextvars.ContextVar("variable", default="unset")
    variable.set("set")

    assert await threads.call(variable.get) == "set"


async def test_cancelled_call_goes_on_unheard(threads: Threads) -> None:
    """Whoever stops waiting stops nobody, and the thread is there for the next call."""
    gate = threading.Event()
    call = threads.call(lambda: gate.wait(10))
    call.cancel()
    gate.set()

    assert await threads.call(lambda: 1) == 1


async def test_idle_thread_keeps_nothing_alive(threads: Threads) -> None:
    """What a call was given and returned is free when it has ended."""

    class Thing:
        pass

    thing = Thing()
    known = weakref.ref(thing)
    await threads.call(lambda kept=thing: None)
    del thing
    # A second call shows that the thread has let the first one go.
    await threads.call(lambda: None)
    gc.collect()

    assert known() is None


async def test_thread_that_does_not_start_costs_no_call(threads: Threads, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that gets no thread is refused and never made; later ones have all the threads they need."""
    called: list[int] = []

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="new thread"):
            threads.call(lambda: called.append(1))
    barrier = threading.Barrier(2)
    async with asyncio.timeout(10):
        await asyncio.gather(*(threads.call(lambda: barrier.wait(5)) for _ in range(2)))

    assert called == []
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        assert await threads.call(lambda: "idle thread") == "idle thread"


PROGRAM = """
import asyncio, threading
from gopher_node.worker.threads import Threads

async def main():
    started = threading.Event()
    def forever():
        started.set()
        threading.Event().wait()
    Threads().call(forever)
    await asyncio.to_thread(started.wait)

asyncio.run(main())
print("ended")
"""


async def test_thread_that_never_returns_lets_the_program_end() -> None:
    """A handler that hangs does not keep a drained node alive."""
    program = await asyncio.create_subprocess_exec(sys.executable, "-c", PROGRAM, stdout=asyncio.subprocess.PIPE)

    async with asyncio.timeout(30):
        output, _ = await program.communicate()

    assert (program.returncode, output) == (0, b"ended\n")


async def test_threads_end_when_closed() -> None:
    """Idle threads end with their owner."""
    before = threading.active_count()
    threads = Threads()
    thread = await threads.call(threading.current_thread)
    threads.close()
    await asyncio.to_thread(thread.join, 10)

    assert not thread.is_alive()
    assert threading.active_count() <= before + 1
