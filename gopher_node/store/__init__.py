"""All that gopher-node knows about Redis and Valkey; nothing outside this package knows more."""

from gopher_node.store.connections import Connections
from gopher_node.store.keys import Admission, KeyRecord, Keys
from gopher_node.store.leases import Leases
from gopher_node.store.operating import Verb
from gopher_node.store.store import Store
from gopher_node.store.values import (
    Acted,
    Beat,
    Beaten,
    Claimed,
    JobFilter,
    Minute,
    Once,
    Overdue,
    Page,
    Pool,
    Promoted,
    Pulse,
    QueueState,
    Retention,
    Session,
    Stats,
    Submitted,
    Survey,
)

__all__ = [
    "Acted",
    "Admission",
    "Beat",
    "Beaten",
    "Claimed",
    "Connections",
    "JobFilter",
    "KeyRecord",
    "Keys",
    "Leases",
    "Minute",
    "Once",
    "Overdue",
    "Page",
    "Pool",
    "Promoted",
    "Pulse",
    "QueueState",
    "Retention",
    "Session",
    "Stats",
    "Store",
    "Submitted",
    "Survey",
    "Verb",
]
