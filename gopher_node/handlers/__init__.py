"""The functions that run jobs: how they are registered, what they are given, and those that are built in."""

from gopher_node.handlers.binding import InvalidHandler, InvalidPayload
from gopher_node.handlers.context import JobContext
from gopher_node.handlers.registry import Handler, Registry, handler, registry, shutdown, startup

__all__ = [
    "Handler",
    "InvalidHandler",
    "InvalidPayload",
    "JobContext",
    "Registry",
    "handler",
    "registry",
    "shutdown",
    "startup",
]
