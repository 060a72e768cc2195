"""What can go wrong between a client and a node, as exceptions that say what to do next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gopher_node import errors
from gopher_node.errors import GopherError

if TYPE_CHECKING:
    from gopher_node.client.views import JobView, WorkflowView


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing that is wrong with what was sent. `pointer` is a JSON pointer into it, or a parameter's name."""

    pointer: str
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Problem:
    """
    The error document of a node (RFC 9457).

    `type` is the last part of its URI, such as "job-not-found"; `retry_after` is in seconds; `more` has the members
    that RFC 9457 does not name.
    """

    status: int
    type: str = ""
    title: str = ""
    detail: str = ""
    instance: str = ""
    errors: tuple[FieldError, ...] = ()
    retry_after: float | None = None
    more: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def sentence(self) -> str:
        """What a person is told."""
        if self.errors:
            title = self.title or "The node does not take this."
            faults = [f"{fault.pointer or 'the body'}: {fault.detail.rstrip('.')}" for fault in self.errors]
            return f"{title.rstrip('.')}: {'; '.join(faults)}."
        text = self.detail or self.title or f"The node answered with HTTP status {self.status}."
        if self.status == 503 and self.title and self.detail:
            # Here the detail says what to do, and only the title why.
            text = f"{self.title.rstrip('.')}. {self.detail}"
        return f"{text} (instance {self.instance})" if self.status == 500 and self.instance else text


class ApiError(GopherError):
    """The node refused what it was asked."""

    def __init__(self, problem: Problem) -> None:
        GopherError.__init__(self, problem.sentence())
        self.problem = problem
        self.status = problem.status
        self.type = problem.type
        self.title = problem.title
        self.detail = problem.detail
        self.errors = problem.errors
        self.retry_after = problem.retry_after

    def __reduce__(self) -> tuple[type[ApiError], tuple[Problem]]:
        # Exceptions are copied from their message, which is not what these are made of.
        return type(self), (self.problem,)


class InvalidRequest(ApiError):
    """What was sent is not something that the node takes; `errors` says what is wrong where."""


class Unauthenticated(ApiError):
    """The node wants a key, and none or an unknown one was shown."""


class Forbidden(ApiError):
    """The key that was shown does not allow this; it would need the scope in `scope`."""

    def __init__(self, problem: Problem) -> None:
        ApiError.__init__(self, problem)
        self.scope = str(problem.more.get("scope", ""))


class NotFound(ApiError):
    """What was asked for does not exist."""


class JobNotFound(NotFound, errors.JobNotFound):
    """No job has this id."""


class RecurringNotFound(NotFound, errors.RecurringNotFound):
    """No recurring job has this name."""


class RecurringExists(ApiError, errors.RecurringExists):
    """Another recurring job has this name, and nothing was stored."""

    def __init__(self, problem: Problem) -> None:
        ApiError.__init__(self, problem)


class WorkflowNotFound(NotFound, errors.WorkflowNotFound):
    """No workflow has this id."""


class QueueNotFound(NotFound):
    """Nothing is known of this queue."""


class BreakerNotFound(NotFound, errors.BreakerNotFound):
    """The type has no circuit breaker."""


class NodeNotFound(NotFound):
    """No node has this id, or it has been silent for too long."""


class LeaseNotFound(NotFound):
    """This is no lease's token."""


class JobExists(ApiError, errors.JobExists):
    """A job has the id that was chosen already; it is in the state `state`, and nothing was stored."""

    def __init__(self, problem: Problem) -> None:
        ApiError.__init__(self, problem)
        self.state = str(problem.more.get("state", ""))


class WorkflowEnded(ApiError, errors.WorkflowEnded):
    """The workflow has ended, in the state `state`, and takes no more jobs."""

    def __init__(self, problem: Problem) -> None:
        ApiError.__init__(self, problem)
        self.state = str(problem.more.get("state", ""))


class DependencyCycle(InvalidRequest, errors.DependencyCycle):
    """Jobs wait for each other; `circle` names them, each before the one that waits for it. Nothing was stored."""

    def __init__(self, problem: Problem) -> None:
        ApiError.__init__(self, problem)
        self.circle = tuple(problem.more.get("cycle") or ())


class ParentNotFound(InvalidRequest, errors.ParentNotFound):
    """A job is to wait for another that does not exist. Nothing was stored."""

    def __init__(self, problem: Problem) -> None:
        ApiError.__init__(self, problem)


class DuplicateJob(ApiError, errors.DuplicateJob):
    """Job `job_id`, which is in the state `state`, bears the unique key. Nothing was done."""

    def __init__(self, problem: Problem) -> None:
        ApiError.__init__(self, problem)
        self.job_id = self.id = str(problem.more.get("job_id", ""))
        self.state = str(problem.more.get("state", ""))


class QueueDraining(ApiError, errors.QueueDraining):
    """The queue is being drained, and takes no new jobs. Nothing was stored."""

    def __init__(self, problem: Problem) -> None:
        ApiError.__init__(self, problem)


class LeaseLost(ApiError, errors.StaleLease):
    """The job is no longer this worker's: its lease ended. Stop working on it; what becomes of it is settled."""


class IdempotencyKeyReused(InvalidRequest, errors.KeyReused):
    """This idempotency key was used with another request. Nothing was stored."""


class InvalidState(ApiError, errors.InvalidState):
    """The job's state, in `state`, does not allow this."""

    def __init__(self, problem: Problem) -> None:
        ApiError.__init__(self, problem)
        self.state = str(problem.more.get("state", ""))


class TooManyRequests(ApiError):
    """The node takes no more of this for now; `retry_after` says when to come back. Nothing was stored."""


class QueueFull(TooManyRequests, errors.QueueFull):
    """As many jobs of this type wait as may. Nothing was stored."""

    def __init__(self, problem: Problem) -> None:
        ApiError.__init__(self, problem)
        self.max_backlog = int(problem.more.get("limit") or 0)


class RateLimited(TooManyRequests):
    """This key has asked too often; `retry_after` says when it may again."""


class NodeNotReady(ApiError):
    """The node is there and cannot serve: its store is away, or it is stopping."""

    @property
    def outcome_unknown(self) -> bool:
        """Whether what was asked may have been done all the same."""
        outcome = self.problem.more.get("outcome")
        return outcome != "not-done" if outcome else self.type not in ("draining", "too-many-connections")


class ServerUnavailable(GopherError):
    """No node could be reached at `url`. Nothing was sent."""

    outcome_unknown = False

    def __init__(self, url: str, reason: str, message: str | None = None) -> None:
        super().__init__(
            message
            or f"No node can be reached at {url} ({reason}). "
            "Start one there with `gopher-node`, or set GOPHER_URL to the address of one that runs."
        )
        self.url = url
        self.reason = reason

    def __reduce__(self) -> tuple[type[ServerUnavailable], tuple[str, str, str]]:
        return type(self), (self.url, self.reason, str(self))


class NoAnswer(ServerUnavailable):
    """
    The node was asked and gave no answer, so what was asked may or may not have been done.

    Where `idempotency_key` is set, asking once more with that key is safe: it is done once.
    """

    outcome_unknown = True
    idempotency_key: str | None = None

    @classmethod
    def to(cls, url: str, reason: str, *, changes: bool, idempotency_key: str | None = None) -> NoAnswer:
        next_step = (
            "What was asked may or may not have been done: look before you ask again."
            if changes
            else "Look whether the node is overloaded or its network is cut, then ask again."
        )
        error = cls(url, reason, f"The node at {url} gave no answer ({reason}). {next_step}")
        error.idempotency_key = idempotency_key
        return error

    def __reduce__(self) -> tuple[Any, ...]:
        return (*ServerUnavailable.__reduce__(self), {"idempotency_key": self.idempotency_key})


class UnexpectedAnswer(GopherError):
    """Something answered that does not speak the API of gopher-node as this client knows it."""


class WaitTimeout(GopherError, TimeoutError):
    """The job did not end in time. `job` is how it was then; it goes on."""

    def __init__(self, job: JobView, seconds: float) -> None:
        super().__init__(f"Job {job.job_id} is still {job.status} after {seconds:g} s. It goes on; ask for it later.")
        self.job = job
        self.seconds = seconds

    def __reduce__(self) -> tuple[type[WaitTimeout], tuple[JobView, float]]:
        return type(self), (self.job, self.seconds)


class JobFailed(GopherError):
    """The job ended without a result: it failed, or was cancelled. `job` is how it ended, with all that is known."""

    def __init__(self, job: JobView) -> None:
        how = "was cancelled" if job.status == "cancelled" else "failed"
        error = job.error or {}
        why = ": ".join(str(error[part]) for part in ("code", "message") if error.get(part))
        super().__init__(f"Job {job.job_id} {how}{f': {why}' if why else '.'}")
        self.job = job

    def __reduce__(self) -> tuple[type[JobFailed], tuple[JobView]]:
        return type(self), (self.job,)

    @classmethod
    def unless_completed(cls, job: JobView) -> JobView:
        """The job, if it has a result; else this is raised."""
        if job.status != "completed":
            raise cls(job)
        return job


class WorkflowTimeout(GopherError, TimeoutError):
    """The workflow did not end in time. `workflow` is how it was then; it goes on."""

    def __init__(self, workflow: WorkflowView, seconds: float) -> None:
        super().__init__(
            f"Workflow {workflow.workflow_id} is still running after {seconds:g} s: {workflow.ended} of its "
            f"{workflow.total} jobs have ended. It goes on; ask for it later."
        )
        self.workflow = workflow
        self.seconds = seconds

    def __reduce__(self) -> tuple[type[WorkflowTimeout], tuple[WorkflowView, float]]:
        return type(self), (self.workflow, self.seconds)


class WorkflowFailed(GopherError):
    """Not all jobs of the workflow completed, or it was cancelled. `workflow` is how it ended."""

    def __init__(self, workflow: WorkflowView) -> None:
        how = "was cancelled" if workflow.status == "cancelled" else "failed"
        numbers = ", ".join(f"{number} {state}" for state, number in workflow.counts.items() if number)
        super().__init__(f"Workflow {workflow.workflow_id} {how}: {numbers or 'it has no jobs'}.")
        self.workflow = workflow

    def __reduce__(self) -> tuple[type[WorkflowFailed], tuple[WorkflowView]]:
        return type(self), (self.workflow,)

    @classmethod
    def unless_completed(cls, workflow: WorkflowView) -> WorkflowView:
        """The workflow, if all of its jobs have completed; else this is raised."""
        if workflow.status != "completed":
            raise cls(workflow)
        return workflow


_BY_TYPE: dict[str, type[ApiError]] = {
    "job-not-found": JobNotFound,
    "recurring-not-found": RecurringNotFound,
    "recurring-exists": RecurringExists,
    "workflow-not-found": WorkflowNotFound,
    "workflow-ended": WorkflowEnded,
    "dependency-cycle": DependencyCycle,
    "parent-not-found": ParentNotFound,
    "queue-not-found": QueueNotFound,
    "breaker-not-found": BreakerNotFound,
    "queue-full": QueueFull,
    "queue-draining": QueueDraining,
    "node-not-found": NodeNotFound,
    "lease-not-found": LeaseNotFound,
    "invalid-state": InvalidState,
    "job-exists": JobExists,
    "duplicate-job": DuplicateJob,
    "lease-lost": LeaseLost,
    "idempotency-key-reused": IdempotencyKeyReused,
    "rate-limited": RateLimited,
}
_BY_STATUS: dict[int, type[ApiError]] = {
    400: InvalidRequest,
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    413: InvalidRequest,
    415: InvalidRequest,
    422: InvalidRequest,
    429: TooManyRequests,
    503: NodeNotReady,
}


def error_for(problem: Problem) -> ApiError:
    """The exception that stands for this problem."""
    kind = _BY_TYPE.get(problem.type) or _BY_STATUS.get(problem.status, ApiError)
    return kind(problem)
