"""Jobs that wait for others: released once, in the step that ends the last of these, whatever happens between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import permutations
from typing import Any

import pytest

from gopher_node.errors import DependencyCycle, InvalidState, ParentNotFound
from gopher_node.job import JobOptions, Lease, NewJob, Priority, State
from gopher_node.store import Connections, JobFilter, Once, Pool, Retention, Store
from tests.store import consistency
from tests.store.conftest import OpenStore
from tests.store.keyspace import differences, dump
from tests.store.relay import relay_to

TYPE = "step"
POOL = Pool.of([TYPE])
ERROR = b'{"code":"broken","message":""}'


def new(*parents: str | NewJob, name: str = "", otherwise: Any = "skip", **options: Any) -> NewJob:
    ids = tuple(parent if isinstance(parent, str) else parent.id for parent in parents)
    return NewJob(type=TYPE, options=JobOptions(depends_on=ids, on_parent_failure=otherwise, name=name), **options)


async def states(store: Store, *jobs: NewJob) -> list[str]:
    return [(await store.get(job.id)).state.value for job in jobs]


async def take_all(store: Store, now: int | None = None) -> dict[str, Lease]:
    session = await store.open_session("node", 15.0)
    leases: list[Lease] = []
    while more := (await store.claim(session, POOL, 200, now=now)).leases:
        leases += more
    return {lease.job.id: lease for lease in leases}


async def run_all(store: Store) -> list[str]:
    """Complete all that can run, until nothing can: the ids in the order of their runs."""
    done: list[str] = []
    while leases := await take_all(store):
        for id, lease in leases.items():
            await store.complete(lease, b'"%s"' % id.encode())
            done.append(id)
    return done


async def end(store: Store, job: NewJob, how: str) -> None:
    """Let a job end in that way."""
    if how in ("cancel", "delete"):
        await (store.cancel(job.id) if how == "cancel" else store.delete(job.id))
        return
    lease = (await take_all(store))[job.id]
    if how == "crash":
        for id, pulse in (await store.survey()).sessions.items():
            await store.reap_session(id, pulse.renewals)
    elif how == "complete":
        await store.complete(lease, b"1")
    else:
        await store.fail(lease, ERROR)


async def test_a_diamond(store: Store) -> None:
    """What waits for two runs when both have completed, is told what came of them, and each runs once."""
    top = new(name="top")
    left, right = new("top", name="left"), new(top, name="right")
    bottom = new("left", right)

    stored = await store.submit_many([bottom, right, left, top])

    assert [job.id for job in stored] == [bottom.id, right.id, left.id, top.id]
    assert [job.state.value for job in stored] == ["blocked"] * 3 + ["enqueued"]
    done = await run_all(store)
    assert done[0] == top.id
    assert done[3] == bottom.id
    assert sorted(done) == sorted(job.id for job in stored)
    parents = await store.workflows.parents(await store.get(bottom.id))
    assert {name: (parent.state, parent.result) for name, parent in parents.items()} == {
        "left": (State.COMPLETED, b'"%s"' % left.id.encode()),
        "right": (State.COMPLETED, b'"%s"' % right.id.encode()),
    }


@pytest.mark.parametrize("how", ["fail", "cancel", "crash", "delete"])
async def test_a_parent_that_does_not_complete(store: Store, how: str) -> None:
    """Each child goes its own way, and those of a child that is skipped go with it."""
    parent, other = new(max_crashes=0), new(due_ms=4_000_000_000_000)
    skipped, failed, ran, waits = (
        new(parent, other),
        new(parent, otherwise="fail"),
        new(parent, otherwise="run"),
        new(parent, other, otherwise="run"),
    )
    grandchild = new(skipped, otherwise="fail")
    jobs = [skipped, failed, ran, waits, grandchild]
    await store.submit_many([parent, other, *jobs])

    await end(store, parent, how)

    assert await states(store, *jobs) == ["cancelled", "failed", "enqueued", "blocked", "failed"]
    assert [(await store.get(job.id)).error for job in (skipped, grandchild)] == [
        {"code": "parent-failed", "message": f"Job {gone.id}, which it waited for, did not complete."}
        for gone in (parent, skipped)
    ]


async def test_parents_that_have_ended_before(store: Store) -> None:
    """A job is released, or skipped, in the step that stores it if its parents have ended; also as a follow-up."""
    completed, failed = new(), new()
    await store.submit(completed)
    await end(store, completed, "complete")
    await store.submit(failed)
    await end(store, failed, "fail")
    runs, skipped, anyway = new(completed), new(completed, failed), new(failed, otherwise="run")
    await store.submit_many([runs, skipped, anyway])
    assert await states(store, runs, skipped, anyway) == ["enqueued", "cancelled", "enqueued"]
    await run_all(store)

    giver = new()
    await store.submit(giver)
    lease = (await take_all(store))[giver.id]
    follow_ups = [new(giver), new(failed), new("nobody"), new("nobody", otherwise="run")]
    assert await store.complete(lease, b"1", follow_ups) is State.COMPLETED
    assert await states(store, *follow_ups) == ["enqueued", "cancelled", "cancelled", "enqueued"]


async def test_what_cannot_be_stored(store: Store) -> None:
    """A parent that is not there and a circle are refused, and so is all that came with them."""
    first, second = new(), new("unknown")
    with pytest.raises(ParentNotFound) as missing:
        await store.submit_many([first, second])
    assert (missing.value.index, missing.value.parent) == (1, "unknown")
    circle = [new("c", name="a"), new("a", name="b"), new("b", name="c")]
    with pytest.raises(DependencyCycle) as cycle:
        await store.submit_many([first, *circle])
    assert sorted(set(cycle.value.circle)) == ["a", "b", "c"]
    with pytest.raises(DependencyCycle):
        await store.submit(NewJob(type=TYPE, id="own", options=JobOptions(depends_on=("own",))))
    with pytest.raises(ValueError, match="name"):
        await store.submit_many([new(name="a"), new(name="a")])

    assert sum((await store.stats()).counts.values()) == 0


async def test_submitted_once(store: Store, open_store: OpenStore) -> None:
    """With an idempotency key, ids are the store's, and names still mean the jobs of the request; a repeat is answered
    as the first was, even when the jobs have moved on."""
    once = Once("key", "same")
    first = await store.submit_many([new("top"), new(name="top")], once=once)
    assert [job.state for job in first] == [State.BLOCKED, State.ENQUEUED]
    assert (await store.get(first[0].id)).options.depends_on == (first[1].id,)
    await run_all(store)

    again = await (await open_store()).submit_many([new("top"), new(name="top")], once=once)

    assert [(job.id, job.state, job.replayed) for job in again] == [(job.id, job.state, True) for job in first]
    assert (await store.stats()).totals["submitted"] == 2


@pytest.mark.parametrize("order", list(permutations(range(3))))
async def test_a_join_fires_once_in_whatever_order(store: Store, order: Sequence[int]) -> None:
    """Each settlement is told twice, by two nodes, between all others; the join is released by the last one alone."""
    parents = [new(), new(), new(max_retries=0)]
    join = new(*parents, otherwise="run")
    await store.submit_many([*parents, join])
    leases = await take_all(store)

    for number, place in enumerate(order):
        lease = leases[parents[place].id]
        for _ in range(2):
            await (store.retry(lease, ERROR, 0.0) if place == 2 else store.complete(lease, b"1"))
        await consistency.check(store)
        assert await states(store, join) == ["enqueued" if number == 2 else "blocked"]

    assert list(await take_all(store)) == [join.id]
    assert await take_all(store) == {}


async def test_a_child_that_is_due_later(store: Store) -> None:
    """A due time counts once nothing is waited for any more."""
    parent = new()
    child, past = new(parent, due_ms=4_000_000_000_000), new(parent, due_ms=1)
    await store.submit_many([parent, child, past])
    assert await states(store, child, past) == ["blocked", "blocked"]
    await end(store, parent, "complete")
    assert await states(store, child, past) == ["scheduled", "enqueued"]


async def test_a_child_waits_for_a_worker_once_it_could_run(store: Store) -> None:
    """As long as its parent has not ended, nobody is late: neither its age nor the wait of its run counts that."""
    began = 1_700_000_000_000
    parent = new()
    child = new(parent)
    await store.submit_many([parent, child], now=began)
    session = await store.open_session("n", 15.0)
    (lease,) = (await store.claim(session, POOL, 1, now=began)).leases
    settlement = ("complete", lease.job.id, lease.job.attempt, lease.nonce, b"1", "", 0)
    await store._send_settlements([settlement], now=began + 3_600_000)

    (queue,) = await store.queues(now=began + 3_600_050)
    assert queue.oldest_ms == {Priority.NORMAL: 50}
    (lease,) = (await store.claim(session, POOL, 1, now=began + 3_600_050)).leases
    assert (lease.job.id, lease.job.due_ms) == (child.id, began + 3_600_000)


# Many at once


@pytest.mark.parametrize("how", ["complete", "fail"])
async def test_a_thousand_children(store: Store, open_store: OpenStore, how: str) -> None:
    """The transition releases two hundred, and ticks of any node the rest, step by step, each told twice."""
    parent = new()
    await store.submit(parent)
    children = [new(parent) for _ in range(1000)]
    await store.submit_many(children)
    ended = "enqueued" if how == "complete" else "cancelled"

    async def count() -> Counter[str]:
        found = await store.stats()
        return Counter({state.value: number for (state, _, type), number in found.counts.items() if type == TYPE})

    await end(store, parent, how)
    assert (await count())["blocked"] == 800
    assert (await store.promote()).fans
    other = await open_store()
    left = 800
    while left:
        await consistency.check(store)
        before = left
        await other.workflows.fan_out(150)
        await store.workflows.fan_out(150)
        left = (await count())["blocked"]
        assert max(0, before - 300) == left
    while await store.workflows.fan_out():
        pass
    assert not (await store.promote()).fans

    assert (await count())[ended] == 1000
    assert len(await run_all(store)) == (1000 if how == "complete" else 0)


async def test_what_comes_while_others_are_released(store: Store) -> None:
    """The outcome that is recorded for those who waited is not that of a later run, for which others wait."""
    parent = new()
    early = [new(parent) for _ in range(300)]
    await store.submit_many([parent, *early])
    await end(store, parent, "fail")
    await store.requeue(parent.id)
    late = new(parent)
    await store.submit(late)

    while await store.workflows.fan_out(40):
        await consistency.check(store)

    assert Counter(await states(store, *early)) == {"cancelled": 300}
    assert await states(store, late) == ["blocked"]
    await end(store, parent, "complete")
    assert await states(store, late) == ["enqueued"]


async def test_a_long_chain_that_is_skipped(store: Store) -> None:
    """What ends because its parent did ends its own children: as far as one step reaches, and then in ticks."""
    chain = [new()]
    for _ in range(499):
        chain.append(new(chain[-1]))
    await store.submit_many(chain)

    await store.cancel(chain[0].id)
    assert Counter(await states(store, *chain))["blocked"] > 250
    while await store.workflows.fan_out():
        await consistency.check(store)

    assert Counter(await states(store, *chain)) == {"cancelled": 500}


# Operators


async def test_what_an_operator_does_to_a_blocked_job(store: Store) -> None:
    """It is listed, edited, cancelled and deleted; it cannot be run at once."""
    parent = new()
    child, dropped = new(parent), new(parent)
    await store.submit_many([parent, child, dropped])
    page = await store.list(JobFilter(states=(State.BLOCKED,)))
    assert {job.id for job in page.items} == {child.id, dropped.id}
    with pytest.raises(InvalidState):
        await store.run_now(child.id)
    edited = await store.edit(child.id, priority=Priority.HIGH, delay_ms=3_600_000)
    assert (edited.state, edited.priority) == (State.BLOCKED, Priority.HIGH)
    await store.delete(dropped.id)
    await consistency.check(store)
    await store.cancel(child.id)
    await end(store, parent, "complete")
    assert await states(store, child) == ["cancelled"]


async def test_retrying_what_was_skipped(store: Store) -> None:
    """A child that is requeued waits again for a parent that was requeued; for one that has failed it does not."""
    parent = new()
    child = new(parent)
    await store.submit_many([parent, child])
    await end(store, parent, "fail")
    await store.requeue(parent.id)

    assert (await store.requeue(child.id)).state is State.BLOCKED
    await end(store, parent, "fail")
    assert await states(store, child) == ["cancelled"]
    assert (await store.requeue(child.id)).state is State.ENQUEUED


async def test_a_parent_stays_as_long_as_it_is_needed(store: Store) -> None:
    """Retention forgets no parent of a job that has not ended, gets past those that stay, and forgets them then."""
    store.retention = Retention(completed=1.0, cancelled=1.0)
    parent, gone = new(retention_ms=1000), new()
    child = new(parent)
    await store.submit_many([parent, gone, child])
    leases = await take_all(store)
    for lease in leases.values():
        await store.complete(lease, b"7")
    later_on = (await store.get(parent.id)).finished_ms or 0
    later_on += 10_000

    assert await store.prune(1, now=later_on) == 1
    while await store.prune(1, now=later_on):
        await consistency.check(store)
    assert await states(store, child) == ["enqueued"]
    assert await store.workflows.parents(await store.get(child.id))
    assert (await store.list(JobFilter(states=(State.COMPLETED,)))).items[0].id == parent.id
    await end(store, child, "complete")
    await consistency.check(store)
    while await store.prune(now=later_on + 10_000):
        pass

    assert await dump_of_jobs(store) == set()


async def dump_of_jobs(store: Store) -> set[str]:
    return {name for name in await dump(store) if name.partition(":")[0] in ("job", "dependents", "result")}


async def test_every_script_told_twice(open_store: OpenStore, unchecked_store: Store) -> None:
    """A settlement, a cancel and a submit that are carried out twice change what one does, and nothing more."""
    store = unchecked_store
    parent, other = new(), new()
    child = new(parent)
    run = store._run
    changed: list[str] = []

    async def twice(script: str, *arguments: Any, now: int | None = None) -> Any:
        first = await run(script, *arguments, now=now)
        before = await dump(store)
        second = await run(script, *arguments, now=now)
        if script in ("submit", "settle", "cancel", "delete", "requeue"):
            changed.extend(line for line in differences(before, await dump(store)))
            assert first == second
        return second

    store._submitting._run = twice  # type: ignore[assignment]
    store._operating._run = twice  # type: ignore[assignment]
    store._run = twice  # type: ignore[method-assign]
    await store.submit_many([parent, other, child])
    leases = await take_all(store)
    await store.complete(leases[parent.id], b"1", [new(other), new("nobody")])
    await store.cancel(other.id)
    await store.fail(leases[other.id], ERROR)
    await store.requeue(other.id)
    await store.delete(other.id)

    assert [line for line in changed if not line.startswith(("totals", "turn"))] == []
    await consistency.check(store)


@pytest.mark.parametrize("how", ["complete", "fail"])
async def test_the_answer_of_the_last_end_is_lost(valkey_store: Store, valkey_url: str, how: str) -> None:
    """The node that ended the last parent does not hear that it did, and asks again: the join is released once."""
    store = valkey_store
    first, last = new(), new()
    join, other = new(first, last), new(last, otherwise="run")
    await store.submit_many([first, last, join, other])
    leases = await take_all(store)
    await store.complete(leases[first.id])
    async with relay_to(valkey_url) as relay:
        far = Store(Connections(relay.url), namespace=store.namespace)
        await far.ping()
        relay.lose_answers(3)
        settled = await (far.complete(leases[last.id]) if how == "complete" else far.fail(leases[last.id], ERROR))
        await far.close()

    assert (relay.lost, settled) == (3, State.COMPLETED if how == "complete" else State.FAILED)
    assert await states(store, join, other) == ["enqueued" if how == "complete" else "cancelled", "enqueued"]
    assert len(await take_all(store)) == (2 if how == "complete" else 1)


async def test_a_parent_that_is_named_twice(store: Store) -> None:
    """It is one edge, also of a follow-up, whose parents nobody has put in order."""
    await store.submit(new())
    (lease,) = (await take_all(store)).values()
    parent = new()

    await store.complete(lease, b"1", [parent, child := new(parent, parent)])

    assert await run_all(store) == [parent.id, child.id]
