"""What the store pushes to whoever listens: how jobs change and end, and which running ones should be cancelled."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Generator

from gopher_node.job import FINAL_STATES, Job, State
from gopher_node.store.listening import Listener
from gopher_node.store.scripts import Run
from gopher_node.store.values import Session


class Watching:
    """
    Waits for jobs that change or end.

    A job that is watched is marked in the store, and only of such is anything published: `ended` to those who wait
    for ends, and `changed` too where somebody follows. After an outage of the subscription all are looked at again.
    """

    def __init__(self, run: Run, get: Callable[[str], Awaitable[Job]], listener: Listener) -> None:
        self._run = run
        self._get = get
        self._listener = listener
        self._waiting: dict[str, list[asyncio.Event]] = {}
        self._following: dict[str, list[asyncio.Event]] = {}
        self._heard: set[str] = set()

    async def wait(self, id: str, timeout: float) -> Job:
        with _registered(self._waiting, id) as ended:
            self._listen()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._mark(id, "ends")
                    await ended.wait()
        return await self._get(id)

    async def follow(self, id: str) -> AsyncGenerator[Job]:
        job = await self._get(id)
        with _registered(self._following, id) as changed:
            self._listen()
            yield job
            if job.state in FINAL_STATES:
                return
            # From here on nothing is missed: whatever changed before is found by the first look.
            await self._mark(id, "changes")
            while True:
                changed.clear()
                seen, job = job, await self._get(id)
                if job != seen:
                    yield job
                if job.state in FINAL_STATES:
                    return
                await changed.wait()

    def _listen(self) -> None:
        # Those who only wait need not hear of every change.
        self._subscribe("ended", self._job_ended)
        if self._following:
            self._subscribe("changed", self._job_changed)

    def _subscribe(self, channel: str, heard: Callable[[str], None]) -> None:
        if channel not in self._heard:
            self._heard.add(channel)
            self._listener.subscribe(channel, heard, self._catch_up)

    def _job_ended(self, id: str) -> None:
        for event in (*self._waiting.get(id, ()), *self._following.get(id, ())):
            event.set()

    def _job_changed(self, id: str) -> None:
        for event in self._following.get(id, ()):
            event.set()

    async def _mark(self, id: str, what: str) -> None:
        state = await self._run("watch", id, what)
        if state is None or State(state.decode()) in FINAL_STATES:
            self._job_ended(id)

    async def _catch_up(self) -> None:
        for id in list(self._waiting):
            await self._mark(id, "ends")
        for id in list(self._following):
            await self._mark(id, "changes")
            self._job_changed(id)

    async def cancellations(self, session: Session) -> AsyncIterator[str]:
        wanted: asyncio.Queue[str] = asyncio.Queue()

        async def catch_up() -> None:
            for id in await self._run("cancellations", session.id):
                wanted.put_nowait(id.decode())

        channel = f"session:{session.id}"
        self._listener.subscribe(channel, wanted.put_nowait, catch_up)
        try:
            while True:
                yield await wanted.get()
        finally:
            self._listener.unsubscribe(channel)


@contextlib.contextmanager
def _registered(events: dict[str, list[asyncio.Event]], id: str) -> Generator[asyncio.Event]:
    event = asyncio.Event()
    events.setdefault(id, []).append(event)
    try:
        yield event
    finally:
        events[id].remove(event)
        if not events[id]:
            del events[id]
