"""
What is left when the power fails: whatever the server had written, and that is consistent.

On servers of their own that write an append-only file, which fakeredis does not.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

from gopher_node.job import NewJob, State
from gopher_node.store import Connections, Store
from gopher_node.store.embedded import find_binary
from tests.conftest import server
from tests.store import consistency
from tests.store.keyspace import differences, dump
from tests.store.lives import POOL, TYPE
from tests.store.test_walk import RETENTION, walk

WRITING = ("--appendonly", "yes", "--appendfsync", "always", "--dir")


async def test_what_was_answered_is_there_after_a_crash(tmp_path: Path) -> None:
    """A server that syncs always and is killed starts again with all that it has answered, and work goes on."""
    with server(str(find_binary()), *WRITING, str(tmp_path)) as url:
        store = Store(Connections(url))
        await store.open()
        assert store.durability == "fsync"
        session = await store.open_session("node", 15.0)
        await store.submit_many([NewJob(type=TYPE) for _ in range(50)])
        leases = (await store.claim(session, POOL, 20)).leases
        for lease in leases[:10]:
            await store.complete(lease)
        before = await dump(store)
        await store.close()

    with server(str(find_binary()), *WRITING, str(tmp_path)) as url:
        store = Store(Connections(url))
        await store.open()
        assert differences(before, await dump(store)) == []
        assert await store.complete(leases[10]) is State.COMPLETED
        await consistency.check(store)
        await store.close()


async def test_a_file_that_was_cut_anywhere(tmp_path: Path) -> None:
    """However little of the file's end was written, no transition is there by half."""
    whole = tmp_path / "whole"
    whole.mkdir()
    with server(str(find_binary()), *WRITING, str(whole)) as url:
        store = Store(Connections(url), retention=RETENTION)
        await store.open()
        await walk(store, seed=5, steps=300, crowd=40)
        await store.close()
    rng = random.Random(5)
    jobs: list[int] = []

    for n in range(8):
        cut = tmp_path / str(n)
        shutil.copytree(whole, cut)
        (log,) = cut.glob("appendonlydir/*.incr.aof")
        with log.open("r+b") as file:
            file.truncate(rng.randrange(1000, log.stat().st_size))
        with server(str(find_binary()), *WRITING, str(cut)) as url:
            store = Store(Connections(url))
            await store.open()
            await consistency.check(store)
            jobs.append(sum((await store.stats()).counts.values()))
            await store.close()

    assert len(set(jobs)) > 1
