"""The API's description in OpenAPI 3.1, generated from the declared endpoints and the models that validate."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from http import HTTPStatus
from typing import Any, cast

from apispec import APISpec
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gopher_node import __version__
from gopher_node.api.documents import ProblemDocument
from gopher_node.api.endpoint import Endpoint
from gopher_node.api.problem_kinds import KINDS
from gopher_node.job import TYPE_NAME

ABOUT = """\
Jobs come in over HTTP from any language and run in Python handlers, in workers of any language over these same
addresses, or by a push to an endpoint of yours.

Errors are problem documents (RFC 9457); `type` is the address of a page that says what to do. Durations are numbers
of seconds or text such as "30s", "5m", "1h30m". Times are RFC 3339. Of a key that stands twice in a JSON object, the
last one counts."""

ANYWHERE = ("bad-request", "not-found", "request-timeout", "uri-too-long", "headers-too-large", "internal")
WITH_SCOPE = ("unauthenticated", "forbidden", "rate-limited", "store-unavailable", "store-timeout", "store-full")
WITH_PARAMETERS = ("invalid-parameter",)
WITH_BODY = (
    "empty-body",
    "malformed-json",
    "number-out-of-range",
    "json-too-deep",
    "bad-encoding",
    "payload-too-large",
    "unsupported-media-type",
    "unsupported-encoding",
    "invalid-body",
    "unknown-field",
)

GENERAL = frozenset({*ANYWHERE, *WITH_SCOPE, *WITH_PARAMETERS, *WITH_BODY}) & KINDS.keys()
"""The problems that are not worth telling of each address."""

# What stands in a path, by the variable's name.
VARIABLES: dict[str, dict[str, Any]] = {
    "job_id": {"type": "string", "format": "uuid"},
    "type": {"type": "string", "pattern": "^" + TYPE_NAME.pattern.replace(r"\Z", "$")},
}


def describe(endpoints: Iterable[Endpoint], base_path: str = "") -> dict[str, Any]:
    """The document for `/openapi.json`."""
    endpoints = list(endpoints)
    # As Any, for its types name dicts of nobody knows what.
    spec: Any = APISpec(
        title="gopher-node",
        version=__version__,
        openapi_version="3.1.0",
        info={"description": ABOUT, "license": {"name": "MIT", "identifier": "MIT"}},
        servers=[{"url": base_path or "/"}],
    )
    spec.components.security_scheme("bearer", {"type": "http", "scheme": "bearer"})
    spec.components.security_scheme("header", {"type": "apiKey", "in": "header", "name": "X-API-Key"})
    references = _add_schemas(spec, endpoints)
    for endpoint in endpoints:
        for path in (endpoint.path, *endpoint.aliases):
            operation = _operation(endpoint, references, path)
            spec.path(path, operations={endpoint.method.lower(): operation})
    return spec.to_dict()


def _add_schemas(spec: Any, endpoints: Sequence[Endpoint]) -> dict[type[BaseModel], dict[str, Any]]:
    """How each model is referred to; its schema, and those of the models in it, stand among the components."""
    models = {ProblemDocument: None, **dict.fromkeys(model for endpoint in endpoints for model in _models(endpoint))}
    references, definitions = models_json_schema(
        [(model, "validation") for model in models], ref_template="#/components/schemas/{model}"
    )
    for name, schema in sorted(definitions["$defs"].items()):
        spec.components.schema(name, _plain(schema))
    return {cast("type[BaseModel]", model): reference for (model, _), reference in references.items()}


def _models(endpoint: Endpoint) -> Iterator[type[BaseModel]]:
    if endpoint.body is not None:
        yield endpoint.body
    for content in endpoint.answers.values():
        if isinstance(content, type):
            yield content


def _plain(schema: Any) -> Any:
    """Without the titles that only repeat a field's name."""
    if isinstance(schema, dict):
        items = cast("dict[str, Any]", schema).items()
        return {key: _plain(value) for key, value in items if not (key == "title" and isinstance(value, str))}
    return [_plain(item) for item in cast("list[Any]", schema)] if isinstance(schema, list) else schema


def _operation(endpoint: Endpoint, references: dict[type[BaseModel], dict[str, Any]], path: str) -> dict[str, Any]:
    alias = path != endpoint.path
    summary, _, rest = endpoint.description.partition("\n")
    operation: dict[str, Any] = {
        "operationId": endpoint.name + (re.sub(r"\W+", "_", path).rstrip("_") if alias else ""),
        "summary": summary.rstrip("."),
        "tags": [endpoint.resource],
        "parameters": [*_path_parameters(path), *_query_parameters(endpoint), *_header_parameters(endpoint)],
        "responses": _responses(endpoint, references),
        "security": [] if endpoint.scope is None else [{"bearer": [endpoint.scope]}, {"header": [endpoint.scope]}, {}],
    }
    if rest.strip():
        operation["description"] = re.sub(r"\n +", "\n", rest.strip())
    if alias:
        operation["deprecated"] = True
        operation["description"] = f"Another spelling of {endpoint.path}."
    if endpoint.body is not None:
        required = not endpoint.reads_body or any(field.is_required() for field in endpoint.body.model_fields.values())
        content = {media: {"schema": references[endpoint.body]} for media in endpoint.media}
        operation["requestBody"] = {"required": required, "content": content}
    return operation


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": VARIABLES.get(name, {"type": "string"})}
        for name in re.findall(r"\{(\w+)\}", path)
    ]


def _query_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    schema = endpoint.query.model_json_schema()
    parameters: list[dict[str, Any]] = []
    for name, field in schema.get("properties", {}).items():
        parameter = {"name": name, "in": "query", "required": name in schema.get("required", ())}
        if "description" in field:
            parameter["description"] = field.pop("description")
        parameters.append({**parameter, "schema": _plain(_without_null(field))})
    return parameters


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    # A parameter is there or not; it cannot be null.
    schema = {key: value for key, value in schema.items() if key != "default"}
    choices = [choice for choice in schema.pop("anyOf", []) if choice != {"type": "null"}]
    if len(choices) == 1:
        return {**schema, **choices[0]}
    return {**schema, "anyOf": choices} if choices else schema


def _header_parameters(endpoint: Endpoint) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "header",
            "required": False,
            "description": header.description,
            "schema": header.schema,
        }
        for name, header in endpoint.headers.items()
    ]


def problems_of(endpoint: Endpoint) -> dict[int, list[str]]:
    """The names of all problems that an endpoint may answer with, by status."""
    names = [*ANYWHERE, *endpoint.problems]
    if endpoint.scope is not None:
        names += WITH_SCOPE
    names += WITH_PARAMETERS
    if endpoint.body is not None:
        names += WITH_BODY
    by_status: dict[int, list[str]] = {}
    for name in dict.fromkeys(names):
        if name in KINDS:
            by_status.setdefault(KINDS[name].status, []).append(name)
    return dict(sorted(by_status.items()))


def _responses(endpoint: Endpoint, references: dict[type[BaseModel], dict[str, Any]]) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, content in endpoint.answers.items():
        response: dict[str, Any] = {"description": HTTPStatus(status).phrase}
        if isinstance(content, str):
            response["content"] = {content: {"schema": {"type": "string"}}}
        elif content is not None:
            response["content"] = {"application/json": {"schema": references[content]}}
        responses[str(status)] = response
    for status, names in problems_of(endpoint).items():
        told = "; ".join(f"`{name}`: {KINDS[name].title}" for name in names)
        response = responses.setdefault(str(status), {"description": told, "content": {}})
        response["x-problems"] = names
        response["content"]["application/problem+json"] = {"schema": references[ProblemDocument]}
    return responses
