"""Runs jobs: claim, perform, settle."""

from gopher_node.worker.patience import Patience
from gopher_node.worker.status import WorkerStatus
from gopher_node.worker.worker import Worker

__all__ = ["Patience", "Worker", "WorkerStatus"]
