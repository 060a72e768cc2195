"""Workflows over HTTP: jobs that wait for each other, what whoever runs them is told, and what follows."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from gopher_node.job import State

NOBODY = "b3864208-5177-41ad-8fa2-451fed8ec84f"

DIAMOND = {
    "name": "order-17",
    "jobs": [
        {"name": "ship", "type": "step", "payload": {"n": 4}, "depends_on": ["pack", "invoice"]},
        {"name": "charge", "type": "step", "payload": {"n": 1}},
        {"name": "pack", "type": "step", "payload": {"n": 2}, "depends_on": ["charge"]},
        {"name": "invoice", "type": "step", "payload": {"n": 3}, "depends_on": ["charge"]},
    ],
    "on_success": {"type": "thank", "payload": {"order": 17}},
    "on_failure": {"type": "apologise"},
}


@pytest.fixture
def run(api):
    """Claim the next job of a type and complete it with this result; its lease is what comes back."""

    async def run(type: str = "step", result: Any = None, **more: Any) -> Any:
        claimed = await api.post("/api/v1/leases", {"types": [type]})
        assert claimed.status == 200, claimed.body
        (lease,) = claimed.json["items"]
        done = await api.post(f"/api/v1/leases/{lease['token']}/complete", {"result": result, **more})
        assert done.status == 200, done.body
        return {**lease["job"], "follow_ups": done.json["follow_ups"]}

    return run


async def submit(api, workflow: dict[str, Any], **headers: str) -> Any:
    answer = await api.post("/api/v1/workflows", workflow, headers=headers)
    assert answer.status == 201, answer.body
    return answer.json


async def look(api, workflow_id: str, **query: str) -> Any:
    answer = await api.get(f"/api/v1/workflows/{workflow_id}", params=query)
    assert answer.status == 200, answer.body
    return answer.json


async def test_a_diamond_runs_in_its_order_and_calls_back_once(api, run):
    """Each job waits for those it names, wherever they stand in the request, and is told what they have brought."""
    made = await submit(api, DIAMOND)
    ids = dict(zip(("ship", "charge", "pack", "invoice"), made["job_ids"], strict=True))
    assert (made["status"], made["total"], made["counts"]["blocked"], made["name"]) == ("running", 4, 3, "order-17")
    ship = (await api.get(f"/api/v1/jobs/{ids['ship']}")).json
    assert (ship["status"], ship["name"], ship["on_parent_failure"]) == ("blocked", "ship", "skip")
    assert (ship["depends_on"], ship["workflow_id"]) == ([ids["pack"], ids["invoice"]], made["workflow_id"])

    charge = await run(result={"paid": True})
    assert "parents" not in charge
    middle = [await run(result="middle-1"), await run(result="middle-2")]
    assert [job["parents"]["charge"]["result"] for job in middle] == [{"paid": True}] * 2
    last = await run(result="shipped")
    assert [charge["job_id"], last["job_id"]] == [ids["charge"], ids["ship"]]
    results = {name: (parent["status"], parent["result"]) for name, parent in last["parents"].items()}
    assert results == {middle[n]["name"]: ("completed", f"middle-{n + 1}") for n in (0, 1)}

    ended = await look(api, made["workflow_id"])
    assert (ended["status"], ended["ended"], ended["counts"]["completed"]) == ("completed", 4, 4)
    assert ended["finished_at"] is not None
    (follower,) = (await api.get("/api/v1/jobs", params={"type": "thank"})).json["items"]
    assert (follower["payload"], follower["job_id"]) == ({"order": 17}, ended["callbacks"]["on_success"])
    assert (await api.get("/api/v1/jobs", params={"type": "apologise"})).json["items"] == []


async def test_a_chain_of_three_that_breaks(api, run):
    """What waits for a job that fails is skipped, unless it runs all the same; that is a failure of the workflow."""
    made = await submit(
        api,
        {
            "chain": [
                {"type": "step", "name": "first"},
                {"type": "step"},
                {"type": "last", "on_parent_failure": "run"},
            ],
            "on_failure": {"type": "apologise"},
            "on_complete": {"type": "sweep"},
        },
    )
    (lease,) = (await api.post("/api/v1/leases", {"types": ["step"]})).json["items"]
    await api.post(f"/api/v1/leases/{lease['token']}/fail", {"error": "no", "retryable": False})
    assert len((await api.get("/api/v1/jobs", params={"type": "apologise"})).json["items"]) == 1

    skipped = (await api.get(f"/api/v1/jobs/{made['job_ids'][1]}")).json
    assert (skipped["status"], skipped["error"]["code"]) == ("cancelled", "parent-failed")
    last = await run("last")
    assert last["parents"][skipped["job_id"]]["status"] == "cancelled"
    assert last["parents"][skipped["job_id"]]["error"]["code"] == "parent-failed"

    ended = await look(api, made["workflow_id"], wait="20s")
    counts = {state: number for state, number in ended["counts"].items() if number}
    assert (ended["status"], counts) == ("failed", {"failed": 1, "cancelled": 1, "completed": 1})
    assert [word for word, job_id in ended["callbacks"].items() if job_id] == ["on_complete", "on_failure"]


async def test_whoever_waits_is_told_when_it_ends(api, run):
    made = await submit(api, {"jobs": [{"type": "step"}]})
    waiting = asyncio.create_task(look(api, made["workflow_id"], wait="30s"))
    await run()
    async with asyncio.timeout(10):
        assert (await waiting)["status"] == "completed"


async def test_told_again_with_its_key_it_is_the_same_workflow(api):
    """The jobs of the answer, and those that wait for them, have the ids of the first time."""
    made = await submit(api, DIAMOND, **{"Idempotency-Key": "once"})
    again = await api.post("/api/v1/workflows", DIAMOND, headers={"Idempotency-Key": "once"})

    assert (again.status, again.headers["Idempotency-Replayed"], again.json) == (201, "true", made)
    assert again.headers["Location"] == f"/api/v1/workflows/{made['workflow_id']}"
    ship = (await api.get(f"/api/v1/jobs/{made['job_ids'][0]}")).json
    assert ship["depends_on"] == made["job_ids"][2:]
    assert await api.stored() == 4
    other = await api.post("/api/v1/workflows", {**DIAMOND, "name": "x"}, headers={"Idempotency-Key": "once"})
    assert other.problem == "idempotency-key-reused"


async def test_a_circle_is_named_and_nothing_stored(api):
    jobs = [{"type": "a", "name": one, "depends_on": [other]} for one, other in (("x", "z"), ("y", "x"), ("z", "y"))]
    for answer in (await api.post("/api/v1/workflows", {"jobs": jobs}), await api.post("/api/v1/jobs/bulk", jobs)):
        assert (answer.status, answer.problem) == (422, "dependency-cycle")
        circle = answer.json["cycle"]
        assert circle[0] == circle[-1]
        assert " → ".join(circle) in "x → y → z → x → y → z → x"
        assert " → ".join(circle) in answer.json["detail"]
    assert (
        await api.post("/api/v1/jobs", {"type": "a", "name": "x", "depends_on": ["x"]})
    ).problem == "dependency-cycle"
    assert await api.stored() == 0


async def test_parents_that_are_not_there(api):
    """A name beyond the request and an id of nobody are refused, with where they stand."""
    for parent in ("elsewhere", NOBODY):
        told = {"type": "a", "depends_on": [parent]}
        for path, body, place in (
            ("/jobs", told, ""),
            ("/jobs/bulk", [{"type": "a"}, told], "/1"),
            ("/workflows", {"jobs": [{"type": "a"}, told]}, "/jobs/1"),
            ("/workflows", {"chain": [told]}, "/chain/0"),
        ):
            answer = await api.post("/api/v1" + path, body)
            assert (answer.status, answer.problem) == (422, "parent-not-found"), (path, answer.body)
            if path != "/jobs" or parent != NOBODY:
                assert answer.json["errors"][0]["pointer"].startswith(f"{place}/depends_on")
    assert await api.stored() == 0


@pytest.mark.parametrize(
    ("body", "problem", "pointer"),
    [
        ({}, "invalid-body", "/jobs"),
        ({"jobs": [{"type": "a"}], "chain": [{"type": "a"}]}, "invalid-body", "/chain"),
        ({"jobs": []}, "out-of-range", "/jobs"),
        ({"jobs": [{"type": "a"}, {"typ": "a"}]}, "invalid-job", "/jobs/1"),
        ({"jobs": [{"type": "a", "name": "x"}, {"type": "a", "name": "x"}]}, "invalid-job", "/jobs/1/name"),
        ({"jobs": [{"type": "a", "name": NOBODY}]}, "invalid-job", "/jobs/0/name"),
        ({"jobs": [{"type": "a", "workflow_id": NOBODY}]}, "invalid-job", "/jobs/0/workflow_id"),
        ({"jobs": [{"type": "a"}], "on_success": {"type": "greet"}}, "invalid-job", "/on_success/payload/name"),
        ({"jobs": [{"type": "a"}], "on_failure": {"type": "a", "depends_on": ["x"]}}, "invalid-job", "/on_failure"),
        ({"jobs": [{"type": "a"}], "on_end": {"type": "a"}}, "unknown-field", "/on_end"),
        ({"jobs": [{"type": "a", "on_parent_failure": "shrug"}]}, "invalid-job", "/jobs/0/on_parent_failure"),
    ],
)
async def test_what_is_no_workflow_is_refused(api, body, problem, pointer):
    answer = await api.post("/api/v1/workflows", body)
    assert (answer.status, answer.problem) == (422, problem), answer.body
    assert answer.json["errors"][0]["pointer"].startswith(pointer)
    assert await api.stored() == 0


async def test_jobs_of_one_request_wait_by_name(api, run):
    """In bulk and in follow-ups as in a workflow, in any order; with an idempotency key the ids follow."""
    batch = [{"type": "later", "depends_on": ["now"]}, {"type": "step", "name": "now"}]
    first = await api.post("/api/v1/jobs/bulk", batch, headers={"Idempotency-Key": "b"})
    again = await api.post("/api/v1/jobs/bulk", batch, headers={"Idempotency-Key": "b"})
    later, now = first.json["items"]
    assert first.json == again.json
    assert (later["status"], later["depends_on"]) == ("blocked", [now["job_id"]])

    done = await run(follow_ups=[{"type": "end", "depends_on": ["before"]}, {"type": "step", "name": "before"}])
    end = (await api.get(f"/api/v1/jobs/{done['follow_ups'][0]}")).json
    assert (end["status"], end["depends_on"]) == ("blocked", [done["follow_ups"][1]])
    assert (await run("later", "fine"))["parents"]["now"]["status"] == "completed"


async def test_a_job_waits_for_one_that_was_stored_before(api, run):
    first = await api.submit(type="step")
    second = await api.post("/api/v1/jobs", {"type": "later", "depends_on": [first]})
    assert (second.status, second.json["status"], second.json["depends_on"]) == (201, "blocked", [first])
    listed = (await api.get("/api/v1/jobs", params={"status": "blocked"})).json["items"]
    assert [job["job_id"] for job in listed] == [second.json["job_id"]]
    await run(result=7)
    assert (await run("later"))["parents"] == {first: {"status": "completed", "result": 7, "error": None}}


async def test_lines_are_refused_one_by_one(api):
    """A line whose parent is not there costs its neighbours nothing."""
    lines = b'{"type": "a"}\n{"type": "a", "depends_on": ["%s"]}\n{"type": "a", "workflow_id": "%s"}\n'
    answer = await api.call(
        "POST",
        "/api/v1/jobs/bulk",
        data=lines % (NOBODY.encode(), NOBODY.encode()),
        headers={"Content-Type": "application/x-ndjson"},
    )
    told = [json.loads(line) for line in answer.body.splitlines()]
    assert [one["status"] for one in told] == [201, 422, 404]
    assert await api.stored() == 1


async def test_jobs_are_added_while_it_runs(api, run):
    made = await submit(api, {"jobs": [{"type": "step"}]})
    path = f"/api/v1/workflows/{made['workflow_id']}/jobs"
    more = {"jobs": [{"name": "b", "type": "step"}, {"type": "step", "depends_on": ["b"]}]}
    added = await api.post(path, more, headers={"Idempotency-Key": "more"})
    assert (added.status, added.json) == (201, (await api.post(path, more, headers={"Idempotency-Key": "more"})).json)
    alone = await api.post("/api/v1/jobs", {"type": "step", "workflow_id": made["workflow_id"]})
    members = [*made["job_ids"], *(job["job_id"] for job in added.json["items"]), alone.json["job_id"]]
    assert (await look(api, made["workflow_id"]))["total"] == 4

    found, cursor = [], {}
    while True:
        page = (await api.get(path, params={"limit": "3", **cursor})).json
        found += [job["job_id"] for job in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert sorted(found) == sorted(members)

    for _ in range(4):
        await run()
    refused = await api.post(path, {"jobs": [{"type": "step"}]})
    assert (refused.status, refused.problem, refused.json["state"]) == (409, "workflow-ended", "completed")
    assert (
        await api.post("/api/v1/jobs", {"type": "a", "workflow_id": made["workflow_id"]})
    ).problem == "workflow-ended"
    elsewhere = {"jobs": [{"type": "a", "workflow_id": NOBODY}]}
    assert (await api.post(path, elsewhere)).json["errors"][0]["pointer"] == "/jobs/0/workflow_id"


async def test_a_workflow_is_cancelled_as_one(api):
    made = await submit(api, DIAMOND)
    (lease,) = (await api.post("/api/v1/leases", {"types": ["step"]})).json["items"]
    path = f"/api/v1/workflows/{made['workflow_id']}/cancel"

    answer = await api.post(path)
    assert (answer.status, answer.json["status"], answer.json["cancel_requested"]) == (202, "running", True)
    beat = await api.post(f"/api/v1/leases/{lease['token']}/heartbeat")
    assert beat.json["cancel_requested"]
    assert (await api.post(f"/api/v1/workflows/{made['workflow_id']}/jobs", {"jobs": [{"type": "a"}]})).status == 409
    await api.post(f"/api/v1/leases/{lease['token']}/release")
    answer = await api.post(path)
    assert (answer.status, answer.json["status"], answer.json["counts"]["cancelled"]) == (200, "cancelled", 4)


async def test_workflows_are_listed_the_latest_first(api):
    made = [(await submit(api, {"jobs": [{"type": "a"}]}))["workflow_id"] for _ in range(3)]
    first = (await api.get("/api/v1/workflows", params={"limit": "2"})).json
    rest = (await api.get("/api/v1/workflows", params={"limit": "2", "cursor": first["next_cursor"]})).json
    assert sorted(item["workflow_id"] for page in (first, rest) for item in page["items"]) == sorted(made)
    times = [item["created_at"] for page in (first, rest) for item in page["items"]]
    assert times == sorted(times, reverse=True)
    assert (await api.get("/api/v1/workflows", params={"cursor": "nonsense"})).problem == "invalid-parameter"


@pytest.mark.parametrize("workflow_id", [NOBODY, "nonsense"])
async def test_a_workflow_that_there_is_not(api, workflow_id):
    path = f"/api/v1/workflows/{workflow_id}"
    answers = [
        await api.get(path),
        await api.get(f"{path}/jobs"),
        await api.post(f"{path}/cancel"),
        await api.post(f"{path}/jobs", {"jobs": [{"type": "a"}]}),
    ]
    assert [(answer.status, answer.problem) for answer in answers] == [(404, "workflow-not-found")] * 4


async def test_large_results_of_parents_are_left_out(api, run, monkeypatch):
    """A claim of many jobs with large parents has a bounded answer; what is left out can be asked for."""
    monkeypatch.setattr("gopher_node.api.resources.leases.MAX_PARENTS_BYTES", 100)
    made = await submit(api, {"chain": [{"type": "step", "name": "large"}, {"type": "later"}]})
    await run(result="x" * 200)
    parent = (await run("later"))["parents"]["large"]
    assert (parent["status"], parent["result"], parent["result_omitted"]) == ("completed", None, True)
    assert (await api.get(f"/api/v1/jobs/{made['job_ids'][0]}")).json["result"] == "x" * 200
    assert State(parent["status"]).final
