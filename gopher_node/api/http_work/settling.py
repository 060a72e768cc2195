"""What a worker says over HTTP of a run that it holds, as it is read and as it is carried out."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, cast

import orjson
from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError
from pydantic_core import PydanticCustomError

from gopher_node.api.answers.problems import Fault, Problem
from gopher_node.api.answers.views import format_time
from gopher_node.api.http_work.http_workers import End, HttpWorkers
from gopher_node.api.parts import Parts
from gopher_node.api.requests.dependencies import resolve
from gopher_node.api.requests.fields import Delay, duration
from gopher_node.api.requests.models import Submission, batch_refusal, read_submission
from gopher_node.errors import GopherError, InvalidState, JobNotFound, StaleLease, StoreError
from gopher_node.handlers.log_lines import Level, log_line
from gopher_node.job import JobError, NewJob, RetryPolicy, State, Token
from gopher_node.store import Beat, Beaten
from gopher_node.store.ordering import parents_first

if TYPE_CHECKING:
    from gopher_node.telemetry.traces import Settle

MAX_RESULT = 1024 * 1024
MAX_PROGRESS = 64 * 1024
MAX_LINES = 100
MAX_FOLLOW_UPS = 100
MAX_FOLLOW_UP_BYTES = 1024 * 1024
AT_A_TIME = 50
"""So many follow-up jobs are checked before everybody else has a turn."""
MIN_LEASE_MS = 1000
MAX_LEASE_MS = 3_600_000
EXAMPLE_TOKEN = "b3864208-5177-41ad-8fa2-451fed8ec84f.1.9f86d081884c7d65"


def _parse_follow_ups(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise PydanticCustomError("invalid-job", "must be a list of jobs")
    jobs = cast("list[Any]", value)
    if len(jobs) > MAX_FOLLOW_UPS:
        raise PydanticCustomError("out-of-range", "must be at most {high} jobs", {"high": MAX_FOLLOW_UPS})
    return jobs


def _parse_error(value: object) -> JobError:
    try:
        told = (
            RunError(message=value, code=None, type=None) if isinstance(value, str) else RunError.model_validate(value)
        )
    except ValidationError:
        raise PydanticCustomError(
            "invalid-error", "must be text, or an object of texts: `message` and, if known, `code`, `type`, `traceback`"
        ) from None
    return JobError(told.code or "error", told.message, told.type or "", told.traceback or "")


class _Body(BaseModel):
    """A null says the same as leaving the field out."""

    model_config = ConfigDict(strict=True, extra="forbid")


class RunError(_Body):
    """Why a run failed. What is too long is cut."""

    message: str = Field(description="For people.", examples=["The mail server refused the address."])
    code: str | None = Field(None, description="For programs; `error` unless it is said.", examples=["smtp-550"])
    type: str | None = Field(None, description="The exception's class.", examples=["SMTPRecipientsRefused"])
    traceback: str | None = None


LeaseTime = Annotated[int, duration(MIN_LEASE_MS, MAX_LEASE_MS)]
FollowUps = Annotated[
    list[Any],
    PlainValidator(
        _parse_follow_ups, json_schema_input_type=Annotated[list[Submission], Field(max_length=MAX_FOLLOW_UPS)]
    ),
]
ErrorText = Annotated[JobError, PlainValidator(_parse_error, json_schema_input_type=str | RunError)]


class RunLine(_Body):
    """A line for the job's log."""

    message: str = Field(description="What happened. What is too long is cut.", examples=["17 of 30 pages are done."])
    level: Level | None = Field(None, description="info unless it is said.")


class Heartbeat(_Body):
    """That a run goes on. All of it may be left out."""

    progress: Any = Field(
        None,
        description=f"How far the run is: any JSON, up to {MAX_PROGRESS // 1024} KiB.",
        examples=[{"done": 3, "of": 10}],
    )
    lease: LeaseTime | None = Field(
        None, description="How long the lease lasts from now on, if not as before.", examples=["30s", 60]
    )
    log: Annotated[list[RunLine], Field(max_length=MAX_LINES)] | None = Field(
        None,
        description=f"Lines for the job's log, up to {MAX_LINES}. A heartbeat that is told again adds them again.",
    )


class Completion(_Body):
    """What a run has brought. All of it may be left out."""

    result: Any = Field(None, description="Any JSON, up to 1 MiB.", examples=[{"sent": True}])
    follow_ups: FollowUps | None = Field(
        None,
        description=f"Jobs that are stored in the same step: up to {MAX_FOLLOW_UPS}, with at most 1 MiB of payload "
        "together. Their ids follow from the token, so none has a `job_id`; they may wait for each other by name.",
    )


class Failure(_Body):
    """Why a run failed, and whether to try again."""

    error: ErrorText = Field(
        description="Why it failed.",
        examples=["The mail server did not answer.", {"code": "smtp-550", "message": "There is no such address."}],
    )
    retryable: bool | None = Field(None, description="Whether another try may succeed; true unless it is said.")
    retry_after: Delay | None = Field(
        None, description="When to try again, if the retry policy should not decide.", examples=["5m", 300]
    )


class Release(_Body):
    """There is nothing to say with it."""


class _Item(_Body):
    token: str = Field(description="As the claim answered it.", examples=[EXAMPLE_TOKEN])


class HeartbeatItem(Heartbeat, _Item):
    """That one of several runs goes on."""


class CompletionItem(Completion, _Item):
    """What one of several runs has brought."""


class FailureItem(Failure, _Item):
    """Why one of several runs failed, and whether to try again."""


class ReleaseItem(Release, _Item):
    """One of several runs that is handed back."""


def parse_token(text: str) -> Token:
    """Raises Problem."""
    try:
        return Token.parse(text)
    except ValueError:
        raise Problem("lease-not-found", "Send the token as the claim answered it.") from None


@dataclass(frozen=True, slots=True)
class Desk:
    """Carries out what one caller says. `name` is the worker's if nobody here knows who claimed the run."""

    parts: Parts
    workers: HttpWorkers
    name: str

    async def renew(self, told: Sequence[tuple[Token, Heartbeat]]) -> list[dict[str, Any] | Exception]:
        """In one step for all of them; each is answered for itself. Raises StoreError."""
        beats = [_beat(token, heartbeat) for token, heartbeat in told]
        leases, grace = self.parts.store.leases, self.parts.settings.worker.cancel_grace
        real = [beat for beat in beats if isinstance(beat, Beat)]
        beaten = iter(await leases.heartbeat(real, cancel_grace=grace))
        answers = [
            beat if isinstance(beat, Problem) else self._renewed(token, next(beaten))
            for (token, _), beat in zip(told, beats, strict=True)
        ]
        for (token, heartbeat), answer in zip(told, answers, strict=True):
            if heartbeat.log and not isinstance(answer, Exception):
                lines = [log_line(line.message, line.level or "info", token.attempt) for line in heartbeat.log]
                with contextlib.suppress(StoreError):  # the lease is renewed, and that is what counts
                    await self.parts.store.logs.append(token, lines)
        return answers

    def _renewed(self, token: Token, beaten: Beaten | None) -> dict[str, Any] | Exception:
        if beaten is None:
            return StaleLease()
        self.workers.renewed(token, self.name, beaten.expires_ms)
        return {
            "job_id": token.job_id,
            "cancel_requested": beaten.cancel_requested,
            "lease_expires_at": format_time(beaten.expires_ms),
        }

    async def complete(self, token: Token, told: Completion) -> dict[str, Any]:
        """Raises Problem and GopherError."""
        result = orjson.dumps(told.result)
        if len(result) > MAX_RESULT:
            raise _too_large("result", result, MAX_RESULT)
        follow_ups = await self._read_follow_ups(token, told.follow_ups or [])
        # Only the very same completion is a repeat: else the answer could name jobs that were never stored.
        said = hashlib.sha256(b"%s\n%s" % (result, orjson.dumps(told.follow_ups or [])))
        ordered = [follow_ups[place] for place in parents_first(follow_ups)]
        settle = await self._settle(token)
        sends = settle and settle.send(ordered)
        is_new = not self.workers.has_ended(token)
        state = await self.parts.store.complete(
            token, result, sends.jobs if sends else ordered, mark=said.hexdigest()[:16]
        )
        if settle:
            settle.end("completed", state)
        if sends and is_new and state is State.COMPLETED:
            sends.sent([job.id for job in ordered])
        await self._note(token, "completed", state, {State.COMPLETED})
        return {"job_id": token.job_id, "status": state, "follow_ups": [job.id for job in follow_ups]}

    async def fail(self, token: Token, told: Failure) -> dict[str, Any]:
        """Raises Problem and GopherError."""
        store, error = self.parts.store, told.error.encode()
        settle = await self._settle(token)
        if told.retryable is False or (delay := await self._retry_delay(token, told)) is None:
            state = await store.fail(token, error)
            possible = {State.FAILED}
        else:
            state = await store.retry(token, error, delay)
            possible = {State.FAILED, State.CANCELLED, State.SCHEDULED if delay else State.ENQUEUED}
        if settle:
            settle.end("failed", state)
        await self._note(token, "failed", state, possible, told.error)
        return {"job_id": token.job_id, "status": state, "execute_at": format_time(await self._due(token, state))}

    async def release(self, token: Token, told: Release) -> dict[str, Any]:
        """Raises Problem and GopherError."""
        settle = await self._settle(token)
        state = await self.parts.store.release(token)
        if settle:
            settle.end("released", state)
        if state is State.FAILED and await self._ran_out(token):
            await self._note(token, "failed", state, {State.FAILED})
        else:
            await self._note(token, "released", state, {State.ENQUEUED, State.CANCELLED})
        return {"job_id": token.job_id, "status": state}

    async def _settle(self, token: Token) -> Settle | None:
        """The span of a run's end, in which its answer is waited for; None without traces."""
        traces = self.parts.traces
        if traces is None:
            return None
        job = self.workers.job_of(token)
        if job is None:
            try:
                # It was claimed at another node, or is told again.
                job = replace(await self.parts.store.get(token.job_id), attempt=token.attempt)
            except GopherError:
                return None  # whoever settles it is told why
        return traces.settle(job)

    async def _ran_out(self, token: Token) -> bool:
        """Whether a failed job was handed back, and had an error counted beyond its retries. Raises StoreError."""
        try:
            job = await self.parts.store.get(token.job_id)
        except JobNotFound:
            return False
        # A run that is failed says why; one that is handed back does not.
        return any(
            run["attempt"] == token.attempt and run["outcome"] == "error" and "error" not in run for run in job.attempts
        )

    async def _note(
        self, token: Token, end: End, state: State | None, possible: set[State], error: JobError | None = None
    ) -> None:
        """Raises StaleLease, and InvalidState for a run that ended before, but not in this way."""
        if state in possible and self.workers.job_of(token) is None and not self.workers.has_ended(token):
            with contextlib.suppress(GopherError):  # only statistics lack it then
                job = await self.parts.store.get(token.job_id)
                if job.attempt == token.attempt:
                    self.workers.claimed_elsewhere(token, self.name, job)
        if state is None or state in possible:
            self.workers.settled(token, self.name, end, state, error)
        if state is None:
            raise StaleLease
        if state not in possible:
            raise InvalidState(state, f"This run was settled before, in another way: its job is now {state}.")

    async def _read_follow_ups(self, token: Token, documents: list[Any]) -> list[NewJob]:
        settings, catalogue = self.parts.settings, self.parts.catalogue
        jobs: list[NewJob] = []
        faults: list[Fault] = []
        for index, document in enumerate(documents):
            if index % AT_A_TIME == AT_A_TIME - 1:
                await asyncio.sleep(0)
            if catalogue.lacks(document):
                await catalogue.ask()
            job = read_submission(
                document,
                self.parts.registry,
                settings.worker.max_retries,
                published=catalogue.published,
                allow=settings.webhook.allow,
            )
            if isinstance(job, NewJob) and job.client_id:
                # In the step that completes the run nobody could be told that the id is taken.
                detail = "cannot be chosen: the ids of follow-ups follow from the token"
                faults.append({"pointer": f"/follow_ups/{index}/job_id", "code": "not-allowed", "detail": detail})
            elif isinstance(job, NewJob) and job.options.unique:
                detail = "cannot be unique: the step that completes the run could not tell of its twin"
                faults.append({"pointer": f"/follow_ups/{index}/unique_key", "code": "not-allowed", "detail": detail})
            elif isinstance(job, NewJob):
                # A completion that is told again names the same jobs.
                jobs.append(replace(job, id=_follow_up_id(token, index)))
            else:
                faults += [{**fault, "pointer": f"/follow_ups/{index}{fault['pointer']}"} for fault in job]
        if sum(len(job.payload) for job in jobs) > MAX_FOLLOW_UP_BYTES:
            detail = f"must have at most {MAX_FOLLOW_UP_BYTES} bytes of payload together"
            faults.append({"pointer": "/follow_ups", "code": "job-too-large", "detail": detail})
        if faults:
            raise batch_refusal(faults)
        return resolve(jobs, lambda index: f"/follow_ups/{index}")

    async def _retry_delay(self, token: Token, told: Failure) -> float | None:
        """As the worker says, else the policy of the job, of its type, or the node's. None: there is no other try."""
        if told.retry_after is not None:
            return told.retry_after / 1000
        try:
            job = await self.parts.store.get(token.job_id)
        except JobNotFound:
            raise StaleLease from None
        handler, worker = self.parts.registry.get(job.type), self.parts.settings.worker
        policy = job.options.retry or (handler and handler.retry) or RetryPolicy(worker.retry_base, worker.retry_cap)
        kind = told.error.kind
        if not policy.retries({kind, kind.rpartition(".")[2], told.error.code}):
            return None
        # Never at once, or a repeat, for which the dice fall differently, could not be told from a release.
        return max(0.001, policy.delay(job.errors + 1))

    async def _due(self, token: Token, state: State | None) -> int | None:
        if state is not State.SCHEDULED:
            return None
        try:
            return (await self.parts.store.get(token.job_id)).due_ms
        except GopherError:
            return None  # the run is settled, and that is what counts


def _beat(token: Token, told: Heartbeat) -> Beat | Problem:
    progress = None if told.progress is None else orjson.dumps(told.progress)
    if progress is not None and len(progress) > MAX_PROGRESS:
        return _too_large("progress", progress, MAX_PROGRESS)
    return Beat(token, None if told.lease is None else told.lease / 1000, progress)


def _too_large(what: str, content: bytes, limit: int) -> Problem:
    return Problem(f"{what}-too-large", f"It has {len(content)} bytes of JSON; the most is {limit}.", limit=limit)


def _follow_up_id(token: Token, index: int) -> str:
    """A UUID of version 8, which everybody makes as they like."""
    digest = bytearray(hashlib.sha256(f"{token}:{index}".encode()).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    return str(uuid.UUID(bytes=bytes(digest)))
