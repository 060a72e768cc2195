"""A client as it should be: it repeats under the same key what was not answered, and writes down what was promised."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator, Sequence
from typing import Any

import aiohttp

from tests.chaos.ledger import ClientLedger

NEVER = "never"
"""The type of jobs that no node may accept."""

BAD = [
    b'[{"type": "never", "payload": {}, "priority": "soon"}]',
    b'[{"type": "never", "payload": {}}, {"type": ""}]',
    b'[{"type": "never", "payload": {}',
    b'{"type": "never"}',
    b"\xff\xfe",
]


def plan_jobs(count: int, seed: int, *, seconds: float = 0.0175, later: float = 0.05) -> Iterator[dict[str, Any]]:
    """
    Jobs to submit, drawn from the seed: some fail once or for good, some leave a follow-up, some are for later.

    A run takes so many seconds, more or less; `later` is the part that is for later.
    """
    rng = random.Random(f"jobs {seed}")
    for _ in range(count):
        payload: dict[str, Any] = {"seconds": round(rng.uniform(0.3 * seconds, 1.7 * seconds), 4)}
        job: dict[str, Any] = {"type": "effect", "payload": payload}
        if rng.random() < 0.05:
            payload["errors"] = 1
        elif rng.random() < 0.003:
            payload["hopeless"] = True
        elif rng.random() < 0.05:
            payload["follow"] = True
        if rng.random() < later:
            job["delay"] = round(rng.uniform(0.2, 1.0), 2)
        if rng.random() < 0.2:
            job["priority"] = rng.choice(["urgent", "high", "low"])
        if rng.random() < 0.1:
            job["group"] = rng.choice(["a", "b", "c"])
        yield job


class Load:
    """
    Submits all jobs in batches, a few at a time, and never more than `ahead` beyond those that have ended.

    Of a hundred requests, one is answered to nobody, one is repeated after it was answered, and one is nonsense.
    """

    def __init__(
        self, urls: Sequence[str], ledger: ClientLedger, seed: int, jobs: Iterator[dict[str, Any]], batch: int = 20
    ) -> None:
        self._urls = urls  # whoever gave them may put others there
        self._ledger = ledger
        self._rng = random.Random(f"client {seed}")
        self._jobs = jobs
        self._batch = batch
        self._number = 0
        self.replayed = 0
        self.ahead = asyncio.Event()
        self.ahead.set()

    async def run(self, clients: int = 4) -> None:
        """Until all are accepted."""
        timeout = aiohttp.ClientTimeout(total=15)
        async with aiohttp.ClientSession(timeout=timeout) as session, asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(self._submit(session))

    async def _submit(self, session: aiohttp.ClientSession) -> None:
        while True:
            await self.ahead.wait()
            jobs = [job for _, job in zip(range(self._batch), self._jobs, strict=False)]
            if not jobs:
                return
            self._number += 1
            key, chance = f"batch-{self._number}", self._rng.random()
            if chance < 0.01:
                await self._nonsense(session)
            elif chance < 0.02:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._post(session, key, jobs), self._rng.uniform(0.001, 0.006))
            ids = await self._insist(session, key, jobs)
            self._ledger.accepted(key, list(zip(ids, jobs, strict=True)))
            if chance > 0.99:
                self.replayed += 1
                if await self._insist(session, key, jobs) != ids:
                    self._ledger.dishonest.append(f"{key}: a repeat was answered with other jobs")

    async def _insist(self, session: aiohttp.ClientSession, key: str, jobs: list[dict[str, Any]]) -> list[str]:
        pause = 0.02
        while True:
            ids = await self._post(session, key, jobs)
            if ids is not None:
                return ids
            await asyncio.sleep(pause)
            pause = min(2 * pause, 0.5)

    async def _post(self, session: aiohttp.ClientSession, key: str, jobs: list[dict[str, Any]]) -> list[str] | None:
        """The ids, or None if it is to be tried again."""
        url = f"{self._rng.choice(self._urls)}/api/v1/jobs/bulk"
        try:
            async with session.post(url, json=jobs, headers={"Idempotency-Key": key}) as answer:
                told = await answer.json(content_type=None)
                self._ledger.answers[str(answer.status)] += 1
                if answer.status == 201:
                    return self._read(key, told["items"], len(jobs))
                if answer.status != 503 or "Retry-After" not in answer.headers:
                    self._ledger.dishonest.append(f"{key}: {answer.status} {told}")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._ledger.answers[type(error).__name__] += 1
        return None

    def _read(self, key: str, items: list[dict[str, Any]], count: int) -> list[str]:
        if len(items) != count or any(item["durability"] != "fsync" for item in items):
            self._ledger.dishonest.append(f"{key}: {len(items)} jobs of {count}, {items[0]['durability']}")
        return [item["job_id"] for item in items]

    async def _nonsense(self, session: aiohttp.ClientSession) -> None:
        url = f"{self._rng.choice(self._urls)}/api/v1/jobs/bulk"
        body = self._rng.choice(BAD)
        with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError):
            async with session.post(url, data=body, headers={"Content-Type": "application/json"}) as answer:
                self._ledger.answers[f"{answer.status} to nonsense"] += 1
                if answer.status not in (400, 422, 503):
                    self._ledger.dishonest.append(f"nonsense: {answer.status} {await answer.text()}")
