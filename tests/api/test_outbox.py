"""The recipe in docs/outbox.md: a job that is part of a transaction, sent once, wherever the relay is killed."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import pwd
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.api.conftest import Api

DOCS = Path(__file__).parent.parent.parent / "docs"
BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
POSTGRES = shutil.which("postgres") or (str(BINARIES[-1] / "postgres") if BINARIES else None)

# Sends what waits, and dies as by a power failure before it has struck anything off.
KILLED = """
import os, signal
from gopher_node import Client
sent = Client.submit_all
def send_and_die(*arguments, **options):
    sent(*arguments, **options)
    os.kill(os.getpid(), signal.SIGKILL)
Client.submit_all = send_and_die
"""

Connect = Callable[[], Any]


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["outbox_sqlite", "outbox_postgres"])
def test_the_page_shows_what_is_run(name: str) -> None:
    assert f"```python\n{(DOCS / f'{name}.py').read_text()}```" in (DOCS / "outbox.md").read_text()


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """A PostgreSQL of this test's own; it refuses to run for root."""
    if POSTGRES is None:
        pytest.skip("needs PostgreSQL, which is NOT INSTALLED here")
    pytest.importorskip("psycopg")
    folder = Path(tempfile.mkdtemp(prefix="gopher-postgres-"))
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    data = folder / "data"
    made = [str(Path(POSTGRES).parent / "initdb"), "-D", str(data), "-U", "shop", "-A", "trust", "-N", "-E", "UTF8"]
    subprocess.run(made, check=True, cwd=folder, stdout=subprocess.DEVNULL, **user)
    command = [POSTGRES, "-D", str(data), "-k", str(folder), "-h", "", "-F"]
    server = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, **user)
    try:
        assert server.stderr is not None
        for line in server.stderr:
            if "ready to accept connections" in line:
                break
        yield f"host={folder} user=shop dbname=postgres"
    finally:
        server.send_signal(signal.SIGQUIT)
        server.communicate()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgres"])
def outbox(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Any, str, Connect]]:
    """The recipe's module, the address of an empty database, and how to connect to it as a user's program does."""
    if request.param == "sqlite":
        path = str(tmp_path / "shop.db")
        yield load("outbox_sqlite"), path, lambda: sqlite3.connect(path)
        return
    address: str = request.getfixturevalue("postgres")
    import psycopg

    yield load("outbox_postgres"), address, lambda: psycopg.connect(address)
    with psycopg.connect(address, autocommit=True) as db:
        db.execute("DROP TABLE outbox")


def waiting(connect: Connect) -> list[Any]:
    with closing(connect()) as db:
        return [refused for (refused,) in db.execute("SELECT refused FROM outbox ORDER BY position").fetchall()]


async def test_a_job_is_sent_once(api: Api, outbox: tuple[Any, str, Connect]) -> None:
    """Committed with its transaction, it is stored once, though a relay was killed before it struck it off."""
    module, address, connect = outbox
    name = module.__name__
    with closing(connect()) as db:
        db.execute(module.OUTBOX)
        db.commit()
        ids = [module.enqueue(db, "unserved", {"order": n}, priority="high") for n in range(3)]
        bad = module.enqueue(db, "unserved", {}, priority="whatever")
        db.commit()
        module.enqueue(db, "unserved", {"order": "rolled back"})
        db.rollback()

    died = await relay(KILLED, name, address, api.server.url)
    assert (died, waiting(connect)) == (-signal.SIGKILL, [None] * 4)
    assert await api.stored() == 3

    assert await relay("", name, address, api.server.url) == 0

    (refused,) = waiting(connect)
    assert "/priority" in refused
    assert await api.stored() == 3
    jobs = [(await api.get(f"/api/v1/jobs/{id}")).json for id in ids]
    assert [(job["payload"], job["priority"]) for job in jobs] == [({"order": n}, "high") for n in range(3)]
    assert (await api.get(f"/api/v1/jobs/{bad}")).status == 404


async def relay(before: str, module: str, address: str, url: str) -> int:
    """The exit code of a process that relays once."""
    connecting = (
        "sqlite3.connect(address)" if module == "outbox_sqlite" else "psycopg.connect(address, autocommit=True)"
    )
    library = "sqlite3" if module == "outbox_sqlite" else "psycopg"
    program = f"""
import sys, {library}, {module}
{before}
address, url = sys.argv[1:]
{module}.relay({connecting}, {module}.Client(url))
"""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GOPHER_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, address, url, env={**environment, "PYTHONPATH": str(DOCS)}
    )
    return await process.wait()
