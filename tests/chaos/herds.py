"""Very many jobs that are due at the same moment, and what everybody else notices of it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from gopher_node.job import NewJob
from gopher_node.store import Connections
from tests.chaos.arena import Arena, Say, Wish, arena
from tests.chaos.recovery import quantile
from tests.chaos.report import Result

TYPE = "herd"
STALL = "another client's call: most ms"


async def herd(wish: Wish, say: Say) -> Result:
    """All of them are promoted, each once, and no step holds the server up: 500,000 unless told otherwise."""
    jobs = wish.jobs or 500_000
    result = Result(wanted={"jobs not promoted": 0, STALL: 20.0})
    async with arena(wish, say) as place:
        await place.api_nodes(2)
        far = 3_600_000
        ids: set[str] = set()
        for start in range(0, jobs, 1000):
            batch = [NewJob(type=TYPE, delay_ms=far) for _ in range(min(1000, jobs - start))]
            await place.store.submit_many(batch)
            ids |= {job.id for job in batch}
        say(f"{jobs} jobs are scheduled")
        connections = Connections(place.server.url)
        calm = await _probe(connections, 500)
        due = await _all_due(place)
        await connections.request("CONFIG", "SET", "slowlog-log-slower-than", 500)
        await connections.request("CONFIG", "SET", "slowlog-max-len", 10_000)
        await connections.request("SLOWLOG", "RESET")
        began, spent = time.monotonic(), await _processor_time(connections)
        waits: list[float] = []
        async with asyncio.timeout(300):
            while (await place.counts())["scheduled"]:
                waits += await _probe(connections, 20)
        seconds, spent = time.monotonic() - began, await _processor_time(connections) - spent
        slow: list[Any] = await connections.request("SLOWLOG", "GET", -1)
        steps = [entry[2] / 1000 for entry in slow if entry[3][0].upper() == b"EVALSHA"]
        await connections.close()
        result.verdict = await place.judge(ends=False)
        promoted = {life.id for life in place.history.lives.values() if life.state == "enqueued"}
        result.verdict.figures = {
            "jobs due at once": due,
            "jobs not promoted": len(ids - promoted),
            "promoted a second": round(jobs / seconds),
            "processor time of the server for 200 of them, ms": round(spent / jobs * 200_000, 2),
            "step of the server: p50 ms": round(quantile(steps, 0.5), 1),
            "step of the server: most ms": round(max(steps), 1),
            "another client's call before: most ms": round(max(calm) * 1000, 1),
            "another client's call: p99 ms": round(quantile(waits, 0.99) * 1000, 1),
            STALL: round(max(waits) * 1000, 1),
            **result.verdict.figures,
        }
    return result


async def _processor_time(connections: Connections) -> float:
    text = str(await connections.request("INFO", "cpu"), "utf-8")
    told = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return float(told["used_cpu_user_main_thread"]) + float(told["used_cpu_sys_main_thread"])


async def _probe(connections: Connections, times: int) -> list[float]:
    """How long another client waits for an answer that costs nothing."""
    waits: list[float] = []
    for _ in range(times):
        asked = time.monotonic()
        await connections.request("PING")
        waits.append(time.monotonic() - asked)
        await asyncio.sleep(0.001)
    return waits


_ALL_DUE = """
local due = KEYS[1] .. 'due'
local ids = redis.call('ZRANGE', due, 0, -1)
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
for _, id in ipairs(ids) do
  redis.call('ZADD', due, now, id)
  redis.call('HSET', KEYS[1] .. 'job:' .. id, 'due', now)
end
return #ids
"""


async def _all_due(place: Arena) -> int:
    """Let all that is scheduled be due now. To store so many takes longer than the moment that they are to share."""
    return await place.store._connections.request("EVAL", _ALL_DUE, 1, "{" + place.store.namespace + "}:")
