"""The private Valkey of a node that was given no Redis: found, started, watched, and stopped last."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import socket
import stat
import time
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol, cast
from urllib.parse import quote

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from gopher_node.errors import GopherError, SettingError, StoreUnavailable
from gopher_node.store.valkey_binary import find_binary

# Ends with the server, and ends the server when the node goes: only the node holds the other end of the pipe on stdin,
# so a SIGKILL of the node closes it too. PR_SET_PDEATHSIG would do that on Linux alone.
GUARDIAN = """
exec 3<&0 </dev/null
"$@" 3<&- & server=$!
{ read -r _ <&3; kill -TERM $server; } & watch=$!
exec 3<&-
wait $server; code=$?
kill -KILL $watch 2>/dev/null
exit $code
"""

MAX_SOCKET_PATH = 100  # bytes; the system's limit is 104 on macOS and 108 on Linux, with the closing NUL
MAX_LOG_BYTES = 8 * 1024 * 1024
PATIENCE = 120.0  # seconds that a starting server may go on without an answer or progress in loading
FIRST_LOADING_REPORT, NEXT_LOADING_REPORT = 1.0, 5.0
ANSWER_LIMIT = 5.0
SHUTDOWN_GRACE = 10.0
RESTART_DELAY, RESTART_DELAY_CAP = 0.1, 10.0
STEADY = 60.0  # seconds of running after which the next crash counts as the first

# A forked child, such as a process pool's, that kept these would hold the data directory after the node's death.
_closed_in_forks: set[int] = set()


def _close_in_fork() -> None:
    for descriptor in _closed_in_forks:
        os.close(descriptor)
    _closed_in_forks.clear()


os.register_at_fork(after_in_child=_close_in_fork)


class Report(Protocol):
    """
    Told what happens to the server: started, loading, crashed, restart_failed, orphan_found, stopped; and by a node
    that uses another's: joined, owner_lost, owner_back.
    """

    def __call__(self, event: str, /, **fields: object) -> None: ...


def _unreported(_event: str, /, **_fields: object) -> None:
    pass


class EmbeddedValkey:
    """
    A durable server for the nodes of one host, on a unix socket, with its data in the data directory.

    It owns the directory, by a lock, and the server's process. The server ends with the node even if that is killed,
    and is started again, with back-off, when it ends by itself; all that it had acknowledged is on disk by then.
    A node that finds the directory owned by a live node joins that node's server: `owner` is False, it never starts or
    stops the server, and after the owner's end it sees connection errors until some node owns the directory again.
    """

    def __init__(self, data_dir: Path, report: Report | None = None) -> None:
        self.data_dir = data_dir.resolve()
        self.log_path = self.data_dir / "valkey.log"
        self.socket_path = _socket_path(self.data_dir)
        self.healthy = False
        self._report: Report = report or _unreported
        self._server_dir = self.data_dir / "valkey"
        self._binary = ""
        self._lock: int | None = None
        self._leash: int | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._supervision: asyncio.Task[None] | None = None

    @property
    def owner(self) -> bool:
        return self._lock is not None

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self.socket_path))}"

    async def start(self) -> None:
        """
        Return when the server answers and has its data loaded, however long that takes while it makes progress.

        Raises SettingError when there is no server to run or the directory cannot be used, StoreUnavailable when the
        server does not come up; nothing is left running then.
        """
        try:
            self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._place_socket()
            if not self._take_directory() and await self._until_ready(unless=self._take_directory):
                self._report("joined", socket=str(self.socket_path))
            else:
                self._server_dir.mkdir(mode=0o700, exist_ok=True)
                self._binary = await asyncio.to_thread(find_binary)
                await self._launch()
        except OSError as error:
            await self.stop()
            raise SettingError(
                f"GOPHER_DATA_DIR={self.data_dir} cannot hold the embedded store: {error}. "
                "Name a directory on a local disk that this user may write to, or set REDIS_URL to a server of yours."
            ) from error
        except BaseException:
            await self.stop()
            raise
        self.healthy = True
        self._supervision = asyncio.create_task(self._supervise() if self.owner else self._watch())

    async def stop(self) -> None:
        """End the server, if it is ours, and give up the directory. Comes last, for a drain still needs the store."""
        self.healthy = False
        if self._supervision:
            self._supervision.cancel()
            await asyncio.wait([self._supervision])
            self._supervision = None
        if not self.owner:
            return
        await self._end_process()
        if self.socket_path.parent != self.data_dir:
            with suppress(OSError):
                self.socket_path.parent.rmdir()
        self._lock = _close(self._lock)
        self._report("stopped")

    def _take_directory(self) -> bool:
        self._lock = _try_lock(self.data_dir / "gopher.lock")
        if self._lock is not None:
            _closed_in_forks.add(self._lock)
        return self.owner

    def _place_socket(self) -> None:
        place = self.socket_path.parent
        if place == self.data_dir:
            return
        place.mkdir(mode=0o700, exist_ok=True)
        found = place.lstat()
        # In a directory that all may write to, somebody else could have made it, to take our place as the server.
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise SettingError(
                f"{place} is not a private directory of this user. Remove it or shorten GOPHER_DATA_DIR."
            )

    async def _launch(self) -> None:
        """Start a server where none runs any more, and wait until it is ready."""
        began = time.monotonic()
        self._place_socket()
        server_lock = await self._clear()
        try:
            if _size(self.log_path) > MAX_LOG_BYTES:
                self.log_path.replace(self.log_path.with_suffix(".log.1"))
            log_start = _size(self.log_path)
            os.ftruncate(server_lock, 0)
            process = self._process = await self._spawn(server_lock)
            os.pwrite(server_lock, str(process.pid).encode(), 0)
        finally:
            os.close(server_lock)
        if not await self._until_ready(unless=lambda: process.returncode is not None):
            raise StoreUnavailable(
                f"{self._binary} ended as soon as it was started. Its log, {self.log_path}, ends:\n"
                + _last_lines(self.log_path, log_start)
            )
        self._report("started", socket=str(self.socket_path), seconds=round(time.monotonic() - began, 3))

    async def _spawn(self, server_lock: int) -> asyncio.subprocess.Process:
        read_end, self._leash = os.pipe()
        _closed_in_forks.add(self._leash)
        log = os.open(self.log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        spawning = asyncio.ensure_future(
            asyncio.create_subprocess_exec(
                *("/bin/sh", "-c", GUARDIAN, "gopher-valkey", self._binary, *self._options()),
                stdin=read_end,
                stdout=log,
                stderr=log,
                pass_fds=(server_lock,),
                # Ctrl-C in a terminal goes to the whole process group, and the drain after it needs the store.
                start_new_session=True,
                # Redis since 7.2 ends at once if LC_* names a locale that the host lacks (valkey-io/valkey#3067).
                env={**os.environ, "LC_ALL": "C"},
            )
        )
        try:
            return await asyncio.shield(spawning)
        except asyncio.CancelledError:
            self._process = await spawning  # so that `stop` ends it
            raise
        finally:
            os.close(log)
            os.close(read_end)

    def _options(self) -> list[str]:
        options = {
            "dir": self._server_dir,
            "logfile": self.log_path,
            "unixsocket": self.socket_path,
            "unixsocketperm": 700,
            "port": 0,
            "save": "",
            "appendonly": "yes",
            "appendfsync": "always",
            "aof-load-truncated": "yes",
            "maxmemory": _memory() // 2,
            "maxmemory-policy": "noeviction",
            "hash-max-listpack-value": 1024,
        }
        return [word for name, value in options.items() for word in (f"--{name}", str(value))]

    async def _clear(self) -> int:
        """
        End what an earlier run left behind, and return the lock that the next server is to inherit.

        All processes of a server hold that lock, so it is free only when the last of them, hung or not, is gone.
        """
        lock_path = self._server_dir / "server.lock"
        began, reported = time.monotonic(), False
        while True:
            listens = self._listens()
            lock = _try_lock(lock_path)
            if lock is not None:
                if not listens:
                    return lock
                os.close(lock)
            if listens:
                if not reported:
                    self._report("orphan_found", socket=str(self.socket_path))
                    reported = True
                with suppress(RedisError):
                    async with self._client() as client:
                        await cast(Any, client).shutdown()
            waited = time.monotonic() - began
            if waited > 2 * SHUTDOWN_GRACE:
                raise StoreUnavailable(f"A server of an earlier run still uses {self._server_dir}; end that process.")
            # While the lock is held, and only then, the group written in it is sure to be the server's.
            if waited > SHUTDOWN_GRACE and lock is None and (group := lock_path.read_text()):
                _kill_group(int(group))
            await asyncio.sleep(0.02)

    async def _end_process(self) -> None:
        self._leash = _close(self._leash)
        if self._process:
            try:
                await asyncio.wait_for(self._process.wait(), SHUTDOWN_GRACE)
            except TimeoutError:
                _kill_group(self._process.pid)
                await self._process.wait()
            self._process = None

    async def _supervise(self) -> None:
        failures = 0
        while process := self._process:
            began = time.monotonic()
            code = await process.wait()
            self.healthy = False
            self._report("crashed", code=code)
            if time.monotonic() - began > STEADY:
                failures = 0
            while not self.healthy:
                await self._end_process()
                await asyncio.sleep(min(RESTART_DELAY * 2 ** min(failures, 16), RESTART_DELAY_CAP))
                failures += 1
                try:
                    await self._launch()
                except (GopherError, OSError) as error:
                    self._report("restart_failed", error=str(error))
                else:
                    self.healthy = True

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            if self._listens() != self.healthy:
                self.healthy = not self.healthy
                self._report("owner_back" if self.healthy else "owner_lost")

    async def _until_ready(self, *, unless: Callable[[], bool]) -> bool:
        """Wait until the server has its data loaded; False if `unless` comes true before that."""
        pause, loaded = 0.005, 0
        deadline = time.monotonic() + PATIENCE
        next_report = time.monotonic() + FIRST_LOADING_REPORT
        while not unless():
            state: dict[str, Any] = {}
            with suppress(RedisError):
                state = await self._persistence()
            if state and not state["loading"]:
                return True
            now, before, loaded = time.monotonic(), loaded, int(state.get("loading_loaded_bytes", 0))
            if loaded > before:
                deadline = now + PATIENCE
                if now > next_report:
                    next_report = now + NEXT_LOADING_REPORT
                    self._report("loading", percent=state["loading_loaded_perc"], eta=state["loading_eta_seconds"])
            elif now > deadline:
                raise StoreUnavailable(f"The server of {self.data_dir} does not answer; see {self.log_path}.")
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, 0.25)
        return False

    def _listens(self) -> bool:
        """Whether there is a server, be it hung: of one that does not answer, the client says the same as of none."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.setblocking(False)
            try:
                probe.connect(str(self.socket_path))
            except (FileNotFoundError, ConnectionRefusedError):
                return False
            except BlockingIOError:
                pass  # so many wait to be let in that there is no room for one more
        return True

    async def _persistence(self) -> dict[str, Any]:
        # A server answers INFO, unlike PING, also while it loads and when its disk is full.
        async with self._client() as client:
            return await cast(Any, client).info("persistence")

    def _client(self) -> Redis:
        return Redis(unix_socket_path=str(self.socket_path), socket_timeout=ANSWER_LIMIT, retry=Retry(NoBackoff(), 0))


def _memory() -> int:
    """Bytes of memory that this host, or its container, has."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for place in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            limits.append(int(Path(place).read_text()))
    return min(limits)


def _try_lock(path: Path) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _close(descriptor: int | None) -> None:
    if descriptor is not None:
        _closed_in_forks.discard(descriptor)
        os.close(descriptor)


def _kill_group(group: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _socket_path(data_dir: Path) -> Path:
    """In the data directory, or if that is too long a path for a socket, where all nodes on it find it by its name."""
    path = data_dir / "valkey.sock"
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH:
        return path
    return Path("/tmp", f"gopher-{os.getuid()}-{sha256(os.fsencode(data_dir)).hexdigest()[:16]}", "valkey.sock")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _last_lines(path: Path, start: int, count: int = 5) -> str:
    with path.open("rb") as log:
        log.seek(start)
        return "\n".join(log.read().decode("utf-8", "replace").splitlines()[-count:])
