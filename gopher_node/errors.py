"""What can go wrong, as one short tree: a class's docstring is its message unless it is given a better one."""

from __future__ import annotations

from collections.abc import Sequence


class GopherError(Exception):
    """Something went wrong in gopher-node."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())


class SettingError(GopherError):
    """A setting has a value that cannot be used."""


class JobNotFound(GopherError):
    """No job has this id."""


class InvalidState(GopherError):
    """The job's state does not allow this."""

    def __init__(self, state: str, message: str | None = None) -> None:
        super().__init__(message or f"The job is {state}, and its state does not allow this.")
        self.state = state


class JobExists(GopherError):
    """A job has this id already."""

    def __init__(self, state: str, id: str = "", *, index: int = 0) -> None:
        super().__init__(f"There is a job {id} already; it is {state}. Nothing was stored." if id else None)
        self.state = state
        self.index = index  # its place among the jobs that were submitted together


class ParentNotFound(GopherError):
    """A job is to wait for another that does not exist."""

    def __init__(self, id: str = "", *, index: int = 0) -> None:
        super().__init__(f"There is no job {id} to wait for. Nothing was stored." if id else None)
        self.parent = id
        self.index = index  # the place of the job that names it, among those that were submitted together


class DependencyCycle(GopherError):
    """Jobs wait for each other in a circle, so none of them could ever run."""

    def __init__(self, circle: Sequence[str] = ()) -> None:
        told = " → ".join(circle if len(circle) <= 20 else [*circle[:20], "…"])
        super().__init__(f"These jobs wait for each other: {told}. Nothing was stored." if circle else None)
        self.circle = tuple(circle)  # names or ids, each before the one that waits for it; the last is the first again


class WorkflowNotFound(GopherError):
    """No workflow has this id."""


class WorkflowEnded(GopherError):
    """The workflow has ended, and takes no more jobs."""

    def __init__(self, state: str = "") -> None:
        super().__init__(f"The workflow is {state}, and takes no more jobs. Nothing was stored." if state else None)
        self.state = state


class QueueDraining(GopherError):
    """The queue is being drained, and takes no new jobs."""

    def __init__(self, type: str = "") -> None:
        told = f"The queue of {type!r} is being drained, and takes no new jobs until it is resumed. Nothing was stored."
        super().__init__(told if type else None)
        self.type = type


class QueueFull(GopherError):
    """The queue has as many waiting jobs as it may have."""

    def __init__(self, type: str = "", waiting: int = 0, max_backlog: int = 0) -> None:
        told = (
            f"The queue of {type!r} has no room: {waiting} of at most {max_backlog} jobs wait. Nothing was stored; "
            "try again later, or with fewer jobs."
        )
        super().__init__(told if type else None)
        self.type = type
        self.waiting = waiting
        self.max_backlog = max_backlog


class BreakerNotFound(GopherError):
    """The type has no circuit breaker."""


class DuplicateJob(GopherError):
    """Another job bears this unique key."""

    def __init__(self, id: str = "", state: str = "", *, index: int = 0) -> None:
        super().__init__(f"Job {id}, which is {state}, bears this unique key." if id else None)
        self.id = id
        self.state = state
        self.index = index  # the place of the refused job among those that were submitted together


class RecurringNotFound(GopherError):
    """No recurring job has this name."""


class RecurringExists(GopherError):
    """Another recurring job has this name."""


class RecurringChanged(GopherError):
    """The recurring job is being changed by others at the same time. Nothing was changed."""


class KeyReused(GopherError):
    """This idempotency key was used with another request."""


class StoreError(GopherError):
    """The store refused."""


class StoreUnavailable(StoreError):
    """The store cannot be reached."""


class OutcomeUnknown(StoreUnavailable):
    """The store was asked and did not answer, so what was asked may or may not have been done."""


class StoreReadOnly(StoreUnavailable):
    """The store takes no writes at the moment."""


class StoreFull(StoreError):
    """The store has no memory left for new jobs."""


class SessionLost(StoreError):
    """The session was declared dead; what it held belongs to others now."""


class StaleLease(GopherError):
    """The lease is no longer valid; its job has been settled, or taken back and given to another worker."""


class TooManyPools(GopherError):
    """Too many different sets of types are being claimed: 64 with one of these types already, or 1,000 in all."""


class UnusableStore(StoreError):
    """The store is set up in a way that would lose jobs."""


class HandlerSignal(GopherError):
    """What a handler raises to say how its run should end."""


class Retry(HandlerSignal):
    """
    Raised by a handler: this run failed, try the job again.

    `after` is the wait in seconds (or a string such as "30s"); without it the retry policy decides.
    It counts as an error: when no retries are left, the job fails, with `code` as its error's.
    """

    # Here as well, for a subclass may forget to call __init__.
    after: float | str | None = None
    code: str = "retry"

    def __init__(
        self,
        message: str = "The handler asked for a retry.",
        *,
        after: float | str | None = None,
        code: str = "retry",
    ) -> None:
        super().__init__(message)
        self.after = after
        self.code = code


class Fail(HandlerSignal):
    """Raised by a handler: this job can never succeed; do not try it again."""

    code: str = "failed"

    def __init__(self, message: str = "The handler declared the job failed.", *, code: str = "failed") -> None:
        super().__init__(message)
        self.code = code


class JobCancelled(HandlerSignal):
    """The job was cancelled, or its time is up."""
