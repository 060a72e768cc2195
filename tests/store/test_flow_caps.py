"""Caps: how many jobs of a type, and of a group, run at once over all nodes; and whatever gives a place back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from gopher_node.flow import Rate
from gopher_node.job import Lease, NewJob, Priority
from gopher_node.store import Pool, Session, Store
from tests.store.keyspace import command, prefix
from tests.store.lanes import fill, names, take
from tests.store.lives import FAR

MAIL = Pool.of(["mail"])
ERROR = b'{"code":"broken","message":""}'


async def nobody_is_woken(store: Store) -> None:
    while await store.wait_for_work(MAIL, 0.0):
        pass


async def complete(store: Store, session: Session, lease: Lease) -> None:
    await store.complete(lease)


async def fail(store: Store, session: Session, lease: Lease) -> None:
    await store.fail(lease, ERROR)


async def retry_later(store: Store, session: Session, lease: Lease) -> None:
    await store.retry(lease, ERROR, 3600.0)


async def release(store: Store, session: Session, lease: Lease) -> None:
    await store.release(lease)


async def be_cancelled(store: Store, session: Session, lease: Lease) -> None:
    await store.cancel(lease.job.id)
    await store.cancelled(lease)


async def close(store: Store, session: Session, lease: Lease) -> None:
    await store.close_session(session)


async def crash(store: Store, session: Session, lease: Lease) -> None:
    await store.reap_session(session.id, 0)


async def run_too_long(store: Store, session: Session, lease: Lease) -> None:
    await store.reap_overdue((await store.survey(now=(await store.survey()).now_ms + FAR)).overdue)


ENDS = [complete, fail, retry_later, release, be_cancelled, close, crash, run_too_long]


@pytest.mark.parametrize("limits", [{"max_running": 1}, {"group_max_running": 1}], ids=["type", "group"])
@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
async def test_whatever_ends_a_run_gives_its_place_to_one(
    store: Store, limits: dict[str, int], end: Callable[[Store, Session, Lease], Awaitable[None]]
) -> None:
    """One place: nobody gets a second job while it is taken; when it is free who waits is woken, and gets one."""
    await store.flow.set("mail", limits)
    holder, other = await store.open_session("holder", 15.0), await store.open_session("other", 15.0)
    for level in Priority:
        await fill(store, level.label, 3, group="g", priority=level)
    (lease,) = (await store.claim(holder, MAIL, 5)).leases
    blocked = await store.claim(other, MAIL, 5)
    assert (blocked.leases, blocked.next_ms) == ([], None)
    await nobody_is_woken(store)
    await store.submit(NewJob(type="mail", group="g"))
    assert not await store.wait_for_work(MAIL, 0.0)

    await end(store, holder, lease)

    assert await store.wait_for_work(MAIL, 1.0)
    assert len(await take(store, other, MAIL, 5)) == 1
    assert await take(store, other, MAIL, 5) == []


async def test_a_cap_is_exact_over_sessions_and_ways_to_claim(store: Store) -> None:
    """Nodes, HTTP leases and a claim by id share the places; a claim by id always gets its job, and counts."""
    await store.flow.set("mail", {"max_running": 3})
    ids = await fill(store, "a", 20, group="g")
    one, two = await store.open_session("one", 15.0), await store.open_session("two", 15.0)
    leases = (await store.claim(one, MAIL, 2)).leases
    leases += (await store.leases.claim(MAIL, 5)).leases
    assert len(leases) == 3
    named = await store.leases.claim_job(ids[-1])
    assert [await take(store, session, MAIL, 5) for session in (one, two)] == [[], []]

    await store.complete(leases.pop())
    assert await take(store, two, MAIL, 5) == []  # there were four, so none is free
    await store.complete(named)

    assert len(await take(store, two, MAIL, 5)) == 1


async def test_a_place_is_given_back_once(store: Store) -> None:
    """An outcome that is told again, and one that is told late, free nothing."""
    await store.flow.set("mail", {"max_running": 2, "group_max_running": 2})
    await fill(store, "a", 10, group="g")
    dead, alive = await store.open_session("dead", 15.0), await store.open_session("alive", 15.0)
    (late, _) = (await store.claim(dead, MAIL, 5)).leases
    await store.reap_session(dead.id, 0)
    (first, _) = (await store.claim(alive, MAIL, 5)).leases

    assert await store.complete(late) is None
    assert await take(store, alive, MAIL, 5) == []
    for _ in range(2):
        await store.complete(first)

    assert len(await take(store, alive, MAIL, 5)) == 1
    await store.reap_session(dead.id, 0)
    assert await take(store, alive, MAIL, 5) == []


async def test_a_repeated_claim_takes_no_place(store: Store) -> None:
    """A claim that is told again gets the jobs that it has, and no tokens or places are used for it."""
    now = (await store.survey()).now_ms + 1000
    await store.flow.set("mail", {"max_running": 4, "rate": Rate(1.0, burst=4)}, now=now)
    await fill(store, "a", 10)
    session = await store.open_session("node", 15.0)

    for _ in range(2):
        assert len((await store.claim(session, MAIL, 2, claim_id="1", now=now)).leases) == 2

    assert len(await take(store, session, MAIL, 10, claim_id="2", now=now)) == 2


async def test_groups_have_caps_of_their_own(store: Store) -> None:
    """A group at its cap waits, the others are served; the one whose run ends is served again."""
    await store.flow.set("mail", {"group_max_running": 2})
    for group in ("a", "b", ""):
        await fill(store, group or "none", 5, group=group)
    session = await store.open_session("node", 15.0)

    leases = (await store.claim(session, MAIL, 20)).leases

    assert Counter(lease.job.group for lease in leases) == {"a": 2, "b": 2, "": 5}
    await store.complete(next(lease for lease in leases if lease.job.group == "b"))
    assert names(await take(store, session, MAIL, 20)) == ["b"]


async def test_a_free_place_without_a_token_waits_for_the_token(store: Store) -> None:
    """A type that was at its cap, and has no token when a place gets free, is served when the token comes."""
    now = (await store.survey()).now_ms + 3_600_000
    await store.flow.set("mail", {"max_running": 1, "rate": Rate(1.0, per=7200)}, now=now)
    await fill(store, "a", 3)
    session = await store.open_session("node", 15.0)
    (lease,) = (await store.claim(session, MAIL, 5, now=now)).leases
    assert (await store.claim(session, MAIL, 5, now=now + 1)).next_ms is None

    await store._send_settlements([("complete", lease.job.id, 1, lease.nonce, b"1", "", 0)], now=now + 2)

    assert await store.wait_for_work(MAIL, 1.0)
    assert (await store.claim(session, MAIL, 5, now=now + 3)).next_ms == now + 7_200_000
    assert len(await take(store, session, MAIL, 5, now=now + 7_200_000)) == 1


async def test_a_changed_cap_holds_at_once(store: Store) -> None:
    """A higher one wakes who waits; a lower one takes nothing away, and lets nobody in until enough have ended."""
    await store.flow.set("mail", {"max_running": 1})
    await fill(store, "a", 20)
    session = await store.open_session("node", 15.0)
    leases = (await store.claim(session, MAIL, 10)).leases
    assert await take(store, session, MAIL, 10) == []

    await store.flow.set("mail", {"max_running": 4})

    assert await store.wait_for_work(MAIL, 1.0)
    leases += (await store.claim(session, MAIL, 10)).leases
    assert len(leases) == 4
    await store.flow.set("mail", {"max_running": 2})
    for left in (3, 2, 1):
        await store.complete(leases.pop())
        assert len(await take(store, session, MAIL, 10)) == int(left == 1)


async def test_runs_that_began_before_the_cap_count(store: Store) -> None:
    """A group's cap that is set while its jobs run knows of them."""
    await fill(store, "a", 10, group="g")
    session = await store.open_session("node", 15.0)
    leases = (await store.claim(session, MAIL, 2)).leases

    await store.flow.set("mail", {"group_max_running": 2})

    assert await take(store, session, MAIL, 5) == []
    await store.complete(leases[0])
    assert len(await take(store, session, MAIL, 5)) == 1


async def test_runs_that_an_older_node_began(store: Store) -> None:
    """They were not counted for their group; when they end it has no more places than its cap for that."""
    await store.submit_many([NewJob(type="mail", group="acme") for _ in range(6)])
    session = await store.open_session("node", 15.0)
    old = (await store.claim(session, MAIL, 3)).leases
    await command(store, "DEL", prefix(store) + "running:mail")
    await store.flow.set("mail", {"group_max_running": 2})

    for lease in old:
        await store.complete(lease)

    assert len((await store.claim(session, MAIL, 5)).leases) == 2
