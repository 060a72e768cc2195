"""The same for tests that are no coroutines."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import datetime
from types import SimpleNamespace, TracebackType
from typing import Any, Self, TypeVar

from typing_extensions import Unpack

from gopher_node.client import JobView
from gopher_node.handlers import Registry
from gopher_node.settings import Settings
from gopher_node.testing.node import Duration, SubmitOptions, TestNode

Answer = TypeVar("Answer")


class SyncTestNode:
    """A `TestNode` for tests that are no coroutines: `with SyncTestNode() as node:`, and no `await`."""

    __test__ = False

    def __init__(
        self,
        *modules: str,
        registry: Registry | None = None,
        settings: Settings | None = None,
        state: SimpleNamespace | None = None,
        now: datetime | None = None,
        check: bool = True,
        hooks: bool = True,
    ) -> None:
        """As those of `TestNode`."""
        self._node = TestNode(
            *modules, registry=registry, settings=settings, state=state, now=now, check=check, hooks=hooks
        )
        self._runner = asyncio.Runner()
        self.state = self._node.state
        self.job = self._node.job
        self.jobs = self._node.jobs
        self.enqueued = self._node.enqueued

    def __enter__(self) -> Self:
        try:
            self._wait(self._node.__aenter__())
        except BaseException:
            self._runner.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._wait(self._node.__aexit__(kind, error, trace))
        finally:
            self._runner.close()

    @property
    def now(self) -> datetime:
        """The node's time."""
        return self._node.now

    def submit(self, type: str, payload: Any = None, **options: Unpack[SubmitOptions]) -> JobView:
        """See `TestNode.submit`."""
        return self._wait(self._node.submit(type, payload, **options))

    def run_until_idle(self, *, check: bool | None = None) -> list[JobView]:
        """See `TestNode.run_until_idle`."""
        return self._wait(self._node.run_until_idle(check=check))

    def advance(self, by: Duration, *, run: bool = True, check: bool | None = None) -> list[JobView]:
        """See `TestNode.advance`."""
        return self._wait(self._node.advance(by, run=run, check=check))

    def cancel(self, job_id: str) -> JobView:
        """See `TestNode.cancel`."""
        return self._wait(self._node.cancel(job_id))

    def _wait(self, coroutine: Coroutine[Any, Any, Answer]) -> Answer:
        return self._runner.run(coroutine)
