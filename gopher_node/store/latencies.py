"""How long jobs took, minute by minute: each node's share, as it brings it, and what all of them came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from gopher_node.store.scripts import Run


@dataclass(frozen=True, slots=True)
class Recent:
    """The nodes' shares of the last minutes, by the minute's beginning, and the store's time (both epoch ms)."""

    now_ms: int
    minutes: dict[int, list[bytes]]


class Latencies:
    """
    What the nodes have measured. It is statistics, and bounded: shares, which are JSON, are gone after twenty minutes.

    A node tells its share of a minute as often as it likes, each time all of it, so a repeat changes nothing.
    """

    def __init__(self, run: Run) -> None:
        self._run = run

    async def report(self, node_id: str, shares: Mapping[int, tuple[int, bytes]], *, now: int | None = None) -> None:
        """A node's shares by minute (epoch ms), each as JSON, with how much it counts."""
        words = [word for minute, (count, share) in shares.items() for word in (minute, count, share)]
        await self._run("latencies", "report", node_id, *words, now=now)

    async def recent(self, minutes: int, after_ms: int = 0, *, now: int | None = None) -> Recent:
        """All shares of so many last whole minutes and of the present one, but for minutes up to `after_ms`."""
        now_ms, *flat = await self._run("latencies_read", "recent", minutes, after_ms, now=now)
        found = zip(flat[::2], flat[1::2], strict=True)
        return Recent(now_ms, dict(found))

    async def due(self, *, now: int | None = None) -> tuple[int, list[bytes]] | None:
        """The oldest minute that is still to be summarised, and all shares of it. None: there is none."""
        answer = await self._run("latencies_read", "due", now=now)
        return answer and (answer[0], answer[1])

    async def summarise(
        self, minute: int, summary: Mapping[str, Sequence[float | None]], *, now: int | None = None
    ) -> None:
        """
        What a minute's shares came to, by type and under "" for all: p50, p95 and p99 in ms, of runs and of waits.

        It is kept for two days. Of nodes that do so at once, the first one's is kept.
        """
        await self._run("latencies", "summary", minute, orjson.dumps(dict(summary)), now=now)
