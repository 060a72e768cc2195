"""Recurring jobs: what they are, when they fire next, and how one of many nodes fires each time."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import orjson

from gopher_node.errors import RecurringChanged, RecurringExists, RecurringNotFound
from gopher_node.job import NO_OPTIONS, JobOptions, NewJob, Priority
from gopher_node.schedules import Missed, Overlap, Schedule, Step, fire_id
from gopher_node.store import replies
from gopher_node.store.scripts import Run

MAX_DUE = 20  # definitions that are told at a time: each may have a large payload
TRIES = 10  # how often a change is made again that met another one

Fired = Literal["fired", "overlapped", "missed", "triggered", "gone", "changed", "late", "early"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """
    What a recurring job is. Each fire is a job like `job`, with an id that follows from the name and the time.

    `missed` says what becomes of fires when nobody was there, `overlap` whether one fires whose last job has not ended.
    """

    name: str
    schedule: Schedule
    job: NewJob
    missed: Missed = "once"
    overlap: Overlap = "allow"

    def content(self) -> bytes:
        """As JSON, without the payload and what is not set by whoever wrote it."""
        job, schedule = self.job, self.schedule
        written: dict[str, Any] = {
            "cron": schedule.cron,
            "every": schedule.every_ms,
            "timezone": schedule.timezone,
            "missed": self.missed,
            "overlap": self.overlap,
            "type": job.type,
            "priority": job.priority.value,
            "group": job.group,
            "timeout": job.timeout_ms,
            "max_retries": job.max_retries,
            "max_crashes": job.max_crashes,
            "retention": job.retention_ms,
            "tags": job.tags,
            "callback": job.callback_url,
            "options": job.options.encode().decode(),
        }
        return orjson.dumps(written, option=orjson.OPT_SORT_KEYS)

    def job_at(self, fire_ms: int, trace: str = "") -> NewJob:
        """The job of a fire."""
        return replace(self._job(trace), id=fire_id(self.name, fire_ms), due_ms=fire_ms)

    def job_now(self, trace: str = "") -> NewJob:
        """A job for somebody who triggers it."""
        return replace(self._job(trace), id=str(uuid.uuid4()))

    def _job(self, trace: str) -> NewJob:
        options = replace(self.job.options, recurring=self.name, trace=trace)
        return replace(self.job, options=options, client_id=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recurring:
    """
    A recurring job as the store holds it. Times are epoch milliseconds; `seen_ms` is when it was read.

    `next_ms` is its next fire; None while it is paused, or if it never fires again. `last_ms` is the last time for
    which it fired, with that job's id. `skipped_ms` is the last time for which it did not, and `why` the reason. The
    numbers say how often it fired, was missed, did not fire as its last job had not ended, and was triggered by hand.
    """

    definition: Definition
    revision: str
    paused: bool
    created_ms: int
    updated_ms: int
    seen_ms: int
    next_ms: int | None = None
    last_ms: int | None = None
    last_job: str | None = None
    skipped_ms: int | None = None
    why: str | None = None
    fired: int = 0
    missed: int = 0
    overlapped: int = 0
    triggered: int = 0

    @property
    def name(self) -> str:
        return self.definition.name


class Recurrences:
    """
    The recurring jobs of the namespace.

    Each change gives a definition a new revision, and whoever changes or fires it shows the one that it knows: so what
    meets another change is made again, or not at all.
    """

    def __init__(self, run: Run, stored: Callable[[float], None]) -> None:
        """`stored` is told in how many seconds one fires that was stored or changed here."""
        self._run = run
        self._stored = stored

    async def create(
        self, definition: Definition, *, ahead: bool = False, trace: str = "", now: int | None = None
    ) -> tuple[Recurring, bool]:
        """
        Store a new recurring job; returns it, and whether it is new: what was told before is answered as it is now.

        With `ahead` the job of its first fire is stored in the same step, to be seen from then on; it is sent in
        `trace`. An interval counts from now. Raises RecurringExists if another has the name.
        """
        seen_ms = (await self._read("one", definition.name, now=now))[0]
        schedule = replace(definition.schedule, anchor_ms=seen_ms)
        first_ms = schedule.next_after(seen_ms)
        words: tuple[Any, ...] = ("",)
        next_ms = first_ms
        if ahead and first_ms is not None:
            next_ms = schedule.next_after(first_ms)
            words = replies.new_job_fields(_ahead(definition, first_ms, trace))
        revision = uuid.uuid4().hex
        word, found = await self._put(
            replace(definition, schedule=schedule), "", revision, False, next_ms, False, words, now
        )
        if word == "exists" or found is None:
            raise RecurringExists
        self._tell(first_ms, seen_ms)
        return found, word == "stored"

    async def edit(self, name: str, change: Callable[[Definition], Definition], *, now: int | None = None) -> Recurring:
        """Change a recurring job. Its next fire stays unless its schedule changes. Raises RecurringNotFound."""
        return await self._change(name, change, None, now)

    async def pause(self, name: str, *, now: int | None = None) -> Recurring:
        """It does not fire until it is resumed. Raises RecurringNotFound."""
        return await self._change(name, lambda same: same, True, now)

    async def resume(self, name: str, *, now: int | None = None) -> Recurring:
        """It fires again, at the next time that comes: what was missed is not made up for. Raises RecurringNotFound."""
        return await self._change(name, lambda same: same, False, now)

    async def _change(
        self, name: str, change: Callable[[Definition], Definition], pause: bool | None, now: int | None
    ) -> Recurring:
        for _ in range(TRIES):
            had = await self.get(name, now=now)
            definition = change(had.definition)
            paused = had.paused if pause is None else pause
            if definition == had.definition and paused == had.paused:
                return had
            keep = definition.schedule == had.definition.schedule and had.next_ms is not None
            if definition.schedule != had.definition.schedule:
                definition = replace(definition, schedule=replace(definition.schedule, anchor_ms=had.seen_ms))
            next_ms = None if paused else definition.schedule.next_after(had.seen_ms)
            revision = uuid.uuid4().hex
            keep = keep and not paused
            word, found = await self._put(definition, had.revision, revision, paused, next_ms, keep, ("",), now)
            if word == "stored" and found is not None:
                self._tell(found.next_ms, had.seen_ms)
                return found
        raise RecurringChanged

    async def _put(
        self,
        definition: Definition,
        expected: str,
        revision: str,
        paused: bool,
        next_ms: int | None,
        keep: bool,
        job: Sequence[Any],
        now: int | None,
    ) -> tuple[str, Recurring | None]:
        word, seen_ms, fields = await self._run(
            "recurring_put",
            definition.name,
            expected,
            revision,
            definition.content(),
            definition.job.payload,
            definition.missed,
            definition.overlap,
            "1" if paused else "",
            definition.schedule.anchor_ms,
            "" if next_ms is None else next_ms,
            "1" if keep else "",
            *job,
            now=now,
        )
        return word.decode(), _decode(definition.name, fields, seen_ms) if fields else None

    def _tell(self, next_ms: int | None, seen_ms: int) -> None:
        if next_ms is not None:
            self._stored(max(0, next_ms - seen_ms) / 1000)

    async def get(self, name: str, *, now: int | None = None) -> Recurring:
        """Raises RecurringNotFound."""
        _, found = await self._read("one", name, now=now)
        if not found:
            raise RecurringNotFound
        return found[0]

    async def all(self, limit: int = 200, after: str = "", *, now: int | None = None) -> list[Recurring]:
        """Up to `limit` of them in the order of their names, from the one after this name on."""
        return (await self._read("page", after, limit, now=now))[1]

    async def due(self, limit: int = MAX_DUE, *, now: int | None = None) -> list[Recurring]:
        """Those that are to fire, the longest due first."""
        return (await self._read("due", limit, now=now))[1]

    async def fire(self, found: Recurring, step: Step, *, trace: str = "", now: int | None = None) -> Fired:
        """
        Take one step of a recurring job that is due, as it was found: of all nodes that do, one does.

        For those that came late it is `late`, and `changed` or `gone` if the definition is no longer what it was.
        """
        definition = found.definition
        job = definition.job_at(step.due_ms if step.fire_ms is None else step.fire_ms, trace)
        outcome, _ = await self._fire(found, step, job, now)
        return outcome

    async def trigger(self, name: str, *, trace: str = "", now: int | None = None) -> str:
        """Store a job like those that it fires, now, and paused or not. Returns its id. Raises RecurringNotFound."""
        for _ in range(TRIES):
            found = await self.get(name, now=now)
            job = found.definition.job_now(trace)
            outcome, id = await self._fire(found, None, job, now)
            if outcome == "triggered" and id is not None:
                return id
        raise RecurringChanged

    async def _fire(
        self, found: Recurring, step: Step | None, job: NewJob, now: int | None
    ) -> tuple[Fired, str | None]:
        at: tuple[Any, ...] = ("", "", "", 0)
        if step is not None:
            due, fire, then = ("" if ms is None else ms for ms in (step.due_ms, step.fire_ms, step.next_ms))
            at = (due, fire, then, step.missed)
        outcome, *rest = await self._run(
            "recurring_fire", uuid.uuid4().hex, found.name, found.revision, *at, *replies.new_job_fields(job), now=now
        )
        return outcome.decode(), rest[0].decode() if rest and rest[0] else None

    async def delete(self, name: str, *, now: int | None = None) -> None:
        """Forget a recurring job; what it has brought stays. Raises RecurringNotFound."""
        if not await self._run("recurring_delete", uuid.uuid4().hex, name, now=now):
            raise RecurringNotFound

    async def _read(self, *words: Any, now: int | None) -> tuple[int, list[Recurring]]:
        seen_ms, *found = await self._run("recurring_read", *words, now=now)
        return seen_ms, [_decode(name.decode(), fields, seen_ms) for name, fields in found if fields]


def _ahead(definition: Definition, first_ms: int, trace: str) -> NewJob:
    """The job of the first fire, stored before that: its time to live begins with the fire and not at once."""
    job = definition.job_at(first_ms, trace)
    if job.options.ttl_ms is None:
        return job
    options = replace(job.options, ttl_ms=None, expires_ms=first_ms + job.options.ttl_ms)
    return replace(job, options=options)


def _decode(name: str, flat: list[bytes], seen_ms: int) -> Recurring:
    """A recurring job from its hash."""
    fields = dict(zip(flat[::2], flat[1::2], strict=True))

    def time(field: bytes) -> int | None:
        return int(fields[field]) if field in fields else None

    def text(field: bytes) -> str | None:
        return fields[field].decode() if field in fields else None

    next_ms, last_ms, last_job = time(b"next"), time(b"last"), text(b"job")
    fired = int(fields.get(b"fired", 0))
    ahead_ms = time(b"ahead")
    if ahead_ms is not None and ahead_ms > seen_ms:
        # Its job is stored already, and yet it has not fired.
        next_ms, last_ms, last_job, fired = ahead_ms, None, None, fired - 1
    return Recurring(
        definition=_decode_definition(name, fields),
        revision=fields[b"revision"].decode(),
        paused=b"paused" in fields,
        created_ms=int(fields[b"created"]),
        updated_ms=int(fields[b"updated"]),
        seen_ms=seen_ms,
        next_ms=next_ms,
        last_ms=last_ms,
        last_job=last_job,
        skipped_ms=time(b"skipped"),
        why=text(b"why"),
        fired=fired,
        missed=int(fields.get(b"missed-fires", 0)),
        overlapped=int(fields.get(b"overlapped", 0)),
        triggered=int(fields.get(b"triggered", 0)),
    )


def _decode_definition(name: str, fields: dict[bytes, bytes]) -> Definition:
    content: dict[str, Any] = orjson.loads(fields[b"content"])
    options: str = content["options"]
    job = NewJob(
        id="",
        type=content["type"],
        payload=fields[b"payload"],
        priority=Priority(content["priority"]),
        group=content["group"],
        timeout_ms=content["timeout"],
        max_retries=content["max_retries"],
        max_crashes=content["max_crashes"],
        retention_ms=content["retention"],
        tags=tuple(content["tags"]),
        callback_url=content["callback"],
        options=JobOptions.decode(options.encode()) if options else NO_OPTIONS,
    )
    schedule = Schedule(
        cron=content["cron"],
        every_ms=content["every"],
        timezone=content["timezone"],
        anchor_ms=int(fields[b"anchor"]),
    )
    return Definition(name=name, schedule=schedule, job=job, missed=content["missed"], overlap=content["overlap"])
