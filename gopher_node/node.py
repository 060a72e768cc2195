"""The composition root: what a role consists of, the order in which its parts start and stop, and the signals."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import secrets
import signal
import socket
import time
from typing import Any

import uvloop

from gopher_node import __version__
from gopher_node.api import ApiServer, make_app
from gopher_node.errors import GopherError, SettingError, StoreError, StoreUnavailable, UnusableStore
from gopher_node.handlers import Registry, registry
from gopher_node.handlers.push import register_push
from gopher_node.reporting import Declaration, Reporter, policies_of, publish
from gopher_node.scheduler import Scheduler
from gopher_node.settings import Settings
from gopher_node.store import Connections, Retention, Store
from gopher_node.store.embedded import EmbeddedValkey
from gopher_node.telemetry import Events, configure_logging, get_logger
from gopher_node.telemetry.loop_watch import LATE, LoopWatch
from gopher_node.telemetry.traces import Traces, open_traces
from gopher_node.vitals import Vitals
from gopher_node.worker import Worker

log = get_logger("gopher_node.node")


def run(settings: Settings) -> int:
    """
    Run a node until a signal stops it.

    Raises SettingError when it cannot start with these settings, UnusableStore when the store would lose jobs.
    """
    return uvloop.run(Node(settings).run())


def _host_name() -> str:
    return re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname())[:60] or "node"


def _new_node_id() -> str:
    """Host, process and a nonce: which process a session belongs to can be told from it, and no two are the same."""
    return f"{_host_name()}-{os.getpid()}-{secrets.token_hex(3)}"


def _may_live(node_id: str) -> bool:
    """
    Whether a node's process may still be running: False only for one of this host whose process is gone.

    Of a container that shares the data directory nothing is known here: its processes have numbers of their own.
    """
    host, pid, _ = node_id.rsplit("-", 2) if node_id.count("-") >= 2 else ("", "", "")
    if host != _host_name() or not pid.isdigit():
        return True
    if int(pid) == os.getpid():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _first_of(group: BaseExceptionGroup[GopherError]) -> GopherError:
    first = group.exceptions[0]
    return _first_of(first) if isinstance(first, BaseExceptionGroup) else first


class Node:
    """
    One process: the parts of its role, and what is known of them.

    All roles serve HTTP, for probes must be answered everywhere, and all run the scheduler. Parts stop in the reverse
    of their starting order, so that whatever a part needs is there to its end; the embedded store is the last.
    """

    def __init__(self, settings: Settings, handlers: Registry = registry) -> None:
        self.settings = settings
        self.id = _new_node_id()
        # First of all: a logger keeps what was configured when it was first used.
        self._traced = settings.tracing.endpoint is not None
        configure_logging(settings.log.level, settings.log.format, node_id=self.id, traced=self._traced)
        self.role = settings.role
        self._stopping = asyncio.Event()
        self._stopping_now = asyncio.Event()
        self._registry = handlers
        self._events = Events(self.id, job_lines=settings.log.jobs)
        self._worker: Worker | None = None
        self._watch = LoopWatch(self._name_of, self._events.loop_blocked, self._events.loop_late)
        self._events.held_up = self._was_held_up
        self.vitals = Vitals(self.id, self._watch, self._stopping.is_set)
        self._parts = self.vitals.parts

    async def run(self) -> int:
        for text in self.settings.warnings:
            log.warning("setting.ignored", reason=text)
        self._registry.load_builtin()
        self._registry.load(self.settings.handlers)
        register_push(self._registry, self.settings)
        self._registry.limit(self.settings.flow)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        try:
            async with contextlib.AsyncExitStack() as stack:
                await self._run_parts(stack)
        except BaseExceptionGroup as group:
            # A part that fails takes the node with it, and whoever watches over the node starts it anew.
            refusal, rest = group.split(GopherError)
            if refusal is not None and rest is None:
                raise _first_of(refusal) from group
            log.error("node.failed", exc_info=group)
            return 1
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)
                # All is done, and one signal more must not make a process that ends look like one that was ended.
                signal.signal(number, signal.SIG_IGN)
        log.info("node.stopped", duration=round(self.vitals.uptime, 3))
        return 0

    async def _run_parts(self, stack: contextlib.AsyncExitStack) -> None:
        settings, vitals = self.settings, self.vitals
        watching = self._parts["watch over the loop"] = asyncio.create_task(self._watch.run(), name="loop-watch")
        stack.callback(watching.cancel)
        shared_url = settings.redis.connection_url
        embedded = vitals.embedded = await self._start_embedded(stack) if shared_url is None else None
        url = embedded.url if embedded is not None else str(shared_url)
        connections = vitals.connections = Connections(
            url, timeout=settings.redis.timeout, onlooker=self._events.measures
        )
        store = self._make_store(connections)
        stack.push_async_callback(store.close)
        # The same store as requests see it: whoever asks over HTTP is told of an outage at once.
        front = self._make_store(connections, hasty=True, beside=store)
        front.on_scheduled = lambda due_in: store.on_scheduled(due_in)
        traces = self._trace(stack)
        api = await self._start_api(stack, front, traces)
        if not await self._open(store):
            return
        front.durability = store.durability
        await api.check_access()
        scheduler = vitals.scheduler = Scheduler(store, self._events, traces)
        if embedded is not None and embedded.owner:
            # What a run of this node before left behind need not wait for its lease to end.
            await scheduler.reap_orphans(_may_live)
        async with asyncio.TaskGroup() as group:
            self._parts["scheduler"] = group.create_task(scheduler.run(), name="scheduler")
            if self.role != "api":
                self._worker = vitals.worker = self._make_worker(store, url, traces)
            declaration = await self._declare(store)
            if self._worker is not None:
                self._parts["worker"] = group.create_task(self._worker.run(self._stopping), name="worker")
            reporter = Reporter(
                store,
                self._events,
                {**self._describe(api), "limited": declaration.limited()},
                self._worker and self._worker.status,
                api.http_workers,
                api.ended_over_http,
                draining=self._stopping.is_set,
                declaration=declaration,
            )
            vitals.utilisation = lambda: reporter.utilisation
            self._parts["reporter"] = group.create_task(reporter.run(), name="reporter")
            vitals.started = True
            log.info(
                "node.started",
                url=api.url,
                role=self.role,
                version=__version__,
                durability=store.durability,
                data_dir=str(settings.data_dir) if embedded is not None else None,
            )
            await self._stopping.wait()
            log.info("node.stopping", grace=settings.worker.shutdown_timeout)
            await self._let_balancers_see()
            api.drain()
            # The worker heeds the same signal; until it has drained, the scheduler goes on.
            if "worker" in self._parts:
                await self._parts["worker"]
            self._parts["scheduler"].cancel()
            # Others see this node as one that drains until the last request is answered.
            await api.stop()
            self._parts["reporter"].cancel()

    def _make_worker(self, store: Store, store_url: str, traces: Traces | None) -> Worker:
        return Worker(
            store,
            self._registry,
            self.settings,
            self._events,
            store_url=store_url,
            node=self.id,
            watch=self._watch,
            traces=traces,
        )

    async def _declare(self, store: Store) -> Declaration:
        """What bounds the jobs of this node's types, before it claims the first of them."""
        types = self._worker.types if self._worker is not None else ()
        declaration = Declaration(store, self.id, policies_of(self._registry, types, self.settings.flow))
        try:
            await declaration.make()
        except StoreError as error:
            # The reporter makes up for it.
            self._events.store_down(error)
        return declaration

    def _describe(self, api: ApiServer) -> dict[str, Any]:
        """What stays the same of what the node reports of itself."""
        return {
            "id": self.id,
            "role": self.role,
            "version": __version__,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started_at": round((time.time() - self.vitals.uptime) * 1000),
            "types": list(self._worker.types) if self._worker is not None else [],
            "handlers": publish(self._registry, self._worker.types) if self._worker is not None else [],
            "url": api.url,
        }

    async def _start_embedded(self, stack: contextlib.AsyncExitStack) -> EmbeddedValkey:
        def report(event: str, /, **fields: object) -> None:
            level = log.warning if event in ("crashed", "restart_failed", "orphan_found") else log.info
            level(f"embedded.{event}", **fields)

        embedded = EmbeddedValkey(self.settings.data_dir, report)
        await embedded.start()
        stack.push_async_callback(embedded.stop)
        if embedded.owner and self.role != "all":
            log.warning(
                "node.alone",
                data_dir=str(self.settings.data_dir),
                reason=f"Without REDIS_URL, this node with --role={self.role} has a store of its own: only nodes of "
                "this machine with the same data directory see its jobs. Give all nodes the same REDIS_URL.",
            )
        return embedded

    def _make_store(self, connections: Connections, *, hasty: bool = False, beside: Store | None = None) -> Store:
        settings = self.settings
        kept = settings.retention
        store = Store(
            connections,
            namespace=settings.namespace,
            retention=Retention(kept.completed, kept.cancelled, kept.max_jobs, kept.idempotency),
            patience=settings.redis.timeout,
            hasty=hasty,
            beside=beside,
        )
        store.on_trouble = self._events.store_down
        return store

    def _trace(self, stack: contextlib.AsyncExitStack) -> Traces | None:
        """What makes spans, if there is somebody to send them to. They are sent to the last after the API is closed."""
        if not self._traced:
            return None
        traces = open_traces(self.settings.tracing, self.id)
        stack.push_async_callback(traces.close)
        return traces

    async def _start_api(self, stack: contextlib.AsyncExitStack, store: Store, traces: Traces | None) -> ApiServer:
        app = make_app(
            store=store,
            registry=self._registry,
            settings=self.settings,
            events=self._events,
            status=self.vitals,
            traces=traces,
        )
        api = ApiServer(app)
        self.vitals.unused_certificate = api.certificate_failure
        self.vitals.clients = lambda: api.connections
        server = self.settings.server
        try:
            await api.start()
        except OSError as error:
            # asyncio's own words repeat the address; a name that cannot be resolved has a number below 0.
            reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or error
            raise SettingError(
                f"SERVER_HOST={server.host} SERVER_PORT={server.port} cannot be used: {reason}. "
                "Name an address of this host, or choose another port with --port (0 takes any free one)."
            ) from error
        stack.push_async_callback(api.stop)
        if server.anonymous and not self.settings.api_keys:
            log.warning(
                "server.anonymous",
                host=server.host,
                reason="While there is no API key, whoever reaches this port may do all.",
            )
        return api

    async def _open(self, store: Store) -> bool:
        """Enter the store, however long it takes to come up. False if the node is told to stop before that."""
        pause = 0.1
        while not self._stopping.is_set():
            try:
                await store.open()
            except UnusableStore:
                raise
            except StoreUnavailable as error:
                self._events.store_down(error)
            else:
                self._events.store_up()
                return True
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(random.uniform(pause / 2, pause)):
                    await self._stopping.wait()
            pause = min(pause * 2, 2.0)
        return False

    async def _let_balancers_see(self) -> None:
        """Unready by now, the node answers as before until it gets no more requests, or is told to stop at once."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.server.shutdown_delay):
                await self._stopping_now.wait()

    def _on_signal(self, number: signal.Signals) -> None:
        if self._stopping.is_set():
            log.warning("node.stopping_now", signal=signal.Signals(number).name)
            self._stopping_now.set()
            if self._worker is not None:
                self._worker.release_now()
        self._stopping.set()

    def _was_held_up(self) -> bool:
        return self._watch.stood_still(time.monotonic() - 1.0) > LATE

    def _name_of(self, task: asyncio.Task[Any]) -> str | None:
        """What a task runs for others: a job's type, or a request's method and route. Asked from another thread."""
        name = task.get_name()
        if " /" in name or (self._worker is not None and name in self._worker.types):
            return name
        return None
