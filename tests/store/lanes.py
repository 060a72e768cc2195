"""Fills lanes with jobs whose ids tell where they came from, and empties them again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gopher_node.job import NewJob, Priority
from gopher_node.store import Pool, Session, Store


async def fill(
    store: Store, name: str, number: int, *, type: str = "mail", priority: Priority = Priority.NORMAL, group: str = ""
) -> list[str]:
    """Store jobs <name>-1, <name>-2 …, in that order, and return their ids."""
    ids = [f"{name}-{n}" for n in range(1, number + 1)]
    for start in range(0, number, 1000):
        await store.submit_many(
            [NewJob(id=id, type=type, priority=priority, group=group) for id in ids[start : start + 1000]]
        )
    return ids


async def take(store: Store, session: Session, pool: Pool, limit: int, **options: Any) -> list[str]:
    """Claim up to `limit` jobs, and return their ids in the order in which they came."""
    return [lease.job.id for lease in (await store.claim(session, pool, limit, **options)).leases]


def names(ids: list[str]) -> list[str]:
    """Where the jobs came from."""
    return [id.rpartition("-")[0] for id in ids]


def tally(ids: list[str]) -> Mapping[str, int]:
    """How many jobs came from where."""
    found = names(ids)
    return {name: found.count(name) for name in dict.fromkeys(sorted(found))}
