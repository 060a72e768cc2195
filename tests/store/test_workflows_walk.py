"""Workflows whose jobs go every way at random, and whether the checks of the store's consistency would see damage."""

from __future__ import annotations

import contextlib
import random
from dataclasses import replace
from typing import Any

import pytest

from gopher_node.errors import InvalidState, JobNotFound, ParentNotFound, WorkflowEnded, WorkflowNotFound
from gopher_node.job import Lease, NewJob, State
from gopher_node.store import Retention, Store
from tests.store import consistency
from tests.store.keyspace import dump
from tests.store.test_workflows import ERROR, TYPE, followed, step, take


class Walk:
    """Does at random what can be done to workflows and their members."""

    def __init__(self, store: Store, seed: int, now: int) -> None:
        self.store = store
        self.rng = random.Random(seed)
        self.now = now
        self.ids: list[str] = []
        self.workflows: list[str] = []
        self.held: dict[str, Lease] = {}

    def some(self, workflow: str = "") -> list[NewJob]:
        """New jobs, which depend on each other and on older ones."""
        jobs: list[NewJob] = []
        for _ in range(self.rng.randint(1, 5)):
            known = [job.id for job in jobs] + self.rng.sample(self.ids, min(2, len(self.ids)))
            parents = self.rng.sample(known, min(len(known), self.rng.randint(0, 3)))
            choice = self.rng.choice(("skip", "fail", "run"))
            jobs.append(step(*parents, workflow=workflow, otherwise=choice, max_retries=1, max_crashes=1))
        return jobs

    async def settle(self, lease: Lease) -> None:
        how = self.rng.choice(("complete", "complete", "fail", "retry", "release"))
        follow_ups = self.some(lease.job.options.workflow) if self.rng.random() < 0.3 else []
        if how == "complete":
            if await self.store.complete(lease, b"1", follow_ups) is State.COMPLETED:
                self.ids.extend(job.id for job in follow_ups)
        elif how == "fail":
            await self.store.fail(lease, ERROR)
        else:
            await (self.store.release(lease) if how == "release" else self.store.retry(lease, ERROR, 0.0))

    async def step(self) -> None:
        store, rng, now = self.store, self.rng, self.now
        often = ("new", "add", "claim", "settle", "settle", "settle", "cancel", "requeue", "delete", "reap")
        verb = rng.choice((*often, *often, "cancel workflow", "fan out", "prune"))
        id = rng.choice(self.ids) if self.ids else ""
        if verb == "new":
            submitted = await store.workflows.submit(followed(*self.some()), now=now)
            self.ids.extend(submitted.jobs)
            self.workflows.append(submitted.id)
        elif verb == "add" and self.workflows:
            self.ids.extend(job.id for job in await store.submit_many(self.some(rng.choice(self.workflows)), now=now))
        elif verb == "claim":
            self.held.update(await take(store))
        elif verb == "settle" and self.held:
            await self.settle(self.held.pop(rng.choice(list(self.held))))
        elif verb == "reap":
            for session, pulse in (await store.survey()).sessions.items():
                await store.reap_session(session, pulse.renewals, now=now)
        elif verb in ("cancel", "requeue", "delete") and id:
            await (store.delete(id) if verb == "delete" else getattr(store, verb)(id, now=now))
        elif verb == "cancel workflow" and self.workflows:
            await store.workflows.cancel(rng.choice(self.workflows), now=now)
        elif verb == "fan out":
            await store.workflows.fan_out(rng.randint(1, 5), now=now)
        elif verb == "prune":
            await store.prune(rng.randint(1, 50), now=now + rng.choice((0, 6000)))

    async def finish(self) -> None:
        """Complete all that can be."""
        while True:
            while await self.store.workflows.fan_out():
                pass
            self.held.update(await take(self.store))
            if not self.held:
                return
            for lease in self.held.values():
                await self.store.complete(lease)
            self.held.clear()


@pytest.mark.parametrize("seed", range(2))
async def test_a_walk(store: Store, seed: int) -> None:
    """Whatever happens to the jobs of workflows in whatever order, the store is consistent, and all of them can end."""
    store.retention = Retention(completed=5.0, cancelled=5.0)
    walk = Walk(store, seed, (await store.submit(step())).created_ms)
    for _ in range(120):
        walk.now += walk.rng.randint(0, 10)
        with contextlib.suppress(InvalidState, JobNotFound, ParentNotFound, WorkflowEnded, WorkflowNotFound):
            await walk.step()
        await consistency.check(store)

    await walk.finish()
    for session, pulse in (await store.survey()).sessions.items():
        await store.reap_session(session, pulse.renewals)
    await walk.finish()

    counts = (await store.stats()).counts
    assert {state for state, _, type in counts if type == TYPE and not state.final} == set()
    assert {(await store.workflows.get(found.id)).state for found in (await store.workflows.list()).items} <= {
        "completed",
        "failed",
        "cancelled",
    }


DAMAGES: dict[str, tuple[str, str, Any]] = {
    "an edge that nobody knows": ("dependents:<first>", "<third>", None),
    "an edge of nobody": ("dependents:<first>", "nobody", 0.0),
    "an edge that counts as resolved": ("dependents:<first>", "<third>", -1.0),
    "an edge after all that will be": ("dependents:<first>", "<third>", 7.0),
    "a job that waits for too much": ("job:<third>", "pending", "2"),
    "a parent that does not tell": ("job:<first>", "options", None),
    "a job that is kept for nobody": ("job:<second>", "outlived", "1"),
    "a member that is not listed": ("members:<workflow>", "<third>", None),
    "a member that counts as ended": ("unfinished:<workflow>", "<third>", None),
    "a count of nothing": ("workflow:<workflow>", "completed", "2"),
    "a sum that does not add up": ("workflow:<workflow>", "total", "5"),
    "an end before the end": ("workflow:<workflow>", "finished", "1700000000000"),
    "a callback that was not told": ("workflow:<workflow>", "on_complete", "id"),
    "a workflow that lists do not find": ("workflows", "<workflow>", None),
}


async def test_the_checks_bite(store: Store) -> None:
    """What the consistency of a store is to these tests: each damage is seen."""
    first, second, third = step(name="a"), step(), step("a", retention_ms=1)
    outside = step()
    await store.submit(outside)
    workflow = followed(step(outside.id), second, third, first)
    submitted = await store.workflows.submit(workflow)
    await store.complete((await take(store))[second.id])
    whole = await dump(store)
    assert consistency.find_problems(whole) == []
    names = {"first": first.id, "second": second.id, "third": third.id, "workflow": submitted.id}

    def named(text: str) -> str:
        for name, id in names.items():
            text = text.replace(f"<{name}>", id)
        return text

    for damage, (key, field, value) in DAMAGES.items():
        found = whole[named(key)]
        content = {**found.value, named(field): value}
        if value is None:
            del content[named(field)]
        damaged = {**whole, named(key): replace(found, value=content)}
        assert consistency.find_problems(damaged), damage
