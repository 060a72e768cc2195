"""Circuit breakers: a type whose runs fail is held back, and one probe finds out for all nodes when it is well."""

from __future__ import annotations

from typing import Any

import pytest

from gopher_node.errors import BreakerNotFound
from gopher_node.flow import BreakerPolicy
from gopher_node.job import Lease, NewJob, Priority, State
from gopher_node.store import Pool, Session, Store
from tests.store.keyspace import command, differences, dump, prefix

NOW = 1_700_000_000_000
TYPE = "mail"
POOL = Pool.of([TYPE])
POLICY = BreakerPolicy(ratio=0.5, minimum=4, window=60.0, cooldown=30.0)
COOLDOWN, WINDOW = 30_000, 60_000
WELL, BADLY, CRASHED, RELEASED = "complete", "retry", "crash", "release"


@pytest.fixture
async def session(store: Store) -> Session:
    """A node's session, in a store where the type has a breaker and fifty jobs wait."""
    await store.flow.set(TYPE, {"breaker": POLICY}, now=NOW)
    await store.submit_many([NewJob(type=TYPE, max_retries=99, max_crashes=99) for _ in range(50)], now=NOW)
    return await store.open_session("node", 15.0)


async def claim(store: Store, session: Session, limit: int, now: int) -> list[Lease]:
    return (await store.claim(session, POOL, limit, now=now)).leases


async def settle(store: Store, outcome: str, *leases: Lease, now: int) -> list[bytes]:
    words: list[tuple[Any, ...]] = [(outcome, one.job.id, one.job.attempt, one.nonce, b"1", 0, 0) for one in leases]
    return await store._send_settlements(words, now=now)


async def run(store: Store, session: Session, *outcomes: str, now: int) -> None:
    """Claim a job for each outcome, and let it end so."""
    for outcome, lease in zip(outcomes, await claim(store, session, len(outcomes), now), strict=True):
        await settle(store, outcome, lease, now=now)


async def state(store: Store, now: int) -> str:
    return (await store.breakers.get(TYPE, now=now)).state


async def opened(store: Store, session: Session, now: int = NOW) -> int:
    """Open the breaker; returns when the probe may go."""
    await run(store, session, BADLY, BADLY, BADLY, BADLY, now=now)
    assert await state(store, now) == "open"
    return now + COOLDOWN


async def moves(store: Store) -> list[tuple[str, str, str]]:
    return [(move.before, move.after, move.reason) for move in await store.breakers.history(TYPE)]


async def test_it_opens_when_enough_of_enough_runs_failed(store: Store, session: Session) -> None:
    """Half of four runs is enough, two of three is not; then nobody gets a job, and all are told when to ask again."""
    await run(store, session, BADLY, WELL, BADLY, now=NOW)
    assert await state(store, NOW) == "closed"
    await run(store, session, WELL, now=NOW + 1)

    found = await store.breakers.get(TYPE, now=NOW + 1)
    assert (found.state, found.since_ms, found.until_ms, found.policy) == ("open", NOW + 1, NOW + 1 + COOLDOWN, POLICY)
    assert await store.breakers.all(now=NOW + 1) == [found]
    (move,) = await store.breakers.history(TYPE)
    assert (move.at_ms, move.before, move.after, move.reason) == (NOW + 1, "closed", "open", "failures")
    assert (move.ok, move.failed) == (2, 2)
    other = await store.open_session("other", 15.0)
    for who in (session, other):
        claimed = await store.claim(who, POOL, 5, now=NOW + COOLDOWN)
        assert (claimed.leases, claimed.next_ms) == ([], NOW + 1 + COOLDOWN)
    assert (await store.leases.claim(POOL, 5, now=NOW + COOLDOWN)).leases == []


async def test_the_window_slides(store: Store, session: Session) -> None:
    """What ended longer ago than the window counts no more, nor does what was handed back or to be cancelled."""
    await run(store, session, BADLY, BADLY, BADLY, now=NOW)
    found = await store.breakers.get(TYPE, now=NOW + WINDOW // 2)
    assert (found.ok, found.failed) == (0, 3)
    await run(store, session, RELEASED, RELEASED, now=NOW + 1)
    (cancelled,) = await claim(store, session, 1, NOW + 1)
    await store.cancel(cancelled.job.id)
    await settle(store, BADLY, cancelled, now=NOW + 2)
    await run(store, session, BADLY, WELL, now=NOW + WINDOW)

    found = await store.breakers.get(TYPE, now=NOW + WINDOW)
    assert (found.state, found.ok, found.failed) == ("closed", 1, 1)


async def test_waiting_jobs_burn_nothing(store: Store, session: Session) -> None:
    """While it is open, jobs come and wait, and no run is counted for any of them."""
    until = await opened(store, session)
    (late,) = await store.submit_many([NewJob(type=TYPE, priority=Priority.URGENT)], now=NOW + 1)
    before = await store.stats()
    for now in (NOW + 1, until - 1):
        assert await claim(store, session, 10, now) == []

    assert (await store.get(late.id)).attempt == 0
    assert (await store.stats()).counts == before.counts
    (probe,) = await claim(store, session, 10, until)
    assert probe.job.id == late.id


async def test_two_nodes_never_both_get_a_probe(store: Store, session: Session, open_store: Any) -> None:
    """After the cool-down the next claim gets one job, whatever it asks for, and nobody another."""
    until = await opened(store, session)
    there = await open_store()
    other = await there.open_session("other", 15.0)

    (probe,) = await claim(store, session, 10, until)
    assert await claim(there, other, 10, until + 1) == []
    assert (await there.leases.claim(POOL, 10, now=until + 2)).leases == []
    found = await there.breakers.get(TYPE, now=until + 3)
    assert (found.state, found.probe) == ("half-open", probe.job.id)
    assert await there._run("breakers", TYPE, now=until) == await store._run("breakers", TYPE, now=until)


async def test_a_probe_that_succeeds_closes_it(store: Store, session: Session) -> None:
    """Then all jobs are served again, the runs before it count no more, and whoever waits is woken."""
    until = await opened(store, session)
    (probe,) = await claim(store, session, 10, until)
    waiting = await store.open_session("waiting", 15.0)
    assert await claim(store, waiting, 10, until) == []
    await settle(store, WELL, probe, now=until + 5)

    assert await store.wait_for_work(POOL, 0.1)
    found = await store.breakers.get(TYPE, now=until + 5)
    assert (found.state, found.since_ms, found.ok, found.failed, found.probe) == ("closed", until + 5, 0, 0, None)
    assert len(await claim(store, waiting, 10, until + 6)) == 10
    assert await moves(store) == [
        ("closed", "open", "failures"),
        ("open", "half-open", "cooldown"),
        ("half-open", "closed", "probe-succeeded"),
    ]


@pytest.mark.parametrize("end", [BADLY, CRASHED])
async def test_a_probe_that_fails_opens_it_again(store: Store, session: Session, end: str) -> None:
    """An error or a crash of the probe begins a new cool-down, and whoever waits is told until when."""
    until = await opened(store, session)
    prober, waiting = await store.open_session("prober", 15.0), await store.open_session("waiting", 15.0)
    (probe,) = await claim(store, prober, 1, until)
    assert await claim(store, waiting, 10, until) == []
    if end == CRASHED:
        assert await store.reap_session(prober.id, 0, now=until + 7) == 1
    else:
        await settle(store, BADLY, probe, now=until + 7)

    found = await store.breakers.get(TYPE, now=until + 7)
    assert (found.state, found.until_ms, found.probe) == ("open", until + 7 + COOLDOWN, None)
    assert await store.wait_for_work(POOL, 0.1)
    claimed = await store.claim(waiting, POOL, 1, now=until + 8)
    assert (claimed.leases, claimed.next_ms) == ([], until + 7 + COOLDOWN)
    assert len(await claim(store, waiting, 10, until + 7 + COOLDOWN)) == 1


@pytest.mark.parametrize("end", ["release", "cancelled", "close", "lease"])
async def test_a_probe_that_is_handed_back_is_followed_by_another(store: Store, session: Session, end: str) -> None:
    """A run that says nothing of the type, for it was handed back or cancelled, frees the place of the probe."""
    until = await opened(store, session)
    prober, waiting = await store.open_session("prober", 15.0), await store.open_session("waiting", 15.0)
    if end == "lease":
        (probe,) = (await store.leases.claim(POOL, 1, now=until)).leases
    else:
        (probe,) = await claim(store, prober, 1, until)
    assert await claim(store, waiting, 10, until) == []
    match end:
        case "close":
            await store.close_session(prober, now=until + 1)
        case "lease":  # without a single heartbeat
            assert await store.reap_overdue((await store.survey(now=until + 99_999)).overdue, now=until + 99_999) == 1
        case _:
            await settle(store, end, probe, now=until + 1)

    found = await store.breakers.get(TYPE, now=until + 99_999)
    assert (found.state, found.probe) == ("half-open", None)
    assert await store.wait_for_work(POOL, 0.1)
    assert len(await claim(store, waiting, 10, until + 99_999)) == 1
    assert await claim(store, session, 10, until + 99_999) == []


async def test_told_twice_and_late(store: Store, session: Session) -> None:
    """A settlement counts once; and what was begun before the breaker moved neither opens nor closes it."""
    leases = await claim(store, session, 9, NOW)
    await settle(store, BADLY, leases[0], now=NOW + 1)
    before = await dump(store)
    await settle(store, BADLY, leases[0], now=NOW + 2)
    assert differences(before, await dump(store)) == []
    await settle(store, BADLY, *leases[1:4], now=NOW + 3)
    assert await state(store, NOW + 3) == "open"

    await settle(store, WELL, leases[4], now=NOW + 4)
    assert await state(store, NOW + 4) == "open"
    until = NOW + 3 + COOLDOWN
    (probe,) = await claim(store, session, 1, until)
    await settle(store, WELL, leases[5], now=until)
    await settle(store, BADLY, leases[6], now=until)
    assert await state(store, until) == "half-open"
    await settle(store, WELL, probe, now=until + 1)
    before = await dump(store)
    await settle(store, WELL, probe, now=until + 2)
    assert differences(before, await dump(store)) == []
    await settle(store, BADLY, leases[7], leases[8], now=until + 3)
    found = await store.breakers.get(TYPE, now=until + 3)
    assert (found.state, found.ok, found.failed) == ("closed", 0, 0)


async def test_an_operator_decides(store: Store, session: Session) -> None:
    """Forced open, nothing is served whatever succeeds; forced closed, all is whatever fails; reset, it counts anew."""
    leases = await claim(store, session, 6, NOW)
    assert (await store.breakers.force(TYPE, "open", now=NOW + 1)).state == "forced-open"
    await settle(store, WELL, *leases, now=NOW + 2)
    assert await claim(store, session, 5, NOW + 10 * COOLDOWN) == []
    assert (await store.claim(session, POOL, 5, now=NOW + 10 * COOLDOWN)).next_ms is None

    waiting = await store.open_session("waiting", 15.0)
    assert await claim(store, waiting, 5, NOW + 2) == []
    assert (await store.breakers.force(TYPE, "closed", now=NOW + 3)).state == "forced-closed"
    assert await store.wait_for_work(POOL, 0.1)
    await run(store, session, *[BADLY] * 8, now=NOW + 4)
    found = await store.breakers.get(TYPE, now=NOW + 4)
    assert (found.state, found.failed) == ("forced-closed", 8)

    found = await store.breakers.force(TYPE, None, now=NOW + 5)
    assert (found.state, found.failed) == ("closed", 0)
    until = await opened(store, session, NOW + 6)
    (probe,) = await claim(store, session, 5, until)
    await store.breakers.force(TYPE, None, now=until + 1)
    await settle(store, BADLY, probe, now=until + 2)
    assert await state(store, until + 2) == "closed"
    assert (await moves(store))[:4] == [
        ("closed", "forced-open", "forced"),
        ("forced-open", "forced-closed", "forced"),
        ("forced-closed", "closed", "reset"),
        ("closed", "open", "failures"),
    ]


async def test_an_act_whose_answer_was_lost(store: Store, session: Session) -> None:
    """Told again it changes nothing, also when the breaker has counted and moved since."""
    await store._run("force_breaker", "op1", TYPE, "closed", now=NOW)
    await opened(store, session, NOW + 1)
    before = await dump(store)

    assert await store._run("force_breaker", "op1", TYPE, "closed", now=NOW + 2) == 1
    assert differences(before, await dump(store)) == []


async def test_what_is_kept_is_bounded(store: Store, session: Session) -> None:
    """The last hundred moves are known; without a policy there is no breaker, and nothing of it stays."""
    for n in range(60):
        await store.breakers.force(TYPE, "open", now=NOW + 2 * n)
        await store.breakers.force(TYPE, "closed", now=NOW + 2 * n + 1)
    assert [move.at_ms for move in await store.breakers.history(TYPE)] == list(range(NOW + 20, NOW + 120))

    await store.flow.set(TYPE, {"breaker": None}, now=NOW + 200)
    with pytest.raises(BreakerNotFound):
        await store.breakers.get(TYPE)
    with pytest.raises(BreakerNotFound):
        await store.breakers.force(TYPE, "open")
    assert (await store.breakers.all(), await store.breakers.history(TYPE)) == ([], [])
    assert not [name for name in await dump(store) if name.startswith("breaker")]


async def test_an_open_breaker_that_is_taken_away(store: Store, session: Session) -> None:
    """Its jobs are served again at once, and whoever waits is woken."""
    await opened(store, session)
    assert await claim(store, session, 1, NOW + 1) == []

    await store.flow.set(TYPE, {"breaker": None}, now=NOW + 2)

    assert await store.wait_for_work(POOL, 0.1)
    assert len(await claim(store, session, 5, NOW + 3)) == 5


async def test_others_pay_nothing(store: Store, session: Session) -> None:
    """A type without a breaker is served while another's is open, and leaves no key behind."""
    await opened(store, session)
    await store.submit_many([NewJob(type="other") for _ in range(3)])
    both = Pool.of([TYPE, "other"])
    leases = (await store.claim(session, both, 10, now=NOW + 1)).leases
    await settle(store, BADLY, *leases, now=NOW + 2)

    assert [lease.job.type for lease in leases] == ["other"] * 3
    assert {name for name in await dump(store) if name.startswith("breaker")} == {
        f"breaker:{TYPE}",
        f"breaker-log:{TYPE}",
    }
    assert (await store.get(leases[0].job.id)).state is State.ENQUEUED
    assert await command(store, "EXISTS", f"{prefix(store)}breaker:other") == 0


HOUR = 3_600_000


async def test_a_clock_that_is_set_back_keeps_it_open_no_longer(store: Store, session: Session) -> None:
    """Nobody knows then how long it has been open, so a probe finds out."""
    await opened(store, session)

    (probe,) = await claim(store, session, 5, NOW - HOUR)
    await settle(store, BADLY, probe, now=NOW - HOUR)

    assert await state(store, NOW - HOUR) == "open"
    assert await claim(store, session, 5, NOW - HOUR + COOLDOWN - 1) == []
    assert len(await claim(store, session, 5, NOW - HOUR + COOLDOWN)) == 1


async def test_a_clock_that_is_set_back_makes_it_deaf_to_no_new_run(store: Store, session: Session) -> None:
    """Runs that began before do not count; those that begin by the clock as it is now do."""
    (before, *_) = await claim(store, session, 1, NOW)
    probe_at = await opened(store, session)
    await run(store, session, WELL, now=probe_at)
    old = await claim(store, session, 4, probe_at)
    back = NOW - HOUR

    await settle(store, BADLY, before, *old, now=back)
    assert await state(store, back) == "closed"

    await run(store, session, BADLY, BADLY, BADLY, BADLY, now=back)
    assert await state(store, back) == "open"
