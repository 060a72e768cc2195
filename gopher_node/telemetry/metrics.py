"""The metrics of a node: what it has done since its start, and how it stands at a scrape."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import Metric
from prometheus_client.openmetrics import exposition
from prometheus_client.registry import Collector

from gopher_node import __version__
from gopher_node.telemetry import cluster_metrics
from gopher_node.telemetry.cluster_metrics import Seen
from gopher_node.telemetry.events import Events
from gopher_node.telemetry.families import Family, counter, gauge, histogram
from gopher_node.telemetry.measures import MAX_TYPES

_in_openmetrics = cast("Callable[[CollectorRegistry], bytes]", exposition.generate_latest)  # pyright: ignore[reportUnknownMemberType]

# Bounds of `latency.BOUNDS`, as many as are needed to read a quantile from.
RUNS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
WAITS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.5, 1.0, 3.0, 10.0, 30.0, 100.0, 500.0, 5000.0)
CALLS = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 1.0, 5.0)
REQUESTS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
LAGS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.3, 1.0, 3.0, 10.0)

CREATED = counter(
    "gopher_jobs_created_total",
    "Jobs that were submitted through this node, or that a recurring job brought here; "
    "follow-up jobs are not among them.",
    "queue",
)
PROCESSED = counter(
    "gopher_jobs_processed_total",
    "Runs that ended, by what became of the job: completed, failed for good, retried, cancelled, released unfinished, "
    "or stale, when another node had the job by then.",
    "queue",
    "status",
)
FAILURES = counter(
    "gopher_job_failures_total",
    "Runs that ended in an error, by its code; codes of handlers are other.",
    "queue",
    "reason",
)
DURATION = histogram("gopher_job_duration_seconds", RUNS, "How long runs took.", "queue")
WAIT = histogram("gopher_job_wait_seconds", WAITS, "How long jobs were due before their first run began.", "queue")
STORE_CALLS = histogram(
    "gopher_redis_call_duration_seconds",
    CALLS,
    "How long requests to the store took, by script or command, the wait for a connection included.",
    "operation",
)
STORE_ERRORS = counter("gopher_redis_errors_total", "Requests to the store that failed, by why.", "reason")
CONNECTIONS = gauge(
    "gopher_redis_connections",
    "Connections to the store: of the pool for requests, and of that for waiting and listening.",
    "pool",
    "state",
)
MOST_CONNECTIONS = gauge("gopher_redis_connections_max", "How many connections a pool may have.", "pool")
REQUEST = histogram(
    "gopher_http_request_duration_seconds",
    REQUESTS,
    "How long requests took until their answer was made, of a streamed one until its end, by the pattern of the route. "
    "The status is 2xx to 5xx, or gone if the client did not wait for it.",
    "method",
    "route",
    "status",
)
LAG = histogram("gopher_event_loop_lag_seconds", LAGS, "How late the event loop was, ten times a second.")
FIRES = counter(
    "gopher_recurring_fires_total",
    "Steps of recurring jobs that this node took: fired, overlapped or missed.",
    "result",
)
LAST_FIRE = gauge("gopher_recurring_last_fire_timestamp_seconds", "When a recurring job fired here last.", "recurring")
BUILD = gauge("gopher_build_info", "What runs here; always 1.", "python", "role", "version")

COUNTED = {
    "claimed": counter("gopher_jobs_claimed_total", "Jobs that this node's worker has claimed."),
    "promoted": counter("gopher_jobs_promoted_total", "Due jobs that this node moved to those that wait."),
    "reaped": counter("gopher_jobs_reaped_total", "Jobs that this node took back from workers that fell silent."),
    "stale": counter("gopher_jobs_stale_total", "Outcomes that were refused, for the job was no longer this node's."),
    "sessions_lost": counter("gopher_sessions_lost_total", "How often others took this node for dead."),
    "loop_blocked": counter("gopher_event_loop_blocked_total", "How often the event loop stood still."),
}
"""By what `Events` counts them as."""

GAUGES = (
    gauge("gopher_worker_slots", "How many jobs the node can run at the same time."),
    gauge("gopher_worker_slots_busy", "Slots that are taken."),
    gauge("gopher_worker_slots_stuck", "Slots whose handler goes on although its run is settled."),
    gauge("gopher_worker_unsettled", "Outcomes of runs that the store has not answered yet."),
    gauge("gopher_worker_utilisation_ratio", "The part of the slots that was busy in the last minute, 0 to 1."),
    gauge("gopher_worker_processes", "Child processes that CPU-bound handlers run in."),
    gauge("gopher_redis_up", "Whether the store can be used, by what the node last met."),
    gauge("gopher_http_requests_in_progress", "Requests that are not answered yet."),
    gauge("gopher_http_connections", "Clients that are connected."),
    gauge("gopher_scheduler_tick_age_seconds", "For how long the scheduler has not ticked."),
    gauge("gopher_node_draining", "Whether the node is shutting down."),
    gauge("gopher_node_ready", "Whether /readyz says that the node is ready."),
    gauge("gopher_node_start_time_seconds", "When the node was started."),
)
"""Single numbers, by their names; a node without a worker has none of its."""

TYPED = (CREATED, PROCESSED, FAILURES, DURATION, WAIT)
FAMILIES = (
    *TYPED,
    *COUNTED.values(),
    *(STORE_CALLS, STORE_ERRORS, CONNECTIONS, MOST_CONNECTIONS, REQUEST, LAG, FIRES, LAST_FIRE, BUILD),
    *GAUGES,
)
"""Those of a node's own work; the others are the whole system's, in `cluster_metrics`."""

ALWAYS = ("completed", "failed", "retried")
"""These are told of a type from its first job on, so that nobody misses the first of them."""


@dataclass(frozen=True, slots=True)
class Reading:
    """
    What is looked at for a scrape: single `numbers` by the names of `GAUGES`, connections to the store by pool as
    (busy, idle, most), and the whole system if it was seen lately.
    """

    numbers: Mapping[str, float] = field(default_factory=dict[str, float])
    connections: Mapping[str, tuple[int, int, int]] = field(default_factory=dict[str, tuple[int, int, int]])
    seen: Seen | None = None


class Metrics(Collector):
    """
    All that a scrape is told. To the library it is a collector, in a `registry` of its own, beside those that the
    library has for the process. `reading` is what the next collection tells; that may be made in another thread.
    """

    def __init__(self, events: Events, role: str) -> None:
        self._events = events
        self._role = role
        self.reading = Reading()
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self._process = CollectorRegistry()
        for make in (ProcessCollector, PlatformCollector, GCCollector):
            self.registry.register(make(registry=self._process))

    def render(self, *, openmetrics: bool = False) -> bytes:
        """What the library would write of the registry: as text, in one of the two formats that Prometheus knows."""
        pieces = [line for family in self.families() for line in family.lines(openmetrics)]
        rest = _in_openmetrics(self._process) if openmetrics else generate_latest(self._process)
        return "".join(pieces).encode() + rest

    def describe(self) -> Iterator[Metric]:
        for told in (*FAMILIES, *cluster_metrics.FAMILIES):
            yield Family(told).metric()

    def collect(self) -> Iterator[Metric]:
        return (family.metric() for family in self.families())

    def families(self) -> Iterator[Family]:
        yield from self._of_types()
        yield from self._of_parts()
        numbers = self.reading.numbers
        yield from (told(((), numbers[told.name])) for told in GAUGES if told.name in numbers)
        if self.reading.seen is not None:
            yield from cluster_metrics.collect(self.reading.seen)

    # Whatever is walked over here is copied first, at one stroke: the loop goes on adding to it meanwhile.

    def _of_types(self) -> Iterator[Family]:
        created, processed, failures = Family(CREATED), Family(PROCESSED), Family(FAILURES)
        types = list(self._events.measures.types.items())
        assert len(types) <= MAX_TYPES + 1
        for type, totals in types:
            created.add(totals.created, type)
            ended = dict(totals.ended)
            for status in dict.fromkeys((*ALWAYS, *ended)):
                processed.add(ended.get(status, 0), type, status)
            for reason, count in list(totals.failures.items()):
                failures.add(count, type, reason)
        yield from (created, processed, failures)
        yield DURATION.of(((type,), totals.run) for type, totals in types)
        yield WAIT.of(((type,), totals.wait) for type, totals in types)

    def _of_parts(self) -> Iterator[Family]:
        counts, measures = self._events.counts, self._events.measures
        for what, told in COUNTED.items():
            yield told(((), counts[what]))
        yield STORE_CALLS.of(((operation,), latency) for operation, latency in list(measures.store_calls.items()))
        yield STORE_ERRORS(*(((reason,), count) for reason, count in list(measures.store_errors.items())))
        connections, most = Family(CONNECTIONS), Family(MOST_CONNECTIONS)
        for pool, (busy, idle, limit) in self.reading.connections.items():
            connections.add(busy, pool, "busy")
            connections.add(idle, pool, "idle")
            most.add(limit, pool)
        yield from (connections, most)
        yield REQUEST.of((tuple(what.split(" ")), latency) for what, latency in list(measures.http.items()))
        yield LAG.of([((), measures.loop_lag)])
        results = ("fired", "overlapped", "missed")
        yield FIRES(*(((result,), counts[f"recurring_{result}"]) for result in results))
        yield LAST_FIRE(*(((name,), at) for name, at in list(measures.last_fires.items())))
        yield BUILD(((platform.python_version(), self._role, __version__), 1))
