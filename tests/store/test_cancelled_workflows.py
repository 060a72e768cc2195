"""A workflow that is being cancelled, and what is added to it or run again meanwhile."""

from __future__ import annotations

from gopher_node.job import JobOptions, NewJob, State
from gopher_node.store import NewWorkflow, Pool, Store, replies

NOW = 1_800_000_000_000
TYPE = "step"
POOL = Pool.of([TYPE])


async def test_what_joins_between_two_steps(store: Store) -> None:
    """It is cancelled too, although by its creation it stands before the members that were seen to: a clock steps."""
    jobs = [NewJob(type=TYPE) for _ in range(3)]
    id, _ = await store._submitting.workflow(NewWorkflow(jobs=jobs), None, NOW)
    session = await store.open_session("node", 15.0)
    (lease,) = (await store.claim(session, POOL, 1, now=NOW)).leases
    _, done_to, *members = await store._run("cancel_workflow", id, "", 200, now=NOW)
    await store._operating.cancel_all([member.decode() for member in members], NOW)

    added = NewJob(type=TYPE, options=JobOptions(workflow=id))
    token = (lease.job.id, lease.job.attempt, lease.nonce)
    await store._send_settlements(
        [("complete", *token, b"1", "", 1, *replies.new_job_fields(added))], now=NOW - 3_600_000
    )
    await store._run("cancel_workflow", id, done_to, 200, now=NOW)
    while await store.workflows.fan_out(now=NOW):
        pass

    assert (await store.get(added.id)).state is State.CANCELLED
    assert (await store.workflows.get(id)).state == "cancelled"


async def test_cancelled_once_more(store: Store) -> None:
    """A member that was requeued while another still runs is cancelled by the next cancel, and by no tick before."""
    jobs = [NewJob(type=TYPE) for _ in range(2)]
    submitted = await store.workflows.submit(NewWorkflow(jobs=jobs))
    session = await store.open_session("node", 15.0)
    (lease,) = (await store.claim(session, POOL, 1)).leases
    (other,) = {job.id for job in jobs} - {lease.job.id}
    await store.workflows.cancel(submitted.id)
    await store.requeue(other)

    await store.workflows.fan_out()
    await store.workflows._cancel_steps(submitted.id, None, most=1)  # of a tick that comes late
    assert (await store.get(other)).state is State.ENQUEUED

    await store.workflows.cancel(submitted.id)
    assert (await store.get(other)).state is State.CANCELLED
    await store.cancelled(lease)
    assert (await store.workflows.get(submitted.id)).state == "cancelled"
