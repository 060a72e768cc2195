"""What the runs of a job said: at most 1,000 lines and 64 KiB, the latest ones, for as long as there is the job."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from gopher_node.errors import JobNotFound
from gopher_node.job import FINAL_STATES, Lease, State, Token
from gopher_node.store import replies
from gopher_node.store.scripts import Run

MAX_LINES_A_STEP = 200


@dataclass(frozen=True, slots=True)
class LogPage:
    """Lines of a log, each as JSON; `read` goes on after `next`, and none will come any more when it `ended`."""

    lines: Sequence[bytes]
    next: int
    ended: bool


class Logs:
    """The logs of all jobs."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def append(self, lease: Lease | Token, lines: Sequence[bytes], batch: str | None = None) -> bool:
        """
        Add up to 200 lines, each a JSON object, to the log of a run's job. The log's oldest lines make room.

        Told again with the same `batch`, its id, nothing is added. False: the run should stop, for its lease is stale
        or its job is to be cancelled.
        """
        if len(lines) > MAX_LINES_A_STEP:
            raise ValueError(f"At most {MAX_LINES_A_STEP} lines can be added in one step, not {len(lines)}.")
        answer = await self._run("log", *replies.token_words(lease), batch or uuid.uuid4().hex, *lines)
        return answer == b"ok"

    async def read(self, id: str, after: int = 0) -> LogPage:
        """What is kept of a job's log, but for the first `after` lines that there ever were. Raises JobNotFound."""
        answer = await self._run("log_lines", id, after)
        if answer is None:
            raise JobNotFound(f"There is no job {id}.")
        return LogPage(answer[2:], answer[1], State(answer[0].decode()) in FINAL_STATES)
