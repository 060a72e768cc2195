"""The check that runs after every store test: it accepts a sound store and bites at each kind of damage."""

from __future__ import annotations

import pytest

from gopher_node.job import NewJob, Priority
from gopher_node.store import Pool, Store
from tests.store import consistency
from tests.store.keyspace import Dump, command, dump, prefix, restore
from tests.store.lives import claim_one

SOUND = "a sound store"


_filled: Dump = {}


async def fill(store: Store) -> None:
    """A job in every state, with every index in use. Their ids are the words for their states."""
    if _filled:
        await restore(store, {name: key for name, key in _filled.items() if key.ttl < 0})
        return
    pool = Pool.of(["mail"])

    def new(id: str, **options: object) -> NewJob:
        return NewJob(type="mail", id=id, **{"tags": ("red",), **options})  # type: ignore[arg-type]

    session = await store.open_session("node", 15.0)
    await store.claim(session, pool, 1)
    for id, settle in (("completed", store.complete), ("failed", store.fail), ("cancelled", store.cancelled)):
        await store.submit(new(id, retention_ms=3_600_000))
        lease = await claim_one(store, session)
        await settle(lease, b"{}")
    await store.submit(new("processing", priority=Priority.URGENT))
    await claim_one(store, session)
    await store.submit(new("leased"))
    await store.leases.claim(pool, 1)
    await store.submit(new("scheduled", delay_ms=3_600_000))
    await store.submit(new("enqueued", group="acme", payload=b'"' + b"x" * 2000 + b'"'))
    _filled.update(await dump(store))


DAMAGES = {
    "a job in no index": ("ZREM", "lane:2:mail:acme", "enqueued"),
    "a job in two indexes": ("ZADD", "due", 1, "enqueued"),
    "an index names no job": ("ZADD", "due", 1, "nobody"),
    "a job in another's lane": ("HSET", "job:enqueued", "group", "umbrella"),
    "a job of another state": ("HSET", "job:scheduled", "state", "blocked"),
    "a state nobody knows": ("HSET", "job:scheduled", "state", "asleep"),
    "a job without type": ("HDEL", "job:scheduled", "type"),
    "a finished job without its time": ("HDEL", "job:failed", "finished"),
    "a waiting job with a finish time": ("HSET", "job:enqueued", "finished", 1),
    "a waiting job to be cancelled": ("HSET", "job:enqueued", "cancel", 1),
    "a place that seq has not given": ("ZADD", "lane:2:mail:acme", 1_000_000, "enqueued"),
    "a due time that is not the job's": ("ZADD", "due", 1, "scheduled"),
    "a deadline before the start": ("ZADD", "processing", 1, "processing"),
    "a lease without nonce": ("HDEL", "job:processing", "nonce"),
    "a waiting job with a lease": ("HSET", "job:enqueued", "lease", 30_000, "deadline", 1),
    "a heartbeat of a node's run": ("HSET", "job:processing", "renewed", 1),
    "a lease without its hard deadline": ("HDEL", "job:leased", "deadline"),
    "a lease that ends when nobody said": ("ZADD", "processing", 9e12, "leased"),
    "a lease that a session holds too": ("SADD", "held:<session>", "leased"),
    "a claim that is answered for ever": ("HSET", "session:http-claim", "claim", 1),
    "a lane without its group's turn": ("ZREM", "groups:2:mail", "acme"),
    "a turn without a lane": ("ZADD", "groups:2:mail", 1, "umbrella"),
    "a turn that was never given": ("ZADD", "groups:2:mail", 9e15, "acme"),
    "a type that nothing holds and is parked": ("ZADD", "ready:2:<pool>", 9e15, "mail"),
    "a run of nobody in a group": ("HSET", "running:mail", "acme", 1),
    "a policy that nobody declared": ("HSET", "flow", "mail", '{"cap":1}'),
    "tokens of no rate": ("HSET", "rate-state:mail", "", "1 1"),
    "a type with work that is not ready": ("ZREM", "ready:2:<pool>", "mail"),
    "a type without work that is ready": ("ZADD", "ready:1:<pool>", 1, "mail"),
    "a ready index of no pool": ("ZADD", "ready:2:nobody", 1, "mail"),
    "a pool that does not know its types": ("SREM", "pool:<pool>", "mail"),
    "a type that does not know its pool": ("SREM", "pools-of:mail", "<pool>"),
    "a pool that was forgotten by half": ("ZREM", "pools", "<pool>"),
    "credit of no pool": ("HSET", "credit:nobody", "4", 1),
    "a waiting list of no pool": ("ZADD", "waiting:nobody", 1, "session"),
    "a session that waits and is gone": ("ZADD", "waiting:<pool>", 1, "session"),
    "a wake list of no pool": ("RPUSH", "wake:nobody", "1"),
    "a session that forgot what it holds": ("SREM", "held:<session>", "processing"),
    "a session that holds what is not running": ("SADD", "held:<session>", "enqueued"),
    "a holder that is no session": ("HDEL", "sessions", "<session>"),
    "a session that nobody can renew": ("HSET", "sessions", "stranger", "0:15000:node"),
    "a final state without its type's index": ("ZREM", "final:completed:mail", "completed"),
    "a type's index without its final state": ("ZREM", "final:cancelled", "cancelled"),
    "a finish time that is not the job's": ("ZADD", "final:failed", 1, "failed"),
    "a retention that nobody heeds": ("ZREM", "expiring", "completed"),
    "a retention for a failed job": ("ZADD", "expiring", 1, "failed"),
    "a tag that lost its job": ("ZREM", "tag:red", "enqueued"),
    "a tag that the job has not": ("ZADD", "tag:blue", 1, "enqueued"),
    "a count too high": ("HINCRBY", "counts", "enqueued:2:mail", 1),
    "a count of nothing": ("HINCRBY", "counts", "enqueued:2:other", -1),
    "a total that misses an end": ("HDEL", "totals-by-type", "failed:mail"),
    "fewer submitted than there are": ("HSET", "totals-by-type", "submitted:mail", 1),
    "a total beside those of the types": ("HSET", "totals", "submitted", 1),
    "a type with totals that is not counted": ("HINCRBY", "totals-by-type", "", -1),
    "a group that lists do not find": ("ZREM", "lanes:2:mail", "acme"),
    "a group that lists find in vain": ("ZADD", "lanes:2:mail", 0, "umbrella"),
    "a minute that was never closed": ("ZADD", "history", 60_000, '{"at":60000,"totals":{},"types":{}}'),
    "a key that lost its digest": ("HSET", "keys", "k", '{"digest":""}'),
    "a use of no key": ("HSET", "keys-used", "k", 1),
    "a rate limit that holds for ever": ("SET", "rate:k", "1 1 1 1"),
    "a payload without its job": ("SET", "payload:nobody", "x" * 2000),
    "a result without its job": ("SET", "result:nobody", "x" * 2000),
    "attempts without their job": ("RPUSH", "attempts:nobody", '{"attempt":1}'),
    "a payload that is gone": ("DEL", "payload:enqueued"),
    "two payloads": ("HSET", "job:enqueued", "payload", "{}"),
    "a large payload in the hash": ("HSET", "job:scheduled", "payload", "x" * 1025),
    "a small payload beside the hash": ("SET", "payload:enqueued", "{}"),
    "a result of a job that is not completed": ("HSET", "job:failed", "result", "1"),
    "an attempt recorded twice": ("RPUSH", "attempts:failed", '{"attempt":1}'),
    "more attempts than are kept": ("RPUSH", "attempts:failed", *[f'{{"attempt":{n}}}' for n in range(2, 22)]),
    "an idempotency key that holds for ever": ("SET", "once:" + "0" * 64, f"1700000000000 {'a' * 32} digest"),
    "a reply that is kept for ever": ("SET", "reply:" + "0" * 32, "failed:deleted"),
    "an operation of nobody": ("HSET", "job:failed", "operation", "enqueued"),
    "an end that no callback tells of": ("HSET", "job:failed", "callback", "https://example.org"),
    "a live job that expires": ("EXPIRE", "job:enqueued", 1000),
    "an index that expires": ("EXPIRE", "due", 1000),
    "a key that nothing explains": ("SET", "lost", "1"),
    "a key of another type": ("SET", "blocked", "1"),
    "no layout": ("DEL", "layout"),
}


async def test_accepts_a_sound_store(unchecked_store: Store) -> None:
    """A store with a job in every state is consistent, and so is an empty one."""
    await consistency.check(unchecked_store)

    await fill(unchecked_store)

    await consistency.check(unchecked_store)


@pytest.mark.parametrize("damage", DAMAGES)
async def test_bites_at_damage(unchecked_store: Store, damage: str) -> None:
    """Each kind of damage to an index, done by hand, is found."""
    await fill(unchecked_store)
    (session,) = (await unchecked_store.survey()).sessions
    verb, key, *rest = DAMAGES[damage]
    names = {"<pool>": Pool.of(["mail"]).key, "<session>": session}

    def fill_in(word: object) -> object:
        for name, value in names.items():
            word = word.replace(name, value) if isinstance(word, str) else word
        return word

    await command(unchecked_store, verb, f"{prefix(unchecked_store)}{fill_in(key)}", *map(fill_in, rest))

    with pytest.raises(consistency.Inconsistent):
        await consistency.check(unchecked_store)
