"""What answers look like, for the documentation and for the tests that compare answers with it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Moment = Annotated[str, Field(json_schema_extra={"format": "date-time"}, examples=["2026-11-22T08:00:00.000Z"])]
"""A time in RFC 3339, UTC, to the millisecond."""
Status = Literal["scheduled", "enqueued", "blocked", "processing", "completed", "failed", "cancelled"]
Level = Literal["urgent", "high", "normal", "low"]
JobId = Annotated[str, Field(json_schema_extra={"format": "uuid"}, examples=["b3864208-5177-41ad-8fa2-451fed8ec84f"])]
Count = Annotated[int, Field(ge=0)]
Cursor = Annotated[str | None, Field(description="Sent back as `cursor`, it goes on from there; null at the end.")]


class Document(BaseModel):
    """A JSON object with these members and no others."""

    model_config = ConfigDict(extra="forbid")


class ErrorDocument(Document):
    code: str
    message: str
    type: str | None = None
    traceback: str | None = None


class AttemptDocument(Document):
    attempt: Count
    outcome: Literal["completed", "error", "cancelled", "released", "crashed"]
    started_at: Moment | None
    finished_at: Moment | None
    node: str | None
    error: ErrorDocument | None = None


class JobDocument(Document):
    """A job, as it is at the time of the answer."""

    job_id: JobId
    type: str = Field(examples=["email"])
    status: Status
    priority: Level
    group: str | None
    payload: Any
    attempt: Count = Field(description="How often the job has been claimed.")
    errors: Count
    crashes: Count
    max_retries: Count
    timeout: float | None = Field(description="Seconds.")
    retention: float | None = Field(description="Seconds.")
    tags: list[str]
    created_at: Moment
    execute_at: Moment | None
    started_at: Moment | None
    finished_at: Moment | None
    node: str | None
    cancel_requested: bool
    progress: Any
    result: Any
    error: ErrorDocument | None
    attempts: list[AttemptDocument]
    durability: Literal["fsync", "replica", "memory", "unknown"]


class JobListDocument(Document):
    items: list[JobDocument]


class JobPageDocument(Document):
    items: list[JobDocument]
    next_cursor: Cursor


class FaultDocument(Document):
    pointer: str | None = Field(None, description="A JSON pointer into the body.")
    parameter: str | None = Field(None, description="A query parameter.")
    code: str
    detail: str


class ProblemDocument(BaseModel):
    """An error (RFC 9457)."""

    type: str = Field(examples=["/problems/invalid-job"])
    title: str
    status: int
    detail: str
    instance: str = Field(description="The request's id, under which the node's log has more.")
    errors: list[FaultDocument] | None = None
