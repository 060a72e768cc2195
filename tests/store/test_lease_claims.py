"""HTTP claims: what they get, told again too, how they wait, and of how many pools."""

# pyright: reportPrivateUsage=false

from __future__ import annotations

import pytest

from gopher_node.errors import TooManyPools
from gopher_node.job import NewJob, State
from gopher_node.store import Pool, Store
from tests.store.conftest import OpenStore
from tests.store.keyspace import command, differences, dump, prefix
from tests.store.lives import POOL, TYPE, claim_one
from tests.store.test_leases import beat, lease_one, time
from tests.store.test_told_twice import Echo

# Claiming


async def test_a_lease_needs_no_session(store: Store) -> None:
    """A lease call gets its jobs without a session; they say who works, and when each lease ends."""
    now = await time(store)
    await store.submit_many([NewJob(type=TYPE, payload=b"%d" % n, group="acme") for n in range(3)])

    claimed = await store.leases.claim(POOL, 2, lease=20.0, worker="printer", now=now)

    assert [lease.expires_ms for lease in claimed.leases] == [now + 20_000] * 2
    assert [(lease.job.payload, lease.job.group, lease.job.attempt) for lease in claimed.leases] == [
        (b"0", "acme", 1),
        (b"1", "acme", 1),
    ]
    assert (await store.get(claimed.leases[0].job.id)).node == "http:printer"
    assert (await store.survey()).sessions == {}
    assert [await store.complete(lease.token) for lease in claimed.leases] == [State.COMPLETED] * 2


async def test_a_claim_told_again_gets_its_jobs_again(store: Store) -> None:
    """The same claim id is answered with the same leases, whatever is asked now, and takes no more jobs."""
    await store.submit_many([NewJob(type=TYPE) for _ in range(5)])
    first = await store.leases.claim(POOL, 3, claim_id="one")
    before = await dump(store)

    again = await store.leases.claim(POOL, 5, claim_id="one", lease=60.0)

    assert again.leases == first.leases
    assert differences(before, await dump(store)) == []


async def test_a_claim_told_again_gets_what_it_still_holds(store: Store) -> None:
    """Settled and lapsed jobs of a claim, and those that others hold by now, are not given out again."""
    now = await time(store)
    await store.submit_many([NewJob(type=TYPE) for _ in range(4)])
    settled, lapsed, taken, kept = (await store.leases.claim(POOL, 4, claim_id="one", now=now)).leases
    await store.complete(settled)
    await beat(store, taken, now, lease=10.0)
    await beat(store, kept, now, lease=60.0)
    await store.reap_overdue([run for run in (await store.survey(now=now + 11_000)).overdue if run.id == taken.job.id])
    await lease_one(store, claim_id="two")
    await store.reap_overdue([run for run in (await store.survey(now=now + 31_000)).overdue if run.id == lapsed.job.id])

    again = await store.leases.claim(POOL, 4, claim_id="one")

    assert [lease.token for lease in again.leases] == [kept.token]
    assert again.leases[0].expires_ms == now + 60_000


async def test_a_claim_that_got_nothing_may_go_on_asking(store: Store) -> None:
    """An empty answer is not held on to: with the same id a claim gets the jobs that have come since."""
    assert (await store.leases.claim(POOL, 2, claim_id="one")).leases == []
    await store.submit_many([NewJob(type=TYPE) for _ in range(3)])

    first = await store.leases.claim(POOL, 2, claim_id="one")

    assert len(first.leases) == 2
    assert (await store.leases.claim(POOL, 2, claim_id="one")).leases == first.leases


@pytest.mark.parametrize("waits", [True, False])
async def test_an_empty_claim_told_twice(store: Store, waits: bool) -> None:
    """A late copy of a request that got nothing takes nothing either, though there is work by then."""
    await store.leases.claim(POOL, 1)
    echo = Echo(store)
    told: list[tuple[object, ...]] = []
    run = store._scripts.run

    async def remember(name: str, *arguments: object, now: int | None = None) -> object:
        told.append((name, *arguments))
        return await run(name, *arguments, now=now)  # type: ignore[arg-type]

    store._scripts.run = remember  # type: ignore[method-assign]
    assert (await store.leases.claim(POOL, 1, claim_id="one", waits=waits)).leases == []
    await store.submit(NewJob(type=TYPE))

    late = await store._run(*told[0])  # type: ignore[arg-type]

    assert late[2:] == []
    assert echo.faults == []


async def test_a_claims_id_is_no_nodes_session(store: Store) -> None:
    """Whoever chooses the id of a node's session as a claim's gets nothing of that session."""
    session = await store.open_session("node", 15.0)
    await store.submit_many([NewJob(type=TYPE) for _ in range(2)])
    held = await claim_one(store, session)

    other = await lease_one(store, claim_id=session.id)

    assert other.job.id != held.job.id
    await store.close_session(session)
    assert [await store.complete(held), await store.complete(other)] == [None, State.COMPLETED]


async def record_lasts(store: Store, session: str) -> int:
    return await command(store, "PTTL", f"{prefix(store)}session:http-{session}")


async def test_a_claims_record_ends(store: Store) -> None:
    """What nobody can repeat but the store, or got nothing, is soon forgotten; what has a key lasts as its leases."""
    await store.submit_many([NewJob(type=TYPE) for _ in range(4)])
    await store.leases.claim(POOL, 1, waiter="once", lease=3600.0)
    for name, lease in (("short", 5.0), ("long", 600.0)):
        await lease_one(store, claim_id=name, lease=lease)
    await store.leases.claim(Pool.of(["none"]), 1, claim_id="empty", lease=3600.0)

    lasts = [await record_lasts(store, name) for name in ("once", "key-empty", "key-short", "key-long")]

    assert [round(ms, -3) for ms in lasts] == [15_000, 15_000, 20_000, 615_000]


async def test_an_impatient_stores_claims_are_not_forgotten_before_it_is(open_store: OpenStore) -> None:
    """A store that repeats for longer is remembered for longer."""
    store = await open_store(patience=60.0)
    await store.submit(NewJob(type=TYPE))
    await store.leases.claim(POOL, 1, waiter="once")

    assert await record_lasts(store, "once") > 170_000


async def test_a_claim_with_a_key_is_remembered_as_long_as_its_jobs_run(store: Store) -> None:
    """Each heartbeat keeps the claim of its job: repeated late, that gets no others."""
    now = await time(store)
    await store.submit_many([NewJob(type=TYPE) for _ in range(4)])
    one, two = (await store.leases.claim(POOL, 2, claim_id="one", lease=5.0, now=now)).leases
    other = (await store.leases.claim(POOL, 1, waiter="other", lease=5.0, now=now)).leases[0]

    await beat(store, one, now, lease=200.0)
    await beat(store, two, now)
    await beat(store, other, now, lease=200.0)

    assert 214_000 < await record_lasts(store, "key-one") <= 215_000
    assert await record_lasts(store, "other") <= 15_000
    again = await store.leases.claim(POOL, 2, claim_id="one", now=now + 100_000)
    assert {lease.token for lease in again.leases} == {one.token, two.token}


async def test_a_heartbeat_makes_no_record(store: Store) -> None:
    """Nothing is left behind for a claim that is forgotten already."""
    await store.submit(NewJob(type=TYPE))
    lease = await lease_one(store, claim_id="one")
    await command(store, "DEL", f"{prefix(store)}session:http-key-one")

    assert await beat(store, lease, await time(store)) is not None

    assert await record_lasts(store, "key-one") == -2


# Waiting


async def waiting(store: Store) -> int:
    return await command(store, "ZCARD", f"{prefix(store)}waiting:{POOL.key}")


async def test_a_claim_that_waits_is_woken(store: Store) -> None:
    """Each of two lease calls that found nothing is woken by a job of its own."""
    for name in ("one", "two"):
        assert (await store.leases.claim(POOL, 1, claim_id=name)).leases == []
    assert not await store.wait_for_work(POOL, 0.01)

    await store.submit_many([NewJob(type=TYPE) for _ in range(2)])

    assert await store.wait_for_work(POOL, 1.0)
    await lease_one(store, claim_id="one")
    assert await store.wait_for_work(POOL, 1.0)
    await lease_one(store, claim_id="two")


async def test_who_does_not_wait_leaves_no_registration(store: Store) -> None:
    """A call that polls uses up no wake-up, nor does one that has waited long enough, or got a job."""
    await store.leases.claim(POOL, 1, waits=False)
    assert await waiting(store) == 0
    await store.leases.claim(POOL, 1, claim_id="one")
    assert await waiting(store) == 1
    await store.leases.claim(POOL, 1, claim_id="one", waits=False)
    assert await waiting(store) == 0
    await store.leases.claim(POOL, 2, claim_id="two")
    await store.submit_many([NewJob(type=TYPE)])
    assert len((await store.leases.claim(POOL, 2, claim_id="two")).leases) == 1
    assert await waiting(store) == 0


async def test_registrations_of_the_gone_end(store: Store) -> None:
    """What lease calls that never came back had registered goes after 15 seconds; a node's registration stays."""
    now = await time(store)
    session = await store.open_session("node", 15.0)
    await store.claim(session, POOL, 1, now=now)
    for _ in range(5):
        await store.leases.claim(POOL, 1, now=now)

    await store.leases.claim(POOL, 1, claim_id="one", now=now + 14_000)
    assert await waiting(store) == 7
    await store.leases.claim(POOL, 1, claim_id="one", now=now + 16_000)

    assert await waiting(store) == 2


async def test_tokens_that_nobody_takes_do_not_pile_up(valkey_store: Store) -> None:
    """However many waiters have gone, a bounded number of wake-ups is kept for those that come."""
    store = valkey_store
    await store.leases.claim(POOL, 1)
    start = prefix(store)
    await command(store, "RPUSH", f"{start}wake:{POOL.key}", *["1"] * 1000)
    await store.submit(NewJob(type=TYPE))

    assert await command(store, "LLEN", f"{start}wake:{POOL.key}") == 1000
    assert await command(store, "PTTL", f"{start}wake:{POOL.key}") > 0


async def test_a_wake_up_is_passed_on(store: Store) -> None:
    """Whoever took one in vain leaves one to others while there is work, and no more than one."""
    await store.leases.claim(POOL, 1)
    await store.leases.pass_on(POOL)
    assert not await store.wait_for_work(POOL, 0.01)
    await store.submit(NewJob(type=TYPE))
    assert await store.wait_for_work(POOL, 1.0)
    echo = Echo(store)

    await store.leases.pass_on(POOL)

    assert echo.faults == []
    assert 0 < await command(store, "PTTL", f"{prefix(store)}wake:{POOL.key}") <= 10_000
    assert await store.wait_for_work(POOL, 1.0)
    assert not await store.wait_for_work(POOL, 0.01)


# Pools


async def test_a_type_is_in_a_bounded_number_of_pools(store: Store) -> None:
    """The 65th set of types with one type in it is refused, and leaves nothing behind; those that are open stay."""
    pools = [Pool.of(["common", f"type{n}"]) for n in range(65)]
    for pool in pools[:64]:
        await store.leases.claim(pool, 1)
    before = await dump(store)

    with pytest.raises(TooManyPools):
        await store.leases.claim(pools[64], 1)

    assert differences(before, await dump(store)) == []
    await store.submit(NewJob(type="common"))
    assert await store._run("open_pool", pools[0].key, 64, *pools[0].types) == 1
    assert len((await store.leases.claim(pools[0], 1)).leases) == 1
    await store.leases.claim(Pool.of(["type64"]), 1)


async def test_a_node_always_gets_its_pool(store: Store) -> None:
    """However many sets of types are asked for over HTTP, a node that serves one of them more is not shut out."""
    for n in range(64):
        await store.leases.claim(Pool.of(["common", f"type{n}"]), 1)
    await store.submit(NewJob(type="common"))

    claimed = await store.claim(await store.open_session("node", 15.0), Pool.of(["common"]), 1)

    assert len(claimed.leases) == 1


async def test_there_is_a_bounded_number_of_pools(store: Store) -> None:
    """Of sets of types that have nothing in common too; those that are open stay, and a node always gets its own."""
    await store.leases.claim(Pool.of(["first"]), 1)
    start, now = prefix(store), await time(store)
    await command(store, "ZADD", f"{start}pools", *[word for n in range(998) for word in (now, f"other{n}")])
    await store.leases.claim(Pool.of(["last"]), 1)
    before = await dump(store)

    with pytest.raises(TooManyPools):
        await store.leases.claim(Pool.of(["more"]), 1)

    assert differences(before, await dump(store)) == []
    await store.submit_many([NewJob(type="first"), NewJob(type="more")])
    assert len((await store.leases.claim(Pool.of(["first"]), 1)).leases) == 1
    assert len((await store.claim(await store.open_session("node", 15.0), Pool.of(["more"]), 1)).leases) == 1
