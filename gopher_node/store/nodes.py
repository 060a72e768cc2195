"""What the nodes say of themselves; one that says nothing for a minute is gone."""

from __future__ import annotations

from typing import Any

import orjson

from gopher_node.store.scripts import Run


class Nodes:
    """The nodes of the namespace, as each reported itself last."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def report(self, node_id: str, record: bytes, *, now: int | None = None) -> int:
        """Replace what is known of a node by this JSON object. Returns the store's time (epoch ms)."""
        return await self._run("nodes", "report", node_id, record, now=now)

    async def all(self, *, now: int | None = None) -> list[dict[str, Any]]:
        """The records of all nodes that are not silent, by id, each with `silent`: the seconds since it came."""
        answer = await self._run("nodes", "all", now=now)
        found = sorted(zip(answer[::3], answer[1::3], answer[2::3], strict=True))
        return [{**orjson.loads(record), "id": id.decode(), "silent": age / 1000} for id, age, record in found]

    async def forget(self, node_id: str) -> None:
        """The node has stopped."""
        await self._run("nodes", "forget", node_id)
