"""Writes log lines: JSON for programs, console for people, and the libraries' own lines in the same form."""

from __future__ import annotations

import logging
import os
import re
import sys
import threading
from collections.abc import Mapping
from dataclasses import is_dataclass
from enum import Enum
from typing import IO, Any, Literal, cast

import orjson
import structlog
from structlog.contextvars import bind_contextvars, merge_contextvars
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from gopher_node.job import Job, Lease, NewJob
from gopher_node.telemetry.hiding import hide_in_text, hide_values

Logger = FilteringBoundLogger

_LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
# These write a line for every request or connection, some with its URL, which may hold a secret.
NOISY = ("aiohttp.access", "httpx", "httpx2", "httpcore", "httpcore2", "PIL", "aiosmtplib", "redis")

_MAX_LINE = 32 * 1024
_MAX_TEXT = 8 * 1024
_MAX_DEPTH = 6

# What JSON may carry unescaped and a terminal or a log viewer still acts on: DEL, the C1 controls (one of them begins
# an escape sequence), the line and paragraph separators, and the marks that turn the direction of writing.
_UNSAFE = "\x7f-\x9f\u2028-\u202e\u2066-\u2069"
_UNSAFE_IN_JSON = re.compile(f"[{_UNSAFE}]")
_UNSAFE_IN_TEXT = re.compile(f"[\x00-\x1f\ud800-\udfff{_UNSAFE}]")
_UNSAFE_IN_LINES = re.compile(f"[\x00-\x09\x0b-\x1f\ud800-\udfff{_UNSAFE}]")


def get_logger(name: str) -> Logger:
    """A logger whose lines carry this name as `logger`. Messages are event names: `log.info("job.finished", …)`."""
    return cast(Logger, structlog.get_logger(logger_name=name))


def bind_job(job: Job) -> None:
    """From now on every line written in this task, by anyone, names the job. It ends with the task."""
    bind_contextvars(job_id=job.id, job_type=job.type, attempt=job.attempt)


def configure_logging(
    level: str = "info",
    format: Literal["auto", "console", "json"] = "auto",
    *,
    node_id: str | None = None,
    stream: IO[str] | None = None,
    traced: bool = False,
) -> None:
    """
    Set up this process's logging: ours, and that of libraries and user code through the standard library.

    Lines go to `stream`, by default standard error, so that they stay apart from what a command prints. A line that
    cannot be written is dropped: a full disk or a closed pipe must not stop jobs. Loggers that were used before
    keep what was configured before. With `traced`, a line that is written inside a span names it.
    """
    output: IO[str] = sys.stderr if stream is None else stream
    sink = _Sink(output)
    minimum = _LEVELS[level]
    common: list[Processor] = [
        merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.StackInfoRenderer(),
        # As text and without local variables, for those hold payloads.
        structlog.processors.format_exc_info,
        _hide_secrets,
    ]
    if traced:
        common.insert(1, _span_namer())
    if format == "console" or (format == "auto" and output.isatty()):
        colors = output.isatty() and not os.environ.get("NO_COLOR")
        common.append(structlog.processors.TimeStamper(fmt="%H:%M:%S", utc=False, key="time"))
        render: list[Processor] = [
            _OneLineEach(node_id),
            structlog.dev.ConsoleRenderer(
                colors=colors, timestamp_key="time", sort_keys=False, exception_formatter=structlog.dev.plain_traceback
            ),
        ]
    else:
        common.append(structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"))
        render = [_JsonLine(node_id)]

    structlog.configure(
        processors=[*common, *render],
        wrapper_class=structlog.make_filtering_bound_logger(minimum),
        logger_factory=lambda *_: sink,
        cache_logger_on_first_use=True,
    )
    foreign: list[Processor] = [_name_logger, structlog.stdlib.ExtraAdder(), *common]
    handler = _Handler(sink)
    handler.setFormatter(
        ProcessorFormatter(foreign_pre_chain=foreign, processors=[ProcessorFormatter.remove_processors_meta, *render])
    )
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(minimum)
    logging.captureWarnings(True)
    for name in NOISY:
        logging.getLogger(name).setLevel(max(minimum, logging.WARNING))
    logging.getLogger("asyncio").setLevel(max(minimum, logging.INFO))


class _Sink:
    """Writes whole lines, of two threads never mixed. It drops what it cannot write, and never raises."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._lock = threading.Lock()

    def msg(self, line: str) -> None:
        line = hide_in_text(line)
        try:
            with self._lock:
                try:
                    self._stream.write(line + "\n")
                except UnicodeEncodeError:
                    self._stream.write(line.encode("ascii", "backslashreplace").decode() + "\n")
                self._stream.flush()
        except (OSError, ValueError):
            pass

    # structlog calls the method of the level.
    debug = info = warning = error = critical = msg


class _Handler(logging.Handler):
    """Brings the standard library's records to the sink."""

    def __init__(self, sink: _Sink) -> None:
        super().__init__()
        self._sink = sink

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception as error:
            # Arguments that do not fit their format string are the usual reason, and could be anything.
            get_logger(record.name).error("log.unprintable", template=str(record.msg), error=type(error).__name__)
        else:
            self._sink.msg(line)


class _JsonLine:
    """Renders a line of JSON. Whatever a line holds, it is one line, it is valid, and it begins with the usual keys."""

    def __init__(self, node_id: str | None) -> None:
        self._node = {"node_id": node_id} if node_id else {}

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> str:
        content = {
            "time": event.pop("time", None),
            "level": event.pop("level", None),
            "msg": event.pop("event", None),
            **self._node,
        }
        if "logger_name" in event:
            content["logger"] = event.pop("logger_name")
        for key, value in event.items():
            content[key if key not in content else f"{key}_"] = value
        try:
            line = orjson.dumps(content, default=_plain, option=orjson.OPT_PASSTHROUGH_DATACLASS).decode()
        except TypeError:
            line = orjson.dumps(_tame(content)).decode()
        if len(line) > _MAX_LINE:
            line = orjson.dumps(_tame(content, limit=_MAX_TEXT)).decode()
        if line.isascii() and "\x7f" not in line:
            return line
        return _UNSAFE_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


class _OneLineEach:
    """For the console: no value breaks its line or passes for a line of its own. What every line says is left out."""

    def __init__(self, node_id: str | None) -> None:
        self._node_id = node_id

    def __call__(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        if event.get("worker_id") == self._node_id:
            event.pop("worker_id", None)
        clean: EventDict = {}
        for key, value in event.items():
            if key in ("exception", "stack"):
                text = _UNSAFE_IN_LINES.sub(_escape, str(value))
                clean[key] = "    " + text.replace("\n", "\n    ")
            else:
                tame = _tame(value, limit=_MAX_TEXT)
                text = tame if isinstance(tame, str) else orjson.dumps(tame).decode()
                clean[_UNSAFE_IN_TEXT.sub(_escape, key)] = _UNSAFE_IN_TEXT.sub(_escape, text)
        return clean


def _name_logger(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    event["logger_name"] = event["_record"].name
    return event


def _hide_secrets(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    event.update(hide_values(event))
    return event


def _span_namer() -> Processor:
    from opentelemetry.trace import get_current_span  # only for those who trace

    def name_span(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        span = get_current_span()
        context = span.get_span_context()
        # A task that outlives the request which began it has that one's span still; by then it has ended.
        if context.is_valid and getattr(span, "end_time", None) is None:
            event["trace_id"], event["span_id"] = f"{context.trace_id:032x}", f"{context.span_id:016x}"
        return event

    return name_span


def _escape(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode()


def _plain(value: object) -> Any:
    """As something that JSON knows. Never the contents of a job or a model, for those are payloads."""
    if isinstance(value, (Job, NewJob)):
        return value.id
    if isinstance(value, Lease):
        return value.job.id
    if isinstance(value, (bytes, bytearray)):
        return f"<{len(value)} bytes>"
    if isinstance(value, (set, frozenset)):
        return list(cast("set[object]", value))
    if is_dataclass(value) or hasattr(type(value), "model_fields"):
        return f"<{type(value).__name__}>"
    try:
        return f"{type(value).__name__}: {value}" if isinstance(value, BaseException) else str(value)
    except Exception:
        return f"<{type(value).__name__}>"


def _tame(value: object, *, limit: int = _MAX_LINE, depth: int = 0) -> Any:
    """What orjson is sure to take: text cut and without lone surrogates, integers of 64 bits, keys of text."""
    if isinstance(value, str):
        text = str.__str__(value) if len(value) <= limit else value[:limit] + "…"
        return text.encode("utf-8", "backslashreplace").decode()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float):
        return float(value)
    if isinstance(value, int):
        return int(value) if -(2**63) <= value < 2**64 else f"<int of {value.bit_length()} bits>"
    if isinstance(value, Enum):
        return _tame(value.value, limit=limit, depth=depth + 1)
    if isinstance(value, (Mapping, list, tuple, set, frozenset)):
        if depth == _MAX_DEPTH:
            return "…"
        if isinstance(value, Mapping):
            pairs = cast("Mapping[object, object]", value).items()
            return {_tame(str(_plain(key))): _tame(item, limit=limit, depth=depth + 1) for key, item in pairs}
        return [_tame(item, limit=limit, depth=depth + 1) for item in cast("list[object]", value)]
    return _tame(str(_plain(value)), limit=limit)
