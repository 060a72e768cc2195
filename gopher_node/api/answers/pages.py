"""The documentation's pages, in HTML that needs nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from html import escape
from typing import Any

from gopher_node.api.answers.openapi import GENERAL
from gopher_node.api.answers.problem_kinds import KINDS, Kind

TOLD_HEADERS = ("Location", "Idempotency-Replayed", "Job-Existing", "Gopher-Lease")
"""Of the headers of answers, those that not all have."""
METHODS = ("get", "post", "put", "patch", "delete")

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --link: #0a66c2; }
@media (prefers-color-scheme: dark) { :root { --link: #6cb3ff; } }
* { box-sizing: border-box; }
body { margin: 0; font: 16px/1.5 system-ui, sans-serif; }
a { color: var(--link); }
main { max-width: 60rem; margin: 0 auto; padding: 1rem 1.5rem 6rem; }
nav ul { columns: 24rem; margin: .25rem 0 .75rem; padding-left: 1.25rem; list-style: none; font-size: .9rem; }
nav p { margin: .25rem 0; }
summary { text-transform: capitalize; }
code, pre { font: .875em/1.5 ui-monospace, monospace; }
code { background: var(--soft); padding: .1em .3em; border-radius: .2em; overflow-wrap: anywhere; }
pre { background: var(--soft); padding: .75rem 1rem; overflow-x: auto; border-radius: .3em; }
h2 { margin: 3rem 0 0; text-transform: capitalize; }
article { border-top: 1px solid var(--line); margin-top: 1.5rem; padding-top: .5rem; }
h3 { font-size: 1rem; margin: .75rem 0 .25rem; }
h4 { font-size: .9rem; margin: 1rem 0 .25rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
td, th { text-align: left; vertical-align: top; padding: .3rem .75rem .3rem 0; border-bottom: 1px solid var(--line); }
.scope { float: right; font-size: .8rem; opacity: .7; }
"""


def reference(description: dict[str, Any]) -> str:
    """All of an OpenAPI document, to be read."""
    about = {tag["name"]: tag["description"] for tag in description["tags"]}
    groups: dict[str, list[tuple[str, str, dict[str, Any]]]] = {name: [] for name in about}
    for path, item in description["paths"].items():
        for method in METHODS:
            if method in item:
                groups[item[method]["tags"][0]].append((method.upper(), path, item[method]))
    schemas: dict[str, Any] = description["components"]["schemas"]
    info = description["info"]
    parts = [
        f"<h1>{escape(info['title'])} {escape(info['version'])}</h1>",
        *_paragraphs(info["description"]),
        '<p>The same for programs: <a href="openapi.json">openapi.json</a>.</p>',
        "<nav>",
        *(_index(name, operations) for name, operations in groups.items()),
        '<p><a href="#problems">Problems</a></p><p><a href="#schemas">Objects</a></p></nav>',
    ]
    for name, operations in groups.items():
        parts += [f'<section id="{_anchor(name)}"><h2>{escape(name)}</h2>', *_paragraphs(about[name])]
        parts += [_operation(*operation, schemas) for operation in operations]
        parts.append("</section>")
    parts.append('<section id="problems"><h2>Problems that any address may answer with</h2>')
    parts += _table("", [(str(KINDS[name].status), _problem_link(name)) for name in sorted(GENERAL, key=_status)])
    parts.append('</section><section id="schemas"><h2>Objects</h2>')
    parts += [_schema(name, schema) for name, schema in schemas.items()]
    parts.append("</section>")
    return _page(f"{info['title']}: API", parts)


def _index(name: str, operations: list[tuple[str, str, dict[str, Any]]]) -> str:
    lines = [
        f'<li><a href="#{escape(operation["operationId"])}">{method} {escape(path)}</a></li>'
        for method, path, operation in operations
    ]
    return (
        f'<details><summary><a href="#{_anchor(name)}">{escape(name)}</a></summary><ul>{"".join(lines)}</ul></details>'
    )


def problem(name: str, kind: Kind) -> str:
    again = "The same request may succeed later: the answer says when, in Retry-After." if kind.retry_after else ""
    parts = [f"<h1>{escape(name)}</h1>", f"<p><strong>{escape(kind.title)}</strong> Status {kind.status}.</p>"]
    parts += [f"<p>{escape(text)}</p>" for text in (kind.advice, again) if text]
    return _page(f"{name}: gopher-node", [*parts, '<p><a href="../docs">The whole API</a></p>'])


def problems() -> str:
    """All problems, by status."""
    rows = [(str(KINDS[name].status), _problem_link(name)) for name in sorted(KINDS, key=_status)]
    return _page(
        "Problems: gopher-node", ["<h1>Problems</h1>", *_table("", rows), '<p><a href="docs">The whole API</a></p>']
    )


def _status(name: str) -> tuple[int, str]:
    return KINDS[name].status, name


def _page(title: str, parts: Iterable[str]) -> str:
    body = "\n".join(parts)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>\n{body}\n</main></body></html>\n"
    )


def _anchor(text: str) -> str:
    return escape(text.replace(" ", "-"))


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in text.split("\n\n"):
        yield f"<p>{_prose(paragraph)}</p>"


def _prose(text: str) -> str:
    """With what stands between backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))


def _operation(method: str, path: str, operation: dict[str, Any], schemas: dict[str, Any]) -> str:
    scopes = [scope for choice in operation["security"] for scope in choice.get("bearer", ())]
    parts = [
        f'<article id="{escape(operation["operationId"])}">',
        f'<span class="scope">{escape("scope " + scopes[0] if scopes else "open to all")}</span>',
        f"<h3><code>{method} {escape(path)}</code></h3><p>{_prose(operation.get('summary', ''))}.</p>",
        *_paragraphs(operation.get("description", "")),
    ]
    if operation.get("deprecated"):
        return "".join([*parts, "</article>"])
    rows = [
        (
            f"<code>{escape(found['name'])}</code>",
            found["in"],
            _shape(found["schema"]),
            _prose(found.get("description", "")) + _examples(found["schema"]),
        )
        for found in operation["parameters"]
    ]
    parts += _table("Parameters", rows)
    body = operation.get("requestBody")
    if body:
        rows = [(f"<code>{escape(media)}</code>", _form(told)) for media, told in body["content"].items()]
        parts += _table("Body" if body["required"] else "Body (may be left out)", rows)
        parts += [_sample(told, schemas) for told in body["content"].values()]
    answers = (_answer(status, told) for status, told in operation["responses"].items())
    parts += _table("Answers", [(status, text) for status, text in answers if text])
    return "".join([*parts, "</article>"])


def _answer(status: str, told: dict[str, Any]) -> tuple[str, str]:
    shapes = [
        _form(content) if media == "application/json" else f"<code>{escape(media)}</code> {_form(content, bare=True)}"
        for media, content in told.get("content", {}).items()
        if media != "application/problem+json"
    ]
    if "content" not in told:
        shapes.append("nothing")
    headers = [name for name in told.get("headers", ()) if name in TOLD_HEADERS]
    if headers:
        shapes.append("headers: " + ", ".join(f"<code>{name}</code>" for name in headers))
    names = [name for name in told.get("x-problems", ()) if name not in GENERAL]
    return status, "<br>".join([*shapes, *map(_problem_link, names)])


def _form(content: dict[str, Any], *, bare: bool = False) -> str:
    """What a body holds; `bare` leaves out what its media type says already."""
    if "x-itemSchema" in content:
        return f"pieces of {_shape(content['x-itemSchema'])}"
    return "" if bare else _shape(content["schema"])


def _sample(content: dict[str, Any], schemas: dict[str, Any]) -> str:
    """The first example of a body."""
    if "example" in content:
        return f"<pre>{escape(content['example'])}</pre>"
    schema = schemas.get(content["schema"].get("$ref", "").rpartition("/")[2], {})
    return "".join(f"<pre>{escape(json.dumps(one, indent=2))}</pre>" for one in schema.get("examples", ())[:1])


def _problem_link(name: str) -> str:
    return f'<a href="problems/{escape(name)}">{escape(name)}</a> {escape(KINDS[name].title)}'


def _schema(name: str, schema: dict[str, Any]) -> str:
    parts = [f'<article id="{escape(name)}"><h3>{escape(name)}</h3>', *_paragraphs(schema.get("description", ""))]
    needed = schema.get("required", ())
    rows = [
        (
            f"<code>{escape(field)}</code>" + ("" if field in needed else " <small>optional</small>"),
            _shape(told),
            _prose(told.get("description", "")) + _examples(told),
        )
        for field, told in schema.get("properties", {}).items()
    ]
    parts += _table("", rows) if rows else [f"<p>{_shape(schema)}</p>"]
    return "".join([*parts, "</article>"])


def _examples(schema: dict[str, Any]) -> str:
    examples = schema.get("examples", ())
    return " " + ", ".join(f"<code>{escape(_literal(one))}</code>" for one in examples) if examples else ""


def _literal(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _shape(schema: dict[str, Any]) -> str:
    """What a schema allows, in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f'<a href="#{escape(name)}">{escape(name)}</a>'
    for choice in ("anyOf", "oneOf"):
        if choice in schema:
            return " or ".join(dict.fromkeys(_shape(one) for one in schema[choice]))
    if "enum" in schema:
        return " ".join(f"<code>{escape(str(one))}</code>" for one in schema["enum"])
    if "const" in schema:
        return f"<code>{escape(str(schema['const']))}</code>"
    kind = schema.get("type", "any JSON")
    if kind == "array":
        most = f" (up to {schema['maxItems']})" if "maxItems" in schema else ""
        return f"list of {_shape(schema.get('items', {}))}{most}"
    more = [str(schema["format"])] if "format" in schema else []
    more += [f"{word} {schema[name]:.15g}" for name, word in (("minimum", "from"), ("maximum", "to")) if name in schema]
    more += [f"default {_literal(schema['default'])}"] if "default" in schema else []
    shape = escape(f"{kind} ({', '.join(more)})" if more else str(kind))
    return f"{shape} <code>{escape(schema['pattern'])}</code>" if "pattern" in schema else shape


def _table(title: str, rows: Iterable[tuple[str, ...]]) -> list[str]:
    lines = ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows]
    if not lines:
        return []
    return [f"<h4>{escape(title)}</h4>" if title else "", "<table>", *lines, "</table>"]
