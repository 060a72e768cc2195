"""How jobs are found: one by its id, and pages of those that match a filter."""

from __future__ import annotations

from typing import Any

from gopher_node.errors import JobNotFound
from gopher_node.job import Job, State
from gopher_node.store import replies
from gopher_node.store.scripts import Run
from gopher_node.store.values import JobFilter, Page

LOOKED_AT = 1000  # jobs that one page of a list examines at most


class Looking:
    """Reads jobs as they are now."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def one(self, id: str) -> Job:
        (answer,) = await self._run("get", id)
        if answer is None:
            raise JobNotFound(f"There is no job {id}.")
        return replies.job(answer)

    async def page(self, filter: JobFilter, limit: int, cursor: str | None) -> Page:
        ids, next_cursor = await self.ids(filter, limit, cursor)
        answers: list[Any] = await self._run("get", *ids) if ids else []
        return Page([replies.job(answer) for answer in answers if answer is not None], next_cursor)

    async def ids(self, filter: JobFilter, limit: int, cursor: str | None) -> tuple[list[str], str | None]:
        answer = await self._run(
            "list",
            limit,
            LOOKED_AT,
            *replies.decode_cursor(cursor),
            " ".join(filter.states or State),
            filter.type or "",
            filter.priority.value if filter.priority else "",
            filter.group or "",
            filter.tag or "",
            "" if filter.created_after_ms is None else filter.created_after_ms,
            "" if filter.created_before_ms is None else filter.created_before_ms,
        )
        return [id.decode() for id in answer[3:]], replies.encode_cursor(*answer[:3])
