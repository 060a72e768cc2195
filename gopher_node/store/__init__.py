"""All that gopher-node knows about Redis and Valkey; nothing outside this package knows more."""

from gopher_node.store.breakers import Breaker, BreakerMove, Breakers, BreakerState
from gopher_node.store.connections import Connections
from gopher_node.store.flow import Flow
from gopher_node.store.keys import Admission, KeyRecord, Keys
from gopher_node.store.latencies import Latencies, Recent
from gopher_node.store.leases import Leases
from gopher_node.store.logs import LogPage, Logs
from gopher_node.store.operating import Verb
from gopher_node.store.recurring import Definition, Recurrences, Recurring
from gopher_node.store.store import Store
from gopher_node.store.values import (
    Acted,
    Beat,
    Beaten,
    Claimed,
    Demand,
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
from gopher_node.store.workflows import NewWorkflow, Parent, SubmittedWorkflow, Workflow, WorkflowPage, Workflows

__all__ = [
    "Acted",
    "Admission",
    "Beat",
    "Beaten",
    "Breaker",
    "BreakerMove",
    "BreakerState",
    "Breakers",
    "Claimed",
    "Connections",
    "Definition",
    "Demand",
    "Flow",
    "JobFilter",
    "KeyRecord",
    "Keys",
    "Latencies",
    "Leases",
    "LogPage",
    "Logs",
    "Minute",
    "NewWorkflow",
    "Once",
    "Overdue",
    "Page",
    "Parent",
    "Pool",
    "Promoted",
    "Pulse",
    "QueueState",
    "Recent",
    "Recurrences",
    "Recurring",
    "Retention",
    "Session",
    "Stats",
    "Store",
    "Submitted",
    "SubmittedWorkflow",
    "Survey",
    "Verb",
    "Workflow",
    "WorkflowPage",
    "Workflows",
]
