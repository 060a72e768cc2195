"""Runs jobs: claim, perform, settle."""

from gopher_node.worker.worker import Patience, Worker, WorkerStatus

__all__ = ["Patience", "Worker", "WorkerStatus"]
