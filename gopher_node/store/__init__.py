"""All that gopher-node knows about Redis and Valkey; nothing outside this package knows more."""

from gopher_node.store.connections import Connections
from gopher_node.store.store import Store
from gopher_node.store.values import (
    Claimed,
    JobFilter,
    Overdue,
    Page,
    Pool,
    Promoted,
    Pulse,
    Retention,
    Session,
    Stats,
    Submitted,
    Survey,
)

__all__ = [
    "Claimed",
    "Connections",
    "JobFilter",
    "Overdue",
    "Page",
    "Pool",
    "Promoted",
    "Pulse",
    "Retention",
    "Session",
    "Stats",
    "Store",
    "Submitted",
    "Survey",
]
