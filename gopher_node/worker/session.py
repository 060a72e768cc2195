"""The node's session: opened, renewed by a child process, and opened anew when it was lost."""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable

from gopher_node.errors import StoreError, StoreUnavailable
from gopher_node.store import Session, Store, heartbeat
from gopher_node.telemetry import Events

PAUSE = 0.05
PAUSE_CAP = 2.0

SILENCE = 5.0
"""Seconds that a child may say nothing, at the least: it takes a moment to start."""


class NodeSession:
    """
    Owns the session that the node claims under, and the child process that renews it, whatever the loop does.

    A session that others declared dead is replaced: its runs go on, and what they say in the end is refused as stale.
    `on_cancel` is told the id of each job of the session that somebody wants cancelled.
    """

    def __init__(
        self, store: Store, url: str, node: str, lease: float, events: Events, on_cancel: Callable[[str], None]
    ) -> None:
        self._store = store
        self._url = url
        self._node = node
        self._lease = lease
        self._events = events
        self._on_cancel = on_cancel
        self._replacing = asyncio.Lock()
        self._current: Session | None = None
        self._birth: asyncio.Task[Process] | None = None

    @property
    def current(self) -> Session:
        assert self._current is not None, "the session is open before anything is claimed"
        return self._current

    @property
    def id(self) -> str | None:
        return self._current.id if self._current else None

    async def open(self) -> None:
        """Open a session, however long the store takes to answer."""
        pause = PAUSE
        while True:
            try:
                self._current = await self._store.open_session(self._node, self._lease)
            except StoreError as error:
                self._events.store_down(error)
                await asyncio.sleep(random.uniform(0, pause))
                pause = min(2 * pause, PAUSE_CAP)
            else:
                self._events.store_up()
                return

    async def replace(self, lost: Session) -> None:
        """Open another session in place of `lost`, once, however many found out."""
        async with self._replacing:
            if self._current is lost:
                self._events.session_lost()
                await self.open()
                self._kill_child()

    async def run(self) -> None:
        """Have the session renewed, and hear of cancellations, until cancelled."""
        pause = PAUSE
        while True:
            session = self.current
            async with asyncio.TaskGroup() as group:
                hearing = group.create_task(self._hear(session))
                renewed, lost = await self._renew(session)
                hearing.cancel()
            pause = PAUSE if renewed else min(2 * pause, PAUSE_CAP)
            if lost:
                await self.replace(session)
            elif self._current is session:
                await asyncio.sleep(pause)

    async def close(self) -> None:
        """End the session; what it still holds goes back to its lanes. If the store is away, a reaper does it later."""
        if self._current is not None:
            with contextlib.suppress(StoreError):
                await self._store.close_session(self._current)
        if self._birth is not None:
            # A child that is only being born when the renewing is cancelled is waited for, and then ended, too.
            with contextlib.suppress(OSError):
                child = await self._birth
                self._kill_child()
                await child.communicate()

    async def _renew(self, session: Session) -> tuple[bool, bool]:
        """Run a child until it ends. Returns whether it ever renewed the session, and whether the session is gone."""
        renewed = lost = False
        meanwhile = asyncio.create_task(self._renew_from_here(session))
        try:
            self._birth = asyncio.create_task(_start_child())
            child = await asyncio.shield(self._birth)
        except OSError as error:
            # No process, memory or file handle to be had right now. The session lasts for a while without.
            self._events.store_down(StoreUnavailable(f"The process that renews the session did not start: {error}"))
            meanwhile.cancel()
            return False, False
        try:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(heartbeat.order(self._url, self._store.namespace, session.id, session.lease))
            while line := await self._line(child.stdout, session.lease):
                word, _, detail = line.decode(errors="replace").strip().partition(" ")
                renewed = renewed or word == heartbeat.RENEWING
                if renewed:
                    meanwhile.cancel()
                lost = lost or word == heartbeat.GONE
                if word == heartbeat.FAILED:
                    self._events.store_down(StoreUnavailable(f"The session could not be renewed: {detail}"))
            self._kill_child()
            await child.communicate()
            if not (renewed or lost):
                self._events.store_down(StoreUnavailable("The process that renews the session ended before it could."))
        finally:
            meanwhile.cancel()
            self._kill_child()
        return renewed, lost

    async def _renew_from_here(self, session: Session) -> None:
        """Renew it as long as the child only starts: on a busy machine, that can take longer than a short lease."""
        while True:
            await asyncio.sleep(session.lease / 3)
            with contextlib.suppress(StoreError):  # of a session that is gone the child tells
                await self._store.renew(session)

    async def _line(self, said: asyncio.StreamReader, lease: float) -> bytes:
        """The child's next line, or nothing when it has ended or says nothing for so long that it must be stuck."""
        # The second, short wait is for lines that came in while our own loop was held up.
        for patience in (max(lease * 2 / 3, SILENCE), 0.5):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    return await said.readline()
        self._events.store_down(StoreUnavailable("The process that renews the session hangs, and is replaced."))
        return b""

    async def _hear(self, session: Session) -> None:
        while True:
            try:
                async for job_id in self._store.cancellations(session):
                    self._on_cancel(job_id)
            except StoreError as error:
                self._events.store_down(error)
            await asyncio.sleep(random.uniform(0, PAUSE_CAP))

    def _kill_child(self) -> None:
        if self._birth is None or not self._birth.done() or self._birth.exception() is not None:
            return
        child = self._birth.result()
        if child.returncode is None:
            child.kill()


async def _start_child() -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-P", heartbeat.__file__, stdin=PIPE, stdout=PIPE, start_new_session=True
    )
