"""Workflows: jobs that are stored together, counted together, cancelled as one, and followed by callbacks."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from gopher_node.errors import InvalidState, WorkflowNotFound
from gopher_node.job import FINAL_STATES, Job, NewJob, State, new_job_id
from gopher_node.store import replies
from gopher_node.store.scripts import Run
from gopher_node.store.values import Once, Page, Submitted

WorkflowState = Literal["running", "completed", "failed", "cancelled"]
Callback = Literal["on_complete", "on_success", "on_failure"]
MAX_STEP = 200
"""So many jobs one step cancels or releases at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewWorkflow:
    """
    Jobs that are to be stored as one: 1 to 1,000.

    A job's `options.name` is what others of the same workflow may call it by in their `options.depends_on`, beside ids.
    Each callback is a job that is stored at most once ever, in the step that makes it true: `on_complete` when all
    members have ended, `on_success` when all have completed, `on_failure` when the first one ended otherwise. It is no
    member, bears the workflow's id, and its name there is `on_complete` and so on.
    """

    jobs: Sequence[NewJob]
    name: str = ""
    on_complete: NewJob | None = None
    on_success: NewJob | None = None
    on_failure: NewJob | None = None
    id: str = field(default_factory=new_job_id)


@dataclass(frozen=True, slots=True)
class SubmittedWorkflow:
    """What became of a new workflow: its id, and those of its jobs in the order in which they were given."""

    id: str
    jobs: tuple[str, ...]
    created_ms: int
    replayed: bool = False
    stored: tuple[Submitted, ...] = ()  # what became of each of them


@dataclass(frozen=True, slots=True)
class Workflow:
    """
    A workflow as it stands.

    It is `running` until all members have ended; then `completed` if all of them have, `cancelled` if it was cancelled
    as one, else `failed`. A member that is requeued lets it run again. `counts` are its members by state; one that was
    deleted before it ended counts as cancelled, and members that are forgotten stay counted.
    """

    id: str
    name: str
    state: WorkflowState
    counts: Mapping[State, int]
    total: int
    created_ms: int
    finished_ms: int | None = None
    cancel_requested: bool = False
    callbacks: Mapping[Callback, str] = field(default_factory=dict[Callback, str])  # ids of those that were fired


@dataclass(frozen=True, slots=True)
class WorkflowPage:
    """Workflows of a list, the latest first, and the cursor of the next page."""

    items: list[Workflow]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Parent:
    """A job that another depended on: what a child is told of it. `name` is '' without one; `result` is JSON."""

    id: str
    name: str
    state: State
    result: bytes | None
    error: dict[str, Any] | None


def as_member(job: NewJob, workflow: str) -> NewJob:
    return replace(job, options=replace(job.options, workflow=workflow))


def callbacks_of(new: NewWorkflow, id: str) -> dict[str, NewJob]:
    """The jobs that follow a workflow with this id; theirs follow from it, so none can be stored twice."""
    given = {name: getattr(new, name) for name in get_args(Callback)}
    return {
        name: replace(
            job,
            id=str(uuid.uuid5(uuid.NAMESPACE_URL, f"{id}/{name}")),
            client_id=False,
            options=replace(job.options, workflow=id, name=name, depends_on=()),
        )
        for name, job in given.items()
        if job is not None
    }


Submit = Callable[[NewWorkflow, Once | None, int | None], Awaitable[tuple[str, list[Submitted]]]]
Cancel = Callable[[Sequence[str], int | None], Awaitable[Any]]


class Workflows:
    """
    The workflows of the namespace.

    Jobs are added to a running one by `Store.submit` or `submit_many`, or as follow-ups, with its id as their
    `options.workflow`: of an unknown one those raise WorkflowNotFound, of one that has ended, or is being cancelled,
    WorkflowEnded. Follow-ups are never refused: there such a job is stored, and is no member.
    """

    def __init__(self, run: Run, submit: Submit, cancel: Cancel) -> None:
        self._run = run
        self._submit = submit
        self._cancel = cancel

    async def submit(
        self, workflow: NewWorkflow, once: Once | None = None, *, now: int | None = None
    ) -> SubmittedWorkflow:
        """
        Store all of a workflow in one step, or on any error nothing.

        Raises as `Store.submit_many` does: DependencyCycle, ParentNotFound, JobExists, DuplicateJob, KeyReused and so
        on; ValueError for more than 1,000 jobs, for none, and for a name that two of them have. A job whose unique key
        another bears is answered with that one's id, and is no member.
        """
        id, jobs = await self._submit(workflow, once, now)
        return SubmittedWorkflow(id, tuple(job.id for job in jobs), jobs[0].created_ms, jobs[0].replayed, tuple(jobs))

    async def get(self, id: str) -> Workflow:
        """Raises WorkflowNotFound."""
        (answer,) = await self._run("workflows", "get", id)
        if answer is None:
            raise WorkflowNotFound(f"There is no workflow {id}.")
        return _workflow(answer)

    async def list(self, limit: int = 50, cursor: str | None = None) -> WorkflowPage:
        """
        A page of workflows, the latest first. Raises ValueError for a cursor that no list has given out.

        A page looks at no more than 10,000 members that have not ended, as `get` does; those beyond are in `total`
        and not in `counts`.
        """
        answers = await self._run("workflows", "list", limit, *replies.decode_cursor(cursor)[1:])
        found = [_workflow(answer) for answer in answers if answer is not None]
        if len(answers) < limit or not found:
            return WorkflowPage(found, None)
        last = found[-1]
        return WorkflowPage(found, replies.encode_cursor(b"w", b"%d" % last.created_ms, last.id.encode()))

    async def members(self, id: str, limit: int = 50, cursor: str | None = None) -> Page:
        """A page of a workflow's jobs in the order in which they joined it. Raises WorkflowNotFound, and ValueError."""
        answer = await self._run("workflows", "members", id, limit, *replies.decode_cursor(cursor)[1:])
        if answer is None:
            raise WorkflowNotFound(f"There is no workflow {id}.")
        score, last, *ids = answer
        jobs: list[Any] = await self._run("get", *ids) if ids else []
        next_cursor = replies.encode_cursor(b"m", score, last) if last else None
        return Page([replies.job(job) for job in jobs if job is not None], next_cursor)

    async def cancel(self, id: str, *, now: int | None = None) -> Workflow:
        """
        Cancel all members that have not ended: the waiting ones end, holders of running ones are told.

        What does not fit into one step is recorded, and done even if the caller is gone. No job can be added from now
        on. One that has ended raises InvalidState, unless that is how it ended. Raises WorkflowNotFound.
        """
        state = await self._cancel_steps(id, now)
        if state in ("completed", "failed"):
            raise InvalidState(state, f"Workflow {id} has {state} and can no longer be cancelled.")
        return await self.get(id)

    async def _cancel_steps(self, id: str, now: int | None, most: int = 0) -> str:
        """The state in which the first step found the workflow; at most so many steps, or all."""
        state, done_to, steps = "", "", 0
        while True:
            answer = await self._run("cancel_workflow", id, done_to, MAX_STEP, "1" if most else "", now=now)
            if answer is None:
                if state:
                    break  # it has ended meanwhile, and its last member is forgotten
                raise WorkflowNotFound(f"There is no workflow {id}.")
            state = state or answer[0].decode()
            done_to = answer[1].decode()
            # How far the last step came is told by the next call, so one that nobody finished is done again.
            if not done_to or (most and steps == most):
                break
            await self._cancel([member.decode() for member in answer[2:]], now)
            steps += 1
        return state

    async def parents(self, job: Job) -> dict[str, Parent]:
        """What became of the jobs that this one depends on, by name, or id without one; those that are gone lack."""
        ids = job.options.depends_on
        found: dict[str, Parent] = {}
        for start in range(0, len(ids), MAX_STEP):
            for answer in await self._run("get", *ids[start : start + MAX_STEP]):
                if answer is not None:
                    parent = replies.job(answer)
                    name = parent.options.name
                    told = Parent(parent.id, name, parent.state, parent.result, parent.error)
                    # Of jobs that were stored by different requests, two may have one name.
                    found[name if name and name not in found else parent.id] = told
        return found

    async def fan_out(self, limit: int = MAX_STEP, *, now: int | None = None) -> int:
        """
        A tick: release up to `limit` jobs that wait for what has ended, and go on cancelling what was to be cancelled.

        Returns how much there was to do; 0 when none is left.
        """
        done, *cancelling = await self._run("fan_out", limit, now=now)
        for id in cancelling:
            try:
                await self._cancel_steps(id.decode(), now, most=1)
            except WorkflowNotFound:
                continue
        return done + len(cancelling)


def _workflow(answer: list[Any]) -> Workflow:
    """A workflow as workflows.lua tells it."""
    id, flat, unfinished = answer
    fields: dict[bytes, bytes] = dict(zip(flat[::2], flat[1::2], strict=True))
    counts = dict.fromkeys(State, 0)
    for name, number in zip(unfinished[::2], unfinished[1::2], strict=True):
        counts[State(name.decode())] += number
    for final in FINAL_STATES:
        counts[final] += int(fields[final.encode()])
    finished = fields.get(b"finished")
    state: WorkflowState = "running"
    if finished:
        unsuccessful = counts[State.FAILED] + counts[State.CANCELLED]
        state = "cancelled" if b"cancelling" in fields else "failed" if unsuccessful else "completed"
    return Workflow(
        id=id.decode(),
        name=fields[b"name"].decode(),
        state=state,
        counts=counts,
        total=int(fields[b"total"]),
        created_ms=int(fields[b"created"]),
        finished_ms=int(finished) if finished else None,
        cancel_requested=b"cancelling" in fields,
        callbacks={name: fields[name.encode()].decode() for name in get_args(Callback) if name.encode() in fields},
    )
