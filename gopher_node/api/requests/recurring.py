"""What a request may say of a recurring job, and how that becomes one."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any, TypeVar, cast

import orjson
from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from gopher_node.api.answers.problems import Fault, Problem
from gopher_node.api.parts import Parts
from gopher_node.api.requests.models import Submission, faults_of, read_submission, refusal
from gopher_node.api.requests.schedules import (
    EXAMPLE,
    NamedRecurrence,
    Preview,
    Recurrence,
    RecurringName,
    conflicts,
    conflicts_of_change,
    schedule_of,
)
from gopher_node.job import NewJob
from gopher_node.schedules import Schedule
from gopher_node.store import Definition

# Of a new job's fields, those that each job of a recurring one has, by what they become.
_FIELDS = {
    "priority": "priority",
    "group": "group",
    "timeout": "timeout_ms",
    "max_retries": "max_retries",
    "retries": "max_retries",
    "retention": "retention_ms",
    "tags": "tags",
    "callback_url": "callback_url",
}
_OPTIONS = {"ttl": "ttl_ms", "retry": "retry"}
JOB_FIELDS = ("type", "queue", "payload", *_FIELDS, *_OPTIONS)


Model = TypeVar("Model", bound=BaseModel)


class _Named(Recurrence):
    name: RecurringName = Field(description="What it is called, and found by.", examples=["nightly-report"])


def _with_job_fields(
    model: type[BaseModel], title: str, text: str, examples: list[Any], **more: Any
) -> type[BaseModel]:
    """The model of a body, for its description: these fields and those of a job."""
    fields: dict[str, Any] = {
        name: (Submission.model_fields[name].annotation, Submission.model_fields[name]) for name in JOB_FIELDS
    }
    described = type(
        title,
        (model,),
        {
            "__doc__": text,
            "__module__": __name__,
            "model_config": ConfigDict(json_schema_extra={"examples": examples, **more}),
        },
    )
    return create_model(title, __base__=described, __doc__=text, __module__=__name__, **fields)


NewRecurring = _with_job_fields(
    _Named,
    "NewRecurring",
    "A recurring job: its name, when it fires, and what each of its jobs is.",
    [
        {"name": "nightly-report", "cron_expression": EXAMPLE, "timezone": "Europe/Berlin", "type": "report"},
        {
            "name": "sync-orders",
            "every": "15m",
            "type": "sync_orders",
            "payload": {"table": "orders"},
            "overlap": "skip",
        },
    ],
)
RecurringEdit = _with_job_fields(
    Recurrence,
    "RecurringEdit",
    "What is to change of a recurring job: at least one of these. A null says the same as leaving the field out.",
    [{"cron_expression": "0 6 * * *"}, {"payload": {"table": "customers"}, "overlap": "skip"}],
    minProperties=1,
)


async def read_new(parts: Parts, document: Any) -> Definition:
    """The recurring job that a body describes. Raises Problem with all that is wrong."""
    given = _object(document)
    head = {field: value for field, value in given.items() if field not in JOB_FIELDS}
    named, faults = _validate(_Named, head, NewRecurring)
    faults += conflicts(given)
    job = await _read_job(parts, {field: given[field] for field in JOB_FIELDS if field in given})
    if isinstance(job, list):
        faults += job
    if faults or named is None or isinstance(job, list):
        raise refusal(faults, "invalid-body")
    return _definition(named.name, named, job)


async def read_submitted(parts: Parts, document: dict[str, Any]) -> Definition:
    """The recurring job that a submission with `recurring` describes. Raises Problem with all that is wrong."""
    spec = document["recurring"]
    if not isinstance(spec, dict):
        raise refusal([{"pointer": "/recurring", "code": "model-type", "detail": "must be a JSON object"}])
    given = cast("dict[str, Any]", spec)
    when, faults = _validate(NamedRecurrence, given, NamedRecurrence)
    faults = [{**fault, "pointer": f"/recurring{fault['pointer']}"} for fault in [*faults, *conflicts(given)]]
    rest = {field: value for field, value in document.items() if field != "recurring"}
    for field in [field for field in rest if field in Submission.model_fields and field not in JOB_FIELDS]:
        if rest.pop(field) is not None:
            faults.append({"pointer": f"/{field}", "code": "conflict", "detail": "cannot stand beside recurring"})
    job = await _read_job(parts, rest)
    if isinstance(job, list):
        faults += job
    if faults or when is None or isinstance(job, list):
        raise refusal(faults)
    definition = _definition("", when, job)
    return replace(definition, name=when.name or _derived_name(definition))


async def read_edit(parts: Parts, document: Any) -> Change:
    """Raises Problem with all that is wrong by itself; the change does for what does not fit what there is."""
    given = {field: value for field, value in _object(document).items() if value is not None}
    head = {field: value for field, value in given.items() if field not in JOB_FIELDS}
    when, faults = _validate(Recurrence, head, RecurringEdit)
    if not given:
        faults.append({"pointer": "", "code": "missing", "detail": "must name something that is to change"})
    if faults or when is None:
        raise refusal(faults, "invalid-body")
    if parts.catalogue.lacks({"type": given.get("type") or given.get("queue")}):
        await parts.catalogue.ask()
    return Change(parts, given, when)


class Change:
    """A change of a recurring job, which is made to it as it is at that moment."""

    def __init__(self, parts: Parts, given: dict[str, Any], when: Recurrence) -> None:
        self._parts = parts
        self._given = given
        self._when = when

    def __call__(self, had: Definition) -> Definition:
        """Raises Problem where it does not fit."""
        given, when = self._given, self._when
        faults = conflicts_of_change(given, interval=bool(had.schedule.every_ms))
        job = self._job(had.job)
        if isinstance(job, list):
            faults += job
        if faults or isinstance(job, list):
            raise refusal(faults, "invalid-body")
        schedule = had.schedule
        if when.every is not None or when.cron_expression is not None:
            zone = when.timezone or (schedule.timezone if schedule.cron else "UTC")
            asked = schedule_of(when)
            asked = asked if asked.every_ms else replace(asked, timezone=zone)
            # The same interval as before goes on as it did.
            same = asked.every_ms and asked.every_ms == schedule.every_ms
            schedule = schedule if same else replace(asked, anchor_ms=0 if asked.every_ms else schedule.anchor_ms)
        elif when.timezone is not None:
            schedule = replace(schedule, timezone=when.timezone)
        return replace(
            had, schedule=schedule, job=job, missed=when.missed or had.missed, overlap=when.overlap or had.overlap
        )

    def _job(self, had: NewJob) -> NewJob | list[Fault]:
        given = {field: self._given[field] for field in JOB_FIELDS if field in self._given}
        if not given:
            return had
        whole = dict(given)
        if "type" not in given and "queue" not in given:
            whole["type"] = had.type
        if "payload" not in given:
            whole["payload"] = orjson.loads(had.payload)
        job = _read(self._parts, whole)
        if isinstance(job, list):
            return job
        options = {name: getattr(job.options, name) for field, name in _OPTIONS.items() if field in given}
        kept = {name: getattr(had, name) for field, name in _FIELDS.items() if field not in given}
        for field, name in _FIELDS.items():
            if field in given:
                kept.pop(name, None)
        payload = job.payload if "payload" in given else had.payload
        return replace(job, id="", payload=payload, options=replace(had.options, **options), **kept)


def read_preview(preview: Preview) -> Schedule:
    """Raises Problem."""
    faults = conflicts(preview.model_dump())
    if faults:
        raise refusal(faults, "invalid-body")
    return schedule_of(preview)


def _definition(name: str, when: Recurrence, job: NewJob) -> Definition:
    return Definition(
        name=name,
        schedule=schedule_of(when),
        job=replace(job, id=""),
        missed=when.missed or "once",
        overlap=when.overlap or "allow",
    )


def _derived_name(definition: Definition) -> str:
    """The same for the same request, so that who sends it again does not have it twice."""
    content = definition.content() + b"\n" + definition.job.payload
    return f"{definition.job.type[:80]}-{hashlib.sha256(content).hexdigest()[:12]}"


def _object(document: Any) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise Problem("invalid-body", faults=[{"pointer": "", "code": "model-type", "detail": "must be a JSON object"}])
    return cast("dict[str, Any]", document)


def _validate(model: type[Model], given: dict[str, Any], known: type[BaseModel]) -> tuple[Model | None, list[Fault]]:
    try:
        return model.model_validate(given), []
    except ValidationError as error:
        return None, faults_of(error, known)


async def _read_job(parts: Parts, document: dict[str, Any]) -> NewJob | list[Fault]:
    if parts.catalogue.lacks(document):
        await parts.catalogue.ask()
    return _read(parts, document)


def _read(parts: Parts, document: dict[str, Any]) -> NewJob | list[Fault]:
    return read_submission(
        document,
        parts.registry,
        parts.settings.worker.max_retries,
        published=parts.catalogue.published,
        allow=parts.settings.webhook.allow,
    )
