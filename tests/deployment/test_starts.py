"""Every way to start a node that a file has, tried: the same words, environment, probes and time to stop."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from gopher_node.settings import SETTINGS
from tests import warm_start
from tests.deployment.deployed import KEY, KUBERNETES, Started, documents, healthcheck, image_environment, starts
from tests.node.node_process import NodeProcess, running

BEARER = {"Authorization": f"Bearer {KEY}"}
INTERPRETER = {"PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"}
"""What is not the node's: with it a node could not be started warm."""


def test_there_is_time_to_stop() -> None:
    """What the node gives its jobs, ten seconds for the rest, and what is over before it is told."""
    found = list(starts())

    assert len(found) == 6
    for one in found:
        assert one.grace >= one.spent + one.drain + 10, one.place


def test_whatever_a_node_is_told_it_knows() -> None:
    known = {name for setting in SETTINGS for name in setting.env} | INTERPRETER

    for one in starts():
        assert set(one.environment) <= known, one.place


@pytest.mark.process
async def test_they_start_answer_and_end(valkey_url: str, namespace: str, tmp_path: Path) -> None:
    (scaled, _) = documents(KUBERNETES / "autoscaling" / "scaled-object.yaml")
    (asked,) = [trigger["metadata"] for trigger in scaled["spec"]["triggers"]]

    async with AsyncExitStack() as stack:
        nodes = await asyncio.gather(*(_start(stack, one, valkey_url, namespace, tmp_path) for one in starts()))
        for one, node in nodes:
            for path in one.probes or ("/startupz", "/livez", "/readyz"):
                assert (await node.request("GET", path))[0] == 200, (one.place, path)
        apis = [node for one, node in nodes if one.place.startswith("kubernetes: api")]
        _, found = await apis[0].request("GET", "/api/v1/" + asked["url"].partition("/api/v1/")[2], headers=BEARER)
        assert found[asked["valueLocation"]] == 0
        await _asked_by_its_image(nodes[0][1])
        ended = await asyncio.gather(*(_end(one, node) for one, node in nodes))

    assert ended == [0] * len(nodes)


async def _start(
    stack: AsyncExitStack, one: Started, url: str, namespace: str, folder: Path
) -> tuple[Started, NodeProcess]:
    """As the file says, but for places, ports and secrets, which are the test's own."""
    first, *flags = one.command
    assert first == "run"
    environment = {
        name: value for name, value in one.environment.items() if name not in {"REDIS_PASSWORD", *INTERPRETER}
    }
    environment |= {"GOPHER_DATA_DIR": str(folder / one.place.replace(" ", "")), "GOPHER_NAMESPACE": namespace}
    environment |= {"GOPHER_API_KEYS": KEY, "REDIS_URL": url}
    return one, await stack.enter_async_context(running(*flags, **environment))


async def _asked_by_its_image(node: NodeProcess) -> None:
    """The image's HEALTHCHECK, with no more than a container has: it needs no key."""
    program, *words = healthcheck()
    assert program == "gopher-node"
    environment = {**os.environ, **image_environment(), "SERVER_PORT": node.url.rpartition(":")[2]}
    process = await asyncio.create_subprocess_exec(*warm_start.COLD, *words, env=environment, stdout=-1, stderr=-1)
    output, complaint = await process.communicate()

    assert (process.returncode, complaint) == (0, b""), output


async def _end(one: Started, node: NodeProcess) -> int:
    began = time.monotonic()
    code = await node.stop()
    assert time.monotonic() - began < one.grace - one.spent, one.place
    return code
