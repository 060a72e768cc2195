"""What the README shows is what there is."""

import re
from pathlib import Path

import pytest

from gopher_node.api.app import RESOURCES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
WORKERS = ROOT / "tests" / "node" / "workers"


@pytest.mark.parametrize(("name", "language"), [("worker.sh", "bash"), ("worker.mjs", "js")])
def test_the_workers_are_shown_word_for_word(name: str, language: str) -> None:
    text = (WORKERS / name).read_text()
    assert f"```{language}\n{text}```" in README
    assert text.count("\n") <= 30


def test_every_address_that_it_names_is_answered() -> None:
    answered = {path for resource in RESOURCES for one in resource.ENDPOINTS for path in (one.path, *one.aliases)}
    patterns = [re.compile(re.sub(r"\{\w+\}", "[^/]+", path) + r"\Z") for path in answered]
    named = set(re.findall(r"`(?:[A-Z/]+ )?(/[a-z0-9/{}._-]+)", README))
    assert len(named) > 10
    assert [path for path in named if not any(pattern.match(path) for pattern in patterns)] == []
