"""What all tests share: a real Valkey for each test process, and a store in a namespace of its own for each test."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import uvloop

from gopher_node.store import Connections, Store
from gopher_node.store.embedded import find_binary


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> dict[str, object]:
    """The loop that the node runs on."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """A private server on a unix socket, without persistence, as settings of the embedded one otherwise."""
    folder = Path(tempfile.mkdtemp(prefix="gopher-test-"))
    path = folder / "valkey.sock"
    command = [str(find_binary()), "--port", "0", "--unixsocket", str(path), "--unixsocketperm", "700"]
    command += ["--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction", "--dir", str(folder)]
    command += ["--hash-max-listpack-value", "1024", "--enable-debug-command", "yes"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert server.stdout is not None
    for line in server.stdout:
        if "ready to accept connections" in line.lower():
            break
    with socket.socket(socket.AF_UNIX) as probe:
        probe.connect(str(path))
    yield f"unix://{path}"
    server.kill()
    server.wait()
    server.stdout.close()
    shutil.rmtree(folder, ignore_errors=True)


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
