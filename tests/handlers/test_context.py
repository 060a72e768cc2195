"""What a handler is told, and how it speaks back."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import BaseModel

from gopher_node.errors import JobCancelled
from gopher_node.handlers import InvalidPayload, JobContext, Registry
from gopher_node.job import Priority
from gopher_node.settings import Settings


class Order(BaseModel):
    id: int
    at: datetime | None = None


@pytest.fixture
def ctx(tmp_path: Path) -> JobContext:
    registry = Registry()

    @registry.handler("known", priority="urgent", max_retries=9)
    def known(id: int) -> None: ...

    settings = Settings(data_dir=tmp_path, worker={"max_retries": 7})
    return JobContext(job_id="job-1", type="it", settings=settings, attempt=2, token="s3cret", registry=registry)


def test_key_is_the_same_in_every_attempt(ctx: JobContext) -> None:
    """The job's id is what others may recognise a repeated run by."""
    assert (ctx.job_id, ctx.attempt, ctx.idempotency_key) == ("job-1", 2, "job-1")


def test_token_is_not_shown(ctx: JobContext) -> None:
    """A context that lands in a log gives nobody the right to settle its job."""
    assert "s3cret" not in repr(ctx)
    assert "s3cret" not in str(ctx)


def test_logger_says_which_job(ctx: JobContext) -> None:
    """Each of its lines carries the job, the type and the attempt."""
    from structlog.testing import capture_logs

    with capture_logs() as lines:
        ctx.logger.info("it happened", size=3)

    assert [{key: line[key] for key in ("job_id", "job_type", "attempt", "size")} for line in lines] == [
        {"job_id": "job-1", "job_type": "it", "attempt": 2, "size": 3}
    ]


def test_cancel_is_seen_by_a_thread(ctx: JobContext) -> None:
    """A flag, for nobody can interrupt a thread."""
    seen: list[type[BaseException]] = []

    def work() -> None:
        try:
            ctx.raise_if_cancelled()
        except JobCancelled as error:
            seen.append(type(error))

    ctx.raise_if_cancelled()
    ctx.request_cancel()
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()

    assert ctx.cancel_requested
    assert [JobCancelled] == seen


def test_progress_is_json_within_bounds(ctx: JobContext) -> None:
    """Fractions are kept between 0 and 1; what no client could use is an error."""
    told: list[Any] = []
    ctx = JobContext(
        job_id="j", type="t", settings=ctx.settings, on_progress=lambda value: told.append(orjson.loads(value))
    )

    ctx.progress(0.5, "half", rows=10)
    ctx.progress(1.0000001)
    ctx.progress(message="nearly")
    with pytest.raises(ValueError, match="from 0 to 1"):
        ctx.progress(float("nan"))
    with pytest.raises(ValueError, match="the most is 4096"):
        ctx.progress(0.1, "x" * 5000)

    assert told == [{"fraction": 0.5, "message": "half", "rows": 10}, {"fraction": 1.0}, {"message": "nearly"}]


def test_progress_without_a_listener_is_harmless(ctx: JobContext) -> None:
    """Handlers can be called in tests with a bare context."""
    ctx.progress(0.3)


def test_follow_ups_wait_for_the_completion(ctx: JobContext) -> None:
    """They are collected with all their options, in units of the store."""
    due = datetime(2030, 1, 1, tzinfo=timezone(timedelta(hours=2)))

    first = ctx.enqueue("mail", Order(id=1, at=due), priority="high", group="acme", delay="1m30s", tags=["a", "b"])
    second = ctx.enqueue("mail", {"a": 1}, execute_at=due, max_retries=0, timeout=2.5)
    third = ctx.enqueue("mail")

    assert [first, second, third] == [job.id for job in ctx.follow_ups]
    one, two, three = ctx.follow_ups
    assert orjson.loads(one.payload) == {"id": 1, "at": "2030-01-01T00:00:00+02:00"}
    assert (one.priority, one.group, one.delay_ms, one.tags, one.max_retries) == (
        Priority.HIGH,
        "acme",
        90_000,
        ("a", "b"),
        7,
    )
    assert (b'{"a":1}', int(due.timestamp() * 1000), 0, 2500) == (
        two.payload,
        two.due_ms,
        two.max_retries,
        two.timeout_ms,
    )
    assert (three.payload, three.priority, three.due_ms, three.delay_ms) == (b"{}", Priority.NORMAL, None, None)


def test_follow_up_takes_its_handlers_defaults(ctx: JobContext) -> None:
    """As if it had been submitted; what is given wins."""
    ctx.enqueue("known", {"id": 1})
    ctx.enqueue("known", {"id": 1}, priority="low", max_retries=0)

    assert [(job.priority, job.max_retries) for job in ctx.follow_ups] == [(Priority.URGENT, 9), (Priority.LOW, 0)]


def test_follow_up_is_checked_by_its_handler(ctx: JobContext) -> None:
    """A payload that would fail later fails here, where the mistake is."""
    with pytest.raises(InvalidPayload, match="job type known: /id"):
        ctx.enqueue("known", {"id": "one"})

    assert ctx.follow_ups == []


@pytest.mark.parametrize(
    ("type", "options", "advice"),
    [
        ("a b", {}, "is no job type"),
        ("ok", {"group": "a b"}, "is no group"),
        ("ok", {"tags": ["a b"]}, "is no tag"),
        ("ok", {"priority": "vital"}, "must be low"),
        ("ok", {"delay": "soon"}, "must be a number of seconds"),
        ("ok", {"delay": 1, "execute_at": datetime(2030, 1, 1, tzinfo=UTC)}, "not both"),
        ("ok", {"execute_at": datetime(2030, 1, 1)}, "time zone"),  # noqa: DTZ001
        ("ok", {"max_retries": -1}, "from 0 to 1000"),
        ("ok", {"payload": object()}, "cannot be written as JSON"),
    ],
)
def test_bad_follow_up_is_refused(ctx: JobContext, type: str, options: dict[str, Any], advice: str) -> None:
    """The handler's author learns it at the line that is wrong."""
    with pytest.raises(ValueError, match=advice):
        ctx.enqueue(type, **options)

    assert ctx.follow_ups == []


def test_follow_ups_are_bounded(ctx: JobContext) -> None:
    """A completion carries at most a hundred jobs and one MiB of payloads."""
    for _ in range(100):
        ctx.enqueue("many")
    with pytest.raises(ValueError, match="100 others"):
        ctx.enqueue("many")

    heavy = JobContext(job_id="j", type="t", settings=ctx.settings)
    heavy.enqueue("big", "x" * 1_000_000)
    with pytest.raises(ValueError, match="1 MiB"):
        heavy.enqueue("big", "x" * 100_000)


def test_a_job_can_be_made_to_wait_for_others(ctx: JobContext) -> None:
    """By the ids that enqueue returns. What could never be meant is an error, as is no workflow."""
    first = ctx.enqueue("known", {"id": 1}, name="first")
    ctx.enqueue("known", {"id": 2}, depends_on=[first], on_parent_failure="run")

    assert [(job.options.name, job.options.depends_on) for job in ctx.follow_ups] == [("first", ()), ("", (first,))]
    assert ctx.follow_ups[1].options.on_parent_failure == "run"
    for wrong in ({"depends_on": ["first"]}, {"depends_on": first}, {"name": first}, {"workflow": True}):
        with pytest.raises(ValueError, match=r"depends_on|name|workflow"):
            ctx.enqueue("other", **wrong)  # pyright: ignore[reportArgumentType]
    assert len(ctx.follow_ups) == 2
