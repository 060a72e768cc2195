"""Workflows through one real node: its API, its store, its handlers of each kind."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from tests.node.node_process import NodeProcess, running

pytestmark = pytest.mark.process


async def test_a_chain_a_diamond_and_a_growing_workflow(tmp_path: Path) -> None:
    """Each job runs when those that it waits for have ended, with their results, and the callback comes last, once."""
    diamond = [
        {"name": "end", "type": "sum-in-process", "depends_on": ["left", "right"]},
        {"name": "left", "type": "sum-in-thread", "depends_on": ["start"]},
        {"name": "right", "type": "sum", "depends_on": ["start"]},
        {"name": "start", "type": "number", "payload": {"n": 21}},
    ]
    chain = [{"type": "number", "payload": {"n": 7}}, {"type": "sum"}, {"type": "sum-in-thread"}]
    callback = {"on_complete": {"type": "number", "payload": {"n": 1}}}
    async with running(f"--data-dir={tmp_path / 'data'}", "--handlers=flows") as node:
        short, grown, wide = await asyncio.gather(
            run(node, {"chain": chain}),
            run(node, {"jobs": [{"type": "split", "payload": {"parts": 5}}], **callback}),
            run(node, {"jobs": diamond, **callback}),
        )
        results = {name: await results_of(node, flow) for name, flow in zip("abc", (short, grown, wide), strict=True)}
        callbacks = [await node.ended(flow["callbacks"]["on_complete"]) for flow in (grown, wide)]

    assert [results["a"][type] for type in ("number", "sum", "sum-in-thread")] == [7, 7, 7]
    assert (grown["total"], results["b"]["total"]) == (7, 10)
    assert results["c"] == {"start": 21, "left": 21, "right": 21, "end": 42}
    assert [job["result"] for job in callbacks] == [1, 1]
    assert all(job["created_at"] >= flow["finished_at"] for job, flow in zip(callbacks, (grown, wide), strict=True))


async def run(node: NodeProcess, workflow: dict[str, Any]) -> Any:
    """The workflow when it has ended."""
    status, made = await node.request("POST", "/api/v1/workflows", json=workflow)
    assert status == 201, made
    async with asyncio.timeout(40):
        _, ended = await node.request("GET", f"/api/v1/workflows/{made['workflow_id']}", params={"wait": "30s"})
    assert ended["status"] == "completed", ended
    return ended


async def results_of(node: NodeProcess, workflow: Any) -> dict[str, Any]:
    """The results of its jobs by their names, or types without one."""
    _, page = await node.request("GET", f"/api/v1/workflows/{workflow['workflow_id']}/jobs")
    return {job["name"] or job["type"]: job["result"] for job in page["items"]}
