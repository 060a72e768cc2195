"""The child process that renews a session: what it says, what it ignores, and that it ends with its parent."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gopher_node.store import Session, Store, heartbeat
from gopher_node.telemetry import Events
from gopher_node.worker import session as node_session

from .conftest import Relay, pid_from, until_gone

LEASE = 1.0


async def start(session: Session, url: str, namespace: str) -> Process:
    child = await asyncio.create_subprocess_exec(sys.executable, "-P", heartbeat.__file__, stdin=PIPE, stdout=PIPE)
    assert child.stdin is not None
    child.stdin.write(heartbeat.order(url, namespace, session.id, session.lease))
    return child


async def end(process: Process) -> None:
    """Kill it, and wait until its pipes are closed too."""
    if process.returncode is None:
        process.kill()
    await process.communicate()


async def says(child: Process) -> str:
    assert child.stdout is not None
    async with asyncio.timeout(15):
        return (await child.stdout.readline()).decode().strip()


async def says_at_last(child: Process) -> str:
    """What it says next that is not of yet another renewal."""
    while (word := await says(child)) == heartbeat.RENEWING:
        pass
    return word


@pytest.fixture
async def session(store: Store) -> Session:
    return await store.open_session("node", LEASE)


@pytest.fixture
async def child(session: Session, valkey_url: str, namespace: str) -> AsyncIterator[Process]:
    child = await start(session, valkey_url, namespace)
    yield child
    await end(child)


async def renewals(store: Store, session: Session) -> int:
    return (await store.survey()).sessions[session.id].renewals


async def until_renewals(store: Store, session: Session, count: int) -> None:
    async with asyncio.timeout(10):
        while await renewals(store, session) < count:
            await store.ping()


async def test_child_renews_every_third_of_the_lease(store: Store, session: Session, child: Process) -> None:
    """A child that was told of a session renews it until it is stopped."""
    assert await says(child) == heartbeat.RENEWING

    loop = asyncio.get_running_loop()
    began, first = loop.time(), await renewals(store, session)
    await until_renewals(store, session, first + 3)

    assert 0.6 * LEASE < loop.time() - began < 5 * LEASE


async def test_child_says_that_its_session_is_gone_and_ends(store: Store, session: Session, child: Process) -> None:
    """A session that was closed cannot be renewed: the child says so once, and ends by itself."""
    assert await says(child) == heartbeat.RENEWING
    await store.close_session(session)

    assert await says_at_last(child) == heartbeat.GONE
    assert await child.wait() == 0


async def test_child_outlives_an_outage(session: Session, relay: Relay, namespace: str, store: Store) -> None:
    """While the store is away the child says why it fails, and renews again as soon as it can."""
    child = await start(session, relay.url, namespace)
    assert await says(child) == heartbeat.RENEWING

    await relay.cut()
    assert (await says_at_last(child)).startswith(heartbeat.FAILED)
    await relay.mend()
    while (word := await says(child)).startswith(heartbeat.FAILED):
        pass
    await end(child)

    assert word == heartbeat.RENEWING


async def test_session_is_renewed_while_its_child_only_starts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine may be so busy that a new process says nothing for longer than the lease."""

    async def start_dawdler() -> Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-c", "import sys; sys.stdin.read()", stdin=PIPE, stdout=PIPE
        )

    monkeypatch.setattr(node_session, "_start_child", start_dawdler)
    held = node_session.NodeSession(store, "", "node", LEASE, Events("node"), lambda job_id: None)
    await held.open()
    running = asyncio.create_task(held.run())
    try:
        await until_renewals(store, held.current, 3)
    finally:
        running.cancel()
        await asyncio.wait([running])
        await held.close()


async def test_signals_to_the_group_do_not_stop_it(store: Store, session: Session, child: Process) -> None:
    """Ctrl-C and SIGTERM begin a drain, in which the session has to be renewed."""
    assert await says(child) == heartbeat.RENEWING
    for number in (signal.SIGINT, signal.SIGTERM):
        child.send_signal(number)

    await until_renewals(store, session, await renewals(store, session) + 2)

    assert child.returncode is None


async def test_child_ends_when_its_pipe_closes(child: Process) -> None:
    """The closed pipe is the parent's last word."""
    assert await says(child) == heartbeat.RENEWING
    assert child.stdin is not None
    child.stdin.close()

    async with asyncio.timeout(5):
        assert await child.wait() == 0


async def test_child_without_orders_ends(valkey_url: str) -> None:
    """A parent that dies before it has said anything leaves no child behind."""
    child = await asyncio.create_subprocess_exec(sys.executable, "-P", heartbeat.__file__, stdin=PIPE, stderr=PIPE)
    assert child.stdin is not None
    child.stdin.close()

    _, errors = await child.communicate()

    assert (child.returncode, errors) == (0, b"")


PARENT = """
import subprocess, sys
path, pipe, order = sys.argv[1:]
child = subprocess.Popen([sys.executable, "-P", path], stdin=subprocess.PIPE)
child.stdin.write(sys.stdin.buffer.read())
child.stdin.flush()
open(pipe, "w").write(f"{child.pid}\\n")
child.wait()
"""


@pytest.mark.parametrize("blocked", [False, True])
async def test_child_ends_when_its_parent_is_killed(
    session: Session, valkey_url: str, namespace: str, pipe: Path, tmp_path: Path, blocked: bool
) -> None:
    """However the parent ends, the child ends at once, even within a call that the store does not answer."""
    url, called = valkey_url, asyncio.Event()
    if blocked:

        async def never_answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(1)
            called.set()
            await reader.read()
            writer.close()

        url = f"unix://{tmp_path / 'silent.sock'}"
        server = await asyncio.start_unix_server(never_answer, tmp_path / "silent.sock")
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, heartbeat.__file__, str(pipe), "", stdin=PIPE
    )
    assert parent.stdin is not None
    # A lease that leaves a call twenty seconds to wait.
    parent.stdin.write(heartbeat.order(url, namespace, session.id, 60.0))
    parent.stdin.close()
    pid = await pid_from(pipe)
    if blocked:
        await called.wait()

    await end(parent)
    await until_gone(pid)

    if blocked:
        server.close()


def test_orders_hold_what_must_not_be_an_argument() -> None:
    """A password in the URL travels through the pipe, as one line."""
    order = heartbeat.order("redis://:s3cret@db:6379/0", "gopher", "id", 15.0)

    assert b"s3cret" in order
    assert order.count(b"\n") == 1
    assert order.endswith(b"\n")


def resident_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        pytest.skip("needs /proc")
    return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmRSS"))


async def test_child_is_small(child: Process) -> None:
    """The child imports the client and nothing of ours."""
    assert await says(child) == heartbeat.RENEWING

    assert resident_kib(child.pid) < 40 * 1024
