"""A purge of a type whose jobs wait for each other, and are waited for."""

from __future__ import annotations

from gopher_node.job import JobOptions, NewJob, Priority, State
from gopher_node.store import NewWorkflow, Store


async def test_a_purge_leaves_nothing_that_waits(store: Store) -> None:
    """Blocked jobs go too, of one level or all, in as many steps as it takes; what waited for them does not run."""
    other = NewJob(type="other")
    first = [NewJob(type="mail", options=JobOptions(depends_on=(other.id,))) for _ in range(450)]
    urgent = NewJob(type="mail", priority=Priority.URGENT, options=JobOptions(depends_on=(other.id,)))
    later = [
        NewJob(type="mail", options=JobOptions(depends_on=(first[n].id,), on_parent_failure="run")) for n in range(20)
    ]
    skipped = NewJob(type="other", options=JobOptions(depends_on=(first[0].id,)))
    stored = await store.workflows.submit(NewWorkflow(jobs=[other, *first, urgent, *later, skipped]))
    await store.submit_many([NewJob(type="mail"), NewJob(type="mail", delay_ms=60_000)])

    assert await store.purge("mail", Priority.URGENT) == 1
    assert await store.purge("mail") == 450 + 20 + 2

    while await store.workflows.fan_out():
        pass
    assert (await store.get(skipped.id)).state is State.CANCELLED
    assert (await store.get(other.id)).state is State.ENQUEUED
    assert (await store.workflows.get(stored.id)).counts[State.BLOCKED] == 0
