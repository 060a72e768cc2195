"""While the store is away, whoever asks is told so at once; nobody else gives up, and its return is noticed soon."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from gopher_node.errors import OutcomeUnknown, StoreFull, StoreReadOnly, StoreUnavailable
from gopher_node.job import NewJob, State
from gopher_node.store import Connections, Store
from gopher_node.store.embedded import find_binary
from gopher_node.store.outage import Outage

AT_ONCE = 0.05


class Server:
    """A Valkey that a test may freeze and kill."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "v.sock"
        self.process = self.start()

    def start(self) -> subprocess.Popen[str]:
        command = [str(find_binary()), "--port", "0", "--unixsocket", str(self.path), "--save", ""]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=self.path.parent)
        assert process.stdout is not None
        for line in process.stdout:
            if "ready to accept connections" in line.lower():
                break
        self.process = process
        return process

    def freeze(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def come_back(self) -> None:
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGCONT)
        else:
            self.start()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    yield server
    server.kill()


@pytest.fixture
async def connections(server: Server) -> AsyncIterator[Connections]:
    connections = Connections(f"unix://{server.path}", timeout=0.6, lost_after=0.3)
    yield connections
    await connections.close()


@pytest.mark.parametrize("end", ["freeze", "kill"])
async def test_an_outage_is_told_in_milliseconds(serve, server, connections, end):
    """The first requests wait for the store; all after them are refused at once, until it answers again."""
    front = Store(connections, patience=3.0, hasty=True)
    await front.open()
    api = await serve(behind=front)
    first = await api.submit()
    getattr(server, end)()

    waited = await asyncio.gather(
        *(api.get("/api/v1/stats") for _ in range(3)), api.post("/api/v1/jobs", {"type": "x"})
    )
    assert {answer.status for answer in waited} == {503}
    took: list[float] = []
    for _ in range(20):
        began = time.perf_counter()
        answers = [await api.post("/api/v1/jobs", {"type": "x"}), await api.get(f"/api/v1/jobs/{first}")]
        took.append((time.perf_counter() - began) / 2)
        for answer in answers:
            assert (answer.status, answer.problem) == (503, "store-unavailable")
            assert answer.json["outcome"] == "not-done"
            assert int(answer.headers["Retry-After"]) > 0
    assert sorted(took)[10] < AT_ONCE
    assert (await api.get("/livez")).status == 200

    server.come_back()
    began = time.perf_counter()
    while (await api.get("/api/v1/stats")).status == 503:
        assert time.perf_counter() - began < 3
    assert (await api.post("/api/v1/jobs", {"type": "x"})).status == 201
    await front.close()


async def test_who_works_goes_on_insisting(server, connections):
    """What settles a run is no request: it waits for the store as long as ever, and gets through."""
    patient, hasty = Store(connections, patience=20.0), Store(connections, hasty=True)
    await patient.open()
    server.freeze()
    with pytest.raises(OutcomeUnknown):
        await hasty.stats()
    assert connections.outage.lasts

    submitting = asyncio.create_task(patient.submit(NewJob(type="x")))
    with pytest.raises(StoreUnavailable):
        await hasty.submit(NewJob(type="x"))
    server.come_back()

    submitted = await submitting
    assert (await hasty.get(submitted.id)).state is State.ENQUEUED
    assert not connections.outage.lasts


@pytest.fixture
def clock(monkeypatch):
    """The monotonic clock of the outage, in a list of one."""
    at = [100.0]

    class Time:
        @staticmethod
        def monotonic() -> float:
            return at[0]

    monkeypatch.setattr("gopher_node.store.outage.time", Time)
    return at


async def test_what_is_no_outage(clock):
    """A blip, one broken connection among others that answer, and a refusal are no outage."""
    unanswered = asyncio.Event()
    outage = Outage(unanswered.wait, 1.0)

    outage.failed(99.5)
    assert not outage.lasts  # a blip
    outage.answered()
    clock[0] = 105.0
    outage.answered()
    clock[0] = 105.5
    outage.failed(100.1)
    assert not outage.lasts  # this try was begun long ago, but others were answered since
    for refusal in (StoreReadOnly(), StoreFull()):
        clock[0] += 5
        outage.note(refusal, clock[0] - 5)
        assert not outage.lasts
    clock[0] += 1
    outage.note(StoreUnavailable(), clock[0] - 1)
    assert outage.lasts
    outage.close()


async def test_a_connection_that_breaks_as_the_store_is_closed(connections):
    """What listens ends with the store, even if its connection breaks in that very moment."""
    for _ in range(20):
        store = Store(connections)
        heard = asyncio.Event()
        store.keys.on_change(heard.set)
        await heard.wait()
        async with asyncio.timeout(5):
            await connections.close()
            await store.close()
