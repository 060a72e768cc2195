"""What docs/cookbook.md shows, as it stands: its handlers in a node, its commands and programs against that node."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import io
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gopher_node.cli.app import execute
from gopher_node.client import Client
from gopher_node.handlers.registry import registry
from tests.cli.processes import running_node

pytestmark = pytest.mark.process

COOKBOOK = (Path(__file__).parent.parent / "docs" / "cookbook.md").read_text()
URL = "http://127.0.0.1:8080"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PAGES = {page.partition("\n")[0]: BLOCK.findall(page) for page in re.split(r"^## ", COOKBOOK, flags=re.MULTILINE)[1:]}
RECIPES = "# recipes.py\n"
# What differs from one run to the next: ids and times.
VARIES = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?Z")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where recipes.py is."""
    folder = tmp_path_factory.mktemp("cookbook")
    handlers = [text for blocks in PAGES.values() for _, text in blocks if text.startswith(RECIPES)]
    (folder / "recipes.py").write_text("\n\n".join(handlers))
    return folder


@pytest.fixture(scope="module")
def node_url(folder: Path) -> Iterator[str]:
    with running_node(folder / "data", "--handlers=clijobs,recipes", PYTHONPATH=str(folder)) as url:
        yield url


@pytest.mark.parametrize("page", PAGES)
def test_a_page(page: str, folder: Path, node_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_handlers", {})
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "recipes", raising=False)
    monkeypatch.setenv("GOPHER_URL", node_url)
    printed = None
    for language, text in PAGES[page]:
        if language == "console":
            assert shown(session(text)) == shown(text)
        elif language == "text":
            assert printed is not None
            assert shown(printed) == shown(text)
            printed = None
        elif not text.startswith(RECIPES):
            assert language == "python"
            printed = program(text.replace(URL, node_url))


def test_there_is_a_contents_line_for_each_page() -> None:
    named = re.findall(r"\]\(#([a-z-]+)\)", COOKBOOK.partition("\n## ")[0])
    assert named == [page.lower().replace(" ", "-") for page in PAGES]


def program(text: str) -> str:
    """Runs it, and the tests in it; what it prints."""
    names: dict[str, object] = {"__name__": "page"}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(text, names)
    for name, value in names.items():
        if name.startswith("test_") and inspect.iscoroutinefunction(value):
            asyncio.run(value())
    return printed.getvalue()


def session(text: str) -> str:
    """The commands of this terminal, each with what it says now."""
    said: list[str] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            assert line.startswith("$ gopher-node ")
            with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
                execute(shlex.split(line)[2:])
            said += [line, out.getvalue() + err.getvalue()]
    return "\n".join(said)


def shown(text: str) -> str:
    """Without what varies, and how wide it is."""
    return " ".join(VARIES.sub("…", text).split())


def test_the_node_is_one_that_users_start(node_url: str) -> None:
    with Client(node_url) as client:
        assert {"charge", "join", "campaign_mail"} <= {handler.type for handler in client.handlers()}
