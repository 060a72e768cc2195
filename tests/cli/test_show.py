"""How things are shown: text that is safe to print, columns that line up, JSON that stays JSON."""

from __future__ import annotations

import unicodedata

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gopher_node.cli import show

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(JSON, st.booleans())
def test_json_stays_the_same_value(value: object, indent: bool) -> None:
    """The escapes that keep a terminal safe are JSON's own."""
    assert orjson.loads(show.to_json(value, indent=indent)) == value


@given(st.text())
def test_visible_text_has_nothing_hidden(text: str) -> None:
    """Whatever is left can be seen, and what could be seen before is left."""
    shown = show.visible(text)

    assert not {unicodedata.category(character) for character in shown.replace("\n", "")} & {
        "Cc",
        "Cf",
        "Cs",
        "Zl",
        "Zp",
    }
    if text.isprintable():
        assert shown == text


def test_tables_line_up(capsys: pytest.CaptureFixture[str]) -> None:
    """In a pipe: headings in capitals, text on the left, numbers on the right, no blank ends."""
    show.write_table(("name", "count", "note"), [("a", 5, None), ("longer", 12345, "two\nlines")])

    assert capsys.readouterr().out == (
        "NAME    COUNT  NOTE\n"
        "a           5\n"
        "longer  12345  two lines\n"
    )  # fmt: skip


def test_an_empty_table_is_its_headings(capsys: pytest.CaptureFixture[str]) -> None:
    """A pipe gets the headings all the same."""
    show.write_table(("name", "count"), [])

    assert capsys.readouterr().out == "NAME  COUNT\n"


def test_fields_line_up(capsys: pytest.CaptureFixture[str]) -> None:
    """What there is nothing to say about is left out."""
    show.write_fields([("A", 1), ("Longer", "x"), ("None", None)])

    assert capsys.readouterr().out == "A       1\nLonger  x\n"


@pytest.mark.parametrize(
    ("value", "text"),
    [("2030-01-01T02:00:00.123+02:00", "2030-01-01 00:00:00Z"), ("whenever", "whenever"), (None, None)],
)
def test_times_are_in_utc(value: str | None, text: str | None) -> None:
    """Everybody who looks at a node sees the same times."""
    assert show.moment(value) == text
