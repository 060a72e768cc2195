"""What both clients do with workflows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import TypeVar

from gopher_node.client import calls
from gopher_node.client.calls.call import Call, Duration
from gopher_node.client.calls.jobs import JobRequest, Listing
from gopher_node.client.problems import WorkflowFailed
from gopher_node.client.views import JobView, WorkflowView
from gopher_node.client.wire import Flow, Wire

T = TypeVar("T")


class Workflows:
    """The part of `Client` that is about workflows."""

    _wire: Wire

    def submit_workflow(
        self,
        jobs: Iterable[JobRequest] | None = None,
        *,
        chain: Iterable[JobRequest] | None = None,
        name: str | None = None,
        on_complete: JobRequest | None = None,
        on_success: JobRequest | None = None,
        on_failure: JobRequest | None = None,
        idempotency_key: str | None = None,
    ) -> WorkflowView:
        """
        Submit jobs that belong together: all of them, or none. `job_ids` of the answer are in the order of the jobs.

        A job's `depends_on` has names of others of these jobs, or ids. In a `chain` each job waits for the one before.
        """
        callbacks = {"on_complete": on_complete, "on_success": on_success, "on_failure": on_failure}
        return self._ask(calls.workflows.submit(jobs, chain=chain, name=name, callbacks=callbacks, key=idempotency_key))

    def workflow(self, workflow_id: str) -> WorkflowView:
        return self._ask(calls.workflows.get(workflow_id))

    def workflows(self, *, limit: int | None = None) -> Iterator[WorkflowView]:
        """The workflows, at most `limit`, the latest first."""
        return self._walk(calls.workflows.workflows(limit))

    def workflow_jobs(self, workflow_id: str, *, limit: int | None = None) -> Iterator[JobView]:
        """The jobs of a workflow, at most `limit`, those that were stored first before the others."""
        return self._walk(calls.workflows.jobs(workflow_id, limit))

    def add_to_workflow(
        self, workflow_id: str, jobs: Iterable[JobRequest], *, idempotency_key: str | None = None
    ) -> tuple[JobView, ...]:
        """Add jobs to a workflow that still runs: all of them, or none."""
        return self._ask(calls.workflows.add(workflow_id, jobs, idempotency_key))

    def cancel_workflow(self, workflow_id: str) -> WorkflowView:
        """Cancel all jobs of a workflow that have not ended; those that run are asked to stop."""
        return self._ask(calls.workflows.cancel(workflow_id))

    def wait_workflow(self, workflow_id: str, timeout: Duration | None = None, *, check: bool = True) -> WorkflowView:
        """
        Wait until all jobs of a workflow have ended. Raises WorkflowTimeout; without `timeout` it waits for ever.

        One that failed or was cancelled raises WorkflowFailed; with `check=False` it is answered like any other.
        """
        workflow = self._follow(self._wire.wait_workflow(workflow_id, timeout))
        return WorkflowFailed.unless_completed(workflow) if check else workflow

    def _ask(self, call: Call[T]) -> T:
        raise NotImplementedError

    def _follow(self, flow: Flow[T]) -> T:
        raise NotImplementedError

    def _walk(self, listing: Listing[T]) -> Iterator[T]:
        raise NotImplementedError


class AsyncWorkflows:
    """The part of `AsyncClient` that is about workflows."""

    _wire: Wire

    async def submit_workflow(
        self,
        jobs: Iterable[JobRequest] | None = None,
        *,
        chain: Iterable[JobRequest] | None = None,
        name: str | None = None,
        on_complete: JobRequest | None = None,
        on_success: JobRequest | None = None,
        on_failure: JobRequest | None = None,
        idempotency_key: str | None = None,
    ) -> WorkflowView:
        """
        Submit jobs that belong together: all of them, or none. `job_ids` of the answer are in the order of the jobs.

        A job's `depends_on` has names of others of these jobs, or ids. In a `chain` each job waits for the one before.
        """
        callbacks = {"on_complete": on_complete, "on_success": on_success, "on_failure": on_failure}
        return await self._ask(
            calls.workflows.submit(jobs, chain=chain, name=name, callbacks=callbacks, key=idempotency_key)
        )

    async def workflow(self, workflow_id: str) -> WorkflowView:
        return await self._ask(calls.workflows.get(workflow_id))

    def workflows(self, *, limit: int | None = None) -> AsyncIterator[WorkflowView]:
        """The workflows, at most `limit`, the latest first."""
        return self._walk(calls.workflows.workflows(limit))

    def workflow_jobs(self, workflow_id: str, *, limit: int | None = None) -> AsyncIterator[JobView]:
        """The jobs of a workflow, at most `limit`, those that were stored first before the others."""
        return self._walk(calls.workflows.jobs(workflow_id, limit))

    async def add_to_workflow(
        self, workflow_id: str, jobs: Iterable[JobRequest], *, idempotency_key: str | None = None
    ) -> tuple[JobView, ...]:
        """Add jobs to a workflow that still runs: all of them, or none."""
        return await self._ask(calls.workflows.add(workflow_id, jobs, idempotency_key))

    async def cancel_workflow(self, workflow_id: str) -> WorkflowView:
        """Cancel all jobs of a workflow that have not ended; those that run are asked to stop."""
        return await self._ask(calls.workflows.cancel(workflow_id))

    async def wait_workflow(
        self, workflow_id: str, timeout: Duration | None = None, *, check: bool = True
    ) -> WorkflowView:
        """
        Wait until all jobs of a workflow have ended. Raises WorkflowTimeout; without `timeout` it waits for ever.

        One that failed or was cancelled raises WorkflowFailed; with `check=False` it is answered like any other.
        """
        workflow = await self._follow(self._wire.wait_workflow(workflow_id, timeout))
        return WorkflowFailed.unless_completed(workflow) if check else workflow

    async def _ask(self, call: Call[T]) -> T:
        raise NotImplementedError

    async def _follow(self, flow: Flow[T]) -> T:
        raise NotImplementedError

    def _walk(self, listing: Listing[T]) -> AsyncIterator[T]:
        raise NotImplementedError
