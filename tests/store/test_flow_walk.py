"""Random steps under limits that change: nothing is served beyond them, and nothing that is allowed is left."""

from __future__ import annotations

import random
from typing import Any

import pytest

from gopher_node.flow import FlowPolicy, Rate
from gopher_node.job import Lease, NewJob, Priority
from gopher_node.store import Pool, Session, Store
from tests.store import consistency
from tests.store.keyspace import Dump, dump

TYPES, GROUPS = ("mail", "sms"), ("", "a", "b", "c")
POOLS = (Pool.of(TYPES), Pool.of(["mail"]))
CHOICES: dict[str, tuple[Any, ...]] = {
    "rate": (None, Rate(20.0), Rate(3.0, burst=2), Rate(1.0, per=5)),
    "group_rate": (None, Rate(10.0, burst=2), Rate(1.0, per=3)),
    "max_running": (None, 1, 3, 6),
    "group_max_running": (None, 1, 2),
}


class Walk:
    """One walk; its time only moves forward by what is said."""

    def __init__(self, store: Store, seed: int, now: int) -> None:
        self.store, self.random, self.now = store, random.Random(seed), now
        self.sessions: list[Session] = []
        self.leases: list[Lease] = []

    async def step(self) -> None:
        await self.random.choice(
            (
                self.submit,
                self.submit,
                self.claim,
                self.claim,
                self.settle,
                self.settle,
                self.set,
                self.pause,
                self.lose,
            )
        )()
        self.now += self.random.choice((0, 1, 30, 400))

    async def submit(self) -> None:
        jobs = [
            NewJob(
                type=self.random.choice(TYPES),
                group=self.random.choice(GROUPS),
                priority=self.random.choice(list(Priority)),
            )
            for _ in range(self.random.choice((1, 1, 4)))
        ]
        await self.store.submit_many(jobs, now=self.now)

    async def claim(self, limit: int | None = None) -> None:
        if not self.sessions:
            self.sessions.append(await self.store.open_session("node", 15.0))
        session, pool = self.random.choice(self.sessions), self.random.choice(POOLS if limit is None else POOLS[:1])
        claimed = await self.store.claim(session, pool, limit or self.random.choice((1, 3, 10)), now=self.now)
        self.leases += claimed.leases
        flow = await self.store.flow.all()
        for type in {lease.job.type for lease in claimed.leases}:
            policy = flow.get(type, FlowPolicy())
            running = [lease.job for lease in self.leases if lease.job.type == type]
            assert len(running) <= (policy.max_running or 1000)
            for group in {lease.job.group for lease in claimed.leases if lease.job.type == type} - {""}:
                assert sum(job.group == group for job in running) <= (policy.group_max_running or 1000)
                assert group not in policy.paused_groups
            assert not policy.paused

    async def settle(self) -> None:
        if self.leases:
            lease = self.leases.pop(self.random.randrange(len(self.leases)))
            outcome = self.random.choice(("complete", "retry", "fail", "release"))
            told = (outcome, lease.job.id, lease.job.attempt, lease.nonce, b"{}", "" if outcome == "complete" else 0, 0)
            await self.store._send_settlements([told] * self.random.choice((1, 2)), now=self.now)

    async def set(self) -> None:
        name = self.random.choice(list(CHOICES))
        await self.store.flow.set(self.random.choice(TYPES), {name: self.random.choice(CHOICES[name])}, now=self.now)

    async def pause(self) -> None:
        which = self.random.choice(({}, {"priority": Priority.HIGH}, {"group": "a"}))
        act = self.random.choice((self.store.flow.pause, self.store.flow.resume, self.store.flow.resume))
        await act(self.random.choice(TYPES), **which, now=self.now)

    async def lose(self) -> None:
        """A session ends, or is lost, with all that it holds."""
        if self.sessions and self.random.random() < 0.3:
            session = self.sessions.pop()
            if self.random.random() < 0.5:
                await self.store.close_session(session, now=self.now)
            else:
                await self.store.reap_session(session.id, 0, now=self.now)
            found = await dump(self.store)
            self.leases = [one for one in self.leases if found[f"job:{one.job.id}"].value["state"] == "processing"]

    async def look(self) -> None:
        """After a claim that took all it could, everything that waits has a reason to."""
        await consistency.check(self.store)
        await self.claim(1000)
        await consistency.check(self.store)
        found, flow = await dump(self.store), await self.store.flow.all()
        for name in found:
            if name.startswith("lane:"):
                _, priority, type, group = name.split(":", 3)
                policy = flow.get(type, FlowPolicy())
                assert self._is_held(found, policy, int(priority), type, group), name

    def _is_held(self, found: Dump, policy: FlowPolicy, priority: int, type: str, group: str) -> bool:
        running = [lease.job.group for lease in self.leases if lease.job.type == type]
        if policy.paused or priority in policy.paused_priorities or group in policy.paused_groups:
            return True
        if policy.max_running and len(running) >= policy.max_running:
            return True
        if group and policy.group_max_running and running.count(group) >= policy.group_max_running:
            return True
        return self._lacks_token(found, policy.rate, type, "") or bool(
            group and self._lacks_token(found, policy.group_rate, type, group)
        )

    def _lacks_token(self, found: Dump, rate: Rate | None, type: str, group: str) -> bool:
        state = found[f"rate-state:{type}"].value.get(group) if f"rate-state:{type}" in found else None
        if rate is None or state is None:
            return False
        at, left = map(float, state.split())
        return left + (self.now - at) / 1000 * rate.limit / rate.per < 1 - 1e-9


@pytest.mark.parametrize("seed", range(6))
async def test_a_walk_under_limits(store: Store, seed: int) -> None:
    """Whatever happens in whatever order, limits hold, and what they allow is served; without them, all of it."""
    walk = Walk(store, seed, (await store.survey()).now_ms + 1000)
    for number in range(150):
        await walk.step()
        if number % 15 == 14:
            await walk.look()

    for type in TYPES:
        await store.flow.resume(type, now=walk.now)
        await store.flow.resume(type, Priority.HIGH, now=walk.now)
        await store.flow.resume(type, group="a", now=walk.now)
        await store.flow.set(type, dict.fromkeys(CHOICES), now=walk.now)
    assert await store.flow.all() == {}
    await walk.claim(1000)
    assert [name for name in await dump(store) if name.startswith("lane:")] == []
