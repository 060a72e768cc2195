"""Questions about workflows: submit, look, add to, and cancel one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from gopher_node.client.calls.call import API, Call, duration_param, encode, idempotency_key, segment
from gopher_node.client.calls.jobs import JobRequest, Listing, request_body
from gopher_node.client.problems import Problem, WorkflowNotFound
from gopher_node.client.views import JobView, Page, WorkflowPage, WorkflowView, items_of


def submit(
    jobs: Iterable[JobRequest] | None,
    *,
    chain: Iterable[JobRequest] | None,
    name: str | None,
    callbacks: dict[str, JobRequest | None],
    key: str | None,
) -> Call[WorkflowView]:
    """Raises ValueError unless there are either jobs or a chain."""
    if (jobs is None) == (chain is None):
        raise ValueError("A workflow has either jobs or a chain of jobs.")
    body: dict[str, Any] = {} if name is None else {"name": name}
    body["chain" if jobs is None else "jobs"] = [request_body(job) for job in (chain if jobs is None else jobs) or ()]
    body |= {word: request_body(job) for word, job in callbacks.items() if job is not None}
    return submit_encoded(encode(body, "workflow"), key)


def submit_encoded(body: bytes, key: str | None = None) -> Call[WorkflowView]:
    """A workflow that is JSON already."""
    return Call(method="POST", path=f"{API}/workflows", body=body, key=idempotency_key(key), read=WorkflowView.read)


def get(workflow_id: str, wait: float = 0.0) -> Call[WorkflowView]:
    wanted = duration_param("wait", wait) if wait > 0 else ()
    return Call(method="GET", path=_path(workflow_id), params=wanted, wait=wait, read=WorkflowView.read)


def workflows(limit: int | None) -> Listing[WorkflowView]:
    return Listing(f"{API}/workflows", {}, limit, WorkflowPage.read)


def jobs(workflow_id: str, limit: int | None) -> Listing[JobView]:
    return Listing(f"{_path(workflow_id)}/jobs", {}, limit, Page.read)


def add(workflow_id: str, jobs: Iterable[JobRequest], key: str | None) -> Call[tuple[JobView, ...]]:
    body = encode({"jobs": [request_body(job) for job in jobs]}, "jobs")
    path = f"{_path(workflow_id)}/jobs"
    return Call(method="POST", path=path, body=body, key=idempotency_key(key), read=_read_jobs)


def cancel(workflow_id: str) -> Call[WorkflowView]:
    # Told again it is answered as it is by then.
    return Call(method="POST", path=f"{_path(workflow_id)}/cancel", told_twice=True, read=WorkflowView.read)


def _read_jobs(content: Any) -> tuple[JobView, ...]:
    items: Sequence[Any] = items_of(content)
    return tuple(JobView.read(item) for item in items)


def _path(workflow_id: str | UUID) -> str:
    name = segment(str(workflow_id))
    if name is None:
        detail = f"No workflow has the id {workflow_id!r}."
        raise WorkflowNotFound(Problem(status=404, type="workflow-not-found", detail=detail))
    return f"{API}/workflows/{name}"
