"""A job server that is one command: HTTP API, scheduler and workers in one asyncio process."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "Client",
    "Fail",
    "JobCancelled",
    "JobContext",
    "Retry",
    "RetryPolicy",
    "handler",
    "shutdown",
    "startup",
]

if TYPE_CHECKING:
    from gopher_node.client import AsyncClient, Client
    from gopher_node.errors import Fail, JobCancelled, Retry
    from gopher_node.handlers import JobContext, handler, shutdown, startup
    from gopher_node.job import RetryPolicy

# Imported at first use: a program that only wants the client must not pay for the handlers, nor the other way round.
_HOMES = {
    "AsyncClient": "gopher_node.client",
    "Client": "gopher_node.client",
    "Fail": "gopher_node.errors",
    "JobCancelled": "gopher_node.errors",
    "JobContext": "gopher_node.handlers",
    "Retry": "gopher_node.errors",
    "RetryPolicy": "gopher_node.job",
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
