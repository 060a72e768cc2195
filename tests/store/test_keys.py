"""Keys in the store: kept, replaced, revoked for good; all nodes hear of it. And their rate limit, which is exact."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace

import pytest

from gopher_node.store import KeyRecord, Store
from tests.store.conftest import OpenStore
from tests.store.keyspace import command, differences, dump, prefix
from tests.store.test_told_twice import Echo

NOW = 1_700_000_000_000
KEY = KeyRecord("k1", "the shop's", "ab" * 32, ("submit", "read"), NOW, NOW + 1000, (100, 60.0))
OTHER = KeyRecord("k2", "", "cd" * 32, ("admin",), NOW)


async def test_keys_are_kept(store: Store) -> None:
    """What was stored of a key is told again, and a record with the same id takes its place."""
    assert await store.keys.all() == []
    assert await store.keys.add(OTHER, KEY)
    assert await store.keys.all() == [KEY, OTHER]

    later = replace(KEY, expires_ms=None, rate=None, scopes=())
    assert await store.keys.add(later)

    assert await store.keys.all() == [later, OTHER]


async def test_a_revoked_key_stays_revoked(store: Store) -> None:
    """Neither a late copy of the call that added it, nor one that adds it with others, brings a revoked key back."""
    await store.keys.add(KEY, OTHER)
    await store.keys.touch({KEY.id: NOW})

    assert await store.keys.revoke(KEY.id)
    before = await dump(store)
    assert not await store.keys.add(KEY)
    assert not await store.keys.add(replace(OTHER, name="new"), KEY)
    await store.keys.touch({KEY.id: NOW + 5})

    assert await store.keys.all() == [OTHER]
    assert differences(before, await dump(store)) == []
    assert not await store.keys.revoke("nobody")


async def test_last_use_moves_forward(store: Store) -> None:
    """The latest use counts, whatever order the nodes tell theirs in; what no key has used is not kept."""
    await store.keys.add(KEY, OTHER)
    await store.keys.touch({KEY.id: NOW + 7, "nobody": NOW})
    await store.keys.touch({KEY.id: NOW + 3})

    assert [key.last_used_ms for key in await store.keys.all()] == [NOW + 7, None]
    await store.keys.add(replace(KEY, name="renamed"))
    assert (await store.keys.all())[0].last_used_ms == NOW + 7


async def test_told_twice(store: Store) -> None:
    """Each verb's repeat changes nothing and is answered alike."""
    echo = Echo(store)

    assert await store.keys.add(KEY, OTHER)
    await store.keys.touch({KEY.id: NOW})
    assert await store.keys.revoke(KEY.id)

    assert echo.faults == []
    assert echo.told == ["keys"] * 3


async def test_tombstones_are_swept(store: Store) -> None:
    """What keeps a revoked key from coming back goes with the first revocation a day later."""
    day = 24 * 3600 * 1000
    await store.keys.add(KEY, OTHER)
    await store.keys.revoke(KEY.id, now=NOW)

    await store.keys.revoke(OTHER.id, now=NOW + day + 1)

    assert (await dump(store))["keys-revoked"].value.keys() == {OTHER.id}


async def test_every_node_hears_of_a_change(store: Store, open_store: OpenStore) -> None:
    """A node is called when it begins to listen, and whenever any node adds or revokes a key."""
    other = await open_store()
    heard: asyncio.Queue[None] = asyncio.Queue()
    other.keys.on_change(lambda: heard.put_nowait(None))
    await asyncio.wait_for(heard.get(), 10)

    await store.keys.add(KEY)
    await asyncio.wait_for(heard.get(), 10)
    await store.keys.revoke(KEY.id)
    await asyncio.wait_for(heard.get(), 10)

    assert heard.empty()


async def test_changes_in_an_outage_are_caught_up_with(valkey_store: Store) -> None:
    """A node whose subscription broke is called again once it has a new one."""
    heard: asyncio.Queue[None] = asyncio.Queue()
    valkey_store.keys.on_change(lambda: heard.put_nowait(None))
    await asyncio.wait_for(heard.get(), 10)

    await command(valkey_store, "CLIENT", "KILL", "TYPE", "pubsub")

    await asyncio.wait_for(heard.get(), 10)


# The rate limit


async def admitted(store: Store, times: int, now: int, limit: int = 5, window: float = 1.0) -> int:
    return sum([(await store.keys.admit("k", limit, window, now=now)).allowed for _ in range(times)])


async def test_a_burst_and_then_the_rate(store: Store) -> None:
    """The whole limit may come at once; after that one more each time its part of the window has passed."""
    assert await admitted(store, 9, NOW) == 5
    assert await admitted(store, 9, NOW + 199) == 0
    assert await admitted(store, 9, NOW + 200) == 1
    assert await admitted(store, 9, NOW + 650) == 2
    assert await admitted(store, 9, NOW + 10_000) == 5


async def test_what_a_request_is_told(store: Store) -> None:
    """How many more would be let in, and in how many seconds: until all are again, or when refused, until one is."""
    first = await store.keys.admit("k", 2, 10.0, now=NOW)
    second = await store.keys.admit("k", 2, 10.0, now=NOW + 1000)
    third = await store.keys.admit("k", 2, 10.0, now=NOW + 2000)

    assert (first.allowed, first.remaining, first.reset) == (True, 1, 5.0)
    assert (second.allowed, second.remaining, second.reset) == (True, 0, 9.0)
    assert (third.allowed, third.remaining, third.reset) == (False, 0, 3.0)
    assert await admitted(store, 1, NOW + 4999, 2, 10.0) == 0
    assert await admitted(store, 1, NOW + 5000, 2, 10.0) == 1


@pytest.mark.parametrize(("limit", "window"), [(1, 1.0), (7, 1.0), (3, 0.1), (1000, 1.0), (1_000_000, 86400.0)])
async def test_it_is_exact(store: Store, limit: int, window: float) -> None:
    """However requests come, each is let in or refused as by an exact bucket of fractions."""
    rng = random.Random(f"{limit} {window}")
    window_ms, now, fill = round(window * 1000), NOW, 0  # the bucket in ms * limit
    for _ in range(150):
        passed = rng.choice([0, 0, 0, 1, rng.randrange(1 + 2 * window_ms // limit), rng.randrange(2 * window_ms)])
        now, fill = now + passed, max(0, fill - passed * limit)
        fits = fill + window_ms <= limit * window_ms

        assert (await store.keys.admit("k", limit, window, now=now)).allowed is fits

        fill += window_ms * fits


async def test_many_nodes_count_together(store: Store, open_store: OpenStore) -> None:
    """Over several nodes at once, exactly the limit is let in; another key is not touched by it."""
    nodes = [store, await open_store(), await open_store()]

    answers = await asyncio.gather(*(nodes[n % 3].keys.admit("k", 50, 60.0, now=NOW) for n in range(90)))

    assert sum(answer.allowed for answer in answers) == 50
    assert (await store.keys.admit("other", 50, 60.0, now=NOW)).remaining == 49


async def test_state_is_small_and_ends(store: Store) -> None:
    """A key's bucket is one short string that goes once it is empty."""
    for n in range(300):
        await store.keys.admit("k", 1000, 60.0, now=NOW + n)

    bucket = (await dump(store))["rate:k"]

    assert len(bucket.value) < 60
    assert 0 < bucket.ttl <= 61_000


async def test_a_limit_that_changes(store: Store) -> None:
    """With another limit the bucket stays as full as it was: a wider one has room, a narrower one has not more."""
    assert await admitted(store, 9, NOW, 4, 1.0) == 4
    assert await admitted(store, 9, NOW, 8, 1.0) == 0
    assert await admitted(store, 9, NOW + 500, 8, 1.0) == 4
    assert await admitted(store, 9, NOW + 500, 2, 60.0) == 0


async def test_a_clock_that_is_set_back(store: Store) -> None:
    """Whoever is refused after the store's clock was set back is let in again as soon as ever."""
    assert await admitted(store, 9, NOW) == 5
    hour_ago = NOW - 3_600_000

    assert await admitted(store, 9, hour_ago) == 0
    assert await admitted(store, 9, hour_ago + 200) == 1


@pytest.mark.parametrize(("limit", "window"), [(0, 1.0), (-1, 1.0), (2_000_000, 1.0), (1, 0.0), (1, 100_000.0)])
async def test_limits_that_cannot_be_counted(store: Store, limit: int, window: float) -> None:
    """They are refused, and nothing is stored."""
    with pytest.raises(ValueError, match="rate limit"):
        await store.keys.admit("k", limit, window)

    assert f"{prefix(store)}rate:k" not in await dump(store)
