"""A client that a generator makes from the description alone works against a node."""

from __future__ import annotations

import asyncio
import importlib
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.node.node_process import NodeProcess, running

pytestmark = pytest.mark.process

KEY = "a-key-for-the-generated-client-0123456789"

# The generator does not know streams; nor does it need to run a formatter on what nobody reads.
CONFIG = """
post_hooks: []
content_type_overrides:
  application/x-ndjson: application/octet-stream
"""


class Generated:
    """The generated package, and a client for a node in it."""

    def __init__(self, name: str, url: str) -> None:
        self.name = name
        self.models = importlib.import_module(f"{name}.models")
        client = importlib.import_module(f"{name}.client")
        self.client = client.AuthenticatedClient(base_url=url, token=KEY, raise_on_unexpected_status=True)

    async def call(self, tag: str, operation: str, **told: Any) -> Any:
        module = importlib.import_module(f"{self.name}.api.{tag}.{operation}")
        return await module.asyncio(client=self.client, **told)


async def generate(node: NodeProcess, folder: Path, name: str) -> Generated:
    status, description = await node.request("GET", "/openapi.json")
    assert status == 200
    (folder / "openapi.json").write_bytes(orjson.dumps(description))
    (folder / "config.yaml").write_text(CONFIG)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "openapi_python_client", "generate", "--fail-on-warning", "--meta=none"),
        *(f"--path={folder / 'openapi.json'}", f"--output-path={folder / name}", f"--config={folder / 'config.yaml'}"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    return Generated(name, node.url)


async def test_it_submits_waits_works_and_understands_errors(
    tmp_path: Path, valkey_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    settings = {"REDIS_URL": valkey_url, "GOPHER_NAMESPACE": namespace, "GOPHER_API_KEYS": KEY}
    async with running(f"--data-dir={tmp_path / 'data'}", **settings) as node:
        made = await generate(node, tmp_path, "generated_" + namespace.replace("-", "_"))
        models = made.models
        async with made.client:
            body = models.Submission(type_="math", payload={"operation": "fibonacci", "n": 30}, timeout="20s")
            job = await made.call("jobs", "submit", body=body)
            assert (job.type_, job.priority) == ("math", models.Priority.NORMAL)

            ended = await made.call("jobs", "get_job", job_id=job.job_id, wait="20s")
            assert (ended.job_id, ended.status) == (job.job_id, models.Status.COMPLETED)
            assert ended.result == {"operation": "fibonacci", "result": 832040}
            assert ended.finished_at >= ended.created_at

            listed = await made.call("jobs", "list_jobs", status=[models.Status.COMPLETED], limit=10)
            assert [found.job_id for found in listed.items] == [job.job_id]

            # The same as a worker of its own.
            other = await made.call("jobs", "submit", body=models.Submission(type_="elsewhere", priority=4))
            claimed = await made.call("leases", "claim_jobs", body=models.Claim(types=["elsewhere"], wait=5))
            (lease,) = claimed.items
            assert (lease.job.job_id, lease.job.priority) == (other.job_id, models.Priority.URGENT)
            done = models.Completion(result=[1, 2], follow_ups=[models.Submission(type_="after", delay="1h")])
            told = await made.call("leases", "complete", token=lease.token, body=done)
            assert told.status is models.Status.COMPLETED
            (after,) = told.follow_ups
            assert (await made.call("jobs", "get_job", job_id=after)).status is models.Status.SCHEDULED

            refused = await made.call("jobs", "submit", body=models.Submission(type_="math", delay="soon"))
            assert isinstance(refused, models.ProblemDocument)
            assert refused.type_ == "/problems/invalid-job"
            assert "/delay" in {fault.pointer for fault in refused.errors}
