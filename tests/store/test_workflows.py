"""Workflows: stored as one, counted, followed by callbacks at most once each, cancelled as one, and forgotten."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from gopher_node.errors import (
    DependencyCycle,
    InvalidState,
    JobExists,
    JobNotFound,
    KeyReused,
    ParentNotFound,
    WorkflowEnded,
    WorkflowNotFound,
)
from gopher_node.job import JobOptions, Lease, NewJob, State
from gopher_node.store import JobFilter, NewWorkflow, Once, Pool, Retention, Store
from tests.store import consistency
from tests.store.conftest import OpenStore
from tests.store.keyspace import differences, dump

TYPE, AFTER = "step", "after"
POOL = Pool.of([TYPE])
ERROR = b'{"code":"broken","message":""}'


def step(*parents: str, name: str = "", workflow: str = "", otherwise: Any = "skip", **options: Any) -> NewJob:
    links = JobOptions(depends_on=parents, name=name, workflow=workflow, on_parent_failure=otherwise)
    return NewJob(type=TYPE, options=links, **options)


def followed(*jobs: NewJob, **options: Any) -> NewWorkflow:
    """A workflow with all three callbacks."""
    after = {name: NewJob(type=AFTER) for name in ("on_complete", "on_success", "on_failure")}
    return NewWorkflow(jobs=jobs, **after, **options)


async def take(store: Store) -> dict[str, Lease]:
    session = await store.open_session("node", 15.0)
    return {lease.job.id: lease for lease in (await store.claim(session, POOL, 200)).leases}


async def fired(store: Store, id: str) -> set[str]:
    """The callbacks of a workflow that were stored; each is there once, and tells what it belongs to."""
    jobs = [job for job in (await store.list(JobFilter(type=AFTER), 100)).items if job.options.workflow == id]
    names = [job.options.name for job in jobs]
    assert len(names) == len(set(names))
    found = await store.workflows.get(id)
    assert found.callbacks == {job.options.name: job.id for job in jobs}
    return set(names)


async def test_all_complete(store: Store) -> None:
    """Its counts are those of its members at any time; when the last has ended it has, and calls back."""
    workflow = followed(step("b"), step(name="a"), step("a", name="b"), step(delay_ms=50_000), name="my order 17")
    submitted = await store.workflows.submit(workflow)

    found = await store.workflows.get(submitted.id)
    assert (found.name, found.state, found.total, found.finished_ms) == ("my order 17", "running", 4, None)
    assert {state.value: number for state, number in found.counts.items() if number} == {
        "blocked": 2,
        "enqueued": 1,
        "scheduled": 1,
    }
    await store.run_now(submitted.jobs[3])
    for number in (2, 1, 1):
        assert await fired(store, submitted.id) == set()
        leases = await take(store)
        assert len(leases) == number
        for lease in leases.values():
            await store.complete(lease)
        await consistency.check(store)
    found = await store.workflows.get(submitted.id)
    assert (found.state, found.counts[State.COMPLETED], found.finished_ms is None) == ("completed", 4, False)
    assert await fired(store, submitted.id) == {"on_complete", "on_success"}


@pytest.mark.parametrize("how", ["fail", "crash", "cancel", "delete"])
async def test_one_does_not_complete(store: Store, how: str) -> None:
    """
    The first that ends otherwise is told of at once; the end, when the last has ended.

    A retry of what failed lets it succeed after all, and each callback is still told once.
    """
    submitted = await store.workflows.submit(followed(step(max_crashes=0), step()))
    first, last = submitted.jobs
    if how == "delete":
        await store.delete(first)
    leases = await take(store)
    if how == "fail":
        await store.fail(leases[first], ERROR)
    elif how == "crash":
        for id, pulse in (await store.survey()).sessions.items():
            await store.reap_session(id, pulse.renewals)
        leases = await take(store)
    elif how == "cancel":
        await store.cancel(first)
        await store.cancelled(leases[first])

    assert await fired(store, submitted.id) == {"on_failure"}
    assert (await store.workflows.get(submitted.id)).state == "running"
    await store.complete(leases[last])
    found = await store.workflows.get(submitted.id)
    assert (found.state, found.total, found.cancel_requested) == ("failed", 2, False)
    assert await fired(store, submitted.id) == {"on_failure", "on_complete"}
    if how == "delete":
        return

    await store.requeue(first)
    await consistency.check(store)
    assert (await store.workflows.get(submitted.id)).state == "running"
    await store.complete((await take(store))[first])
    assert (await store.workflows.get(submitted.id)).state == "completed"
    assert await fired(store, submitted.id) == {"on_failure", "on_complete", "on_success"}


async def test_the_last_member_crashes(store: Store) -> None:
    """A reaper that takes the last run back for good ends the workflow in that step, and a late completion changes
    nothing."""
    submitted = await store.workflows.submit(followed(step(max_crashes=0)))
    leases = await take(store)
    sessions = (await store.survey()).sessions
    for id, pulse in sessions.items():
        for _ in range(2):
            await store.reap_session(id, pulse.renewals)

    assert await store.complete(leases[submitted.jobs[0]]) is None
    assert (await store.workflows.get(submitted.id)).state == "failed"
    assert await fired(store, submitted.id) == {"on_failure", "on_complete"}


async def test_settled_together(store: Store) -> None:
    """Of members that one request settles, only all together end it; what is told twice counts once."""
    submitted = await store.workflows.submit(followed(*(step() for _ in range(50))))
    leases = (await take(store)).values()
    words = [("complete", lease.job.id, 1, lease.nonce, b"1", "", 0) for lease in leases]

    for _ in range(2):
        answers = await store._send_settlements(words)
        assert answers == [b"completed"] * 50

    assert (await store.workflows.get(submitted.id)).counts[State.COMPLETED] == 50
    assert await fired(store, submitted.id) == {"on_complete", "on_success"}


# Adding


async def test_adding_from_inside(store: Store) -> None:
    """A member that adds others, by a follow-up or while it runs, keeps its workflow from ending; then none can be."""
    submitted = await store.workflows.submit(followed(step()))
    id = submitted.id
    lease = (await take(store))[submitted.jobs[0]]
    inside = await store.submit(step(workflow=id))
    await store.submit_many([step("x", workflow=id), step(workflow=id, name="x")])
    held = await take(store)
    await store.complete(held.pop(inside.id))
    await store.complete(lease, b"1", [step(workflow=id), step(submitted.jobs[0], workflow=id)])
    await consistency.check(store)
    found = await store.workflows.get(id)
    assert (found.state, found.total, found.counts[State.COMPLETED]) == ("running", 6, 2)
    assert len((await store.workflows.members(id)).items) == 6

    last = None
    while held:
        for last in held.values():
            await store.complete(last)
        held = await take(store)
    assert (await store.workflows.get(id)).state == "completed"
    for job in (step(workflow=id), step(submitted.jobs[0], workflow=id)):
        with pytest.raises(WorkflowEnded) as ended:
            await store.submit(job)
        assert ended.value.state == "completed"
    with pytest.raises(WorkflowNotFound):
        await store.submit_many([step(), step(workflow="unknown")])
    assert last is not None
    assert (await store.stats()).totals["submitted"] == 8


async def test_a_follow_up_for_one_that_has_ended(store: Store) -> None:
    """A completion is never refused: what it adds where nothing can be added runs, and is no member."""
    submitted = await store.workflows.submit(followed(step()))
    await store.complete((await take(store))[submitted.jobs[0]])
    outside = await store.submit(step())
    late = [step(workflow=submitted.id), step(workflow="unknown")]

    assert await store.complete((await take(store))[outside.id], b"1", late) is State.COMPLETED

    assert set(await take(store)) == {job.id for job in late}
    assert (await store.workflows.get(submitted.id)).total == 1


# Submitting


async def test_all_or_nothing(store: Store) -> None:
    """What is refused of a workflow leaves nothing of it."""
    taken = step(client_id=True)
    await store.submit(taken)
    before = await dump(store)
    for jobs, error in (
        ([step(), step("unknown")], ParentNotFound),
        ([step("b", name="a"), step("a", name="b")], DependencyCycle),
        ([step(), taken], JobExists),
        ([], ValueError),
        ([step() for _ in range(1001)], ValueError),
    ):
        with pytest.raises(error):
            await store.workflows.submit(followed(*jobs))
    for verb in (store.workflows.get, store.workflows.cancel, store.workflows.members):
        with pytest.raises(WorkflowNotFound):
            await verb("unknown")
    assert differences(before, await dump(store)) == []


async def test_submitted_once(store: Store, open_store: OpenStore) -> None:
    """A workflow with an idempotency key is stored once; the repeat is answered with its ids."""
    once = Once("key", "print")
    first = await store.workflows.submit(followed(step("a"), step(name="a")), once)

    again = await (await open_store()).workflows.submit(followed(step("a"), step(name="a")), once)

    assert (again.id, again.jobs, again.replayed, first.replayed) == (first.id, first.jobs, True, False)
    assert [job.state for job in again.stored] == [State.BLOCKED, State.ENQUEUED]
    with pytest.raises(KeyReused):
        await store.workflows.submit(followed(step()), Once("key", "other"))
    assert (await store.workflows.get(first.id)).total == 2


async def test_a_submission_told_twice(store: Store) -> None:
    """A thousand jobs at once, whose answer was lost: they are there once, and both answers are the same."""
    run = store._submitting._run
    answers: list[Any] = []

    async def twice(*words: Any, now: int | None = None) -> Any:
        answers.extend([await run(*words, now=now), await run(*words, now=now)])
        return answers[-1]

    store._submitting._run = twice
    jobs = [step(name="top"), *(step("top") for _ in range(998)), step()]
    submitted = await store.workflows.submit(followed(*jobs))
    store._submitting._run = run

    assert answers[0] == answers[1]
    found = await store.workflows.get(submitted.id)
    assert (found.total, found.counts[State.BLOCKED], found.counts[State.ENQUEUED]) == (1000, 998, 2)
    assert submitted.jobs == tuple(job.id for job in jobs)


async def test_each_step_told_twice(store: Store) -> None:
    """Every script of a workflow's life is carried out twice, as if its first answer had been lost."""
    run = store._run
    told: Counter[str] = Counter()

    async def lossy(script: str, *arguments: Any, now: int | None = None) -> Any:
        told[script] += 1
        await run(script, *arguments, now=now)
        return await run(script, *arguments, now=now)

    for part in (store, store.workflows, store._operating, store._submitting):
        part._run = lossy  # type: ignore[attr-defined]
    submitted = await store.workflows.submit(followed(step(name="a"), step("a"), step("a"), step()))
    await store.complete((await take(store))[submitted.jobs[0]], b"1", [step(workflow=submitted.id)])
    await consistency.check(store)
    leases = await take(store)
    await store.fail(leases[submitted.jobs[1]], ERROR)
    await store.requeue(submitted.jobs[1])
    await store.workflows.cancel(submitted.id)
    await consistency.check(store)

    found = await store.workflows.get(submitted.id)
    assert (found.total, found.counts[State.PROCESSING], found.counts[State.CANCELLED]) == (5, 3, 1)
    assert told["cancel_workflow"] == 2
    assert await fired(store, submitted.id) == {"on_failure"}


# Cancelling


async def test_cancelled_as_one(store: Store, open_store: OpenStore) -> None:
    """Waiting members end and running ones are told; what a dying caller left is done by the ticks of others."""
    jobs = [step(name="top"), *(step("top", otherwise="run") for _ in range(300)), *(step() for _ in range(300))]
    submitted = await store.workflows.submit(followed(*jobs))
    leases = dict(list((await take(store)).items())[:150])
    assert await store.workflows._cancel_steps(submitted.id, None, most=1) == "cancelling"
    await consistency.check(store)
    found = await store.workflows.get(submitted.id)
    assert (found.state, found.cancel_requested) == ("running", True)
    assert found.counts[State.CANCELLED] < 200
    with pytest.raises(WorkflowEnded):
        await store.submit(step(workflow=submitted.id))

    other = await open_store()
    assert (await other.promote()).fans
    while await other.workflows.fan_out():
        await consistency.check(store)

    found = await store.workflows.get(submitted.id)
    assert found.counts[State.ENQUEUED] + found.counts[State.BLOCKED] == 0
    assert all([(await store.get(id)).cancel_requested for id in leases])
    running = (await store.list(JobFilter(states=(State.PROCESSING,)), 200)).items
    assert len(running) == found.counts[State.PROCESSING]
    for id in (await store.survey()).sessions:
        await store.reap_session(id, 0)
    found = await store.workflows.get(submitted.id)
    assert (found.state, found.counts[State.CANCELLED]) == ("cancelled", 601)
    assert await fired(store, submitted.id) == {"on_failure", "on_complete"}
    assert (await store.workflows.cancel(submitted.id)).state == "cancelled"
    with pytest.raises(WorkflowEnded):
        await store.submit(step(workflow=submitted.id))


async def test_what_a_cancelled_one_gives_rise_to(store: Store) -> None:
    """A completion beats the cancel, but what it adds to the workflow is cancelled, and so are those who waited."""
    submitted = await store.workflows.submit(followed(step(name="top"), step("top", otherwise="run")))
    lease = (await take(store))[submitted.jobs[0]]
    await store.workflows.cancel(submitted.id)

    await store.complete(lease, b"1", [step(workflow=submitted.id)])
    while await store.workflows.fan_out():
        pass

    found = await store.workflows.get(submitted.id)
    assert (found.state, found.counts[State.COMPLETED], found.counts[State.CANCELLED]) == ("cancelled", 1, 2)
    await store.requeue(submitted.jobs[1])
    assert (await store.workflows.get(submitted.id)).state == "running"
    await store.submit(step(workflow=submitted.id))


async def test_cancelling_what_has_ended(store: Store) -> None:
    submitted = await store.workflows.submit(NewWorkflow(jobs=[step()]))
    await store.complete((await take(store))[submitted.jobs[0]])
    with pytest.raises(InvalidState, match="completed"):
        await store.workflows.cancel(submitted.id)


# Looking, and forgetting


async def test_pages(store: Store) -> None:
    """Lists of workflows, the latest first, and of members, the first first, by pages that miss nothing."""
    start = 1_700_000_000_000
    ids = [
        (
            await store.workflows.submit(
                NewWorkflow(jobs=[step(payload=b"%d" % m) for m in range(3)]), now=start + n // 2
            )
        ).id
        for n in range(5)
    ]
    seen: list[str] = []
    cursor = None
    while True:
        page = await store.workflows.list(2, cursor)
        seen += [found.id for found in page.items]
        if (cursor := page.next_cursor) is None:
            break
    assert sorted(seen) == sorted(ids)
    assert seen[0] == ids[4]
    members = await store.workflows.members(ids[0], 2)
    rest = await store.workflows.members(ids[0], 2, members.next_cursor)
    assert [job.payload for job in members.items + rest.items] == [b"0", b"1", b"2"]
    assert rest.next_cursor is None
    for verb in (store.workflows.list(2, "nonsense"), store.workflows.members(ids[0], 2, "nonsense")):
        with pytest.raises(ValueError, match="cursor"):
            await verb


async def test_a_workflow_goes_with_its_last_member(store: Store) -> None:
    """Members are forgotten one by one; it stays until it has ended and none is left, and nothing of it stays then."""
    store.retention = Retention(completed=1.0, cancelled=1.0)
    submitted = await store.workflows.submit(NewWorkflow(jobs=[step(), step()], on_failure=NewJob(type=AFTER)))
    leases = await take(store)
    await store.complete(leases[submitted.jobs[0]])
    at = ((await store.get(submitted.jobs[0])).finished_ms or 0) + 5000
    await store.prune(now=at)
    with pytest.raises(JobNotFound):
        await store.get(submitted.jobs[0])
    found = await store.workflows.get(submitted.id)
    assert (found.state, found.total, found.counts[State.COMPLETED]) == ("running", 2, 1)
    await consistency.check(store)

    await store.complete(leases[submitted.jobs[1]])
    assert (await store.workflows.get(submitted.id)).state == "completed"
    await store.delete(submitted.jobs[1])

    with pytest.raises(WorkflowNotFound):
        await store.workflows.get(submitted.id)
    kinds = {name.partition(":")[0] for name in await dump(store)}
    assert not kinds & {"workflow", "workflows", "members", "unfinished", "callback", "job"}
