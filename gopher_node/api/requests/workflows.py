"""What a request body may say of a workflow: its jobs, and what follows when they have ended."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Annotated, Any, cast

from pydantic import BaseModel, ConfigDict, Field, PlainValidator
from pydantic_core import PydanticCustomError

from gopher_node.api.answers.problems import Fault, Problem
from gopher_node.api.requests.fields import name
from gopher_node.api.requests.models import Submission
from gopher_node.job import TAG_NAME, NewJob

MAX_MEMBERS = 1000
"""Of one request; a workflow can be given more jobs later."""
CALLBACKS = ("on_complete", "on_success", "on_failure")
_NOT_OF_CALLBACKS = ("job_id", "name", "depends_on", "on_parent_failure", "workflow_id")


def _parse_jobs(value: object) -> list[Any]:
    # Each of them is for read_submission to judge.
    if not isinstance(value, list):
        raise PydanticCustomError("invalid-job", "must be a list of jobs")
    jobs = cast("list[Any]", value)
    if not 1 <= len(jobs) <= MAX_MEMBERS:
        raise PydanticCustomError("out-of-range", "must be 1 to {high} jobs", {"high": MAX_MEMBERS})
    return jobs


Jobs = Annotated[
    list[Any],
    PlainValidator(
        _parse_jobs,
        json_schema_input_type=Annotated[list[Submission], Field(min_length=1, max_length=MAX_MEMBERS)],
    ),
]
Callback = Annotated[Any, PlainValidator(lambda value: value, json_schema_input_type=Submission)]
WorkflowName = Annotated[str, name(TAG_NAME, "1 to 200 letters, digits or ._@:/+-, the first a letter or digit")]


class WorkflowSubmission(BaseModel):
    """
    A new workflow: its `jobs`, or a `chain` of jobs of which each waits for the one before.

    A null says the same as leaving the field out.
    """

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "name": "order-17",
                    "jobs": [
                        {"name": "charge", "type": "charge_card", "payload": {"order": 17}},
                        {"name": "pack", "type": "pack_parcel", "payload": {"order": 17}, "depends_on": ["charge"]},
                        {"name": "invoice", "type": "write_invoice", "depends_on": ["charge"]},
                        {"name": "ship", "type": "ship_parcel", "depends_on": ["pack", "invoice"]},
                    ],
                    "on_success": {"type": "thank_customer", "payload": {"order": 17}},
                    "on_failure": {"type": "tell_support", "payload": {"order": 17}, "priority": "high"},
                },
                {
                    "chain": [
                        {"type": "fetch_page", "payload": {"url": "https://example.org/"}},
                        {"type": "read_links"},
                        {"type": "count_links", "on_parent_failure": "run"},
                    ]
                },
            ]
        },
    )

    name: WorkflowName | None = Field(None, description="What it is called, for people.", examples=["order-17"])
    jobs: Jobs | None = Field(
        None,
        description=f"Up to {MAX_MEMBERS:,} jobs. A job can have a `name`, by which others name it in their "
        "`depends_on`.",
    )
    chain: Jobs | None = Field(
        None, description=f"Up to {MAX_MEMBERS:,} jobs, each of which waits for the one before it; instead of `jobs`."
    )
    on_complete: Callback | None = Field(
        None, description="A job that is stored when all jobs have ended, however they did."
    )
    on_success: Callback | None = Field(None, description="A job that is stored when all jobs have completed.")
    on_failure: Callback | None = Field(
        None, description="A job that is stored when the first job has ended otherwise: it failed or was cancelled."
    )

    def members(self) -> tuple[str, list[Any]]:
        """The field that has the jobs, and what it says. Raises Problem."""
        if self.jobs is not None and self.chain is not None:
            raise _refusal("/chain", "conflict", "cannot stand beside jobs")
        if self.jobs is None and self.chain is None:
            raise _refusal("/jobs", "missing", "must have the workflow's jobs, if there is no chain")
        return ("jobs", self.jobs) if self.jobs is not None else ("chain", self.chain or [])

    def callbacks(self) -> dict[str, Any]:
        """What is said of each callback there is."""
        found = {word: getattr(self, word) for word in CALLBACKS}
        return {word: document for word, document in found.items() if document is not None}


class JobsOfWorkflow(BaseModel):
    """More jobs for a workflow that still runs: all of them are stored, or none."""

    model_config = ConfigDict(
        strict=True,
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "jobs": [
                        {"name": "page-2", "type": "fetch_page", "payload": {"url": "https://example.org/2"}},
                        {"type": "read_links", "depends_on": ["page-2"]},
                    ]
                }
            ]
        },
    )

    jobs: Jobs = Field(description=f"Up to {MAX_MEMBERS:,} jobs, which may wait for each other by name.")


def chained(jobs: list[NewJob]) -> list[NewJob]:
    """The jobs, each of which waits for the one before it as well."""
    found = jobs[:1]
    for before, job in pairwise(jobs):
        parents = tuple(dict.fromkeys((*job.options.depends_on, before.id)))
        found.append(replace(job, options=replace(job.options, depends_on=parents)))
    return found


def member_faults(documents: list[Any], place: str, workflow_id: str | None = None) -> list[Fault]:
    """What is wrong with jobs that name a workflow which is not the one that they are sent to."""
    detail = "is not the workflow that the job is sent to" if workflow_id else "cannot be chosen for a new workflow"
    return [
        {"pointer": f"{place}/{index}/workflow_id", "code": "conflict", "detail": detail}
        for index, document in enumerate(documents)
        if _says(document, "workflow_id") and str(document["workflow_id"]).lower() != workflow_id
    ]


def of_workflow(documents: list[Any], workflow_id: str) -> list[Any]:
    """Jobs that were sent to a workflow, as if each of them named it."""
    return [
        {**cast("dict[str, Any]", document), "workflow_id": workflow_id} if isinstance(document, dict) else document
        for document in documents
    ]


def callback_faults(word: str, document: Any) -> list[Fault]:
    """What a callback says that is no choice: its id follows from the workflow's, and it waits for that alone."""
    detail = "cannot be chosen for a job that the workflow stores when it has come so far"
    return [
        {"pointer": f"/{word}/{field}", "code": "conflict", "detail": detail}
        for field in _NOT_OF_CALLBACKS
        if _says(document, field)
    ]


def _says(document: Any, field: str) -> bool:
    return isinstance(document, dict) and cast("dict[str, Any]", document).get(field) is not None


def _refusal(pointer: str, code: str, detail: str) -> Problem:
    return Problem("invalid-body", faults=[{"pointer": pointer, "code": code, "detail": detail}])
