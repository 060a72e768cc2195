"""The scripts' answers as jobs. Each function is the mirror of one script's last lines."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

import orjson

from gopher_node.job import NO_OPTIONS, Job, JobOptions, Lease, NewJob, Priority, State, Token
from gopher_node.store.values import Overdue, Pulse, Stats, Submitted, Survey

# As a script writes a score. What float() accepts beyond that, such as nan, would make the list's script fail.
_SCORE = re.compile(r"-?[0-9]+(\.[0-9]+)?(e\+?[0-9]+)?")


def new_job_fields(job: NewJob) -> tuple[Any, ...]:
    """The fourteen fields of a new job, in the order of `store_job` in storing.lua."""
    return (
        job.id,
        job.type,
        job.priority.value,
        job.group,
        job.payload,
        "" if job.due_ms is None else job.due_ms,
        "" if job.delay_ms is None else job.delay_ms,
        "" if job.timeout_ms is None else job.timeout_ms,
        job.max_retries,
        job.max_crashes,
        "" if job.retention_ms is None else job.retention_ms,
        " ".join(job.tags),
        job.callback_url,
        job.options.encode(),
    )


def token_words(lease: Lease | Token) -> tuple[str, int, str]:
    """How a script is shown a token."""
    token = lease.token if isinstance(lease, Lease) else lease
    return token.job_id, token.attempt, token.nonce


def settlement_size(settlement: tuple[Any, ...]) -> int:
    """About how many bytes a settlement, as settle.lua takes it, sends."""
    return sum(len(field) if isinstance(field, bytes) else 50 for field in settlement)


def settlement_weight(settlement: tuple[Any, ...]) -> int:
    """How many jobs a settlement writes: its own and its follow-ups."""
    return 1 + int(settlement[6])


def submitted(id: str, answer: list[Any], *, replayed: bool = False) -> Submitted:
    state, created, created_ms, due_ms, *other = answer
    twin = other[0].decode() if other else None
    known = State(state.decode())
    return Submitted(twin or id, known, bool(created), created_ms, due_ms, replayed, twin=twin is not None)


def lease(answer: list[Any]) -> Lease:
    """A claimed job, from `describe` in claim.lua; of an HTTP lease, with the times of its end and its beginning."""
    expires_ms, started_ms = answer[16:18] if len(answer) > 17 else (None, None)
    (
        id,
        attempt,
        nonce,
        type,
        priority,
        created,
        group,
        payload,
        errors,
        crashes,
        max_retries,
        max_crashes,
        timeout,
        due,
        tags,
        options,
    ) = answer[:16]
    job = Job(
        id=id.decode(),
        type=type.decode(),
        state=State.PROCESSING,
        payload=payload,
        priority=Priority(int(priority)),
        created_ms=int(created),
        group=group.decode() if group else "",
        attempt=attempt,
        errors=int(errors or 0),
        crashes=int(crashes or 0),
        max_retries=int(max_retries),
        max_crashes=int(max_crashes),
        timeout_ms=int(timeout) if timeout else None,
        due_ms=int(due) if due else None,
        started_ms=started_ms,
        tags=tuple(tags.decode().split()) if tags else (),
        options=JobOptions.decode(options) if options else NO_OPTIONS,
    )
    return Lease(job, nonce.decode(), expires_ms)


def lease_of_job(answer: list[Any]) -> Lease:
    """A job that was claimed by its id, as claim_job.lua tells it."""
    *described, expires_ms = answer
    fields = dict(zip(described[1][::2], described[1][1::2], strict=True))
    return Lease(job(described), fields[b"nonce"].decode(), expires_ms)


def job(answer: list[Any]) -> Job:
    """A job as get.lua tells it: its hash, and what stands beside it."""
    id, flat, payload, result, attempts = answer
    # RESP3 has maps, which redis-py reads as dicts; inside a script's answer an HGETALL is a list all the same.
    fields: dict[bytes, bytes] = dict(zip(flat[::2], flat[1::2], strict=True))

    def text(name: bytes) -> str:
        return fields.get(name, b"").decode()

    def number(name: bytes) -> int:
        return int(fields.get(name, 0))

    def time(name: bytes) -> int | None:
        return int(fields[name]) if name in fields else None

    state = State(text(b"state"))
    return Job(
        id=id.decode(),
        type=text(b"type"),
        state=state,
        payload=payload if payload is not None else fields[b"payload"],
        priority=Priority(number(b"priority")),
        created_ms=number(b"created"),
        group=text(b"group"),
        attempt=number(b"attempt"),
        errors=number(b"errors"),
        crashes=number(b"crashes"),
        max_retries=number(b"max_retries"),
        max_crashes=number(b"max_crashes"),
        timeout_ms=time(b"timeout"),
        due_ms=time(b"due"),
        started_ms=time(b"started"),
        finished_ms=time(b"finished"),
        retention_ms=time(b"retention"),
        result=result if result is not None else fields.get(b"result"),
        progress=fields.get(b"progress"),
        node=text(b"node") or None,
        cancel_requested=b"cancel" in fields,
        tags=tuple(text(b"tags").split()),
        callback_url=text(b"callback"),
        options=JobOptions.decode(fields[b"options"]) if b"options" in fields else NO_OPTIONS,
        ended_by=orjson.loads(fields[b"error"]) if b"error" in fields else None,
        attempts=[orjson.loads(entry) for entry in attempts],
    )


def survey(answer: list[Any]) -> Survey:
    now_ms, flat, overdue = answer
    sessions: dict[str, Pulse] = {}
    for name, record in zip(flat[::2], flat[1::2], strict=True):
        renewals, lease_ms, node = record.split(b":", 2)
        sessions[name.decode()] = Pulse(int(renewals), int(lease_ms) / 1000, node.decode())
    return Survey(now_ms, sessions, [Overdue(id.decode(), nonce.decode(), *times) for id, nonce, *times in overdue])


def stats(answer: list[Any]) -> Stats:
    flat_counts, flat_totals, sessions, pools = answer
    counts: dict[tuple[State, Priority, str], int] = {}
    for name, number in zip(flat_counts[::2], flat_counts[1::2], strict=True):
        if int(number):
            state, priority, type = name.decode().split(":", 2)
            counts[State(state), Priority(int(priority)), type] = int(number)
    totals = {name.decode(): int(number) for name, number in zip(flat_totals[::2], flat_totals[1::2], strict=True)}
    return Stats(counts, totals, sessions, pools)


def encode_cursor(source: bytes, score: bytes, id: bytes) -> str | None:
    """A list's cursor from where its page ended; None after the last page."""
    if not source:
        return None
    return base64.urlsafe_b64encode(b"\n".join((source, score, id))).decode().rstrip("=")


def decode_cursor(cursor: str | None) -> list[str]:
    """Raises ValueError for text that no list has given out."""
    if cursor is None:
        return ["", "", ""]
    try:
        parts = base64.urlsafe_b64decode(cursor.encode() + b"=" * (-len(cursor) % 4)).decode().split("\n")
        if len(parts) != 3 or not _SCORE.fullmatch(parts[1]):
            raise ValueError
    except (ValueError, binascii.Error):
        raise ValueError("The cursor is not one that a list has given out.") from None
    return parts
