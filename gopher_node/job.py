"""What a job is: its states, priorities, attempts and retry delay. Pure data; nothing here does I/O."""

from __future__ import annotations

import random
import re
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from enum import IntEnum, StrEnum
from functools import partial
from typing import Any, Literal, Self, get_args

import orjson

# Names become parts of store keys. No colon, for it separates those parts; no brace, for it would move a key's slot.
TYPE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}\Z")
GROUP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@:/+-]{0,199}\Z")
TAG_NAME = GROUP_NAME
JOB_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")

MAX_NAME_BYTES = 200
MAX_ERROR_BYTES = 4 * 1024
MAX_TRACEBACK_BYTES = 16 * 1024
MAX_FACTOR = 100


class State(StrEnum):
    """Where a job is in its life."""

    SCHEDULED = "scheduled"
    ENQUEUED = "enqueued"
    BLOCKED = "blocked"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return self in FINAL_STATES


FINAL_STATES = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED})


class Priority(IntEnum):
    """A level inside a queue. Users may write the name or the number."""

    LOW = 1
    NORMAL = 2
    HIGH = 3
    URGENT = 4

    @property
    def label(self) -> str:
        return self.name.lower()

    @classmethod
    def parse(cls, value: object) -> Self:
        """Accept a name ("high"), a number (3), or its text ("3"). Raises ValueError for anything else."""
        text = str(value).strip().lower() if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
        for level in cls:
            if text in (level.label, str(level.value)):
                return level
        raise ValueError("must be low, normal, high or urgent, or their numbers 1 to 4")


# How the levels share a worker's claims while all of them have jobs waiting.
DEFAULT_WEIGHTS = {Priority.URGENT: 8, Priority.HIGH: 4, Priority.NORMAL: 2, Priority.LOW: 1}


Strategy = Literal["exponential", "fixed", "linear", "list"]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """
    How long a failed job waits before its next run, and after which errors there is one.

    Before the n-th retry it waits, in seconds and `cap` at most:
    "exponential": `base * factor ** (n - 1)`; "fixed": `base`; "linear": `base * n`; "list": the n-th of `delays`, and
    after the last one that again. With `jitter` it is a random time between 0 and that; unless it is said, only the
    exponential policy has jitter. It spreads jobs that failed together (M. Brooker, "Exponential Backoff And Jitter",
    2015).

    `only` and `never` name exception classes, with or without their module, and mean those that derive from them too;
    or codes of errors, such as "timeout". An error that is not among `only`, or is among `never`, is final. A class may
    stand for its name.
    """

    base: float = 2.0
    cap: float = 600.0
    strategy: Strategy = "exponential"
    factor: float = 2.0
    delays: Sequence[float] = ()
    jitter: bool | None = None
    only: Sequence[str | type[BaseException]] = ()
    never: Sequence[str | type[BaseException]] = ()

    def __post_init__(self) -> None:
        change = partial(object.__setattr__, self)
        change("delays", tuple(self.delays))
        change("only", _class_names(self.only))
        change("never", _class_names(self.never))
        if self.strategy not in get_args(Strategy):
            raise ValueError(f"strategy must be one of {', '.join(get_args(Strategy))}, not {self.strategy!r}")
        if (self.strategy == "list") != bool(self.delays):
            raise ValueError("delays and the strategy list belong together")
        if min(self.base, self.cap, *self.delays) < 0:
            raise ValueError("a retry policy has no negative times")
        if not 1 <= self.factor <= MAX_FACTOR:
            raise ValueError(f"factor must be from 1 to {MAX_FACTOR}, not {self.factor}")

    def delay(self, errors: int, rng: random.Random | None = None) -> float:
        """Seconds to wait after the `errors`-th error, counted from 1."""
        number = max(errors, 1)
        match self.strategy:
            case "fixed":
                wait = self.base
            case "linear":
                wait = self.base * number
            case "list":
                wait = self.delays[min(number, len(self.delays)) - 1]
            case _:
                # The exponent is bounded, for 2 ** 5000 is no float.
                wait = self.base * self.factor ** min(number - 1, 64)
        ceiling = min(self.cap, wait)
        return (rng or random).uniform(0.0, ceiling) if self.jitters else ceiling

    @property
    def jitters(self) -> bool:
        return self.strategy == "exponential" if self.jitter is None else self.jitter

    def retries(self, names: Iterable[str]) -> bool:
        """Whether there is another run after an error that has these names."""
        if not (self.only or self.never):
            return True
        known = set(names)
        return known.isdisjoint(self.never) and (not self.only or not known.isdisjoint(self.only))


def _class_names(given: Sequence[str | type[BaseException]]) -> tuple[str, ...]:
    if isinstance(given, (str, type)):
        raise ValueError("only and never are lists of names")
    return tuple(_name_of(one) if isinstance(one, type) else one for one in given)


def _name_of(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def names_of_class(kind: type) -> set[str]:
    """By what a retry policy may know an error of this class."""
    return {
        name
        for one in kind.__mro__
        for name in (one.__name__, one.__qualname__, f"{one.__module__}.{one.__qualname__}")
    }


@dataclass(frozen=True, slots=True)
class JobError:
    """
    Why a run did not complete. `code` is for programs, `message` for people.

    Whatever a handler put there becomes text that can be stored, cut to what the store keeps: 200 bytes of code and
    kind, 4 KiB of message and 16 KiB of traceback (its end, which says most).
    """

    code: str
    message: str
    kind: str = ""
    traceback: str = ""

    def __post_init__(self) -> None:
        change = partial(object.__setattr__, self)
        change("code", cut(self.code, MAX_NAME_BYTES))
        change("message", cut(self.message, MAX_ERROR_BYTES))
        change("kind", cut(self.kind, MAX_NAME_BYTES))
        change("traceback", cut(self.traceback, MAX_TRACEBACK_BYTES, keep_end=True))

    def encode(self) -> bytes:
        """As JSON."""
        content = {"code": self.code, "message": self.message}
        if self.kind:
            content["type"] = self.kind
        if self.traceback:
            content["traceback"] = self.traceback
        return orjson.dumps(content)


def cut(value: object, limit: int, *, keep_end: bool = False) -> str:
    # A lone surrogate cannot be stored; it can only come from text that was never valid.
    encoded = (value if isinstance(value, str) else str(value)).encode("utf-8", "replace")
    if len(encoded) > limit:
        encoded = encoded[-limit:] if keep_end else encoded[:limit]
    return encoded.decode("utf-8", "ignore")


def new_job_id() -> str:
    return str(uuid.uuid4())


@dataclass(frozen=True, slots=True, kw_only=True)
class Unique:
    """
    A name that at most one job bears at a time: until that is `started` or `finished`, or for `period_ms` from its
    submission on. A twin is answered with the job that bears it, replaces what that is to do, or is rejected.
    """

    key: str
    until: Literal["started", "finished", "time"] = "finished"
    period_ms: int | None = None
    duplicates: Literal["existing", "replace", "reject"] = "existing"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobOptions:
    """
    What few jobs have: it is kept together, so that all others pay one look for it.

    `depends_on` are ids of jobs that have to end first; `on_parent_failure` says what happens if one of them does not
    complete. `workflow` is the id of the workflow that the job belongs to, and `name` what it is called in there. A job
    that has not started `expires_ms` (epoch ms), or `ttl_ms` after its submission, never does. `retry` overrides its
    handler's policy. `recurring` is the name of the recurring job that brought it. `trace` is the span that sent it, if
    there is one: its traceparent, and behind a space its tracestate, as W3C Trace Context has them.
    """

    unique: Unique | None = None
    depends_on: tuple[str, ...] = ()
    on_parent_failure: Literal["skip", "fail", "run"] = "skip"
    workflow: str = ""
    name: str = ""
    expires_ms: int | None = None
    ttl_ms: int | None = None
    retry: RetryPolicy | None = None
    recurring: str = ""
    trace: str = ""

    def encode(self) -> bytes:
        """As JSON without what is not set; empty if nothing is."""
        if self is NO_OPTIONS or self == NO_OPTIONS:
            return b""
        given = asdict(self)
        return orjson.dumps({name: given[name] for name in given if getattr(self, name) != getattr(NO_OPTIONS, name)})

    @classmethod
    def decode(cls, text: bytes) -> Self:
        """From such JSON. What a newer version wrote and this one does not know is left out."""
        given: dict[str, Any] = orjson.loads(text)
        known: dict[str, Any] = _known(cls, given)
        if known.get("unique"):
            known["unique"] = Unique(**_known(Unique, known["unique"]))
        if known.get("retry"):
            known["retry"] = RetryPolicy(**_known(RetryPolicy, known["retry"]))
        if "depends_on" in known:
            known["depends_on"] = tuple(known["depends_on"])
        return cls(**known)


def trace_headers(trace: str) -> dict[str, str]:
    """A job's `options.trace` as the headers traceparent and tracestate; nothing of a job that is not traced."""
    parent, _, state = trace.partition(" ")
    headers = {"traceparent": parent, "tracestate": state}
    return {name: value for name, value in headers.items() if value}


def _known(kind: type[Any], given: dict[str, Any]) -> dict[str, Any]:
    return {name: given[name] for name in kind.__dataclass_fields__ if name in given}


NO_OPTIONS = JobOptions()

SUSPECT = 2
"""A job that was present at so many crashes is suspected of causing them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """
    A job that is to be stored.

    `payload` is JSON. At most one of `due_ms` (epoch milliseconds) and `delay_ms` is set; both unset means now.
    `timeout_ms` unset means that the handler's or the node's default holds. `callback_url` is told of the job's end, by
    a job of its own. `client_id` says that the client chose the id: a job that has it already is then an error, while
    otherwise it is taken for this one, which was told before.
    """

    type: str
    payload: bytes = b"{}"
    id: str = field(default_factory=new_job_id)
    priority: Priority = Priority.NORMAL
    group: str = ""
    due_ms: int | None = None
    delay_ms: int | None = None
    timeout_ms: int | None = None
    max_retries: int = 3
    max_crashes: int = 3
    retention_ms: int | None = None
    tags: tuple[str, ...] = ()
    callback_url: str = ""
    client_id: bool = False
    options: JobOptions = NO_OPTIONS


@dataclass(slots=True, kw_only=True)
class Job:
    """
    A job as the store holds it. Times are epoch milliseconds; `payload`, `result` and `progress` are JSON.

    `attempt` counts claims. `errors` and `crashes` are what the two budgets, `max_retries` and `max_crashes`, are
    compared with. `attempts` has one entry for each finished attempt, of which the last twenty are kept. `ended_by` is
    the error of a job that ended without a run: its deadline came, or a job that it waited for did not complete.
    """

    id: str
    type: str
    state: State
    payload: bytes
    priority: Priority
    created_ms: int
    group: str = ""
    attempt: int = 0
    errors: int = 0
    crashes: int = 0
    max_retries: int = 3
    max_crashes: int = 3
    timeout_ms: int | None = None
    due_ms: int | None = None
    started_ms: int | None = None
    finished_ms: int | None = None
    retention_ms: int | None = None
    result: bytes | None = None
    progress: bytes | None = None
    node: str | None = None
    cancel_requested: bool = False
    tags: tuple[str, ...] = ()
    callback_url: str = ""
    options: JobOptions = NO_OPTIONS
    ended_by: dict[str, Any] | None = None
    attempts: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    @property
    def is_suspect(self) -> bool:
        """Whether it was present at so many crashes that it runs in a process of its own, alone."""
        return self.crashes >= SUSPECT

    @property
    def expires_ms(self) -> int | None:
        """When its right to start ends, if it does."""
        if self.options.expires_ms is None and self.options.ttl_ms is not None:
            return self.created_ms + self.options.ttl_ms
        return self.options.expires_ms

    @property
    def error(self) -> dict[str, Any] | None:
        """Why the job is not completed: what ended it without a run, or the error of its last attempt, if any."""
        if self.ended_by is not None:
            return self.ended_by
        if self.state is State.COMPLETED or not self.attempts:
            return None
        return self.attempts[-1].get("error")


_TOKEN = re.compile(r"([A-Za-z0-9._:@/+-]{1,200})\.([1-9][0-9]{0,14})\.([0-9a-f]{16})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Token:
    """What a holder shows to settle a run: the job's id, its attempt and the nonce of its claim. Never logged."""

    job_id: str
    attempt: int
    nonce: str = field(repr=False)

    def __str__(self) -> str:
        return f"{self.job_id}.{self.attempt}.{self.nonce}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The token that is written so. Raises ValueError for what is none."""
        found = _TOKEN.fullmatch(text)
        if not found:
            raise ValueError("This is not a lease's token.")
        return cls(found[1], int(found[2]), found[3])


@dataclass(frozen=True, slots=True)
class Lease:
    """
    A job that was claimed, and with it the right to finish it. Whoever shows the token may settle it.

    `expires_ms` is when an HTTP lease ends unless a heartbeat renews it; a node's own lives as long as its session.
    """

    job: Job
    nonce: str = field(repr=False)
    expires_ms: int | None = None

    @property
    def token(self) -> Token:
        return Token(self.job.id, self.job.attempt, self.nonce)
