"""What a node knows of its own condition, for the probes: each answer is a sentence that says what to do, or None."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from gopher_node.errors import StoreError, StoreReadOnly
from gopher_node.scheduler import Scheduler
from gopher_node.store import Connections
from gopher_node.store.embedded import EmbeddedValkey
from gopher_node.store.server import refuses_jobs
from gopher_node.telemetry.loop_watch import LoopWatch
from gopher_node.worker import Worker
from gopher_node.worker.status import DEAF

SILENT = 3.5
"""Seconds without any answer of the store after which it counts as away. A node asks it about twice a second."""
REFUSING = 3.0
"""Seconds for which a refusal to write counts: what the node has to write, it tries again more often than that."""
LAGS = 1.0
"""A loop that stood still for so many seconds at a time is a problem for all that run on it."""
LAGGED_WITHIN = 10.0
"""Seconds for which that is told."""
LATE_TICK = 10.0
"""Seconds without a tick of the scheduler after which it is called late."""
UNSETTLED = 5.0
"""Seconds that an outcome may wait for the store before that is called a problem."""
LOOK_EVERY = 1.0
"""Seconds for which what the server told of itself is taken for true."""


class Vitals:
    """
    The parts of a node as far as they exist by now, and what can be told of them.

    Nothing here waits or asks the store but `refuses_jobs`. A silence counts only as far as the loop was there to hear:
    a node that was held up itself does not blame the store for it.
    """

    def __init__(self, id: str, watch: LoopWatch, stopping: Callable[[], bool]) -> None:
        self.id = id
        self.started = False
        self.parts: dict[str, asyncio.Task[None]] = {}
        self.connections: Connections | None = None
        self.embedded: EmbeddedValkey | None = None
        self.scheduler: Scheduler | None = None
        self.worker: Worker | None = None
        self.unused_certificate: Callable[[], str | None] = lambda: None
        self.clients: Callable[[], int] = lambda: 0
        self.utilisation: Callable[[], float] = lambda: 0.0
        self._watch = watch
        self._told_to_stop = stopping
        self._began = time.monotonic()
        self._looked = -LOOK_EVERY
        self._found: str | None = None

    @property
    def uptime(self) -> float:
        return time.monotonic() - self._began

    @property
    def stopping(self) -> bool:
        return self._told_to_stop()

    def dead_part(self) -> str | None:
        for name, task in self.parts.items():
            if task.done() and not self.stopping:
                return f"The {name} has ended. Restart the node; its log says why."
        return None

    def wedged_loop(self) -> str | None:
        if not self._watch.wedged:
            return None
        return (
            "The event loop is late by more than 10 s again and again, so nothing is served in time. Restart the node, "
            'and declare handlers that compute with run="process".'
        )

    def slow_loop(self) -> str | None:
        stall = self._watch.longest(LAGGED_WITHIN)
        if stall is None or stall.seconds < LAGS:
            return None
        where = "" if stall.name is None else f" in {stall.name}"
        return (
            f"The event loop stood still for {stall.seconds:.1f} s{where}, and with it all that runs on it. Let a "
            'handler that blocks be a plain `def`, or declare it with run="process".'
        )

    def store_failure(self) -> str | None:
        if self.embedded is not None and not self.embedded.healthy:
            return self._no_server(self.embedded)
        if self.scheduler is None or self.connections is None:
            look = self._where_to_look("runs and REDIS_URL is right")
            return f"The store has not been reached yet{self._why()}. {look}."
        silence = self._heard(self.connections.outage.silence)
        if silence > SILENT or self.connections.outage.lasts:
            return (
                f"The store has not answered for {silence:.0f} s{self._why()}. "
                f"{self._where_to_look('runs and can be reached at REDIS_URL')}; the node goes on by itself when it is "
                "back."
            )
        refusal = self.connections.outage.refusal(REFUSING)
        if isinstance(refusal, StoreReadOnly):
            return f"{refusal} See to its disk or its primary; the node goes on by itself when it takes writes again."
        return None

    async def refuses_jobs(self) -> str | None:
        """Why the store would take no new job, as it was within the last second."""
        if self.connections is None:
            return None
        if time.monotonic() - self._looked >= LOOK_EVERY:
            self._looked = time.monotonic()
            try:
                async with asyncio.timeout(LOOK_EVERY):
                    self._found = await refuses_jobs(self.connections)
            except (StoreError, TimeoutError):
                self._found = None
        # A managed server may hide how it is, but not what it has just refused.
        refusal = self.connections.outage.refusal(REFUSING)
        return self._found or (None if refusal is None else str(refusal))

    def late_scheduler(self) -> str | None:
        if self.scheduler is None or self.store_failure() is not None:
            return None
        silence = self._heard(time.monotonic() - self.scheduler.last_tick)
        if silence < LATE_TICK:
            return None
        return (
            f"The scheduler has not come to the end of a tick for {silence:.0f} s, so jobs that are due may wait. "
            "Other nodes do its work; restart this one if it stays so."
        )

    def deaf_worker(self) -> str | None:
        if self.worker is None:
            return None
        status = self.worker.status()
        silence = self._heard(status.deaf_for)
        if silence <= DEAF:
            return None
        if status.last_claim_age is None:
            return (
                f"The worker has not claimed anything {silence:.0f} s after its start. See whether a start-up hook "
                "does not return, or the store does not answer it."
            )
        if self.connections is not None and self.store_failure() is not None:
            return None  # That says it, and no restart of the node would help.
        return (
            f"The worker has free slots, but no claim of its was answered for {silence:.0f} s, so jobs wait. See "
            "whether the store is slow or the node overloaded; restart the node if it stays so."
        )

    def stuck_slots(self) -> str | None:
        status = self.worker.status() if self.worker is not None else None
        if status is None or not status.stuck:
            return None
        return (
            f"{status.stuck} of {status.slots} slots are held by handlers that go on although they were told to end, "
            f"of type {', '.join(status.stuck_types)}. Have these heed a cancel; a restart of the node frees the slots."
        )

    def unsettled_outcomes(self) -> str | None:
        status = self.worker.status() if self.worker is not None else None
        if status is None or self._heard(status.unsettled_for) < UNSETTLED:
            return None
        return (
            f"{status.unsettled} outcomes wait for the store to take note, the first for {status.unsettled_for:.0f} s. "
            "See to the store, and leave the node running: their jobs would run again."
        )

    def old_certificate(self) -> str | None:
        reason = self.unused_certificate()
        if reason is None:
            return None
        return (
            f"The renewed certificate is of no use, and the one before still serves: {reason}. Mend the files of "
            "SERVER_TLS_CERT and SERVER_TLS_KEY; the node looks again every minute."
        )

    def numbers(self) -> dict[str, float]:
        """How the parts stand just now, by the names of the metrics that tell of them."""
        found: dict[str, float] = {"gopher_http_connections": self.clients()}
        if self.scheduler is not None:
            found["gopher_scheduler_tick_age_seconds"] = time.monotonic() - self.scheduler.last_tick
        if self.worker is not None:
            status = self.worker.status()
            found |= {
                "gopher_worker_slots": status.slots,
                "gopher_worker_slots_busy": status.busy,
                "gopher_worker_slots_stuck": status.stuck,
                "gopher_worker_unsettled": status.unsettled,
                "gopher_worker_utilisation_ratio": self.utilisation(),
                "gopher_worker_processes": self.worker.processes,
            }
        return found

    def _heard(self, silence: float) -> float:
        """How much of a silence, until now, the loop was there to hear."""
        return silence - self._watch.stood_still(time.monotonic() - silence)

    def _where_to_look(self, shared: str) -> str:
        if self.embedded is None:
            return f"See that its server {shared}"
        return f"It is the server of {self.embedded.data_dir}: see {self.embedded.log_path} and the machine's disk"

    def _why(self) -> str:
        reason = self.connections.outage.reason if self.connections is not None else None
        return "" if reason is None else f" ({str(reason).rstrip('.')})"

    @staticmethod
    def _no_server(embedded: EmbeddedValkey) -> str:
        if embedded.owner:
            return (
                f"The embedded server has ended and is started again. If it does not come up, see {embedded.log_path}."
            )
        return f"The node that owns {embedded.data_dir} has gone, and with it the store. Start a node there."
