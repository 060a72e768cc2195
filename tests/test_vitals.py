"""What a node finds out about itself."""

from __future__ import annotations

import math
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis

from gopher_node.errors import StoreError
from gopher_node.job import NewJob
from gopher_node.scheduler import Scheduler
from gopher_node.store import Connections, Store
from gopher_node.store.valkey_binary import find_binary
from gopher_node.telemetry import Events
from gopher_node.telemetry.loop_watch import LoopWatch, Stall
from gopher_node.vitals import SILENT, Vitals
from gopher_node.worker.status import WorkerStatus
from tests.conftest import server


def make_vitals() -> Vitals:
    watch = LoopWatch(lambda task: None, lambda seconds, name: None)
    watch._last_beat = math.inf  # nobody runs it
    return Vitals("node-1", watch, lambda: False)


class Working:
    """A worker that is as a test says."""

    def __init__(self, **status: Any) -> None:
        well = {"slots": 4, "busy": 0, "stuck": 0, "unsettled": 0, "last_claim_age": 0.1, "unanswered": 0.0}
        self._status = WorkerStatus(**{**well, "draining": False, "store_ok": True, "session": "s", **status})

    def status(self) -> WorkerStatus:
        return self._status


@asynccontextmanager
async def on_a_server(*options: str) -> AsyncIterator[tuple[Vitals, Store, redis.Redis]]:
    """A node's condition with a server that the test may ill-treat."""
    with server(str(find_binary()), *options) as url, redis.Redis.from_url(url) as client:
        vitals = make_vitals()
        vitals.connections = Connections(url)
        store = Store(vitals.connections)
        await store.open()
        vitals.scheduler = Scheduler(store, Events())
        yield vitals, store, client
        await store.close()


async def test_a_store_that_is_full_read_only_or_frozen() -> None:
    """Each is told for what it is, and no longer than it is so."""
    async with on_a_server("--appendonly", "no") as (vitals, store, client):
        assert (vitals.store_failure(), await vitals.refuses_jobs()) == (None, None)

        client.config_set("maxmemory", 1)
        vitals._looked = 0.0
        full = await vitals.refuses_jobs()
        assert full is not None
        assert "maxmemory" in full
        assert vitals.store_failure() is None
        client.config_set("maxmemory", 0)

        client.replicaof("127.0.0.1", "1")
        vitals._looked = 0.0
        replica = await vitals.refuses_jobs()
        assert replica is not None
        assert "replica" in replica
        store.patience = 0.0
        with pytest.raises(StoreError):
            await store.submit(NewJob(type="a"))
        refused = vitals.store_failure()
        assert refused is not None
        assert "takes no writes" in refused
        client.replicaof("NO", "ONE")

        info: Any = client.info("server")
        os.kill(info["process_id"], signal.SIGSTOP)
        vitals.connections.outage._answered_at -= SILENT
        vitals.connections.outage._refusal = None
        frozen = vitals.store_failure()
        os.kill(info["process_id"], signal.SIGCONT)
        assert frozen is not None
        assert "has not answered for" in frozen
        await store.ping()
        vitals._looked = 0.0
        assert (vitals.store_failure(), await vitals.refuses_jobs()) == (None, None)


async def test_a_node_that_was_held_up_does_not_blame_the_store(valkey_url: str) -> None:
    """What the loop itself stood still is nobody's silence; then it is told as what it is."""
    async with on_a_server() as (vitals, _, _client):
        assert vitals.connections is not None
        vitals.connections.outage._answered_at -= 6.0
        vitals.worker = Working(quiet=6.0)  # type: ignore[assignment]
        assert vitals.store_failure() is not None
        assert vitals.deaf_worker() is None, "it would advise a restart, which does not bring the store back"

        vitals._watch._stalls.append(Stall(time.monotonic() - 0.01, 5.9, "crunch"))

        assert vitals.store_failure() is None
        assert vitals.deaf_worker() is None
        vitals._watch._stalls.clear()
        vitals.connections.outage.answered()
        assert vitals.deaf_worker() is not None
        vitals._watch._stalls.append(Stall(time.monotonic() - 0.01, 5.9, "crunch"))
        assert vitals.deaf_worker() is None
        slow = vitals.slow_loop()
        assert slow is not None
        assert "5.9 s in crunch" in slow


def test_a_worker_that_is_amiss() -> None:
    """A deaf one, one that never came to claim, one with stuck slots, and one whose outcomes wait."""
    vitals = make_vitals()
    found = (vitals.deaf_worker, vitals.stuck_slots, vitals.unsettled_outcomes)
    for status, told in (
        ({}, {}),
        ({"unanswered": 5.1}, {0: "no claim of its was answered for 5 s"}),
        ({"quiet": 5.1}, {0: "no claim of its was answered for 5 s"}),
        ({"quiet": 5.1, "last_claim_age": None}, {0: "start-up hook"}),
        ({"quiet": 5.1, "draining": True}, {}),
        ({"stuck": 2, "stuck_types": ("mail", "math")}, {1: "2 of 4 slots are held by handlers"}),
        ({"unsettled": 7, "unsettled_for": 5.1}, {2: "7 outcomes wait"}),
    ):
        vitals.worker = Working(**status)  # type: ignore[assignment]
        answers = {number: said for number, look in enumerate(found) if (said := look()) is not None}
        assert answers.keys() == told.keys(), status
        assert all(text in answers[number] for number, text in told.items()), answers


def test_a_node_without_its_store_yet() -> None:
    """It says so, and does not call the worker deaf that it does not have."""
    vitals = make_vitals()

    failure = vitals.store_failure()
    assert failure is not None
    assert "REDIS_URL" in failure
    assert vitals.deaf_worker() is None


async def test_a_scheduler_that_does_not_tick() -> None:
    """While the store answers, that is a problem of the node."""
    async with on_a_server() as (vitals, store, _):
        assert vitals.scheduler is not None
        assert vitals.late_scheduler() is None
        vitals.scheduler.last_tick -= 11

        late = vitals.late_scheduler()
        assert late is not None
        assert "for 11 s" in late
        await vitals.scheduler._store.promote(1)
        assert store is vitals.scheduler._store


def test_a_loop_that_is_late_again_and_again() -> None:
    """Once is an accident, three times in a row is a node that serves nobody; one beat in time and it lives again."""
    vitals = make_vitals()
    told: list[float] = []
    watch = vitals._watch = LoopWatch(lambda task: None, lambda seconds, name: None, told.append)
    for expected in (None, None, "Restart the node"):
        watch._last_beat = time.monotonic() - 20
        watch._beat()
        wedged = vitals.wedged_loop()
        assert (wedged is None) if expected is None else (wedged is not None and expected in wedged)

    watch._beat()

    assert vitals.wedged_loop() is None
    assert [round(seconds) for seconds in told] == [20, 20, 20, 0]


async def test_an_embedded_server_that_has_ended(tmp_path: Any) -> None:
    """It is named at once, and not when its silence is long enough; so is an owner that has gone."""

    class Embedded:
        healthy, owner, log_path, data_dir = False, True, "/data/valkey.log", "/data"

    vitals = make_vitals()
    vitals.embedded = Embedded()  # type: ignore[assignment]
    assert "/data/valkey.log" in (vitals.store_failure() or "")

    Embedded.owner = False
    assert "Start a node there" in (vitals.store_failure() or "")

    Embedded.healthy = True  # but it does not answer, and has no address that anybody could have got wrong
    failure = vitals.store_failure() or ""
    assert "/data/valkey.log" in failure
    assert "REDIS_URL" not in failure
