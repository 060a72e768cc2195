"""Built-in handlers run as a worker runs them: from the payload's bytes, with a context of real settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from aiohttp import web

from gopher_node.handlers import JobContext, Registry
from gopher_node.settings import Settings
from tests.handlers.receiver import Receiver

JOB = "3f0c1f5e-1111-4222-8333-444455556666"


class Node:
    """What of a node a handler can see. `settings` are the defaults, with data in the test's own folder."""

    def __init__(self, folder: Path) -> None:
        self.settings = Settings(data_dir=folder)
        self.state = SimpleNamespace()
        self.registry = Registry()
        self.registry.load_builtin()
        self.files = self.settings.files.root
        self.files.mkdir(parents=True)

    def configure(self, **sections: Any) -> None:
        self.settings = Settings(data_dir=self.settings.data_dir, **sections)

    def context(self, type: str, *, job_id: str = JOB, attempt: int = 1, **options: Any) -> JobContext:
        return JobContext(
            job_id=job_id,
            type=type,
            attempt=attempt,
            settings=self.settings,
            state=self.state,
            registry=self.registry,
            **options,
        )

    def call(self, type: str, payload: Any, *, job_id: str = JOB, attempt: int = 1, **options: Any) -> Any:
        handler = self.registry.get(type)
        assert handler is not None
        context = self.context(type, job_id=job_id, attempt=attempt, **options)
        return handler.run(context, handler.parse(orjson.dumps(payload)))

    def names(self, folder: str = ".") -> list[str]:
        """All files under a folder of the files' root."""
        top = self.files / folder
        return sorted(path.relative_to(top).as_posix() for path in top.rglob("*") if not path.is_dir())


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    node = Node(tmp_path / "data")
    yield node
    await node.registry.stop(node.state)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.receive)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receiver.port = runner.addresses[0][1]
    yield receiver
    await runner.cleanup()
