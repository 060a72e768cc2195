"""What all tests share: a real Valkey for each test process, and a store in a namespace of its own for each test."""

from __future__ import annotations

import contextlib
import functools
import gc
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import uuid
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis.utils
import uvloop

from gopher_node.store import Connections, Store
from gopher_node.store.embedded import GUARDIAN, find_binary
from tests import watchdog


def pytest_configure(config: pytest.Config) -> None:
    watchdog.install(config)
    # Each new connection would read anew in the installed package's metadata which version it is.
    redis.utils.get_lib_version = functools.cache(redis.utils.get_lib_version)


def pytest_collection_finish() -> None:
    """Thousands of tests and all modules stay until the end: nothing the collector has to look at again and again."""
    gc.collect()
    gc.freeze()


class Loop(uvloop.Loop):
    """
    The loop that the node runs on; what a test has left open in it is an error.

    uvloop warns of an open handle before it closes it. A warning that is an error at that moment would keep it from
    closing the handle, and it would wait for ever for the handle to be closed.
    """

    def close(self) -> None:
        with warnings.catch_warnings(record=True) as left:
            warnings.simplefilter("always")
            super().close()
        if left:
            warnings.warn(f"left open: {'; '.join(str(warning.message) for warning in left)}", ResourceWarning, 2)


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, object]:
    return {"uvloop": Loop}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--all", action="store_true", help="run the store's tests on fakeredis and the installed Redis, too"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip, and say why, what needs a tool that is not there. The fault suite runs when it is asked for: -m chaos."""
    if "chaos" not in config.getoption("markexpr"):
        left_out = [item for item in items if item.get_closest_marker("chaos")]
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)
    for item in items:
        for mark in item.iter_markers("tool"):
            (tool,) = mark.args
            if shutil.which(tool) is None:
                item.add_marker(pytest.mark.skip(reason=f"needs {tool}, which is NOT INSTALLED here"))


@contextlib.contextmanager
def server(binary: str, *options: str) -> Iterator[str]:
    """A private server on a unix socket, without persistence and else set up as the embedded one. Yields its URL."""
    folder = Path(tempfile.mkdtemp(prefix="gopher-test-"))
    path = folder / "store.sock"
    command = [binary, "--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700", "--dir", str(folder)]
    command += ["--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"]
    command += ["--hash-max-listpack-value", "1024", "--enable-debug-command", "yes", *options]
    # As the embedded store's, it ends with this process, even if that is killed.
    guarded = ["/bin/sh", "-c", GUARDIAN, "test-store", *command]
    process = subprocess.Popen(
        guarded, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    # A server whose lines nobody reads stands still when the pipe is full.
    reader = threading.Thread(target=process.stdout.read, daemon=True)
    try:
        for line in process.stdout:
            if "ready to accept connections" in line.lower():
                break
        reader.start()
        yield f"unix://{path}"
    finally:
        # All of its session at once: what a test has left it doing must not be waited for.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if reader.is_alive():
            reader.join(10)
        process.stdin.close()
        process.stdout.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """The Valkey that the embedded store uses."""
    with server(str(find_binary())) as url:
        yield url


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The Redis that is installed on this machine."""
    with server("redis-server") as url:
        yield url


@pytest.fixture
def namespace() -> str:
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
async def store(valkey_url: str, namespace: str) -> AsyncIterator[Store]:
    """An open store on a real Valkey, in a namespace that no other test uses."""
    store = Store(Connections(valkey_url), namespace=namespace)
    await store.open()
    yield store
    await store.close()
