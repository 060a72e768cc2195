"""Makes what each handler is told of its run, and fetches what that does not have at hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from functools import partial
from types import SimpleNamespace

import orjson

from gopher_node.handlers import JobContext, Registry
from gopher_node.handlers.parents import ParentResult
from gopher_node.job import Job
from gopher_node.settings import Settings
from gopher_node.store import Store
from gopher_node.worker.run import Run


class Contexts:
    """Makes the contexts of a worker's runs, on its loop."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        settings: Settings,
        state: SimpleNamespace,
        on_progress: Callable[[Run, bytes], None],
    ) -> None:
        self._store = store
        self._registry = registry
        self._settings = settings
        self._state = state
        self._on_progress = on_progress

    def of(self, run: Run) -> JobContext:
        job = run.lease.job
        options = job.options
        return JobContext(
            job_id=job.id,
            type=job.type,
            settings=self._settings,
            attempt=job.attempt,
            max_retries=job.max_retries,
            group=job.group,
            tags=job.tags,
            token=str(run.lease.token),
            state=self._state,
            registry=self._registry,
            on_progress=partial(self._on_progress, run),
            workflow_id=options.workflow,
            parents=partial(self._ask_for_parents, job, asyncio.get_running_loop()) if options.depends_on else None,
        )

    def _ask_for_parents(self, job: Job, loop: asyncio.AbstractEventLoop) -> Future[Mapping[str, ParentResult]]:
        return asyncio.run_coroutine_threadsafe(self._parents(job), loop)

    async def _parents(self, job: Job) -> Mapping[str, ParentResult]:
        found = await self._store.workflows.parents(job)
        return {
            name: ParentResult(
                parent.state, None if parent.result is None else orjson.loads(parent.result), parent.error
            )
            for name, parent in found.items()
        }
