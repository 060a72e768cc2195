from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from opentelemetry.trace import use_span
from pydantic import BaseModel, SecretStr

from gopher_node.job import Job, Lease, NewJob, Priority, State
from gopher_node.telemetry import bind_job, configure_logging, get_logger
from gopher_node.telemetry.hiding import hide_in_text
from gopher_node.telemetry.logs import NOISY
from tests.spans import Spans


class Lines(io.StringIO):
    def __call__(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().removesuffix("\n").split("\n") if line]


class Terminal(Lines):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def configure() -> Iterator[Callable[..., Lines]]:
    """Sets logging up as a node does, and puts all back as it was."""
    root = logging.root
    before = (root.handlers[:], root.level)
    levels = {name: logging.getLogger(name).level for name in (*NOISY, "asyncio")}

    def configure(level: str = "info", format: Any = "json", lines: Lines | None = None, **options: Any) -> Lines:
        stream = Lines() if lines is None else lines
        configure_logging(level, format, stream=stream, **options)
        return stream

    yield configure
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers[:], root.level = before
    logging.captureWarnings(False)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def lines(configure: Callable[..., Lines]) -> Lines:
    return configure(node_id="node-1")


def make_job() -> Job:
    return Job(
        id="6f1a",
        type="email",
        state=State.PROCESSING,
        payload=b'"hunter2"',
        priority=Priority.HIGH,
        created_ms=0,
        attempt=2,
    )


# JSON


def test_the_usual_keys_come_first(lines: Lines) -> None:
    """A line is JSON and begins with time, level and message; then come the node, the logger, and what was said."""
    get_logger("gopher_node.worker").info("job.finished", job_id="6f1a", duration=0.5)

    (line,) = lines()
    assert list(line) == ["time", "level", "msg", "node_id", "logger", "job_id", "duration"]
    assert (line["level"], line["msg"], line["node_id"]) == ("info", "job.finished", "node-1")
    assert (line["logger"], line["job_id"], line["duration"]) == ("gopher_node.worker", "6f1a", 0.5)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["time"])


def test_a_value_cannot_replace_a_usual_key(lines: Lines) -> None:
    """What a caller names like one of our own keys stands beside it."""
    get_logger("x").info("real", msg="forged", node_id="forged", logger="forged")

    (line,) = lines()
    assert (line["msg"], line["node_id"], line["logger"]) == ("real", "node-1", "x")
    assert (line["msg_"], line["node_id_"], line["logger_"]) == ("forged", "forged", "forged")


def test_levels_are_filtered(configure: Callable[..., Lines]) -> None:
    """What is less serious than the level is not written, by us or by others."""
    lines = configure("warning")
    for log in (get_logger("ours"), logging.getLogger("theirs")):
        log.debug("no")
        log.info("no")
        log.warning("yes")
        log.error("yes")

    assert [line["msg"] for line in lines()] == ["yes"] * 4


def test_a_filtered_line_costs_nothing(configure: Callable[..., Lines]) -> None:
    """What is filtered is not even rendered."""
    lines = configure()

    class Unprintable:
        def __str__(self) -> str:
            raise AssertionError("rendered")

    get_logger("x").bind().debug("no", value=Unprintable())
    assert lines() == []


def test_traceback_without_local_variables(lines: Lines) -> None:
    """An exception is logged with its traceback, but not with the values of variables."""
    payload = "hunter2"
    try:
        raise LookupError(f"nothing under {len(payload)}")
    except LookupError:
        get_logger("x").exception("went.wrong")

    (line,) = lines()
    assert line["level"] == "error"
    assert "LookupError: nothing under 7" in line["exception"]
    assert "hunter2" not in line["exception"].replace('payload = "hunter2"', "")


# The standard library


def test_libraries_log_in_the_same_form(lines: Lines) -> None:
    """A record of the standard library has the same keys, with what was given as extra."""
    logging.getLogger("aiohttp.server").warning("odd %s", "request", extra={"job_id": "6f1a"})

    (line,) = lines()
    assert (line["level"], line["msg"], line["node_id"]) == ("warning", "odd request", "node-1")
    assert (line["logger"], line["job_id"]) == ("aiohttp.server", "6f1a")


def test_warnings_are_lines(lines: Lines) -> None:
    """A Python warning does not go to standard error in a form of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("careful", stacklevel=1)

    (line,) = lines()
    assert (line["level"], line["logger"]) == ("warning", "py.warnings")
    assert "UserWarning: careful" in line["msg"]


def test_records_that_do_not_fit_their_template(configure: Callable[..., Lines]) -> None:
    """A library's mistake in its own logging is one line, and no traceback on standard error."""
    # Here and not in a fixture, for pytest's own handlers, which raise, are added after that.
    lines = configure()
    logging.getLogger("theirs").info("%d jobs", "hunter2")

    (line,) = lines()
    assert (line["msg"], line["template"], line["error"]) == ("log.unprintable", "%d jobs", "TypeError")


def test_a_line_for_every_request_is_left_out(lines: Lines) -> None:
    """Libraries that log every request, with its URL, are heard from warnings on."""
    logging.getLogger("httpx2").info("HTTP Request: GET https://x/?token=hunter2")
    logging.getLogger("aiohttp.access").info("GET /")
    logging.getLogger("httpx2").warning("odd")

    assert [line["msg"] for line in lines()] == ["odd"]


async def test_lines_of_a_job_name_it(lines: Lines) -> None:
    """Whatever is logged in a job's task, even by a library, carries the job; outside of it nothing does."""

    async def run() -> None:
        bind_job(make_job())
        get_logger("handler").info("inside")
        await asyncio.to_thread(logging.getLogger("library").info, "inside")

    await asyncio.create_task(run())
    get_logger("node").info("outside")

    *inside, outside = lines()
    assert [(line["job_id"], line["job_type"], line["attempt"]) for line in inside] == [("6f1a", "email", 2)] * 2
    assert "job_id" not in outside


# What must not be written


class Letter(BaseModel):
    body: str


@dataclass
class Parcel:
    content: str


@pytest.mark.parametrize("format", ["json", "console"])
def test_payloads_and_secrets_are_not_written(configure: Callable[..., Lines], format: str) -> None:
    """Neither under the names they usually have, nor inside of jobs, leases, models, bytes and secrets."""
    lines = configure(format=format)
    job = make_job()
    things = [
        job,
        NewJob(type="email", payload=b'"hunter2"'),
        Lease(job, "hunter2"),
        Letter(body="hunter2"),
        b"hunter2",
    ]
    things += [
        Parcel("hunter2"),
        SecretStr("hunter2"),
        bytearray(b"hunter2"),
        [b"hunter2"],
        {"a": {"b": Letter(body="hunter2")}},
    ]

    for thing in things:
        get_logger("x").info("a", value=thing)
        logging.getLogger("x").info("a", extra={"value": thing})
    for key in ("payload", "arguments", "token", "password", "secret", "authorization", "api_key", "cookie"):
        get_logger("x").info("a", **{key: "hunter2"})
        logging.getLogger("x").info("a", extra={key: "hunter2"})

    written = lines.getvalue()
    assert "hunter2" not in written
    assert "6f1a" in written
    assert written.count("\n") == 2 * len(things) + 16


KEY = f"gn_{'a' * 12}_{'b' * 64}"
TOKEN = f"0195b1c2-1234-7abc-8def-0123456789ab.2.{'c' * 16}"


class Payload(BaseModel):
    amount: int


def refused() -> Exception:
    try:
        Payload.model_validate({"amount": "hunter2"})
    except ValueError as error:
        return error
    raise AssertionError


@pytest.mark.parametrize("format", ["json", "console"])
@pytest.mark.parametrize(
    ("text", "secret", "left"),
    [
        ("No way to redis://gopher:hunter2@store:6379/0", "hunter2", "***@store:6379/0"),
        ("No way to rediss://:hunter2@store", "hunter2", "rediss://***@store"),
        ("GET https://x.org/a?page=2&access_token=hunter2&b=c", "hunter2", "?page=2&access_token=***&b=c"),
        ("header Authorization: Bearer hunter2hunter2", "hunter2", "Bearer ***"),
        (f"the key {KEY} is old", "b" * 64, f"gn_{'a' * 12}_*** is old"),
        (f"POST /api/v1/leases/{TOKEN}/complete", "c" * 16, ".2.***/complete"),
        (str(refused()), "hunter2", "input_value=***, input_type=str"),
        (str(refused()).partition(", input_type")[0], "hunter2", "input_value=***"),
        ("mail to ann@example.org, see https://x.org/ann@home?a=b", "hunter2", "https://x.org/ann@home?a=b"),
    ],
)
def test_secrets_in_texts_are_not_written(
    configure: Callable[..., Lines], format: str, text: str, secret: str, left: str
) -> None:
    """Not in a message or a value, nor in an exception's text, be the line ours or a library's."""
    lines = configure(format=format)
    get_logger("x").info("a", error=text, items=[{"reason": text}])
    get_logger("x").info("a", error=RuntimeError(text))
    logging.getLogger("library").warning("It failed: %s", text)
    for log in (get_logger("x"), logging.getLogger("library")):
        try:
            raise RuntimeError(text)
        except RuntimeError:
            log.exception("went.wrong")

    written = lines.getvalue()
    assert secret not in written
    assert written.count(left) >= 5


def test_a_line_cannot_take_long_to_look_through() -> None:
    """Whoever writes what is logged, such as a handler's error, must not hold up the loop by it."""
    began = time.process_time()
    for text in ("input_value=", "a://", "?token", "leases/a.1.", "earer ", "gn_"):
        hide_in_text(text * (32 * 1024 // len(text)))
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize("format", ["json", "console"])
def test_secrets_within_values_are_not_written(configure: Callable[..., Lines], format: str) -> None:
    """By their names, however deep, and however these are written."""
    lines = configure(format=format)

    get_logger("x").info("a", request={"headers": [{"X-API-Key": "hunter2", "Set-Cookie": "hunter2"}], "n": 1})
    get_logger("x").info("a", job={"payload": {"a": "hunter2"}}, client_secret="hunter2", Authorization="hunter2")

    assert "hunter2" not in lines.getvalue()


BREAKING = "a\nb\rc\x1b[31md\x00e\x7ff\x85g\u2028h\u2029i\x9bj\u202ek\u2066l\udc80m"


@pytest.mark.parametrize("format", ["json", "console"])
def test_control_characters_cannot_break_a_line(configure: Callable[..., Lines], format: str) -> None:
    """No message, value, key or exception can begin a line of its own or speak to the terminal."""
    lines = configure(format=format)

    get_logger("x").info(BREAKING, value=BREAKING, **{BREAKING: [BREAKING, {BREAKING: BREAKING}]})
    logging.getLogger("x").info(BREAKING)

    written = lines.getvalue()
    assert len(written.splitlines()) == 2
    assert not [character for character in written if character != "\n" and not character.isprintable()]


def test_an_exception_cannot_forge_console_lines(configure: Callable[..., Lines]) -> None:
    """In the console a traceback has lines, but none that could pass for a line of the log."""
    lines = configure(format="console")
    try:
        raise ValueError("x\n12:00:00 [info     ] forged\x1b[2J")
    except ValueError:
        get_logger("x").exception("went.wrong")

    first, *others = lines.getvalue().splitlines()
    assert "went.wrong" in first
    assert "    12:00:00 [info     ] forged\\x1b[2J" in others
    assert all(line.startswith("    ") for line in others)


# With lone surrogates, which no valid text has and a handler may come to all the same.
text = st.text(st.characters())
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**80), 2**80)
    | st.floats()
    | text
    | st.binary()
    | st.datetimes()
    | st.decimals()
    | st.uuids()
    | st.sampled_from([State.FAILED, Priority.LOW, ValueError("x"), object, make_job()]),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(st.characters()) | st.integers() | st.none(), inner)
        | st.sets(st.text())
    ),
)


@pytest.mark.parametrize("format", ["json", "console"])
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)
@given(
    message=st.text(st.characters()), values=st.dictionaries(st.text(st.characters(), min_size=1), anything, max_size=4)
)
def test_anything_can_be_logged(
    configure: Callable[..., Lines], format: str, message: str, values: dict[str, Any]
) -> None:
    """Whatever is logged is exactly one line, and in JSON it can be read back."""
    structlog.reset_defaults()
    lines = configure(format=format)
    # These have a meaning for structlog itself.
    for key in ("event", "self", "exc_info", "stack_info", "exception", "stack"):
        values.pop(key, None)

    get_logger("x").info(message, **values)

    assert lines.getvalue().endswith("\n")
    assert len(lines.getvalue().splitlines()) == 1
    if format == "json":
        assert lines()[0]["level"] == "info"


def test_values_without_end(lines: Lines) -> None:
    """A list that holds itself, a value nested too deeply, and a very long one are cut."""
    endless: list[Any] = []
    endless.append(endless)
    deep: Any = "end"
    for _ in range(2000):
        deep = [deep]
    get_logger("x").info("a", endless=endless, deep=deep, long="x" * 1_000_000)

    (line,) = lines()
    assert len(json.dumps(line)) < 40_000
    assert line["long"].endswith("x…")


def test_a_value_that_cannot_be_shown(lines: Lines) -> None:
    """A value whose text raises is shown by its type."""

    class Broken:
        def __str__(self) -> str:
            raise RuntimeError

    get_logger("x").info("a", value=Broken(), items=[Broken()])
    assert lines()[0]["value"] == "<Broken>"
    assert lines()[0]["items"] == ["<Broken>"]


# Where lines go


@pytest.mark.parametrize(
    "error", [BrokenPipeError(), OSError(28, "No space left on device"), ValueError("closed file")]
)
def test_a_line_that_cannot_be_written_is_dropped(configure: Callable[..., Lines], error: Exception) -> None:
    """A closed pipe or a full disk does not reach who logs."""

    class Deaf(Lines):
        def write(self, text: str, /) -> int:
            raise error

    configure(lines=Deaf())
    get_logger("x").error("a")
    logging.getLogger("x").error("a")


def test_a_stream_of_another_encoding(configure: Callable[..., Lines]) -> None:
    """What a stream's encoding lacks is escaped and not lost."""

    class Ascii(Lines):
        def write(self, text: str, /) -> int:
            text.encode("ascii")
            return super().write(text)

    lines = configure(lines=Ascii())
    get_logger("x").info("grüße")
    assert r"gr\xfc\xdfe" in lines.getvalue()


def test_lines_of_threads_do_not_mix(lines: Lines) -> None:
    """Each line is whole, whoever else writes."""
    log = get_logger("x").bind()
    threads = [threading.Thread(target=lambda: [log.info("x" * 500) for _ in range(100)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [line["msg"] for line in lines()] == ["x" * 500] * 400


def test_auto_is_console_on_a_terminal(configure: Callable[..., Lines], monkeypatch: pytest.MonkeyPatch) -> None:
    """Auto writes for people on a terminal, in color unless NO_COLOR is set, and JSON elsewhere."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    colored = configure(format="auto", lines=Terminal(), node_id="node-1")
    get_logger("x").info("job.finished", worker_id="node-1", job_id="6f1a")
    assert "\x1b[" in colored.getvalue()

    monkeypatch.setenv("NO_COLOR", "1")
    plain = configure(format="auto", lines=Terminal(), node_id="node-1")
    get_logger("x").info("job.finished", worker_id="node-1", job_id="6f1a")
    time, rest = plain.getvalue().split(" ", 1)
    assert len(time) == len("12:00:00")
    assert rest.split() == ["[info", "]", "job.finished", "[x]", "job_id=6f1a"]

    elsewhere = configure(format="auto")
    get_logger("x").info("job.finished")
    assert elsewhere()[0]["msg"] == "job.finished"


def test_a_line_inside_a_span_names_it(configure: Callable[..., Lines]) -> None:
    """Ours and a library's, with what W3C calls it; there is nothing outside of one, and after its end."""
    span = Spans().provider.get_tracer("t").start_span("a")
    log = get_logger("x")
    lines = configure(traced=True)
    log.info("outside")
    with use_span(span):
        log.info("inside")
        logging.getLogger("library").warning("inside")
        span.end()
        log.info("after")
    configure(lines=lines)
    with use_span(Spans().provider.get_tracer("t").start_span("a")):
        get_logger("y").info("untraced")

    context = span.get_span_context()
    named = {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}
    found = [{key: line[key] for key in named if key in line} for line in lines()]
    assert found == [{}, named, named, {}, {}]
