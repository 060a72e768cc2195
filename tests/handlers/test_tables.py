"""The job types `report` and `data_export`."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from html.parser import HTMLParser
from typing import Any

import pytest

from gopher_node.errors import Fail
from gopher_node.handlers import InvalidPayload
from tests.handlers.conftest import JOB, Node

ROWS: list[dict[str, Any]] = [
    {"region": "North", "sales": 10, "rate": 0.1, "open": True},
    {"region": "South|West", "sales": 32, "rate": 0.2, "note": "<b>best</b>\nof all"},
    {"region": None, "sales": -2, "rate": 0.3, "note": "=HYPERLINK(1)"},
]
TOTALS = {"sales": 40, "rate": 0.6}


def text(node: Node, result: dict[str, Any]) -> str:
    content = (node.files / result["path"]).read_bytes()
    assert result["bytes"] == len(content)
    return content.decode()


@pytest.mark.parametrize(
    ("form", "ending"), [("csv", "csv"), ("json", "json"), ("markdown", "md"), ("html", "html"), (None, "md")]
)
def test_report_has_rows_and_totals(node: Node, form: str | None, ending: str) -> None:
    """In each format, under a name that a repeated run finds again; numeric columns are summed."""
    payload = {"title": "Sales", "rows": ROWS} | ({"format": form} if form else {})

    result = node.call("report", payload)
    again = node.call("report", payload, attempt=2)

    assert result == again
    assert (result["path"], result["rows"], result["totals"]) == (f"reports/{JOB}.{ending}", 3, TOTALS)
    assert "North" in text(node, result)
    assert "40" in text(node, result)
    assert node.names() == [f"reports/{JOB}.{ending}"]


def test_csv_report_opens_in_a_spreadsheet(node: Node) -> None:
    """Text that would be a formula is made text; numbers below zero stay numbers."""
    result = node.call("report", {"rows": ROWS, "destination": "r.csv"})

    rows = list(csv.reader(io.StringIO(text(node, result))))
    assert rows == [
        ["region", "sales", "rate", "open", "note"],
        ["North", "10", "0.1", "true", ""],
        ["South|West", "32", "0.2", "", "<b>best</b>\nof all"],
        ["", "-2", "0.3", "", "'=HYPERLINK(1)"],
        ["Total", "40", "0.6", "", ""],
    ]


def test_json_report_is_for_programs_too(node: Node) -> None:
    """Values keep their types."""
    result = node.call("report", {"rows": ROWS, "columns": ["sales", "region"], "totals": [], "destination": "r.json"})

    content = json.loads(text(node, result))
    assert content["rows"][0] == {"sales": 10, "region": "North"}
    assert (content["columns"], content["totals"], content["count"]) == (["sales", "region"], {}, 3)


def test_markdown_report_keeps_its_table(node: Node) -> None:
    """Whatever stands in a cell, the table has its columns."""
    result = node.call("report", {"title": "# <Sales>", "rows": ROWS, "columns": ["region", "note", "sales"]})

    lines = text(node, result).splitlines()
    assert lines[0] == "# # &lt;Sales&gt;"
    assert lines[4:] == [
        "| region | note | sales |",
        "| --- | --- | ---: |",
        "| North |  | 10 |",
        r"| South\|West | &lt;b&gt;best&lt;/b&gt; of all | 32 |",
        "|  | =HYPERLINK(1) | -2 |",
        "| Total |  | 40 |",
    ]


def test_html_report_shows_text_as_text(node: Node) -> None:
    """No cell and no title becomes markup."""
    result = node.call("report", {"title": "<script>alert(1)</script>", "rows": ROWS, "format": "html"})

    seen: list[str] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: seen.append(tag)
    parser.feed(text(node, result))
    assert "script" not in seen
    assert "b" not in seen
    assert seen.count("tr") == 1 + 3 + 1


def test_report_of_nothing_is_a_report(node: Node) -> None:
    """An empty payload is enough for a first try."""
    result = node.call("report", {})

    assert (result["rows"], result["totals"]) == (0, {})
    assert text(node, result).startswith("# Report\n\n0 rows, written ")


def test_totals_are_exact(node: Node) -> None:
    """Large sums become text, tenths add up to one, and an endless one is a failure."""
    large = node.call("report", {"rows": [{"n": 2**62}] * 4})
    tenths = node.call("report", {"rows": [{"n": 0.1}] * 10})

    assert large["totals"] == {"n": "18446744073709551616"}
    assert tenths["totals"] == {"n": 1.0}
    with pytest.raises(Fail, match="larger than"):
        node.call("report", {"rows": [{"n": 1.7e308}] * 2})


def test_destination_chooses_the_format(node: Node) -> None:
    """By its ending, unless the format is given."""
    by_ending = node.call("report", {"rows": ROWS, "destination": "a/b/r.HTML"})
    by_format = node.call("report", {"rows": ROWS, "destination": "r.html", "format": "csv"})

    assert (by_ending["format"], by_format["format"]) == ("html", "csv")


RECORDS: list[dict[str, Any]] = [
    {"id": 1, "name": 'Ada, "Countess"', "tags": ["a"], "at": None},
    {"id": 2, "name": "=1+1", "extra": {"x": 1.5}},
]


def test_csv_export_is_faithful(node: Node) -> None:
    """Nothing is changed for spreadsheets; nested values are JSON."""
    result = node.call("data_export", {"records": RECORDS})

    content = (node.files / result["path"]).read_bytes()
    assert (result["path"], result["records"]) == (f"exports/{JOB}.csv", 2)
    assert result["sha256"] == hashlib.sha256(content).hexdigest()
    assert list(csv.reader(io.StringIO(content.decode()))) == [
        ["id", "name", "tags", "at", "extra"],
        ["1", 'Ada, "Countess"', '["a"]', "", ""],
        ["2", "=1+1", "", "", '{"x":1.5}'],
    ]


def test_json_exports_keep_the_records(node: Node) -> None:
    """As one array or a line each; columns choose and order fields."""
    whole = node.call("data_export", {"rows": RECORDS, "format": "json"})
    lines = node.call("data_export", {"data": RECORDS, "columns": ["name", "id"], "destination": "x.jsonl"})

    assert json.loads(text(node, whole)) == RECORDS
    assert [json.loads(line) for line in text(node, lines).splitlines()] == [
        {"name": 'Ada, "Countess"', "id": 1},
        {"name": "=1+1", "id": 2},
    ]


@pytest.mark.parametrize("form", ["csv", "json", "ndjson"])
def test_packed_export_holds_the_same(node: Node, form: str) -> None:
    """And the same records give the same bytes."""
    plain = node.call("data_export", {"records": RECORDS, "format": form})
    packed = node.call("data_export", {"records": RECORDS, "format": form, "gzip": True})
    again = node.call("data_export", {"records": RECORDS, "format": form, "gzip": True}, attempt=2)

    assert packed["path"] == f"exports/{JOB}.{form}.gz"
    assert gzip.decompress((node.files / packed["path"]).read_bytes()) == (node.files / plain["path"]).read_bytes()
    assert packed == again


@pytest.mark.parametrize(
    ("type", "payload", "pointer"),
    [
        ("report", {"rows": [1]}, "/rows/0"),
        ("report", {"rows": {}}, "/rows"),
        ("report", {"format": "pdf"}, "/format"),
        ("report", {"title": ""}, "/title"),
        ("data_export", {}, "/records"),
        ("data_export", {"records": [], "format": "xml"}, "/format"),
        ("data_export", {"records": [], "destination": "a.csv.gz"}, ""),
    ],
)
def test_bad_payload_is_refused(node: Node, type: str, payload: dict[str, Any], pointer: str) -> None:
    """By its place."""
    with pytest.raises(InvalidPayload) as refused:
        node.call(type, payload)

    assert [error["pointer"] for error in refused.value.errors] == [pointer]
