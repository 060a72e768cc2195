"""Limits that nodes share: a limited type beside one that is not, on two nodes."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime

import pytest

from tests.node.node_process import running

pytestmark = pytest.mark.process

LIMIT, BURST, JOBS = 40, 4, 30


async def test_a_limited_type_beside_another(valkey_url: str, namespace: str) -> None:
    """Two nodes keep to one limit and hold up nothing else; an operator's word goes before a setting."""
    shared = {
        "REDIS_URL": valkey_url,
        "GOPHER_NAMESPACE": namespace,
        "GOPHER_FLOW": json.dumps({"number": {"rate_limit": "1/h", "max_backlog": 1000}}),
    }
    async with running("--handlers=flows", **shared) as one, running("--handlers=flows", **shared) as two:
        declared = (await one.request("GET", "/api/v1/queues/number"))[1]["policy"]
        handler = (await two.request("GET", "/api/v1/handlers/number"))[1]["policy"]
        status, limit = await two.request("POST", "/api/v1/rate-limits/number", json={"limit": LIMIT, "burst": BURST})
        batch = [{"type": "number", "payload": {"n": n}} for n in range(JOBS)] + [{"type": "sum"}] * JOBS
        stored = (await one.request("POST", "/api/v1/jobs/bulk", json=batch))[1]["items"]
        async with asyncio.timeout(30):
            jobs = await asyncio.gather(*(one.ended(job["job_id"]) for job in stored))

    assert declared == handler
    assert (declared["rate_limit"]["per"], declared["max_backlog"]) == (3600.0, 1000)
    assert (status, limit["limit"], limit["burst"]) == (200, LIMIT, BURST)
    begun = {
        type: sorted(datetime.fromisoformat(job["started_at"]).timestamp() for job in jobs if job["type"] == type)
        for type in ("number", "sum")
    }
    times = begun["number"]
    for first in range(JOBS):
        for last in range(first, JOBS):
            # Times are told to the millisecond.
            assert last - first + 1 <= BURST + LIMIT * (times[last] - times[first] + 0.002)
    assert begun["sum"][-1] - begun["sum"][0] < times[-1] - times[0]
