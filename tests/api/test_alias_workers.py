"""Workers outside of the node that know only the old calls: each move of a job, told twice, told late and wrongly."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from gopher_node.api.resources.aliases import LEASE
from gopher_node.api.resources.nodes import WorkersDocument
from gopher_node.api.resources.stats import StatsDocument
from gopher_node.job import NewJob, State
from gopher_node.store import Pool
from tests.api.conftest import Answer, Api
from tests.api.test_aliases import job_of, stored


async def put(api: Api, job_id: str, status: str, token: str | None = None, **more: Any) -> Answer:
    headers = {} if token is None else {LEASE: token}
    return await api.call("PUT", f"/jobs/{job_id}/status", json={"status": status, **more}, headers=headers)


async def post(api: Api, job_id: str, verb: str, content: Any = None, token: str | None = None) -> Answer:
    headers = {} if token is None else {LEASE: token}
    return await api.call("POST", f"/jobs/{job_id}/{verb}", json={} if content is None else content, headers=headers)


async def running(api: Api, **fields: Any) -> tuple[str, str]:
    """A new job that was set running, and its token."""
    job_id = await api.submit(**fields)
    answer = await put(api, job_id, "running")
    job_of(answer)
    return job_id, answer.headers[LEASE]


async def leased(api: Api, **fields: Any) -> tuple[str, str]:
    """A new job that was claimed in the API's own way, and its token."""
    job_id = await api.submit(**fields)
    (lease,) = (await api.post("/api/v1/leases", {"types": ["unserved"]})).json["items"]
    return job_id, lease["token"]


async def test_set_running(api: Api) -> None:
    """It claims the job, and keeps it for as long as a run may take and half a minute, without heartbeats."""
    job_id = await api.submit(timeout="2s")

    answer = await put(api, job_id, "running")

    job = job_of(answer)
    assert (job["status"], job["attempt"], job["node"]) == ("processing", 1, "http")
    assert answer.headers[LEASE].startswith(f"{job_id}.1.")
    started = (await stored(api, job_id)).started_ms
    assert (await api.store.survey(now=started + 31_000)).overdue == []
    (run,) = (await api.store.survey(now=started + 33_000)).overdue
    assert run.deadline_ms == started + 32_000


@pytest.mark.parametrize(("type", "timeout"), [("greet", 40_000), ("unserved", 300_000)])
async def test_set_running_of_a_job_without_a_timeout(api: Api, type: str, timeout: int) -> None:
    """Its handler's holds, else the node's."""
    job_id = (await api.store.submit(NewJob(type=type))).id
    await put(api, job_id, "running")

    started = (await stored(api, job_id)).started_ms
    (run,) = (await api.store.survey(now=started + 1_000_000)).overdue
    assert run.deadline_ms == started + timeout + 30_000


async def test_set_running_twice(api: Api) -> None:
    """The second may be another worker, so it is refused; and so is a job that waits for its time."""
    job_id, token = await running(api)
    for given in (None, token):
        again = await put(api, job_id, "running", given)
        assert (again.status, again.problem, again.json["state"]) == (409, "invalid-state", "processing")
    later = await put(api, await api.submit(delay=60), "running")
    assert (later.status, later.problem, later.json["state"]) == (409, "invalid-state", "scheduled")
    assert (await stored(api, job_id)).attempt == 1


ENDS = {
    "completed": (("status", {"status": "completed"}), "completed", None, None),
    "completed-result": (("status", {"status": "completed", "result": [1]}), "completed", [1], None),
    "save": (("save", {"result": {"a": 1}}), "completed", {"a": 1}, None),
    "save-nothing": (("save", {}), "completed", None, None),
    "failed": (("status", {"status": "failed"}), "failed", None, "The worker said no more."),
    "failed-error": (("status", {"status": "failed", "error": "no ink"}), "failed", None, "no ink"),
    "failed-object": (("status", {"status": "failed", "error": {"message": "no ink"}}), "failed", None, "no ink"),
    "queued": (("status", {"status": "queued"}), "enqueued", None, None),
    "queued-error": (("status", {"status": "queued", "error": "no ink"}), "enqueued", None, "no ink"),
}


async def tell(api: Api, job_id: str, what: tuple[str, dict[str, Any]], token: str | None = None) -> Answer:
    verb, body = what
    if verb == "status":
        return await put(api, job_id, token=token, **body)
    return await post(api, job_id, verb, body, token)


@pytest.mark.parametrize("shown", [False, True], ids=["without-token", "with-token"])
@pytest.mark.parametrize(("what", "status", "result", "error"), ENDS.values(), ids=ENDS)
async def test_a_run_ends(
    api: Api, what: tuple[str, dict[str, Any]], status: str, result: Any, error: str | None, shown: bool
) -> None:
    """As the worker says, with or without the token; told twice, the answer is the same, and nothing changes."""
    job_id, token = await running(api)
    given = token if shown else None

    first = await tell(api, job_id, what, given)
    again = await tell(api, job_id, what, given)

    job = job_of(first)
    assert (job["status"], job["result"]) == (status, result)
    assert (job["error"] or {}).get("message") == error
    assert job["errors"] == (1 if "failed" in status or error else 0)
    assert job_of(again) == job
    assert len(job["attempts"]) == 1


@pytest.mark.parametrize("what", [ends[0] for ends in ENDS.values()], ids=ENDS)
async def test_a_job_leased_in_another_way_needs_its_token(api: Api, what: tuple[str, dict[str, Any]]) -> None:
    """Its holder did not come this way, so nobody may settle it from here who cannot show the lease."""
    job_id, token = await leased(api)

    refused = await tell(api, job_id, what)

    assert (refused.status, refused.problem) == (409, "lease-required")
    assert LEASE in refused.json["detail"]
    assert (await stored(api, job_id)).state is State.PROCESSING
    job_of(await tell(api, job_id, what, token))
    assert (await stored(api, job_id)).state is not State.PROCESSING


@pytest.mark.parametrize("what", [ends[0] for ends in ENDS.values()], ids=ENDS)
async def test_a_job_that_a_node_runs_needs_its_token(api: Api, what: tuple[str, dict[str, Any]]) -> None:
    """A node's worker is another way too; also of a job that was set running here once."""
    job_id, _ = await running(api)
    await put(api, job_id, "queued")
    session = await api.store.open_session("n", 15.0)
    (lease,) = (await api.store.claim(session, Pool.of(["unserved"]), 1)).leases

    for answer in (await tell(api, job_id, what), await post(api, job_id, "increment")):
        assert (answer.status, answer.problem) == (409, "lease-required")
    assert await api.store.complete(lease) is State.COMPLETED


@pytest.mark.parametrize("what", [ends[0] for ends in ENDS.values()], ids=ENDS)
async def test_told_late(api: Api, what: tuple[str, dict[str, Any]]) -> None:
    """Whoever shows the token of a run that was taken back is refused, and the newer run goes on."""
    job_id, token = await running(api)
    later = (await api.store.survey()).now_ms + 1_000_000
    assert await api.store.reap_overdue((await api.store.survey(now=later)).overdue) == 1
    early = await tell(api, job_id, what, token)
    _, newer = await put(api, job_id, "running"), (await stored(api, job_id)).attempt
    late = await tell(api, job_id, what, token)
    counted = await post(api, job_id, "increment", token=token)

    for answer in (early, late, counted):
        assert (answer.status, answer.problem) == (409, "lease-lost")
    found = await stored(api, job_id)
    assert (found.state, found.attempt, found.errors) == (State.PROCESSING, newer, 0)


MOVES = {"completed": "failed", "failed": "completed", "queued": "completed"}


@pytest.mark.parametrize(("first", "second"), MOVES.items())
@pytest.mark.parametrize("shown", [False, True], ids=["without-token", "with-token"])
async def test_a_run_does_not_end_in_two_ways(api: Api, first: str, second: str, shown: bool) -> None:
    job_id, token = await running(api)
    given = token if shown else None
    job = job_of(await put(api, job_id, first, given))

    refused = await put(api, job_id, second, given)

    assert (refused.status, refused.problem) == (409, "invalid-state")
    assert refused.json["state"] == job["status"]
    assert job_of(await api.get(f"/jobs/{job_id}")) == job


async def test_another_result_is_another_thing(api: Api) -> None:
    """A completed job keeps the result that it has; to say so once more does no harm."""
    job_id, _ = await running(api)
    await post(api, job_id, "save", {"result": 1})

    assert job_of(await put(api, job_id, "completed"))["result"] == 1
    for answer in (await post(api, job_id, "save", {"result": 2}), await put(api, job_id, "completed", result=2)):
        assert (answer.status, answer.problem, answer.json["state"]) == (409, "invalid-state", "completed")


@pytest.mark.parametrize("word", ["completed", "failed", "queued"])
async def test_a_job_that_nobody_runs_is_not_settled(api: Api, word: str) -> None:
    """It has to be set running first; one that waits is queued already."""
    job_id = await api.submit()
    answer = await put(api, job_id, word)

    if word == "queued":
        assert job_of(answer)["status"] == "enqueued"
    else:
        assert (answer.status, answer.problem, answer.json["state"]) == (409, "invalid-state", "enqueued")
        assert answer.json["detail"] == "The job is enqueued, and does not run: set it running first."
    assert (await stored(api, job_id)).attempt == 0


async def test_errors_are_counted_until_the_retries_are_used_up(api: Api) -> None:
    """`increment` and `queued`, once for each run, however often they are told; the last one fails the job."""
    job_id = await api.submit(max_retries=2)
    for run in (1, 2, 3):
        token = (await put(api, job_id, "running")).headers[LEASE]
        counted = [job_of(await post(api, job_id, "increment", token=given)) for given in (None, token, None)]
        assert [(job["errors"], job["status"]) for job in counted] == [(run, "processing")] * 3
        moved = job_of(await put(api, job_id, "queued", token if run == 3 else None))
        assert (moved["status"], moved["errors"]) == ("enqueued" if run < 3 else "failed", run)

    assert job_of(await put(api, job_id, "queued", token)) == moved
    assert [attempt["outcome"] for attempt in moved["attempts"]] == ["error"] * 3
    refused = [await put(api, job_id, "running"), await post(api, job_id, "increment")]
    assert [(answer.problem, answer.json["state"]) for answer in refused] == [("invalid-state", "failed")] * 2
    (letter,) = (await api.get("/api/v1/dead-letters")).json["items"]
    assert letter["job_id"] == job_id
    stats = (await api.get("/stats")).json
    assert (stats["jobs_failed"], stats["totals"]["retried"]) == (1, 2)


async def test_retries_are_used_up_without_a_token_too(api: Api) -> None:
    """As the old workers do it, who know no tokens."""
    job_id, _ = await running(api, max_retries=0)
    await post(api, job_id, "increment")

    assert job_of(await put(api, job_id, "queued"))["status"] == "failed"


async def test_errors_that_stand_beside_queued_use_up_the_retries(api: Api) -> None:
    """Saved with the run, and counted once, also if they were counted before."""
    job_id = await api.submit(max_retries=1)
    for expected in ("enqueued", "failed"):
        await put(api, job_id, "running")
        await post(api, job_id, "increment")
        job = job_of(await put(api, job_id, "queued", error={"code": "ink", "message": "no ink"}))
        assert job["status"] == expected
    assert job["errors"] == 2
    assert [attempt["error"] for attempt in job["attempts"]] == [{"code": "ink", "message": "no ink"}] * 2


async def test_a_run_that_is_handed_back_counts_no_error(api: Api) -> None:
    """Without `increment`, `queued` costs the job nothing."""
    job_id = await api.submit(max_retries=0)
    for _ in range(3):
        await put(api, job_id, "running")
        job = job_of(await put(api, job_id, "queued"))
    assert (job["status"], job["errors"], job["attempt"]) == ("enqueued", 0, 3)


async def test_a_job_that_is_to_be_cancelled_is_when_it_is_handed_back(api: Api) -> None:
    job_id, _ = await running(api)
    assert (await api.post(f"/api/v1/jobs/{job_id}/cancel")).status == 202

    assert job_of(await api.get(f"/jobs/{job_id}"))["cancel_requested"]
    assert job_of(await put(api, job_id, "queued"))["status"] == "cancelled"


async def test_a_token_of_another_job(api: Api) -> None:
    """Or none at all."""
    job_id, _ = await running(api)
    _, other = await running(api)

    for token in (other, "junk", ""):
        for answer in (await put(api, job_id, "completed", token), await post(api, job_id, "save", token=token)):
            assert (answer.status, answer.problem) == (404, "lease-not-found")
    assert (await stored(api, job_id)).state is State.PROCESSING


BAD = {
    "word": ("status", {"status": "done"}, "/status", "unknown-status"),
    "word-kind": ("status", {"status": ["running"]}, "/status", "unknown-status"),
    "nothing": ("status", {}, "/status", "missing"),
    "unknown": ("status", {"status": "completed", "output": 1}, "/output", "unknown-field"),
    "error": ("status", {"status": "failed", "error": 7}, "/error", "invalid-error"),
    "error-misplaced": ("status", {"status": "completed", "error": "x"}, "", "conflict"),
    "result-misplaced": ("status", {"status": "failed", "result": 1}, "", "conflict"),
    "result-running": ("status", {"status": "running", "result": 1}, "", "conflict"),
    "save-unknown": ("save", {"output": 1}, "/output", "unknown-field"),
}


@pytest.mark.parametrize(("verb", "body", "pointer", "code"), BAD.values(), ids=BAD)
async def test_bad_bodies_change_nothing(api: Api, verb: str, body: Any, pointer: str, code: str) -> None:
    job_id, _ = await running(api)
    before = await stored(api, job_id)

    method = "PUT" if verb == "status" else "POST"
    answer = await api.call(method, f"/jobs/{job_id}/{verb}", json=body)

    assert answer.status == 422
    assert answer.problem in ("invalid-body", "unknown-field")
    assert [(fault["pointer"], fault["code"]) for fault in answer.json["errors"]] == [(pointer, code)]
    assert await stored(api, job_id) == before


@pytest.mark.parametrize("job_id", [str(uuid.UUID(int=1)), "17", "a b"])
async def test_no_such_job(api: Api, job_id: str) -> None:
    answers = [
        *[await put(api, job_id, word) for word in ("running", "completed", "failed", "queued")],
        *[await post(api, job_id, verb) for verb in ("increment", "save")],
    ]

    assert {(answer.status, answer.problem) for answer in answers} == {(404, "job-not-found")}


async def test_whoever_works_here_is_among_the_workers(api: Api) -> None:
    """With what came of the runs; one whose error was counted too often is a failed one."""
    for word in ("completed", "failed", "queued"):
        job_id, _ = await running(api)
        await put(api, job_id, word)
    job_id, _ = await running(api, max_retries=0)
    await post(api, job_id, "increment")
    await put(api, job_id, "queued")
    await running(api, type="other")

    answer = await api.get("/workers")

    WorkersDocument.model_validate(answer.json)
    (worker,) = answer.json["items"]
    assert (worker["name"], worker["kind"], worker["node"]) == ("http", "http", "node-1")
    told = ("claimed", "completed", "failed", "released", "running")
    assert [worker[name] for name in told] == [5, 1, 2, 1, 1]


async def test_stats(api: Api) -> None:
    """Each field of the old answer, with a value that is not its default."""
    api.status.uptime = 3.5
    ids = [await api.submit(type="mail") for _ in range(6)]
    for job_id, ends in zip(ids, ["completed", "completed", "failed", None, "waits", "waits"], strict=True):
        if ends != "waits":
            await put(api, job_id, "running")
        if ends in ("completed", "failed"):
            await put(api, job_id, ends)

    answer = await api.get("/stats")

    StatsDocument.model_validate(answer.json)
    old = ("jobs_submitted", "jobs_completed", "jobs_failed", "workers_active", "queue_size", "uptime")
    assert [answer.json[name] for name in old] == [6, 2, 1, 1, 2, 3.5]
    assert answer.json["totals"] == {
        "submitted": 6,
        "completed": 2,
        "failed": 1,
        "retried": 0,
        "crashed": 0,
        "cancelled": 0,
    }
