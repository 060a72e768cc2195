"""What a person reads first of an answer: the fault's own words, what may be meant, and where to look."""

from __future__ import annotations

import gzip
import logging
from typing import Any

import pytest

from gopher_node.api.answers.views import show_job
from gopher_node.job import Job, Priority, State
from tests.api.conftest import Api

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("path", "body", "pointer", "detail"),
    [
        ("jobs", {"type": "a", "max_retries": -1}, "/max_retries", "/max_retries must be a whole number from 0 to "),
        ("jobs", {"type": "a", "tags": ["a", "b c"]}, "/tags/1", "/tags/1 must be 1 to 200 letters, digits or "),
        ("jobs", {"type": "a", "prioriti": 1}, "/prioriti", "There is no such field; did you mean `priority`?"),
        ("jobs", {"type": "a", "xyz": 1}, "/xyz", "/xyz: There is no such field."),
        ("jobs", {"type": "greet", "payload": {}}, "/payload/name", "/payload/name must be given."),
        (
            "jobs",
            {"type": "greet", "payload": {"name": "a", "x": 1}},
            "/payload/x",
            "/payload/x: There is no such field.",
        ),
        ("jobs/bulk", [{"type": "a", "tags": [""]}], "/0/tags/0", "Nothing was stored. /0/tags/0 must be "),
        ("leases", {"types": ["a", "b c"]}, "/types/1", "/types/1 must be the name of a job type."),
        ("leases", {}, "/types", "/types must be given."),
        ("leases", [], "", "The body must be a JSON object."),
    ],
)
async def test_one_fault_of_a_body_is_the_detail(api: Api, path: str, body: Any, pointer: str, detail: str) -> None:
    answer = await api.post(f"/api/v1/{path}", body)

    assert answer.status == 422, answer.body
    assert [fault["pointer"] for fault in answer.json["errors"]] == [pointer]
    assert detail in answer.json["detail"]


async def test_several_faults_are_counted(api: Api) -> None:
    answer = await api.post("/api/v1/jobs", {"type": "a", "priority": 9, "max_retries": -1})

    assert answer.json["detail"] == "2 things are wrong; see errors."


async def test_many_unknown_fields_are_not_all_compared(api: Api) -> None:
    """It takes time, which a client must not be able to spend."""
    answer = await api.post("/api/v1/jobs", {"type": "a", **{f"priority{n}": 1 for n in range(50)}})

    suggested = [fault for fault in answer.json["errors"] if "did you mean" in fault["detail"]]
    assert (answer.problem, len(suggested)) == ("unknown-field", 3)


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("limit=0", "limit must be a whole number from 1 to 200."),
        ("prioriti=1", "prioriti: There is no such parameter; did you mean `priority`?"),
        ("queu=a", "queu: There is no such parameter; did you mean `queue`?"),
        ("cursor=x", "cursor must be the next_cursor of a page of the same list."),
    ],
)
async def test_one_fault_of_a_query_is_the_detail(api: Api, query: str, detail: str) -> None:
    answer = await api.get(f"/api/v1/jobs?{query}")

    assert (answer.problem, answer.json["detail"]) == ("invalid-parameter", detail)


async def test_the_title_fits_any_body(api: Api) -> None:
    answer = await api.post("/api/v1/leases", {"types": ["a"], "tpyes": []})

    assert (answer.problem, answer.json["title"]) == ("unknown-field", "There is a field that does not exist.")


async def test_a_worker_node_says_where_to_ask(serve: Any) -> None:
    api = await serve(role="worker")

    missing = await api.post("/api/v1/jobs", {"type": "mail"})
    assert missing.problem == "not-found"
    assert "role api or all" in missing.json["detail"]
    assert "/docs" not in missing.json["detail"]


async def test_wrong_addresses_lead_to_the_documentation(api: Api) -> None:
    missing = await api.get("/api/v1/nothing")
    wrong = await api.call("PUT", "/api/v1/queues")

    assert (missing.problem, missing.json["detail"]) == ("not-found", "All addresses are listed at /docs.")
    assert wrong.problem == "method-not-allowed"
    assert all(method in wrong.json["detail"] for method in wrong.headers["Allow"].split(","))
    assert wrong.json["detail"] == "This address takes GET and HEAD. All addresses are listed at /docs."

    several = await api.call("PUT", "/api/v1/jobs")
    assert several.json["detail"].startswith("This address takes DELETE, GET, HEAD and POST.")


async def test_the_root_leads_on(api: Api) -> None:
    browser = await api.get("/", headers={"Accept": "text/html,*/*"}, allow_redirects=False)
    program = await api.get("/")

    assert (browser.status, browser.headers["Location"]) == (302, "/docs")
    for path in program.json.values():
        assert (await api.get(path)).status == 200
    assert program.json.keys() == {"docs", "openapi", "health"}


async def test_all_problems_are_listed(api: Api) -> None:
    listed = (await api.get("/problems")).json["items"]
    page = await api.get("/problems", headers={"Accept": "text/html"})

    for kind in listed:
        assert (await api.get(kind["type"])).json == kind
        assert kind["type"].removeprefix("/").encode() in page.body
    assert page.headers["Content-Type"].startswith("text/html")


async def test_callback_is_shown_without_its_secrets(api: Api) -> None:
    told = {"type": "a", "callback_url": "https://example.org/hooks/7?token=secret"}
    answer = await api.post("/api/v1/jobs", told)
    plain = await api.submit()

    shown = (await api.get(answer.headers["Location"])).json
    assert shown["callback_url"] == answer.json["callback_url"] == "https://example.org/hooks/7"
    assert (await api.get(f"/api/v1/jobs/{plain}")).json["callback_url"] is None


def test_credentials_are_not_shown() -> None:
    job = Job(id="", type="a", state=State.ENQUEUED, payload=b"{}", priority=Priority.NORMAL, created_ms=0)
    job.callback_url = "https://me:secret@example.org:8443/hooks/7?token=secret#part"

    assert show_job(job, "fsync")["callback_url"] == "https://example.org:8443/hooks/7"


async def test_dead_letter_that_is_none_says_what_it_is(api: Api) -> None:
    id = await api.submit()

    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/retry")):
        answer = await api.call(method, f"/api/v1/dead-letters/{id}{path}")
        assert (answer.status, answer.problem, answer.json["state"]) == (404, "job-not-found", "enqueued")
        assert "has not failed" in answer.json["detail"]


async def test_one_handler(api: Api) -> None:
    found = await api.get("/api/v1/handlers/greet")
    listed = (await api.get("/api/v1/handlers")).json["items"]

    assert found.json in listed
    missing = await api.get("/api/v1/handlers/nothing")
    assert (missing.status, missing.problem) == (404, "handler-not-found")


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"Content-Encoding": "gzip"}, b'{"type":"default"}'),
        ({"Content-Encoding": "deflate"}, b'{"type":"default"}'),
        ({"Content-Encoding": "gzip"}, gzip.compress(b'{"type":"default"}')[:12] + b"no"),
    ],
    ids=["no gzip", "no deflate", "gzip at first"],
)
async def test_a_broken_body_fills_no_log(
    api: Api, caplog: pytest.LogCaptureFixture, headers: dict[str, str], body: bytes
) -> None:
    caplog.set_level(logging.INFO)
    answer = await api.call("POST", "/api/v1/jobs", data=body, headers={**JSON, **headers})
    assert (answer.status, answer.problem in ("bad-encoding", "malformed-json")) == (400, True)
    # The other form, as curl sends it: its type is refused before its body is read.
    await api.call("POST", "/api/v1/jobs", data=body, headers={"Content-Type": "text/plain", **headers})
    await api.get("/livez")

    assert [record for record in caplog.records if record.levelno > logging.INFO] == []
