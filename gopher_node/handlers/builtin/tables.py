"""The job types `report` and `data_export`: rows from the payload as a file in FILES_ROOT."""

from __future__ import annotations

import csv
import gzip
import hashlib
import html
import io
import math
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Literal, Self

import orjson
from pydantic import AliasChoices, Field, JsonValue, StringConstraints, model_validator

from gopher_node.handlers.builtin.files import Files, PathText
from gopher_node.handlers.builtin.payloads import Payload, exact
from gopher_node.handlers.context import JobContext

MAX_ROWS = 100_000
MAX_COLUMNS = 500
ENDINGS = {"csv": ".csv", "json": ".json", "ndjson": ".ndjson", "markdown": ".md", "html": ".html"}
FORMATS = {".csv": "csv", ".json": "json", ".ndjson": "ndjson", ".jsonl": "ndjson", ".md": "markdown", ".html": "html"}
# What makes a spreadsheet take a cell for a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")

Column = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Columns = Annotated[list[Column], Field(max_length=MAX_COLUMNS)]
Row = dict[str, JsonValue]
Rows = Annotated[list[Row], Field(max_length=MAX_ROWS)]


class Report(Payload):
    """
    Rows with a heading and totals, for people. Without `totals`, every column that holds only numbers is summed.
    """

    title: Annotated[str, StringConstraints(min_length=1, max_length=200)] = "Report"
    rows: Rows = Field(default_factory=list[Row], validation_alias=AliasChoices("rows", "data"))
    columns: Columns | None = Field(None, description="Which columns, in which order; by default as they first appear.")
    totals: Columns | None = None
    format: Literal["csv", "json", "markdown", "html"] | None = Field(
        None, description="By default what the destination's ending says, else markdown."
    )
    destination: PathText | None = Field(None, description="By default reports/<job id> and the format's ending.")


class DataExport(Payload):
    """Records as they are, for programs."""

    records: Rows = Field(validation_alias=AliasChoices("records", "rows", "data"))
    columns: Columns | None = None
    format: Literal["csv", "json", "ndjson"] | None = Field(
        None, description="By default what the destination's ending says, else csv."
    )
    gzip: bool = False
    destination: PathText | None = Field(None, description="By default exports/<job id> and the format's ending.")

    @model_validator(mode="after")
    def _ending_agrees(self) -> Self:
        if self.destination is not None and self.destination.endswith(".gz") and not self.gzip:
            raise ValueError("a destination that ends in .gz needs gzip: true")
        return self


def report(ctx: JobContext, payload: Report) -> dict[str, Any]:
    """Write a report with totals from the rows of the payload, as csv, json, markdown or html."""
    columns = payload.columns or _columns(payload.rows)
    totals = _totals(payload.rows, _numeric(payload.rows, columns) if payload.totals is None else payload.totals)
    form = payload.format or _format(payload.destination, "markdown")
    content = {"csv": _csv_report, "json": _json_report, "markdown": _markdown, "html": _html}[form](
        payload, columns, totals
    ).encode()
    files = Files(ctx)
    target = files.place(payload.destination or f"reports/{files.job}{ENDINGS[form]}")
    with files.writing(target) as file:
        file.write(content)
    return {
        "path": files.name(target),
        "format": form,
        "rows": len(payload.rows),
        "totals": totals,
        "bytes": len(content),
    }


def export(ctx: JobContext, payload: DataExport) -> dict[str, Any]:
    """Write the records of the payload to a file: csv, json or ndjson, packed by gzip if asked for."""
    form = payload.format or _format(payload.destination, "csv")
    files = Files(ctx)
    ending = ENDINGS[form] + (".gz" if payload.gzip else "")
    target = files.place(payload.destination or f"exports/{files.job}{ending}")
    with files.writing(target) as file, ExitStack() as packing:
        # Without name and time, so that the same records give the same bytes.
        packed: Any = packing.enter_context(gzip.GzipFile("", "wb", fileobj=file, mtime=0)) if payload.gzip else file
        _write_records(packed, payload.records, payload.columns or _columns(payload.records), form)
    return {
        "path": files.name(target),
        "format": form,
        "records": len(payload.records),
        "bytes": target.stat().st_size,
        "sha256": _sha256(target),
    }


def _write_records(file: BinaryIO, records: list[Row], columns: list[str], form: str) -> None:
    if form == "csv":
        # A row at a time, for a whole table in memory three times over is what exports die of.
        for line in _csv_lines([columns, *([_cell(record.get(column)) for column in columns] for record in records)]):
            file.write(line.encode())
        return
    kept = [{column: record[column] for column in columns if column in record} for record in records]
    if form == "ndjson":
        file.writelines(orjson.dumps(record) + b"\n" for record in kept)
    else:
        file.write(orjson.dumps(kept, option=orjson.OPT_INDENT_2) + b"\n")


def _format(destination: str | None, default: str) -> Any:
    if destination is None:
        return default
    return FORMATS.get(Path(destination.removesuffix(".gz")).suffix.lower(), default)


def _columns(rows: list[Row]) -> list[str]:
    return list(dict.fromkeys(column for row in rows for column in row))


def _is_number(value: JsonValue) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _numeric(rows: list[Row], columns: Sequence[str]) -> list[str]:
    numeric: list[str] = []
    for column in columns:
        values = [row[column] for row in rows if row.get(column) is not None]
        if values and all(_is_number(value) for value in values):
            numeric.append(column)
    return numeric


def _totals(rows: list[Row], columns: Sequence[str]) -> dict[str, Any]:
    totals: dict[str, Any] = {}
    for column in columns:
        values = [value for row in rows if isinstance(value := row.get(column), (int, float)) and _is_number(value)]
        try:
            total = math.fsum(values) if any(isinstance(value, float) for value in values) else sum(values)
        except OverflowError:
            total = math.inf
        totals[column] = exact(total)
    return totals


def _cell(value: JsonValue) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return orjson.dumps(value).decode()


def _csv_lines(rows: Iterable[Sequence[str]]) -> Iterable[str]:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    for row in rows:
        writer.writerow(row)
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def _table(payload: Report, columns: list[str], totals: dict[str, Any]) -> list[list[str]]:
    """The rows and the row of totals, as text."""
    table = [[_cell(row.get(column)) for column in columns] for row in payload.rows]
    if totals:
        sums = [_cell(totals.get(column)) for column in columns]
        table.append(["Total", *sums[1:]] if columns and columns[0] not in totals else sums)
    return table


def _csv_report(payload: Report, columns: list[str], totals: dict[str, Any]) -> str:
    def harmless(cell: str, value: JsonValue) -> str:
        # Numbers may begin with a minus; text that does is made text for spreadsheets too.
        return f"'{cell}" if isinstance(value, str) and cell.startswith(FORMULA) else cell

    table = _table(payload, columns, totals)
    for row, cells in zip(payload.rows, table, strict=False):
        cells[:] = [harmless(cell, row.get(column)) for column, cell in zip(columns, cells, strict=True)]
    return "".join(_csv_lines([[harmless(column, column) for column in columns], *table]))


def _json_report(payload: Report, columns: list[str], totals: dict[str, Any]) -> str:
    rows = [{column: row.get(column) for column in columns} for row in payload.rows]
    content = {"title": payload.title, "columns": columns, "rows": rows, "totals": totals, "count": len(rows)}
    return orjson.dumps(content, option=orjson.OPT_INDENT_2).decode() + "\n"


def _markdown(payload: Report, columns: list[str], totals: dict[str, Any]) -> str:
    def line(cells: Iterable[str]) -> str:
        escaped = (html.escape(" ".join(cell.split()), quote=False).replace("\\", "\\\\") for cell in cells)
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in escaped) + " |"

    heading = " ".join(payload.title.split())
    lines = [f"# {html.escape(heading, quote=False)}", "", _caption(payload), ""]
    if columns:
        rule = "|" + "|".join(" ---: " if column in totals else " --- " for column in columns) + "|"
        lines += [line(columns), rule, *(line(cells) for cells in _table(payload, columns, totals)), ""]
    return "\n".join(lines)


def _html(payload: Report, columns: list[str], totals: dict[str, Any]) -> str:
    def line(cells: Iterable[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

    table = _table(payload, columns, totals)
    foot = [line(table.pop(), "td")] if totals else []
    title = html.escape(payload.title)
    style = (
        "body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem}"
        "table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:.3rem .6rem;text-align:left}"
        "tfoot{font-weight:bold}"
    )
    return "\n".join(
        [
            "<!doctype html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{style}</style></head><body>',
            f"<h1>{title}</h1>",
            f"<p>{_caption(payload)}</p>",
            "<table>",
            f"<thead>{line(columns, 'th')}</thead>",
            "<tbody>",
            *(line(cells, "td") for cells in table),
            "</tbody>",
            *(f"<tfoot>{row}</tfoot>" for row in foot),
            "</table></body></html>",
            "",
        ]
    )


def _caption(payload: Report) -> str:
    count = len(payload.rows)
    return f"{count:,} row{'' if count == 1 else 's'}, written {datetime.now(UTC):%Y-%m-%d %H:%M} UTC."


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
