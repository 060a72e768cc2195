"""
Faults between the store and its server: an answer that is lost, a connection that is cut, a server that is deaf.

On a real server only, for a relay needs a socket to stand on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.resources import files
from typing import Any

import pytest

from gopher_node.errors import OutcomeUnknown, StoreUnavailable
from gopher_node.job import Job, NewJob, State
from gopher_node.store import Connections, Store
from gopher_node.store.scripts import source
from tests.store import consistency
from tests.store.keyspace import canonical, command, dump, erase
from tests.store.lives import POOL, TYPE, claim_one, relive
from tests.store.relay import Relay, relay_to
from tests.store.test_told_twice import COUNTS, VERBS, try_act

OpenFar = Callable[..., Awaitable[Store]]


@pytest.fixture
async def relay(valkey_url: str) -> AsyncIterator[Relay]:
    async with relay_to(valkey_url) as relay:
        yield relay


@pytest.fixture
async def open_far(relay: Relay, namespace: str) -> AsyncIterator[OpenFar]:
    """Opens stores on the other side of the relay. They must be consistent in the end."""
    stores: list[Store] = []

    async def open_one(name: str = "", *, timeout: float = 5.0, patience: float = 5.0) -> Store:
        store = Store(Connections(relay.url), namespace=namespace + name, patience=patience)
        await store.open()
        store._connections.timeout = timeout
        stores.append(store)
        return store

    yield open_one
    for store in stores:
        await consistency.check(store)
        await erase(store)
        await store.close()


async def load_all_scripts(store: Store) -> None:
    """So that no answer that is lost is only a server's saying that it does not know a script."""
    for script in (files("gopher_node.store") / "lua").iterdir():
        name = script.name.removesuffix(".lua")
        if name != "prelude":
            await command(store, "SCRIPT", "LOAD", source(name))


@pytest.mark.parametrize("verb", [verb for verb, row in VERBS.items() if row.changes])
async def test_the_answer_is_lost(open_far: OpenFar, relay: Relay, verb: str) -> None:
    """
    The server carries a verb out and its answer is lost: it is told again, and all is as if nothing had happened.

    In one of the states that it changes; test_told_twice tells it twice in each.
    """
    row = VERBS[verb]
    state = list(row.changes)[-1]
    near = await open_far("-near")
    await load_all_scripts(near)
    life, _ = await relive(near, state)
    answer = await try_act(row.act, near, life)
    far = await open_far("-far")
    await relive(far, state)
    relay.lose_answers(2)

    answer_from_far = await try_act(row.act, far, life)

    assert relay.lost == 2
    if not isinstance(answer, Job) and verb not in COUNTS:
        assert answer_from_far == answer
    assert canonical(await dump(far)) == canonical(await dump(near))


async def test_a_claim_whose_answer_is_lost(open_far: OpenFar, relay: Relay) -> None:
    """The jobs of a claim whose answer was lost are not lost with it: the repeat brings the same ones."""
    store = await open_far()
    session = await store.open_session("node", 15.0)
    await store.submit_many([NewJob(type=TYPE) for _ in range(5)])
    await store.claim(session, POOL, 1)
    relay.lose_answers(1)

    leases = (await store.claim(session, POOL, 2)).leases

    assert relay.lost == 1
    assert [await store.complete(lease) for lease in leases] == [State.COMPLETED] * 2
    assert (await store.stats()).totals["completed"] == 2


async def test_a_completion_with_follow_ups_whose_answer_is_lost(open_far: OpenFar, relay: Relay) -> None:
    """The follow-ups of a completion that was told twice exist once."""
    store = await open_far()
    session = await store.open_session("node", 15.0)
    await store.submit(NewJob(type=TYPE))
    lease = await claim_one(store, session)
    await store.complete(lease)
    await store.submit(NewJob(type=TYPE))
    lease = await claim_one(store, session)
    relay.lose_answers(1)

    assert await store.complete(lease, b"1", [NewJob(type="child"), NewJob(type="child")]) is State.COMPLETED

    assert relay.lost == 1
    assert (await store.stats()).totals["submitted"] == 4


async def test_a_connection_that_stays_silent(open_far: OpenFar, relay: Relay) -> None:
    """An answer that is late counts as lost: the verb is told again on another connection, and takes effect once."""
    store = await open_far(timeout=0.1)
    await store.submit(NewJob(type=TYPE))
    relay.lose_answers(1, silently=True)

    submitted = await store.submit(NewJob(type=TYPE))

    assert relay.lost == 1
    assert (await store.get(submitted.id)).state is State.ENQUEUED
    assert (await store.stats()).totals["submitted"] == 2


async def test_a_cut_between_two_verbs(open_far: OpenFar, relay: Relay) -> None:
    """Connections that were cut while nobody used them are replaced without anybody noticing."""
    store = await open_far()
    await store.submit(NewJob(type=TYPE))

    await relay.cut()

    await store.submit(NewJob(type=TYPE))
    assert (await store.stats()).totals["submitted"] == 2


async def test_a_deaf_server(open_far: OpenFar, relay: Relay) -> None:
    """Of what was sent to a server that does not answer, nobody knows what became."""
    store = await open_far(timeout=0.05, patience=0.1)
    relay.go_deaf()

    with pytest.raises(OutcomeUnknown):
        await store.submit(NewJob(type=TYPE))

    relay.hear()
    await store.submit(NewJob(type=TYPE))


async def test_a_server_that_is_down(open_far: OpenFar, relay: Relay) -> None:
    """What could not be sent has not been done, and the error says so."""
    store = await open_far(patience=0.1)
    await relay.down()

    with pytest.raises(StoreUnavailable) as caught:
        await store.submit(NewJob(type=TYPE))

    assert not isinstance(caught.value, OutcomeUnknown)
    await relay.up()
    await store.submit(NewJob(type=TYPE))
    assert (await store.stats()).totals["submitted"] == 1


async def test_down_after_the_answer_was_lost(open_far: OpenFar, relay: Relay) -> None:
    """When the last try reached nobody but an earlier one may have been carried out, the outcome is unknown."""
    store = await open_far(patience=0.2)
    await store.submit(NewJob(type=TYPE))
    job = NewJob(type=TYPE)
    relay.lose_answers(1, then_down=True)

    with pytest.raises(OutcomeUnknown):
        await store.submit(job)

    assert relay.lost == 1
    await relay.up()
    assert (await store.get(job.id)).state is State.ENQUEUED


async def test_a_server_that_comes_back_in_time(open_far: OpenFar, relay: Relay) -> None:
    """A verb outlasts an outage that is shorter than the store's patience."""
    store = await open_far()
    await store.submit(NewJob(type=TYPE))
    await relay.down()
    submitting = asyncio.create_task(store.submit(NewJob(type=TYPE)))
    await asyncio.wait([submitting], timeout=0.05)
    assert not submitting.done()

    await relay.up()

    assert (await submitting).created


async def test_a_caller_that_gives_up(open_far: OpenFar, relay: Relay) -> None:
    """An answer that nobody waits for any more is not taken for another's."""
    store = await open_far()
    ids = [(await store.submit(NewJob(type=TYPE))).id for _ in range(20)]
    relay.go_deaf()
    given_up = [asyncio.create_task(store.get(id)) for id in ids]
    await asyncio.wait(given_up, timeout=0.02)
    for task in given_up:
        task.cancel()
    await asyncio.wait(given_up)
    relay.hear()

    jobs: list[Any] = await asyncio.gather(*(store.get(id) for id in ids))

    assert [job.id for job in jobs] == ids


async def test_a_wake_up_whose_answer_is_lost(open_far: OpenFar, relay: Relay) -> None:
    """A waiter that lost its token is told by an error, and finds the work by asking."""
    store = await open_far()
    session = await store.open_session("node", 15.0)
    await store.claim(session, POOL, 1)
    await store.submit(NewJob(type=TYPE))
    relay.lose_answers(1)

    with pytest.raises(OutcomeUnknown):
        await store.wait_for_work(POOL, 1.0)

    assert len((await store.claim(session, POOL, 1)).leases) == 1
