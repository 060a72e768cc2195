"""
What kind of server the store stands on, and what it does when that forgets, refuses, or has no memory left.

Mostly on servers of their own, with settings that no other test could bear.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from gopher_node.errors import StoreError, StoreFull, StoreReadOnly, UnusableStore
from gopher_node.job import Job, NewJob, State
from gopher_node.store import Beat, Beaten, Connections, JobFilter, Store
from gopher_node.store import server as store_server
from gopher_node.store.embedded import find_binary
from tests.conftest import server
from tests.store import consistency
from tests.store.conftest import OpenStore
from tests.store.keyspace import canonical, command, differences, dump, prefix
from tests.store.lives import FAR, POOL, TYPE, claim_one, relive
from tests.store.test_told_twice import VERBS, try_act


@contextlib.asynccontextmanager
async def opened(url: str, **options: Any) -> AsyncIterator[Store]:
    store = Store(Connections(url), patience=0.1, **options)
    try:
        await store.open()
        yield store
    finally:
        await store.close()


@pytest.fixture
def url() -> Iterator[str]:
    """A server of the test's own."""
    with server(str(find_binary())) as url:
        yield url


# A server that has no memory left


@pytest.fixture
async def full(url: str) -> AsyncIterator[Store]:
    """A store whose server has used up its memory, and a little more."""
    async with opened(url) as store:
        session = await store.open_session("node", 15.0)
        await store.claim(session, POOL, 1)
        await store.submit(NewJob(type=TYPE, delay_ms=1000))
        await store.submit_many([NewJob(type=TYPE, payload=b'"' + b"x" * 50_000 + b'"') for _ in range(60)])
        memory: bytes = await command(store, "INFO", "memory")
        used = int(memory.split(b"used_memory:")[1].split()[0])
        await command(store, "CONFIG", "SET", "maxmemory", used - 500_000)
        yield store
        await consistency.check(store)


async def test_a_full_store_takes_no_new_jobs(full: Store) -> None:
    """A store without memory refuses new jobs, one and many, and keeps all that it has."""
    before = await dump(full)

    with pytest.raises(StoreFull, match="maxmemory"):
        await full.submit(NewJob(type=TYPE))
    with pytest.raises(StoreFull):
        await full.submit_many([NewJob(type=TYPE) for _ in range(10)])

    assert differences(before, await dump(full)) == []


async def test_a_full_store_goes_on_with_what_it_has(full: Store) -> None:
    """Whatever finishes or frees work goes on without memory, though the server has not seen these scripts before."""
    session = await full.open_session("node", 15.0)
    leases = (await full.claim(session, POOL, 8)).leases
    now = (await full.survey()).now_ms
    held, other, lost = (await full.leases.claim(POOL, 3, now=now)).leases
    assert (
        await full.leases.heartbeat([Beat(held, progress=b'"' + b"y" * 5000 + b'"'), Beat(other)], now=now)
        == [Beaten(now + 30_000, False)] * 2
    )
    assert await full.leases.count_error(other) == 1
    assert await full.reap_overdue((await full.survey(now=now + 30_000)).overdue, now=now) == 3
    assert (await full.leases.claim_job(lost.job.id)).job.attempt == 2
    await full.release(await full.leases.open_token(lost.job.id) or lost)

    await full.renew(session)
    assert await full.complete(leases[0], b'"' + b"y" * 5000 + b'"') is State.COMPLETED
    assert await full.retry(leases[1], b"{}", 60.0) is State.SCHEDULED
    assert await full.fail(leases[2], b"{}") is State.FAILED
    assert await full.release(leases[3]) is State.ENQUEUED
    assert await full.cancelled(leases[4]) is State.CANCELLED
    assert (await full.cancel(leases[5].job.id)).cancel_requested
    assert await full.reap_session(session.id, 1) == 3
    assert (await full.promote(now=(await full.survey()).now_ms + FAR)).count == 2
    await full.delete(leases[2].job.id)
    assert (await full.wait(leases[0].job.id, 1.0)).state is State.COMPLETED
    assert (await full.wait(leases[6].job.id, 0.01)).state is State.ENQUEUED
    await full.close_session(await full.open_session("node", 15.0))
    await full.prune(now=(await full.survey()).now_ms + FAR)
    assert len((await full.list(JobFilter(states=(State.ENQUEUED,)))).items) == 50


async def test_a_full_store_is_emptied_and_takes_jobs_again(full: Store) -> None:
    """A node that starts on a full store can work it off, and then new jobs are welcome."""
    async with opened(full._connections.url) as store:
        session = await store.open_session("node", 15.0)
        lease = await claim_one(store, session)
        await store.complete(lease)
        await store.delete(lease.job.id)
        await store.purge(TYPE)

        assert (await store.submit(NewJob(type=TYPE))).created


# A server that forgets


@pytest.mark.parametrize("verb", VERBS)
async def test_a_server_that_has_forgotten_the_scripts(open_store: OpenStore, namespace: str, verb: str) -> None:
    """Each verb loads its script again where the server does not know it: after a restart, a failover, a flush."""
    row = VERBS[verb]
    state = next((state for state in row.changes if state != "absent"), "processing")
    once = await open_store(namespace=f"{namespace}-once")
    life, _ = await relive(once, state)
    answer = await try_act(row.act, once, life)
    store = await open_store(namespace=namespace)
    await relive(store, state)
    run = store._scripts.run

    async def forget_and_run(*words: Any, **options: Any) -> Any:
        await command(store, "SCRIPT", "FLUSH")
        return await run(*words, **options)

    store._scripts.run = forget_and_run

    answer_of_the_forgetful = await try_act(row.act, store, life)

    assert isinstance(answer, Job) or answer_of_the_forgetful == answer
    assert canonical(await dump(store)) == canonical(await dump(once))


# A server that will not do


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl", "allkeys-random"])
async def test_a_server_that_evicts(url: str, policy: str) -> None:
    """A server that would throw jobs away when memory runs short is refused, with the setting that mends it."""
    async with opened(url) as store:
        await command(store, "CONFIG", "SET", "maxmemory-policy", policy)

    with pytest.raises(UnusableStore, match=f"{policy}.*noeviction"):
        async with opened(url):
            pass


async def test_a_newer_layout(store: Store) -> None:
    """Data of a layout that this version does not know are left alone."""
    await command(store, "SET", f"{prefix(store)}layout", 2)

    with pytest.raises(UnusableStore, match="layout 2"):
        await store.open()

    await command(store, "SET", f"{prefix(store)}layout", 1)
    await store.open()


class Told:
    """A server that answers what a test says."""

    def __init__(self, **info: str) -> None:
        self._info = "# Server\r\n" + "".join(f"{name}:{value}\r\n" for name, value in info.items())

    async def request(self, *words: Any) -> Any:
        if words[0] == "INFO":
            return self._info.encode()
        raise StoreError("ERR unknown command")


async def test_an_old_server() -> None:
    """A server that is too old to flag scripts is refused, with its version."""
    for version in ("6.2.14", "5.0.0", "2.8"):
        with pytest.raises(UnusableStore, match=version):
            await store_server.check(Told(redis_version=version))  # type: ignore[arg-type]
    for version in ("7.0.0", "7.2.4", "10.0.1"):
        assert await store_server.check(Told(redis_version=version)) == "memory"  # type: ignore[arg-type]


async def test_a_server_that_hides_how_it_syncs() -> None:
    """Where CONFIG is forbidden the durability is unknown, and nobody claims more."""
    hiding: Any = Told(redis_version="7.2.4", aof_enabled="1")

    assert await store_server.check(hiding) == "unknown"


@pytest.mark.parametrize(
    ("settings", "level"),
    [
        ({"appendonly": "yes", "appendfsync": "always"}, "fsync"),
        ({"appendonly": "yes", "appendfsync": "everysec"}, "memory"),
        ({"appendonly": "no"}, "memory"),
    ],
    ids=["always", "everysec", "off"],
)
async def test_durability(url: str, settings: dict[str, str], level: str) -> None:
    """What an accepted job survives is read from the server's settings."""
    async with opened(url) as store:
        for name, value in settings.items():
            await command(store, "CONFIG", "SET", name, value)

    async with opened(url) as store:
        assert store.durability == level


# A server that refuses


async def test_a_wrong_password(url: str) -> None:
    """Who is not let in is told which settings to look at."""
    async with opened(url) as store:
        await command(store, "CONFIG", "SET", "requirepass", "right")

    for password in ("wrong", None):
        stranger = Store(Connections(url, password=password))
        # What it says is not that a right has to be granted.
        with pytest.raises(UnusableStore, match=r"^The store refused to let us in: .* REDIS_PASSWORD"):
            await stranger.open()
        await stranger.close()
    right = Store(Connections(url, password="right"))
    await right.open()
    await right.close()


async def test_a_user_without_the_rights(url: str) -> None:
    """A user of the server who may not do what the store needs is told so; one who only may not look around goes on."""
    async with opened(url) as store:
        for user, rights in (("blind", "-info"), ("idle", "-evalsha")):
            await command(store, "ACL", "SETUSER", user, "on", ">secret", "~*", "&*", "+@all", rights)

    blind = Store(Connections(url, username="blind", password="secret"))
    await blind.open()
    assert blind.durability == "unknown"
    await blind.close()
    idle = Store(Connections(url, username="idle", password="secret"))
    with pytest.raises(UnusableStore, match="right"):
        await idle.open()
    await idle.close()


async def test_a_server_that_cannot_write(url: str) -> None:
    """A replica refuses writes until it is promoted: that passes, and is told as an outage, not as a bug."""
    async with opened(url) as store:
        await command(store, "REPLICAOF", "127.0.0.1", "1")
        with pytest.raises(StoreReadOnly, match="takes no writes"):
            await store.submit(NewJob(type=TYPE))

        await command(store, "REPLICAOF", "NO", "ONE")
        assert (await store.submit(NewJob(type=TYPE))).created
