"""What answers look like, for the documentation and for the tests that compare answers with it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from typing_extensions import TypeAliasType

Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"}, examples=["2026-11-22T08:00:00.000Z"])]
"""A time in RFC 3339, UTC, to the millisecond."""
# Named types, so that they have a name in the description too.
Status = TypeAliasType(
    "Status", Literal["scheduled", "enqueued", "blocked", "processing", "completed", "failed", "cancelled"]
)
WorkflowStatus = TypeAliasType("WorkflowStatus", Literal["running", "completed", "failed", "cancelled"])
Priority = TypeAliasType("Priority", Literal["urgent", "high", "normal", "low"])
PriorityNumber = TypeAliasType("PriorityNumber", Literal[1, 2, 3, 4])
Durability = TypeAliasType("Durability", Literal["fsync", "replica", "memory", "unknown"])
JobId = Annotated[str, Field(json_schema_extra={"format": "uuid"}, examples=["b3864208-5177-41ad-8fa2-451fed8ec84f"])]
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0)]
Cursor = Annotated[str | None, Field(description="Sent back as `cursor`, it goes on from there; null at the end.")]


class Document(BaseModel):
    """A JSON object with these members and no others."""

    # Their schemas are built when somebody asks for one; a node starts sooner without.
    model_config = ConfigDict(extra="forbid", defer_build=True)


class ErrorDocument(Document):
    """Why a run did not complete."""

    code: str = Field(description="For programs.", examples=["error"])
    message: str = Field(description="For people.")
    type: str | None = Field(None, description="The exception's class.")
    traceback: str | None = None


class AttemptDocument(Document):
    """One run of a job, once it is over."""

    attempt: Count
    outcome: Literal["completed", "error", "cancelled", "released", "crashed"]
    started_at: Moment | None
    finished_at: Moment | None
    node: str | None
    error: ErrorDocument | None = None


class RetryDocument(Document):
    """When a job is tried again after an error."""

    strategy: Literal["exponential", "fixed", "linear", "list"]
    base: Seconds
    cap: Seconds
    factor: float
    delays: list[Seconds] | None
    jitter: bool
    only: list[str] | None
    never: list[str] | None


class JobDocument(Document):
    """A job, as it is at the time of the answer."""

    job_id: JobId
    type: str = Field(examples=["email"])
    status: Status
    priority: Priority
    group: str | None = Field(description="Whom it is for. Groups take turns.")
    payload: Any = Field(description="As it was sent.")
    attempt: Count = Field(description="How often the job has been claimed.")
    errors: Count = Field(description="How many of its runs failed, since it was stored or retried by hand.")
    crashes: Count = Field(description="How many of its runs ended with their process or lease.")
    max_retries: Count
    timeout: Seconds | None = Field(description="Seconds for one run; null if the handler or the node decides.")
    retention: Seconds | None = Field(description="Seconds for which it is kept; null if the node decides.")
    tags: list[str]
    callback_url: str | None = Field(description="Where its end is told, without the address's credentials and query.")
    name: str | None = Field(
        description="What it is called in its request, its workflow and by those that wait for it."
    )
    workflow_id: str | None = Field(description="The workflow that it is a part of.")
    unique_key: str | None = Field(description="A name that only one job of its type bears at a time.")
    expires_at: Moment | None = Field(description="When it may no longer start.")
    retry: RetryDocument | None = Field(description="When it is tried again after an error, if it said so itself.")
    depends_on: list[str] = Field(description="The ids of the jobs that have to end first.")
    on_parent_failure: Literal["skip", "fail", "run"] | None = Field(
        description="What becomes of it if one of those does not complete; null if it waits for none."
    )
    recurring: str | None = Field(description="The recurring job that brought it, by name.")
    created_at: Moment
    execute_at: Moment | None = Field(description="When it is due, if it was not at once.")
    started_at: Moment | None = Field(description="When its last run began.")
    finished_at: Moment | None = Field(description="When it ended.")
    node: str | None = Field(description="Who ran it last: a node, or a worker over HTTP as `http:NAME`.")
    cancel_requested: bool
    progress: Any = Field(description="What its run last told, in any JSON.")
    result: Any = Field(description="What its run has brought, in any JSON.")
    error: ErrorDocument | None = Field(description="Why it is not completed: the error of its last attempt.")
    attempts: list[AttemptDocument] = Field(description="The last twenty runs that are over.")
    durability: Durability = Field(description="How well the store keeps what it has accepted.")
    existing: Literal[True] | None = Field(
        None, description="Only in answers to submissions: this job was there before, and nothing was stored."
    )


class JobListDocument(Document):
    """The jobs that were stored, in the order in which they were sent."""

    items: list[JobDocument]


class StoredDocument(Document):
    """What is told of a job that was stored from a line."""

    job_id: JobId
    status: Status
    created_at: Moment
    execute_at: Moment | None


class LineDocument(Document):
    """What became of one line: `job` if it was stored, else `problem`."""

    line: int = Field(ge=1, description="The line's number.")
    status: int = Field(description="As if it had been sent alone.", examples=[201, 422])
    job: StoredDocument | None = None
    problem: ProblemDocument | None = None


class EventDocument(Document):
    """One server-sent event."""

    event: Status | Literal["progress"] = Field(description="The job's status, or `progress` if only that is new.")
    data: str = Field(
        description="The job, in JSON.",
        json_schema_extra={
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": "#/components/schemas/JobDocument"},
        },
    )
    id: Literal["ended"] | None = Field(None, description="Of the last event.")


class JobPageDocument(Document):
    """Some of the jobs that match, and where to go on."""

    items: list[JobDocument]
    next_cursor: Cursor


class FaultDocument(Document):
    """One thing that is wrong with a request."""

    pointer: str | None = Field(None, description="A JSON pointer into the body.")
    parameter: str | None = Field(None, description="A query parameter.")
    code: str = Field(examples=["out-of-range"])
    detail: str


class ProblemDocument(BaseModel):
    """An error (RFC 9457). Some have members of their own beside these."""

    type: str = Field(description="The address of the page that says what to do.", examples=["/problems/invalid-job"])
    title: str
    status: int = Field(ge=400, le=599)
    detail: str
    instance: str = Field(description="The request's id, under which the node's log has more.")
    errors: list[FaultDocument] | None = Field(None, description="All that is wrong, up to a hundred things.")
    state: Status | WorkflowStatus | None = Field(
        None, description="The state of the job or workflow that does not allow this."
    )
    limit: int | None = Field(None, description="The most that is taken.")
    offset: int | None = Field(None, description="The byte of the body that cannot be read.")
    outcome: Literal["not-done", "unknown"] | None = Field(
        None, description="Of errors of the node: whether what was asked may have been done."
    )
    scope: str | None = Field(None, description="The scope that the key lacks.")
    job_id: JobId | None = Field(None, description="The job that bears the unique key.")
    cycle: list[str] | None = Field(None, description="The jobs that wait for each other, by name or id.")
