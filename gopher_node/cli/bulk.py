"""Submits the jobs of a file, one on each line, and tells which lines were refused."""

from __future__ import annotations

import json
import math
import sys
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from gopher_node.cli import show
from gopher_node.cli.connect import Remote
from gopher_node.cli.exits import Exit, UsageError
from gopher_node.errors import GopherError

if TYPE_CHECKING:
    from gopher_node.client import JobRequest, SubmitResult

# As the API says it of a body.
_NOT_JSON = "The line is not valid JSON"


def submit_file(name: str, remote: Remote) -> int:
    with _opened(name) as stream, remote.connect() as client:
        lines = _Lines(stream)
        jobs = _Counted(lines, _count(stream)) if stream.seekable() else lines
        told = _Told(remote)
        try:
            for result in client.submit_stream(jobs, progress=show.on_terminal(sys.stderr) and not remote.json):
                told.take(lines.faults_before())
                told.result(lines.next_number(), result)
            told.take(lines.faults_before())
        except (GopherError, KeyboardInterrupt):
            # With ids of its own the file can be sent once more, and no job is stored twice.
            show.write_note(
                f"{show.count(told.stored, 'job')} submitted by then, of the lines up to {told.line}. If lines have "
                "a job_id of their own, the whole file can be submitted again: no job is stored twice."
            )
            raise
    return told.end()


class _Told:
    """Tells what became of each line, and counts."""

    def __init__(self, remote: Remote) -> None:
        self._json = remote.json
        self.stored = self.refused = self.line = 0

    def result(self, line: int, result: SubmitResult) -> None:
        if result.job is None:
            self._refuse(line, str(result.error))
            return
        self.stored += 1
        self.line = line
        if self._json:
            show.write_json({"line": line, "job_id": result.job.job_id, "status": result.job.status})

    def take(self, faults: Iterable[tuple[int, str]]) -> None:
        for line, fault in faults:
            self._refuse(line, fault)

    def _refuse(self, line: int, why: str) -> None:
        self.refused += 1
        self.line = line
        if self._json:
            show.write_json({"line": line, "error": why})
        else:
            show.write_note(f"gopher-node: line {line}: {why}")

    def end(self) -> int:
        if not self._json:
            refused = f", {show.count(self.refused, 'line')} refused" if self.refused else ""
            show.write(f"{show.count(self.stored, 'job')} submitted{refused}.")
        return Exit.FAILED if self.refused else Exit.OK


class _Lines:
    """
    The jobs of the lines, as they are asked for.

    What is no job is kept aside, so that its line is told about in its turn: the client answers later than it asks.
    """

    def __init__(self, stream: Iterable[bytes]) -> None:
        self._stream = stream
        self._read: deque[tuple[int, str | None]] = deque()

    def __iter__(self) -> Iterator[JobRequest]:
        for number, line in enumerate(self._stream, 1):
            if not line.strip():
                continue
            try:
                job = _read_job(line)
            except ValueError as error:
                self._read.append((number, str(error)))
            else:
                self._read.append((number, None))
                yield job

    def faults_before(self) -> Iterator[tuple[int, str]]:
        """The lines without a job that come before the next job whose result is due."""
        while self._read and (fault := self._read[0][1]) is not None:
            yield self._read.popleft()[0], fault

    def next_number(self) -> int:
        """The line of the job whose result has come."""
        return self._read.popleft()[0]


class _Counted:
    """The same, for a file whose lines can be counted beforehand."""

    def __init__(self, lines: _Lines, count: int) -> None:
        self._lines = lines
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[JobRequest]:
        return iter(self._lines)


def _read_job(line: bytes) -> JobRequest:
    """Raises ValueError. Numbers that would change on their way to the node are not taken."""
    try:
        content = json.loads(line, parse_float=_read_float, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("The line is nested too deeply.") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"{_NOT_JSON}: {error.msg} at character {error.pos + 1}.") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{_NOT_JSON}: Byte {error.start} is not UTF-8.") from None
    except ValueError as error:
        raise ValueError(f"{_NOT_JSON}: {error}.") from None
    if not isinstance(content, dict):
        raise ValueError('The line must be an object, such as {"type": "email", "payload": {}}.')
    return cast("JobRequest", content)


def _read_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"the number {text} is too large")
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"there is no {name} in JSON")


def _count(stream: BinaryIO) -> int:
    start = stream.tell()
    count = sum(1 for line in stream if line.strip())
    stream.seek(start)
    return count


@contextmanager
def _opened(name: str) -> Generator[BinaryIO]:
    if name == "-":
        if sys.stdin is None:
            raise UsageError("There is no standard input to read jobs from.")
        yield sys.stdin.buffer
        return
    try:
        stream = open(name, "rb")  # noqa: SIM115
    except OSError as error:
        raise UsageError(f"The file {name} cannot be read: {error.strerror}.") from None
    with stream:
        yield stream
