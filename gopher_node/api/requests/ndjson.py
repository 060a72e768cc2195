"""Takes a stream of jobs, one JSON document a line, and answers each line with a line, in the same order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import orjson
from aiohttp import web

from gopher_node.api.answers.problems import Problem, document
from gopher_node.api.answers.views import format_time
from gopher_node.api.middleware import REQUEST_ID, explain
from gopher_node.api.parts import PARTS, Parts
from gopher_node.api.requests.bodies import broken_body, check_encoding, parse_json
from gopher_node.api.requests.dependencies import alone, resolve
from gopher_node.api.requests.models import read_submission, refusal
from gopher_node.errors import (
    DuplicateJob,
    JobExists,
    ParentNotFound,
    QueueDraining,
    QueueFull,
    WorkflowEnded,
    WorkflowNotFound,
)
from gopher_node.job import NewJob
from gopher_node.store import Submitted

MEDIA_TYPE = "application/x-ndjson"
MAX_LINE = 1024 * 1024
MAX_STEP = 200
"""Jobs that are stored in one step, at most."""
MAX_STEP_BYTES = 1024 * 1024
"""Bytes of lines in one step, unless one line alone has more."""
SLICE = 50
"""Lines, or the bytes of so many usual ones, after which everybody else has a turn."""
SLICE_BYTES = 64 * 1024

# What one job is refused for, and its neighbours are not.
_ITS_OWN = (JobExists, DuplicateJob, ParentNotFound, QueueDraining, QueueFull, WorkflowEnded, WorkflowNotFound)

Line = tuple[int, NewJob | Problem]
"""A line's number, from 1, and the job that it describes or what is wrong with it."""


async def submit_lines(request: web.Request) -> web.StreamResponse:
    """Raises Problem if the stream ends badly before any line was answered."""
    check_encoding(request)
    return await Exchange(request).run()


class Splitter:
    """Cuts what arrives into lines. It holds at most one unfinished line, and not even that once it is too long."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._too_long = False

    def feed(self, chunk: bytes) -> Iterator[bytes | None]:
        """The lines that this completes, without their ends; None for each that is too long."""
        first, newline, others = chunk.partition(b"\n")
        self._keep(first)
        if not newline:
            return
        yield self._take()
        lines = others.split(b"\n")
        unfinished = lines.pop()
        for line in lines:
            yield line if len(line) <= MAX_LINE else None
        self._keep(unfinished)

    def end(self) -> Iterator[bytes | None]:
        """The last line, which may lack its end."""
        if self._rest or self._too_long:
            yield self._take()

    def _keep(self, piece: bytes) -> None:
        if len(self._rest) + len(piece) > MAX_LINE:
            self._too_long = True
        if self._too_long:
            self._rest.clear()
        else:
            self._rest += piece

    def _take(self) -> bytes | None:
        line = None if self._too_long else bytes(self._rest)
        self._rest.clear()
        self._too_long = False
        return line


class Exchange:
    """
    One request: lines come in, are stored in steps, and are answered.

    While a step is stored and answered, the lines of the next one are read and checked, and no more than that: a client
    that takes no answers is not read from, and the lines that are held at any time are few.
    """

    def __init__(self, request: web.Request) -> None:
        self._request = request
        self._parts: Parts = request.app[PARTS]
        self._response = web.StreamResponse(headers={"Content-Type": MEDIA_TYPE, "X-Accel-Buffering": "no"})
        self._steps: asyncio.Queue[list[Line]] = asyncio.Queue(maxsize=1)
        self._number = 0
        self._cut_short: Problem | None = None
        """Why no further lines are read, if that is not because all have been."""

    async def run(self) -> web.StreamResponse:
        reading = asyncio.create_task(self._read())
        try:
            # An empty step is the end.
            while step := await self._steps.get():
                await self._answer(await self._store(step))
        finally:
            # Here also when the client has gone, for then this handler is cancelled.
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        if self._cut_short is not None:
            if not self._response.prepared:
                raise self._cut_short
            await self._answer([self._refused(self._number + 1, self._cut_short)])
            self._response.force_close()
        elif not self._response.prepared:
            await self._response.prepare(self._request)
        await self._response.write_eof()
        return self._response

    # Reading

    async def _read(self) -> None:
        try:
            async for step in self._read_steps():
                await self._steps.put(step)
        except ConnectionError:
            pass  # the client has gone, and there is nobody to tell
        except Exception as error:
            self._cut_short = explain(self._request, error)
        await self._steps.put([])

    async def _read_steps(self) -> AsyncIterator[list[Line]]:
        splitter = Splitter()
        async for chunk in self._chunks():
            async for step in self._check(splitter.feed(chunk)):
                yield step
        async for step in self._check(splitter.end()):
            yield step

    async def _check(self, lines: Iterator[bytes | None]) -> AsyncIterator[list[Line]]:
        """Steps of checked lines. The last one may be small: what has come is not kept waiting for what has not."""
        step: list[Line] = []
        size = slice_lines = slice_bytes = 0
        for line in lines:
            self._number += 1
            if line is not None and (not line or line.isspace()):
                continue
            length = MAX_LINE if line is None else len(line)
            if step and (len(step) == MAX_STEP or size + length > MAX_STEP_BYTES):
                yield step
                step, size = [], 0
            step.append((self._number, await self._check_line(line)))
            size += length
            slice_lines += 1
            slice_bytes += length
            if slice_lines == SLICE or slice_bytes > SLICE_BYTES:
                slice_lines = slice_bytes = 0
                await asyncio.sleep(0)
        if step:
            yield step

    async def _check_line(self, line: bytes | None) -> NewJob | Problem:
        if line is None:
            return Problem("payload-too-large", f"A line may have at most {MAX_LINE} bytes.", limit=MAX_LINE)
        settings, catalogue = self._parts.settings, self._parts.catalogue
        try:
            said = parse_json(line)
            if catalogue.lacks(said):
                await catalogue.ask()
            job = read_submission(
                said,
                self._parts.registry,
                settings.worker.max_retries,
                published=catalogue.published,
                allow=settings.webhook.allow,
            )
            return refusal(job) if isinstance(job, list) else resolve([job], alone)[0]
        except Problem as problem:
            return problem

    async def _chunks(self) -> AsyncIterator[bytes]:
        """All that has come, piece by piece. Raises Problem when no more will be read."""
        content = self._request.content
        draining = asyncio.create_task(self._parts.draining.wait())
        try:
            while not content.at_eof():
                if draining.done():
                    raise Problem("draining", "From this line on, nothing was stored.", outcome="not-done")
                chunk = content.read_nowait() or await self._next_chunk(draining)
                if chunk:
                    yield chunk
        except web.RequestPayloadError:
            raise broken_body(self._request) from None
        finally:
            draining.cancel()

    async def _next_chunk(self, draining: asyncio.Task[Any]) -> bytes:
        """What comes next; nothing if the stream has ended, or the node begins to shut down."""
        silence = self._parts.settings.server.read_timeout
        reading = asyncio.create_task(self._request.content.readany())
        try:
            done, _ = await asyncio.wait((reading, draining), timeout=silence, return_when=asyncio.FIRST_COMPLETED)
            if not done:
                raise Problem("request-timeout", f"Nothing has come for {silence:g} s.")
            return reading.result() if reading in done else b""
        finally:
            reading.cancel()

    # Storing

    async def _store(self, step: Sequence[Line]) -> list[bytes]:
        """The answers to the lines of a step."""
        jobs = [job for _, job in step if isinstance(job, NewJob)]
        stored = iter(await self._store_jobs(jobs))
        answers: list[bytes] = []
        for number, job in step:
            outcome = next(stored) if isinstance(job, NewJob) else job
            answers.append(
                self._refused(number, outcome) if isinstance(outcome, Problem) else self._accepted(number, outcome)
            )
        return answers

    async def _store_jobs(self, jobs: Sequence[NewJob]) -> Sequence[Submitted | Problem]:
        sends = self._parts.traces and self._parts.traces.send(jobs)
        jobs = sends.jobs if sends else jobs
        outcomes = await self._store_together(jobs)
        if outcomes is None:
            # Each may be refused without its neighbours; they share requests all the same.
            results = await asyncio.gather(*map(self._parts.store.submit, jobs), return_exceptions=True)
            outcomes = [self._outcome(result) for result in results]
        told = zip(jobs, outcomes, strict=True)
        self._parts.events.submitted(
            job.type for job, outcome in told if isinstance(outcome, Submitted) and not outcome.twin
        )
        if sends:
            new = (isinstance(outcome, Submitted) and not outcome.twin for outcome in outcomes)
            sends.sent([job.id if is_new else None for job, is_new in zip(jobs, new, strict=True)])
        return outcomes

    async def _store_together(self, jobs: Sequence[NewJob]) -> Sequence[Submitted | Problem] | None:
        """What became of jobs that are all stored or none; None if one of them is refused for its own sake."""
        if len({job.id for job in jobs}) < len(jobs):
            return None
        try:
            return await self._parts.store.submit_many(jobs)
        except _ITS_OWN:
            return None
        except Exception as error:
            return [explain(self._request, error)] * len(jobs)

    def _outcome(self, result: Submitted | BaseException) -> Submitted | Problem:
        if isinstance(result, Submitted):
            return result
        if isinstance(result, Exception):
            return explain(self._request, result)
        raise result

    # Answering

    def _accepted(self, number: int, submitted: Submitted) -> bytes:
        job = {
            "job_id": submitted.id,
            "status": submitted.state,
            "created_at": format_time(submitted.created_ms),
            "execute_at": format_time(submitted.due_ms),
        }
        status = 200 if submitted.twin else 201
        return orjson.dumps({"line": number, "status": status, "job": job}, option=orjson.OPT_APPEND_NEWLINE)

    def _refused(self, number: int, problem: Problem) -> bytes:
        content = document(problem, self._request[REQUEST_ID])
        return orjson.dumps(
            {"line": number, "status": problem.kind.status, "problem": content}, option=orjson.OPT_APPEND_NEWLINE
        )

    async def _answer(self, lines: Sequence[bytes]) -> None:
        if not self._response.prepared:
            await self._response.prepare(self._request)
        await self._response.write(b"".join(lines))
