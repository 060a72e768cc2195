"""A job server that is one command: HTTP API, scheduler and workers in one asyncio process."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "ApiError",
    "AsyncClient",
    "BreakerPolicy",
    "Client",
    "DuplicateJob",
    "Fail",
    "Forbidden",
    "InvalidRequest",
    "InvalidState",
    "JobCancelled",
    "JobContext",
    "JobExists",
    "JobFailed",
    "JobNotFound",
    "LeaseLost",
    "NoAnswer",
    "NotFound",
    "QueueDraining",
    "QueueFull",
    "Rate",
    "RateLimited",
    "Retry",
    "RetryPolicy",
    "ServerUnavailable",
    "Unauthenticated",
    "WaitTimeout",
    "WorkflowFailed",
    "handler",
    "shutdown",
    "startup",
]

if TYPE_CHECKING:
    from gopher_node.client import (
        ApiError,
        AsyncClient,
        Client,
        DuplicateJob,
        Forbidden,
        InvalidRequest,
        InvalidState,
        JobExists,
        JobFailed,
        JobNotFound,
        LeaseLost,
        NoAnswer,
        NotFound,
        QueueDraining,
        QueueFull,
        RateLimited,
        ServerUnavailable,
        Unauthenticated,
        WaitTimeout,
        WorkflowFailed,
    )
    from gopher_node.errors import Fail, JobCancelled, Retry
    from gopher_node.flow import BreakerPolicy, Rate
    from gopher_node.handlers import JobContext, handler, shutdown, startup
    from gopher_node.job import RetryPolicy

# Imported at first use: a program that only wants the client must not pay for the handlers, nor the other way round.
# Errors are those of the client; where the store has one of the same name (JobNotFound, JobExists, InvalidState), the
# client's is a kind of it.
_HOMES = {
    "ApiError": "gopher_node.client",
    "AsyncClient": "gopher_node.client",
    "BreakerPolicy": "gopher_node.flow",
    "Client": "gopher_node.client",
    "DuplicateJob": "gopher_node.client",
    "Fail": "gopher_node.errors",
    "Forbidden": "gopher_node.client",
    "InvalidRequest": "gopher_node.client",
    "InvalidState": "gopher_node.client",
    "JobCancelled": "gopher_node.errors",
    "JobContext": "gopher_node.handlers",
    "JobExists": "gopher_node.client",
    "JobFailed": "gopher_node.client",
    "JobNotFound": "gopher_node.client",
    "LeaseLost": "gopher_node.client",
    "NoAnswer": "gopher_node.client",
    "NotFound": "gopher_node.client",
    "QueueDraining": "gopher_node.client",
    "QueueFull": "gopher_node.client",
    "Rate": "gopher_node.flow",
    "RateLimited": "gopher_node.client",
    "Retry": "gopher_node.errors",
    "RetryPolicy": "gopher_node.job",
    "ServerUnavailable": "gopher_node.client",
    "Unauthenticated": "gopher_node.client",
    "WaitTimeout": "gopher_node.client",
    "WorkflowFailed": "gopher_node.client",
    "handler": "gopher_node.handlers",
    "shutdown": "gopher_node.handlers",
    "startup": "gopher_node.handlers",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
