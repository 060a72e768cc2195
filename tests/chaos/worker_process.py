"""
A worker as the nursery forks it: the Worker and Scheduler of a node, without its HTTP server.

Its session is renewed by a child process, as ever; only that this child, too, is forked and not started anew.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import asdict, dataclass
from typing import Any

import uvloop

from gopher_node.handlers import registry
from gopher_node.scheduler import Scheduler
from gopher_node.settings import Settings
from gopher_node.store import Connections, Retention, Store, heartbeat
from gopher_node.telemetry import Events, configure_logging
from gopher_node.worker import Worker, session
from tests.chaos import handlers, nets


@dataclass(frozen=True)
class Order:
    """What a worker is to be; `without` names the nets that are taken out."""

    node: str
    url: str
    executions: str
    namespace: str = "gopher"
    lease: float = 1.5
    slots: int = 2
    grace: float = 10.0
    without: str = ""

    def words(self) -> dict[str, Any]:
        return asdict(self)


class Heart:
    """The child that renews the session, born before the worker's loop, and waiting for its orders."""

    def __init__(self) -> None:
        orders, self._orders = os.pipe()
        self._news, news = os.pipe()
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            os.setsid()
            os.dup2(orders, 0)
            os.dup2(news, 1)
            os.closerange(3, os.sysconf("SC_OPEN_MAX"))
            sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115 - until it ends
            heartbeat.main()
            os._exit(0)
        os.close(orders)
        os.close(news)
        self.stdin = self
        self.stdout = asyncio.StreamReader()

    async def born(self) -> Heart:
        self.stdout = asyncio.StreamReader()
        pipe = open(self._news, "rb", 0)  # noqa: ASYNC230, SIM115 - closed with the transport
        protocol = asyncio.StreamReaderProtocol(self.stdout)
        await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, pipe)
        return self

    def write(self, order: bytes) -> None:
        os.write(self._orders, order)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    async def communicate(self) -> None:
        """Wait for its end, which is near."""
        os.close(self._orders)
        await self.stdout.read()
        self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])  # noqa: ASYNC222 - it has ended


def main(words: dict[str, Any]) -> None:
    """Work until SIGTERM, as a node does."""
    order = Order(**words)
    os.environ[handlers.NODE], os.environ[handlers.EXECUTIONS] = order.node, order.executions
    if order.without:
        nets.take_out(order.without)
    hearts = [Heart()]
    start_child: Any = session._start_child

    async def start_warm() -> Any:
        # A session that was lost needs another heart, and there is no fork from a running loop.
        return await hearts.pop().born() if hearts else await start_child()

    session._start_child = start_warm
    configure_logging("critical", "json", node_id=order.node)
    uvloop.run(_work(order))


async def _work(order: Order) -> None:
    registry.load(["tests.chaos.handlers"])
    settings = Settings(
        handlers=["tests.chaos.handlers"],
        worker={
            "lease": order.lease,
            "concurrency": order.slots,
            "shutdown_timeout": order.grace,
            "types": sorted(registry.types()),
            "retry_base": 0.05,
        },
        log={"level": "critical"},
    )
    events = Events(order.node, job_lines="none")
    store = Store(Connections(order.url), namespace=order.namespace, retention=Retention(max_jobs=10**9))
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    while True:
        try:
            await store.open()
            break
        except Exception:
            await asyncio.sleep(0.05)
    worker = Worker(store, registry, settings, events, store_url=order.url, node=order.node)
    scheduler = asyncio.create_task(Scheduler(store, events).run())
    await worker.run(stop)
    scheduler.cancel()
    await asyncio.wait([scheduler])
    await store.close()
