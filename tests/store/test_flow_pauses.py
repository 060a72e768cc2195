"""Pauses, backlogs, and where a policy comes from: what operators say to a queue."""

from __future__ import annotations

import asyncio

import pytest

from gopher_node.errors import QueueDraining, QueueFull
from gopher_node.flow import BreakerPolicy, FlowPolicy, Rate
from gopher_node.job import JobOptions, NewJob, Priority, State, Unique
from gopher_node.store import Pool, Store
from tests.store.keyspace import differences, dump
from tests.store.lanes import fill, names, take
from tests.store.lives import FAR

MAIL, BOTH = Pool.of(["mail"]), Pool.of(["mail", "sms"])
MANY = FlowPolicy(rate=Rate(5.0), group_rate=Rate(2.0), max_running=7, group_max_running=3, max_backlog=50)


@pytest.mark.parametrize(
    ("which", "left"),
    [({}, []), ({"priority": Priority.HIGH}, ["normal"]), ({"group": "normal"}, ["high"])],
    ids=["type", "priority", "group"],
)
async def test_what_is_paused_waits_until_it_is_resumed(store: Store, which: dict[str, str], left: list[str]) -> None:
    """It is not served, its new jobs wake nobody, all else goes on; resumed, it wakes who waits, and is served."""
    session = await store.open_session("node", 15.0)
    await take(store, session, BOTH, 1)
    await store.flow.pause("mail", **which)
    for level in (Priority.NORMAL, Priority.HIGH):
        await fill(store, level.label, 1, group=level.label, priority=level)
    await fill(store, "sms", 1, type="sms")

    assert sorted(names(await take(store, session, BOTH, 10))) == sorted([*left, "sms"])
    while await store.wait_for_work(BOTH, 0.0):
        pass
    assert (await store.claim(session, BOTH, 10)).next_ms is None
    for level in (Priority.NORMAL, Priority.HIGH):
        if level.label not in left:
            await fill(store, f"more-{level.label}", 1, group=level.label, priority=level)
    assert not await store.wait_for_work(BOTH, 0.0)

    await store.flow.resume("mail", **which)

    assert await store.wait_for_work(BOTH, 1.0)
    assert len(await take(store, session, BOTH, 10)) == 2 * (2 - len(left))
    assert await store.flow.all() == {}


async def test_a_pause_leaves_running_jobs_alone(store: Store) -> None:
    """They are settled as ever; what they give back, and what is due, waits with the others."""
    session = await store.open_session("node", 15.0)
    await fill(store, "a", 3)
    await store.submit(NewJob(type="mail", delay_ms=1000))
    leases = (await store.claim(session, MAIL, 2)).leases
    await store.flow.pause("mail")

    assert await store.complete(leases[0]) is State.COMPLETED
    assert await store.release(leases[1]) is State.ENQUEUED
    await store.promote(now=(await store.survey()).now_ms + FAR)
    assert await take(store, session, MAIL, 10) == []

    await store.flow.resume("mail")
    assert len(await take(store, session, MAIL, 10)) == 3


async def test_words_that_are_told_twice_change_nothing(store: Store) -> None:
    """Whatever is said again leaves the store as it is, and wakes nobody again."""
    await fill(store, "a", 3, group="g")
    session = await store.open_session("node", 15.0)
    await take(store, session, MAIL, 1)
    flow = store.flow
    for say in (
        lambda: flow.declare({"mail": MANY}),
        lambda: flow.set("mail", {"rate": Rate(3.0), "breaker": BreakerPolicy()}),
        lambda: flow.pause("mail"),
        lambda: flow.pause("mail", group="g"),
        lambda: flow.pause("mail", Priority.LOW),
        lambda: flow.drain("mail"),
        lambda: flow.resume("mail"),
        lambda: flow.resume("mail", group="g"),
        lambda: flow.set("mail", {"rate": None, "breaker": None}),
    ):
        first = await say()
        before = await dump(store)
        assert await say() == first
        assert differences(before, await dump(store)) == []


async def test_an_operators_words_go_before_what_is_declared(store: Store) -> None:
    """Field by field; taken away, what is declared holds again, also what was declared anew meanwhile."""
    await store.flow.declare({"mail": MANY, "sms": FlowPolicy(max_running=1)})
    assert await store.flow.all() == {"mail": MANY, "sms": FlowPolicy(max_running=1)}

    policy = await store.flow.set(
        "mail", {"rate": Rate.parse("9/m"), "max_running": 2, "breaker": BreakerPolicy(minimum=3)}
    )

    assert (policy.rate, policy.max_running, policy.breaker) == (Rate(9.0, 60.0), 2, BreakerPolicy(minimum=3))
    assert (policy.group_rate, policy.group_max_running, policy.max_backlog) == (Rate(2.0), 3, 50)
    await store.flow.declare({"mail": FlowPolicy(rate=Rate(8.0), max_running=9), "sms": FlowPolicy()})
    assert await store.flow.get("mail") == FlowPolicy(rate=policy.rate, max_running=2, breaker=policy.breaker)
    assert await store.flow.get("sms") == FlowPolicy()
    assert await store.flow.set("mail", {"max_running": None, "rate": None, "breaker": None}) == FlowPolicy(
        rate=Rate(8.0), max_running=9
    )


async def test_what_is_no_policy_is_refused(store: Store) -> None:
    """Nothing is changed by a limit that cannot be."""
    before = await dump(store)
    for patch in ({"rate": 5}, {"max_running": 0}, {"breaker": {}}, {"speed": 1}, {"max_backlog": True}):
        with pytest.raises(ValueError, match=r"must be|no limit"):
            await store.flow.set("mail", patch)
    with pytest.raises(ValueError, match="name"):
        await store.flow.pause("a type")
    with pytest.raises(ValueError, match="name"):
        await store.flow.pause("mail", group="{x}")
    with pytest.raises(ValueError, match="not both"):
        await store.flow.pause("mail", Priority.LOW, "x")
    assert differences(before, await dump(store)) == []


# What takes no more jobs


async def test_a_draining_type_takes_no_new_jobs(store: Store) -> None:
    """A client's are refused, all of a call; retries, follow-ups and what waits go on; resumed, it takes them again."""
    ids = await fill(store, "a", 2)
    await store.flow.drain("mail")
    before = await dump(store)

    with pytest.raises(QueueDraining):
        await store.submit(NewJob(type="mail"))
    with pytest.raises(QueueDraining):
        await store.submit_many([NewJob(type="sms"), NewJob(type="mail")])

    assert differences(before, await dump(store)) == []
    assert not (await store.submit(NewJob(id=ids[0], type="mail"))).created  # a repeat is answered as it was
    session = await store.open_session("node", 15.0)
    one, two = (await store.claim(session, MAIL, 10)).leases
    await store.retry(one, b"{}", 0.0)
    await store.complete(two, b"1", [NewJob(id="b-1", type="mail")])
    assert sorted(await take(store, session, MAIL, 10)) == sorted([one.job.id, "b-1"])
    await store.flow.resume("mail")
    assert (await store.submit(NewJob(type="mail"))).created


async def test_a_full_queue_refuses_whole_calls(store: Store) -> None:
    """All waiting jobs count, scheduled ones too, and those of the call; what runs does not. Neighbours are stored."""
    await store.flow.set("mail", {"max_backlog": 4})
    await fill(store, "a", 2)
    await store.submit(NewJob(type="mail", delay_ms=60_000))

    with pytest.raises(QueueFull) as full:
        await store.submit_many([NewJob(type="mail"), NewJob(type="sms"), NewJob(type="mail")])
    assert (full.value.type, full.value.waiting, full.value.max_backlog) == ("mail", 3, 4)

    jobs = [NewJob(type=type) for type in ("mail", "sms", "mail", "sms", "mail")]
    answers = await asyncio.gather(*(store.submit(job) for job in jobs), return_exceptions=True)
    assert [isinstance(answer, QueueFull) for answer in answers] == [False, False, True, False, True]
    await take(store, await store.open_session("node", 15.0), MAIL, 1)
    assert (await store.submit(NewJob(type="mail"))).created


async def test_a_twin_is_answered_by_a_full_queue(store: Store) -> None:
    """A job that would not be stored anyhow needs no room."""
    await store.flow.set("mail", {"max_backlog": 1})
    jobs = [NewJob(type="mail", options=JobOptions(unique=Unique(key="k"))) for _ in range(2)]
    first, second = [await store.submit(job) for job in jobs]

    assert (second.created, second.id) == (False, first.id)
