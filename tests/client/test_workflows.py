"""Workflows through both clients: what is waited for, and which error is which."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from gopher_node.client import DependencyCycle, ParentNotFound, WorkflowEnded, WorkflowFailed, WorkflowTimeout

FLOW = {"workflow_id": "w1", "status": "running", "total": 2, "ended": 1, "counts": {"failed": 1, "completed": 1}}


async def test_the_end_of_a_workflow_is_waited_for(stage: Any, connect: Any) -> None:
    """It is asked again until the workflow has ended. One that failed raises, unless it is not to be checked."""
    for status in ("running", "running", "failed"):
        stage.answer({**FLOW, "status": status})
    client = connect(stage.url)

    with pytest.raises(WorkflowFailed, match="Workflow w1 failed: 1 failed, 1 completed") as caught:
        await client.wait_workflow("w1")
    assert [asked.path for asked in stage.asked] == ["/api/v1/workflows/w1"] * 3
    assert all("wait" in asked.query for asked in stage.asked)
    assert pickle.loads(pickle.dumps(caught.value)).workflow.status == "failed"
    assert (await client.wait_workflow("w1", check=False)).status == "failed"


async def test_a_wait_has_an_end(stage: Any, connect: Any) -> None:
    stage.answer(FLOW)

    with pytest.raises(WorkflowTimeout, match="still running after 0 s: 1 of its 2 jobs have ended"):
        await connect(stage.url).wait_workflow("w1", 0)


REFUSALS = {
    DependencyCycle: (422, "dependency-cycle", {"cycle": ["a", "b", "a"]}),
    ParentNotFound: (422, "parent-not-found", {}),
    WorkflowEnded: (409, "workflow-ended", {"state": "completed"}),
}


@pytest.mark.parametrize("error", REFUSALS)
async def test_refusals_have_names(stage: Any, connect: Any, error: type[Exception]) -> None:
    """What a program may want to tell apart are classes of their own, which have what was told."""
    status, name, more = REFUSALS[error]
    stage.refuse(status, name, **more)

    with pytest.raises(error) as caught:
        await connect(stage.url).add_to_workflow("w1", [{"type": "a"}])

    told: Any = caught.value
    assert getattr(told, "circle", ()) == tuple(more.get("cycle", ()))
    assert getattr(told, "state", None) == more.get("state")


async def test_what_is_no_workflow_is_not_sent(stage: Any, connect: Any) -> None:
    client = connect(stage.url)
    for wrong in ({}, {"jobs": [{"type": "a"}], "chain": [{"type": "a"}]}):
        with pytest.raises(ValueError, match="either jobs or a chain"):
            await client.submit_workflow(**wrong)
    with pytest.raises(TypeError, match="no option colour"):
        await client.submit_workflow([{"type": "a", "colour": "red"}])
    assert stage.asked == []
