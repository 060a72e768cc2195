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


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{page.name}" for page in (ROOT / "docs").glob("*.md"))])
def test_every_link_to_a_page_here_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", (ROOT / page).read_text()):
        path, _, heading = target.partition("#")
        linked = (ROOT / page).parent / path if path else ROOT / page
        assert linked.is_file(), target
        headings = re.findall(r"^#+ (.+)$", linked.read_text(), re.MULTILINE)
        assert not heading or heading in {re.sub(r"[^\w -]", "", line).lower().replace(" ", "-") for line in headings}
