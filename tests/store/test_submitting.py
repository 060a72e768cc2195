"""Jobs that are submitted once however often they are sent, and jobs whose id the client chose."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from gopher_node.errors import JobExists, JobNotFound, KeyReused
from gopher_node.job import NewJob, State
from gopher_node.store import Once, Retention, Store, Submitted
from tests.store import consistency
from tests.store.conftest import OpenStore
from tests.store.keyspace import command, differences, dump, prefix
from tests.store.lives import POOL, TYPE, claim_one
from tests.store.test_lost_answers import OpenFar, load_all_scripts, open_far, relay
from tests.store.test_told_twice import Echo

__all__ = ["open_far", "relay"]

ONCE = Once("caller:key", "digest")


def twin(**options: Any) -> NewJob:
    return NewJob(type=TYPE, payload=b'{"n":1}', **options)


def without_replayed(answer: Submitted) -> tuple[Any, ...]:
    return answer.id, answer.state, answer.created, answer.created_ms, answer.due_ms


async def count_jobs(store: Store) -> int:
    return sum((await store.stats()).counts.values())


async def test_a_thousand_twins(open_store: OpenStore, store: Store) -> None:
    """Of a thousand that submit one request at once, on four nodes, one stores it and all get its answer."""
    stores = [store, *[await open_store() for _ in range(3)]]

    answers = await asyncio.gather(*(stores[n % 4].submit(twin(delay_ms=60_000), ONCE) for n in range(1000)))

    assert len({without_replayed(answer) for answer in answers}) == 1
    assert [answer.replayed for answer in answers].count(False) == 1
    assert await count_jobs(store) == 1
    assert (await store.get(answers[0].id)).state is State.SCHEDULED


@pytest.mark.parametrize("due", [{}, {"due_ms": 1}, {"delay_ms": 60_000}, {"delay_ms": 0}], ids=str)
async def test_a_replay_is_answered_as_the_first_was(store: Store, due: dict[str, int]) -> None:
    """Whatever became of the job since, and even if it is gone, the key's first answer is told again."""
    first = await store.submit(twin(**due), ONCE)
    (job,) = (await store.list()).items
    assert without_replayed(first) == (job.id, job.state, True, job.created_ms, job.due_ms)
    await store.cancel(first.id)
    second = await store.submit(twin(**due), ONCE)
    await store.delete(first.id)
    before = await dump(store)

    third = await store.submit(twin(**due), ONCE)

    assert (first.replayed, second.replayed, third.replayed) == (False, True, True)
    assert without_replayed(first) == without_replayed(second) == without_replayed(third)
    assert differences(before, await dump(store)) == []


async def test_a_bulk_is_replayed_whole(store: Store) -> None:
    """The ids of a bulk follow from its key's first use; chosen ones stay, and the rest is as it was."""
    jobs = [twin(), twin(delay_ms=1000), twin(id="chosen", client_id=True), twin(due_ms=5)]

    first = await store.submit_many(jobs, once=ONCE)
    again = await store.submit_many([twin(), twin(delay_ms=1000), jobs[2], twin(due_ms=5)], once=ONCE)

    assert list(map(without_replayed, first)) == list(map(without_replayed, again))
    assert [one.replayed for one in first + again] == [False] * 4 + [True] * 4
    assert len({one.id for one in first}) == 4
    assert first[2].id == "chosen"
    assert [(await store.get(one.id)).state for one in first] == [one.state for one in first]


async def test_a_key_with_another_request(store: Store) -> None:
    """A key that was used with another request is refused, and nothing is written."""
    await store.submit(twin(), ONCE)
    before = await dump(store)

    with pytest.raises(KeyReused):
        await store.submit(twin(), Once(ONCE.key, "another"))
    with pytest.raises(KeyReused):
        await store.submit_many([twin(), twin()], once=Once(ONCE.key, "another"))

    assert differences(before, await dump(store)) == []
    assert not (await store.submit(twin(), Once("caller:other", "another"))).replayed


async def test_a_refusal_is_the_callers_alone(store: Store) -> None:
    """Callers that share a request do not share its refusals, and twins that share it are twins all the same."""
    await store.submit(twin(), ONCE)
    await store.submit(twin(id="taken"))
    told: list[str] = []
    run = store._scripts.run

    async def count_and_run(name: str, *words: Any, **options: Any) -> Any:
        told.append(name)
        return await run(name, *words, **options)

    store._scripts.run = count_and_run
    other = Once("caller:2", "x")

    outcomes = await asyncio.gather(
        store.submit(twin()),
        store.submit(twin()),
        store.submit(twin(), Once(ONCE.key, "another")),
        store.submit(twin(id="taken", client_id=True)),
        store.submit(twin(id="mine", client_id=True)),
        store.submit(twin(id="mine", client_id=True)),
        store.submit(twin(), other),
        store.submit(twin(), other),
        store.submit(twin(), ONCE),
        store.submit(twin(delay_ms=1000)),
        return_exceptions=True,
    )

    kinds = [one.replayed if isinstance(one, Submitted) else type(one) for one in outcomes]
    assert kinds == [False, False, KeyReused, JobExists, False, JobExists, False, True, True, False]
    assert told == ["submit"] or len(told) == 2  # the first goes alone when it is quicker than the others
    assert await count_jobs(store) == 7
    assert len({one.id for one in outcomes if isinstance(one, Submitted)}) == 6


@pytest.mark.parametrize("state", ["enqueued", "scheduled", "processing", "completed"])
async def test_an_id_that_is_taken(store: Store, state: str) -> None:
    """A client's own id is stored once; a second job with it is refused with the state of the first."""
    job = twin(id="chosen", client_id=True, delay_ms=60_000 if state == "scheduled" else None)
    assert (await store.submit(job)).id == "chosen"
    session = await store.open_session("node", 15.0)
    if state in ("processing", "completed"):
        lease = await claim_one(store, session)
        if state == "completed":
            await store.complete(lease)
    before = await dump(store)

    with pytest.raises(JobExists, match="chosen") as caught:
        await store.submit(job)

    assert (caught.value.state, caught.value.index) == (state, 0)
    assert differences(before, await dump(store)) == []


@pytest.mark.parametrize("once", [None, ONCE])
async def test_a_bulk_with_a_taken_id(store: Store, once: Once | None) -> None:
    """Nothing of a bulk is stored, nor its key, if one id is taken, be it by the bulk itself."""
    await store.submit(twin(id="taken", delay_ms=60_000))
    before = await dump(store)
    fresh = [twin(id=f"fresh-{n}", client_id=True) for n in range(3)]

    with pytest.raises(JobExists) as taken:
        await store.submit_many([twin(), *fresh, twin(id="taken", client_id=True)], once=once)
    with pytest.raises(JobExists) as doubled:
        await store.submit_many([*fresh, fresh[1]], once=once)

    assert (taken.value.state, taken.value.index) == ("scheduled", 4)
    assert (doubled.value.state, doubled.value.index) == ("enqueued", 3)
    assert differences(before, await dump(store)) == []
    assert len(await store.submit_many(fresh, once=once)) == 3


async def test_told_twice(store: Store) -> None:
    """Our own repeat, after a lost answer, is no replay and finds no id taken: it gets the first answer."""
    echo = Echo(store)
    job = twin(id="chosen", client_id=True, delay_ms=1000)

    once = await store.submit(twin(delay_ms=0), ONCE)
    chosen = await store.submit(job)
    both = await store.submit_many([twin(), twin(id="other", client_id=True)], once=Once("k", "d"))

    assert echo.faults == []
    assert [one.replayed for one in (once, chosen, *both)] == [False] * 4
    assert [one.created for one in (once, chosen, *both)] == [True] * 4
    assert chosen.due_ms == chosen.created_ms + 1000
    with pytest.raises(JobExists):
        await store.submit(job)
    assert (await store.submit(twin(delay_ms=0), ONCE)).replayed


async def test_its_answer_is_lost(open_far: OpenFar, relay: Any) -> None:
    """The same over a connection that really loses the answer, while the job goes on."""
    store = await open_far()
    await load_all_scripts(store)
    relay.lose_answers(1)
    once = await store.submit(twin(), ONCE)
    relay.lose_answers(1)
    chosen = await store.submit(twin(id="chosen", client_id=True))

    assert relay.lost == 2
    assert (once.replayed, once.created, chosen.created) == (False, True, True)
    assert (await store.stats()).totals["submitted"] == 2


async def test_how_long_a_key_holds(open_store: OpenStore) -> None:
    """A key is forgotten when its window is over; then the same request is a new one."""
    store = await open_store(retention=Retention(idempotency=3600.0))
    first = await store.submit(twin(), ONCE)
    (name,) = [name for name in await dump(store) if name.startswith("once:")]
    left = await command(store, "PTTL", prefix(store) + name)
    assert 3_500_000 < left <= 3_600_000
    await command(store, "PEXPIRE", prefix(store) + name, 0)

    second = await store.submit(twin(), ONCE)

    assert not second.replayed
    assert second.id != first.id


async def test_any_text_is_a_key(store: Store) -> None:
    """A key may hold anything, and its job runs as any."""
    for key in ("", "a b\nc:{}", "ü" * 500):
        answer = await store.submit(twin(), Once(key, "d e f"))
        assert (await store.submit(twin(), Once(key, "d e f"))).id == answer.id
        lease = await claim_one(store, await store.open_session("node", 15.0), POOL)
        assert lease.job.id == answer.id
        await store.complete(lease)


async def test_the_alarm_is_set_for_what_is_stored(store: Store) -> None:
    """The scheduler is told of a job that is due later when it is stored, and not when it is answered again."""
    told: list[float] = []
    store.on_scheduled = told.append

    await store.submit(twin(delay_ms=60_000), ONCE)
    await store.submit(twin(delay_ms=60_000), ONCE)

    assert told == [60.0]


async def test_a_walk_of_keys_and_ids(store: Store) -> None:
    """At random: the store agrees with a dict of keys and a set of ids, whatever comes together."""
    rng = random.Random(7)
    known: dict[str, tuple[str, tuple[str, ...]]] = {}
    ids: set[str] = set()
    for _ in range(150):
        chosen = [f"id-{rng.randrange(60)}" for _ in range(rng.choice((0, 0, 1, 2)))]
        jobs = [twin(id=id, client_id=True) for id in chosen] + [twin() for _ in range(rng.choice((1, 2)))]
        once = (
            Once(f"key-{rng.randrange(20)}", f"{rng.randrange(2)}-{len(jobs)}-{chosen}") if rng.random() < 0.7 else None
        )
        expected: type | None = None
        if once and once.key in known:
            expected = None if known[once.key][0] == once.fingerprint else KeyReused
        elif len(set(chosen)) < len(chosen) or ids & set(chosen):
            expected = JobExists
        if expected is not None:
            with pytest.raises(expected):
                await store.submit_many(jobs, once=once)
            continue
        answers = await store.submit_many(jobs, once=once)
        told = tuple(answer.id for answer in answers)
        if once and once.key in known:
            assert told == known[once.key][1]
            assert all(answer.replayed for answer in answers)
        else:
            assert not ids & set(told)
            ids |= set(told)
            if once:
                known[once.key] = (once.fingerprint, told)
    assert await count_jobs(store) == len(ids)
    with pytest.raises(JobNotFound):
        await store.get("id-never")


async def test_told_twice_after_an_operator(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repeat of our own submit is known by what the job keeps from it, whatever was done to the job since."""
    told: list[tuple[Any, ...]] = []
    run = store._scripts.run

    async def remember(name: str, *words: Any, **options: Any) -> Any:
        told.append((name, *words))
        return await run(name, *words, **options)

    monkeypatch.setattr(store._scripts, "run", remember)
    job = twin(id="chosen", client_id=True, delay_ms=60_000)
    await store.submit(job)
    await store.run_now("chosen")
    await store.edit("chosen", delay_ms=1000)
    before = await dump(store)

    (again,) = await store._run(*told[0])

    assert again[0] == b"stored"
    assert differences(before, await dump(store)) == []
    with pytest.raises(JobExists):
        await store.submit(job)


async def test_a_key_that_holds_no_time_at_all(open_store: OpenStore) -> None:
    """A window of nothing does not make a script fail that has begun to write."""
    store = await open_store(retention=Retention(idempotency=0.0))

    await asyncio.gather(
        store.submit(twin()), store.submit(twin(), ONCE), store.submit_many([twin()], once=Once("k", "other"))
    )

    assert await count_jobs(store) == 3
    await consistency.check(store)
