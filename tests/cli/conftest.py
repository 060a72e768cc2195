"""A node in a process of its own for all of these tests, a web server that answers as it is told, and the program."""

from __future__ import annotations

import io
import os
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest

from gopher_node.cli.app import execute
from tests.cli.processes import clean_environment, running_node


@pytest.fixture(scope="session")
def node_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where that node keeps its store."""
    return tmp_path_factory.mktemp("node")


@pytest.fixture(scope="session")
def node_url(node_data: Path) -> Iterator[str]:
    with running_node(node_data) as url:
        yield url


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return orjson.loads(self.out)

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


Gopher = Callable[..., Ran]


@pytest.fixture
def gopher(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Ran]:
    """Runs a command line in this process, with nothing set, in a directory of its own."""
    for name in set(os.environ) - set(clean_environment()):
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, stdin: bytes = b"") -> Ran:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        capsys.readouterr()
        code = execute(arguments)
        written = capsys.readouterr()
        return Ran(code, written.out, written.err)

    return run


@pytest.fixture
def at_node(gopher: Gopher, node_url: str, monkeypatch: pytest.MonkeyPatch) -> Gopher:
    """Runs a command line against the real node, which it finds by GOPHER_URL."""
    monkeypatch.setenv("GOPHER_URL", node_url)
    return gopher


@pytest.fixture
def queue() -> str:
    """A job type that nobody serves and no other test uses."""
    return f"unserved-{uuid.uuid4().hex[:12]}"


class Told:
    """
    A web server in a thread whose answers are set beforehand, one for each request; the last one stays.

    What is set for a path holds for each request to it.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, Any]] = []
        self.on_request: Callable[[], None] = lambda: None
        self.paths: dict[str, Any] = {}
        self._answers: list[tuple[int, str, bytes]] = []
        told = self

        class Handler(BaseHTTPRequestHandler):
            def respond(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                told.asked.append((self.command, self.path, orjson.loads(body) if body else None))
                told.on_request()
                path = self.path.partition("?")[0]
                if path in told.paths:
                    status, kind, content = 200, "application/json", orjson.dumps(told.paths[path])
                else:
                    status, kind, content = told._answers.pop(0) if len(told._answers) > 1 else told._answers[0]
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = do_DELETE = respond

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def answer(self, content: Any, status: int = 200, kind: str = "application/json") -> None:
        self._answers.append((status, kind, orjson.dumps(content)))

    def refuse(self, status: int, name: str, **more: Any) -> None:
        problem = {"type": f"/problems/{name}", "title": "A title.", "status": status, **more}
        self.answer(problem, status, "application/problem+json")

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def told() -> Iterator[Told]:
    told = Told()
    yield told
    told.close()
