"""What a scrape is told of measurements: the text, the bounds of its labels, and that each name is documented."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from gopher_node.flow import FlowPolicy, Rate
from gopher_node.job import Job, JobError, Priority, State
from gopher_node.store import connections
from gopher_node.store.snapshot import QueueSnapshot, ServerUse, Snapshot
from gopher_node.telemetry import Events, cluster_metrics, metrics
from gopher_node.telemetry.cluster_metrics import Seen
from gopher_node.telemetry.latency import BOUNDS
from gopher_node.telemetry.measures import MAX_NAMES, MAX_TYPES, OTHER
from gopher_node.telemetry.metrics import Metrics, Reading

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"
EVERY = (*metrics.FAMILIES, *cluster_metrics.FAMILIES)
CHANGING = ("process_", "python_gc_")


def queue(type: str, waiting: int, **fields: Any) -> QueueSnapshot:
    depth = Counter({Priority.NORMAL: waiting})
    return QueueSnapshot(type, depth, Counter({State.ENQUEUED: waiting, State.FAILED: 1}), **fields)


def events_of(types: int = 2) -> Events:
    """Events that were told something of everything that is measured."""
    events = Events()
    for n in range(types):
        job = Job(
            id=f"j{n}",
            type=f"type-{n}",
            state=State.PROCESSING,
            payload=b"{}",
            priority=Priority.NORMAL,
            created_ms=0,
            attempt=1,
        )
        events.submitted([job.type])
        events.started(job)
        events.settled(job, State.COMPLETED, "completed", 0.5 + n)
        events.settled(job, State.SCHEDULED, "error", 0.1, JobError("timeout", "too long"))
    for n in range(MAX_NAMES + 20):
        events.recurred(f"nightly-{n}", "type-0", "fired", 0)
    events.measures.http["GET /api/v1/jobs/{job_id} 2xx"].observe(0.02)
    events.measures.http["GET unknown 4xx"].observe(1e6)
    events.measures.store_calls["claim"].observe(0.0003)
    events.measures.failed("no-answer")
    events.loop_late(0.004)
    return events


def seen_of(queues: list[QueueSnapshot], others: QueueSnapshot | None = None) -> Seen:
    nodes = [{"role": "all", "types": ["type-0"]}, {"role": "worker", "types": ["type-0"]}]
    server = ServerUse(memory=2_000_000, memory_max=0, clients=7)
    return Seen(Snapshot(queues, others, 1.5, nodes, server), 2.0, "fsync", {"type-0": {"far", "near"}})


def metrics_of(events: Events, seen: Seen | None = None) -> Metrics:
    made = Metrics(events, "all")
    numbers = {told.name: 1.0 for told in metrics.GAUGES}
    made.reading = Reading(numbers, {"requests": (1, 2, 16)}, seen)
    return made


def full() -> Metrics:
    policy = FlowPolicy(rate=Rate(30, per=60), max_running=3, paused=True)
    limited = queue("type-0", 5, oldest=2.5, policy=policy, breaker="half-open", limited=True)
    return metrics_of(events_of(), seen_of([limited, queue('odd"\\type', 1)], queue("", 2_000_000, oldest=9.0)))


def samples(made: Metrics) -> dict[tuple[str, ...], float]:
    """Each sample by its name and its labels' values, in the order of their names."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in parse(made.render().decode())
        for sample in family.samples
    }


@pytest.mark.parametrize("openmetrics", [False, True])
def test_the_text_is_the_librarys(openmetrics: bool) -> None:
    """What is written fast is, line by line, what prometheus_client writes of the same registry."""
    made = full()
    library = (generate_openmetrics if openmetrics else generate_latest)(made.registry)
    ours = made.render(openmetrics=openmetrics)
    lines = [[line for line in text.decode().splitlines() if not line.startswith(CHANGING)] for text in (ours, library)]
    assert lines[0] == lines[1]
    assert ours.endswith(b"# EOF\n") == openmetrics


@pytest.mark.tool("promtool")
def test_promtool_finds_nothing_amiss() -> None:
    promtool = shutil.which("promtool")
    assert promtool
    done = subprocess.run([promtool, "check", "metrics"], input=full().render(), capture_output=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


def test_every_family_has_samples() -> None:
    """What is declared is told, and nothing else of ours."""
    told = {family.name for family in full().registry.collect() if family.samples and family.name.startswith("gopher")}
    assert told == {declared.name for declared in EVERY}


def test_the_reasons_of_errors() -> None:
    """Every reason that the store gives is told from 0 on, and no other."""
    given = {reason for _, reason in connections._REASONS} | {"refused"}
    found = samples(Metrics(Events(), "all"))
    assert {key[1] for key in found if key[0] == "gopher_redis_errors_total"} == given


def test_the_buckets_are_measured_ones() -> None:
    """Each bound is one of those by which latencies are counted, and all rise."""
    for declared in EVERY:
        assert set(declared.bounds) <= set(BOUNDS)
        assert list(declared.bounds) == sorted(declared.bounds)


def test_numbers() -> None:
    found = samples(full())
    assert found["gopher_jobs_created_total", "type-1"] == 1
    assert found["gopher_jobs_processed_total", "type-0", "completed"] == 1
    assert found["gopher_jobs_processed_total", "type-0", "failed"] == 0
    assert found["gopher_jobs_processed_total", "type-0", "retried"] == 1
    assert found["gopher_job_failures_total", "type-0", "timeout"] == 1
    assert found["gopher_job_duration_seconds_bucket", "0.3", "type-1"] == 1
    assert found["gopher_job_duration_seconds_count", "type-1"] == 2
    assert found["gopher_http_request_duration_seconds_count", "GET", "unknown", "4xx"] == 1
    assert found["gopher_redis_errors_total", "no-answer"] == 1
    assert found["gopher_recurring_fires_total", "fired"] == MAX_NAMES + 20
    assert found["gopher_queue_depth", "normal", "type-0"] == 5
    assert found["gopher_queue_depth", "normal", OTHER] == 2_000_000
    assert found["gopher_queue_oldest_age_seconds", OTHER] == 9
    assert found["gopher_queue_workers", "type-0"] == 4
    assert found["gopher_queue_workers", 'odd"\\type'] == 0
    assert found["gopher_rate_limit_per_second", "type-0"] == 0.5
    assert found["gopher_breaker_state", "type-0", "half_open"] == 1
    assert found["gopher_breaker_state", "type-0", "open"] == 0
    assert found["gopher_nodes", "worker"] == 1
    assert found["gopher_nodes", "api"] == 0


def test_a_hundred_types_are_told_apart() -> None:
    """Of 150 types a hundred have names, in the node's numbers and the store's; so have a hundred recurring jobs."""
    seen = seen_of([queue(f"type-{n}", n) for n in range(MAX_TYPES)], queue("", 50))
    found = samples(metrics_of(events_of(150), seen))
    queues = {key[1] for key in found if key[0] == "gopher_jobs_created_total"}
    assert len(queues) == MAX_TYPES + 1
    assert found["gopher_jobs_created_total", OTHER] == 50
    for labelled in ("gopher_queue_depth", "gopher_queue_paused", "gopher_queue_workers"):
        assert len({key[-1] for key in found if key[0] == labelled}) <= MAX_TYPES + 1
    assert len([key for key in found if key[0] == "gopher_recurring_last_fire_timestamp_seconds"]) == MAX_NAMES


def test_a_type_may_be_called_other() -> None:
    """Its jobs are counted with those of the others, and each line comes once, also at the next scrape."""
    made = metrics_of(events_of(), seen_of([queue(OTHER, 3), queue("type-0", 1)], queue("", 4)))
    for _ in range(2):
        found = samples(made)
        assert found["gopher_queue_depth", "normal", OTHER] == 7
        lines = [line.partition(" ")[0] for line in made.render().decode().splitlines() if not line.startswith("#")]
        assert len(lines) == len(set(lines))


def test_what_is_not_there_is_not_told() -> None:
    """Without a worker, and before the store has answered, only the node's own work is told of."""
    made = Metrics(Events(), "api")
    names = {key[0] for key in samples(made)}
    assert "gopher_build_info" in names
    assert not names & {"gopher_worker_slots", "gopher_queue_depth", "gopher_nodes", "gopher_snapshot_age_seconds"}


def test_every_name_is_documented() -> None:
    """The tables of the page have a row for each family, and no other."""
    rows = [line for line in PAGE.read_text().splitlines() if re.match(r"\| `gopher_", line)]
    expected = [
        f"| `{told.full_name}` | {told.kind} | {', '.join(f'`{label}`' for label in told.labels)} | {told.help} |"
        for told in EVERY
    ]
    assert rows == expected, "\n".join(expected)
