"""Rates: what a limited type and its groups are served, when, and what that leaves to others."""

from __future__ import annotations

from collections import Counter

import pytest

from gopher_node.flow import Rate
from gopher_node.job import NewJob, Priority
from gopher_node.store import Pool, Session, Store
from tests.store.keyspace import dump
from tests.store.lanes import fill, names, take

MAIL, BOTH = Pool.of(["mail"]), Pool.of(["mail", "sms"])


async def serve_for(store: Store, sessions: list[Session], start: int, length: int) -> tuple[list[int], int]:
    """When each job of the type was got, and the number of claims, by sessions that ask whenever they are told to."""
    times: list[int] = []
    claims, now = 0, start
    while now < start + length:
        answers = [await store.claim(session, MAIL, 10, now=now) for session in sessions]
        claims += len(answers)
        times += [now - start for claimed in answers for _ in claimed.leases]
        if all(len(claimed.leases) < 10 for claimed in answers):
            # Nothing is lost by waiting for the time that was told.
            now = max(now + 1, min(claimed.next_ms or start + length for claimed in answers))
    return times, claims


@pytest.mark.parametrize(("rate", "seconds"), [("30/s", 10), ("7/s", 10), ("300/s", 3), ("10/m", 60)])
async def test_a_rate_is_reached_and_never_passed(store: Store, rate: str, seconds: int) -> None:
    """Two sessions get all that the limit allows, nothing more at any moment, and ask only when it has tokens."""
    limit = Rate.parse(rate)
    now = (await store.survey()).now_ms + 1000
    await store.flow.set("mail", {"rate": limit}, now=now)
    await fill(store, "a", 1000)
    sessions = [await store.open_session(f"node{n}", 15.0) for n in range(2)]

    times, claims = await serve_for(store, sessions, now, seconds * 1000)

    allowed = seconds * limit.limit / limit.per
    assert 0.98 * allowed <= len(times) <= allowed + limit.burst
    for number, at in enumerate(times, 1):
        assert number <= limit.burst + at * limit.limit / limit.per / 1000 + 1e-6
    assert claims <= 2 * (len(times) + 2)
    assert Counter(times)[0] == limit.burst


async def test_a_claim_is_told_when_the_next_token_comes(store: Store) -> None:
    """To the millisecond: one before there is nothing, and then there is one job."""
    now = (await store.survey()).now_ms + 1000
    await store.flow.set("mail", {"rate": Rate(4.0)}, now=now)
    await fill(store, "a", 10)
    session = await store.open_session("node", 15.0)

    first = await store.claim(session, MAIL, 10, now=now)

    assert (len(first.leases), first.next_ms) == (1, now + 250)
    early = await store.claim(session, MAIL, 10, now=now + 249)
    assert (early.leases, early.next_ms) == ([], now + 250)
    assert len(await take(store, session, MAIL, 10, now=now + 250)) == 1


async def test_a_limited_type_holds_no_other_up(store: Store) -> None:
    """Its tokens are used up, in whatever priority its jobs wait, and all jobs of the other type come at once."""
    now = (await store.survey()).now_ms + 1000
    await store.flow.set("mail", {"rate": Rate(1.0, burst=2)}, now=now)
    for level in Priority:
        await fill(store, f"mail{level}", 20, priority=level)
    await fill(store, "sms", 40, type="sms", priority=Priority.LOW)

    taken = await take(store, await store.open_session("node", 15.0), BOTH, 100, now=now)

    assert Counter(name[:3] for name in names(taken)) == {"mai": 2, "sms": 40}


async def test_a_changed_limit_holds_at_once(store: Store) -> None:
    """A type that had to wait an hour is served now, and whoever waits is woken for it; without a limit, all of it."""
    now = (await store.survey()).now_ms + 1000
    await store.flow.set("mail", {"rate": Rate(1.0, per=3600)}, now=now)
    await fill(store, "a", 30)
    session = await store.open_session("node", 15.0)
    assert len(await take(store, session, MAIL, 10, now=now)) == 1
    assert (await store.claim(session, MAIL, 10, now=now + 1)).next_ms == now + 3_600_000

    await store.flow.set("mail", {"rate": Rate(10.0, burst=5)}, now=now + 1000)

    assert await store.wait_for_work(MAIL, 1.0)
    assert len(await take(store, session, MAIL, 10, now=now + 1000)) == 5
    await store.flow.set("mail", {"rate": None}, now=now + 1001)
    assert len(await take(store, session, MAIL, 100, now=now + 1001)) == 24


async def test_a_clock_that_is_set_back_stops_nothing(store: Store) -> None:
    """The tokens come at their rate by the clock as it is, an hour before they were last counted."""
    now = (await store.survey()).now_ms + 7_200_000
    await store.flow.set("mail", {"rate": Rate(10.0), "group_rate": Rate(8.0)}, now=now)
    await fill(store, "a", 30, group="a")
    session = await store.open_session("node", 15.0)
    await take(store, session, MAIL, 10, now=now)
    back = now - 3_600_000

    taken = [await take(store, session, MAIL, 10, now=back + 10 * n) for n in range(101)]

    assert 5 <= sum(map(len, taken)) <= 9


async def test_who_waits_is_told_by_who_is_full(store: Store) -> None:
    """A session that took the last token and has no room left wakes another, which is told when the next one comes."""
    now = (await store.survey()).now_ms + 1000
    await store.flow.set("mail", {"rate": Rate(4.0)}, now=now)
    full, idle = await store.open_session("full", 15.0), await store.open_session("idle", 15.0)
    await take(store, full, MAIL, 1, now=now)
    await fill(store, "a", 10)
    await take(store, full, MAIL, 1, now=now)  # the first token
    assert (await store.claim(idle, MAIL, 1, now=now + 1)).next_ms == now + 250
    while await store.wait_for_work(MAIL, 0.0):
        pass

    assert len(await take(store, full, MAIL, 1, now=now + 250)) == 1

    assert await store.wait_for_work(MAIL, 1.0)
    assert (await store.claim(idle, MAIL, 1, now=now + 251)).next_ms == now + 500


async def test_what_waits_for_a_token_wakes_nobody(store: Store) -> None:
    """However many jobs come, nobody is woken for a type without a token, but by the first, to be told the time."""
    now = (await store.survey()).now_ms + 3_600_000
    await store.flow.set("mail", {"rate": Rate(1.0, per=60), "group_rate": Rate(100.0)}, now=now)
    session = await store.open_session("node", 15.0)
    await fill(store, "a", 1)
    assert len(await take(store, session, MAIL, 5, now=now)) == 1
    await store.submit_many([NewJob(type="mail")], now=now + 1)
    assert await store.wait_for_work(MAIL, 1.0)
    assert (await store.claim(session, MAIL, 5, now=now + 2)).next_ms == now + 60_000

    for n in range(20):
        await store.submit_many([NewJob(type="mail", group=f"g{n}")], now=now + 3)

    assert not await store.wait_for_work(MAIL, 0.0)


# Groups


async def test_groups_have_rates_of_their_own(store: Store) -> None:
    """Each group gets its own limit, and jobs without a group have none."""
    now = (await store.survey()).now_ms + 1000
    await store.flow.set("mail", {"group_rate": Rate(5.0, burst=2)}, now=now)
    for group in ("a", "b", ""):
        await fill(store, group or "none", 100, group=group)
    session = await store.open_session("node", 15.0)

    first = names(await take(store, session, MAIL, 20, now=now))
    rest = [await store.claim(session, MAIL, 10, now=now + 100 * n) for n in range(1, 21)]

    assert Counter(first) == {"a": 2, "b": 2, "none": 16}
    taken = Counter(lease.job.group for claimed in rest for lease in claimed.leases)
    assert (taken["a"], taken["b"], taken[""]) == (10, 10, 84)
    assert rest[-1].next_ms == now + 2200


async def test_a_group_that_comes_late_is_served_at_once(store: Store) -> None:
    """All groups that wait have used their tokens up; one that is new waits for none of them, and wakes who waits."""
    now = (await store.survey()).now_ms + 3_600_000
    await store.flow.set("mail", {"group_rate": Rate(1.0, per=60)}, now=now)
    await fill(store, "big", 2000, group="big")
    session = await store.open_session("node", 15.0)
    assert names(await take(store, session, MAIL, 10, now=now)) == ["big"]
    while await store.wait_for_work(MAIL, 0.0):
        pass
    assert (await store.claim(session, MAIL, 10, now=now)).next_ms == now + 60_000

    await store.submit_many([NewJob(id="small-1", type="mail", group="small")], now=now + 1)

    assert await store.wait_for_work(MAIL, 1.0)
    assert names(await take(store, session, MAIL, 10, now=now + 2)) == ["small"]


async def test_turns_stay_fair_under_limits(store: Store) -> None:
    """One job behind a tenant's two thousand is in the next round, with limits of the type and of its groups."""
    now = (await store.survey()).now_ms + 1000
    limits = {"rate": Rate(10.0, burst=2), "group_rate": Rate(8.0, burst=2), "group_max_running": 500}
    await store.flow.set("mail", limits, now=now)
    await fill(store, "big", 2000, group="big")
    session = await store.open_session("node", 15.0)
    await take(store, session, MAIL, 10, now=now)
    await fill(store, "small", 1, group="small")

    taken = names(await take(store, session, MAIL, 10, now=now + 200))

    assert sorted(taken) == ["big", "small"]


async def test_more_groups_than_one_step_looks_at(store: Store) -> None:
    """Twelve hundred groups that wait for an hour are all served when the limit goes, as soon as somebody asks."""
    now = (await store.survey()).now_ms + 1000
    await store.flow.set("mail", {"group_rate": Rate(1.0, per=3600)}, now=now)
    jobs = [NewJob(type="mail", group=f"g{n}") for n in range(1200) for _ in range(2)]
    for start in range(0, len(jobs), 1000):
        await store.submit_many(jobs[start : start + 1000], now=now)
    session = await store.open_session("node", 15.0)
    first = [id for _ in range(7) for id in await take(store, session, MAIL, 200, now=now)]
    assert len(first) == 1200

    await store.flow.set("mail", {"group_rate": None}, now=now + 1)

    rest = [id for _ in range(7) for id in await take(store, session, MAIL, 200, now=now + 2)]
    assert len(set(first) | set(rest)) == 2400
    assert await store.flow.all() == {}


async def test_full_buckets_are_swept_away(store: Store) -> None:
    """A group that was served long ago leaves nothing behind for ever."""
    now = (await store.survey()).now_ms + 1000
    await store.flow.set("mail", {"group_rate": Rate(1.0)}, now=now)
    session = await store.open_session("node", 15.0)
    for step in range(2):
        await store.submit_many([NewJob(type="mail", group=f"g{step}-{n}") for n in range(300)], now=now)
        assert len(await take(store, session, MAIL, 300, now=now)) == 300
        now += 5000

    assert len((await dump(store))["rate-state:mail"].value) < 400
