"""The API's description in OpenAPI 3.1, generated from the declared endpoints and the models that validate."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, cast

from apispec import APISpec
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from gopher_node import __version__
from gopher_node.api.answers.documents import ProblemDocument
from gopher_node.api.answers.problem_kinds import KINDS
from gopher_node.api.endpoint import Content, Endpoint, Stream, needs_body
from gopher_node.api.requests.fields import schema_pattern
from gopher_node.job import TYPE_NAME

ABOUT = """\
Jobs come in over HTTP from any language and run in Python handlers, in workers of any language over these same
addresses, or by a push to an endpoint of yours.

Errors are problem documents (RFC 9457); `type` is the address of a page that says what to do. Durations are numbers
of seconds or text such as "30s", "5m", "1h30m". Times are RFC 3339. Of a key that stands twice in a JSON object, the
last one counts. Fields and parameters that do not exist are refused.

Where the node has API keys, each request sends one: `Authorization: Bearer KEY`, or `X-API-Key: KEY`. What a key needs
for an address is its scope: submit, read, work or admin, which allows all."""

OLDER = "older spellings"
TAGS = {
    "jobs": (
        "Submit jobs, look at them, wait for them, and act on one or on many.",
        ("submitting", "jobs", "selections"),
    ),
    "events": ("Follow a job as it changes, and read what its runs say.", ("events", "logs")),
    "workflows": ("Jobs that wait for each other, and what follows when all of them have ended.", ("workflows",)),
    "recurring jobs": ("Jobs that come again and again, by a cron expression or an interval.", ("recurring",)),
    "dead letters": ("Jobs that failed for good, until they are run once more or deleted.", ("dead_letters",)),
    "leases": ("For workers in any language: claim jobs, and say how each run ended.", ("leases", "lease_batches")),
    "queues": ("The jobs of each type, and who runs them.", ("queues", "handlers")),
    "flow": ("How fast the jobs of each type may go, and what holds them back.", ("rate_limits", "breakers")),
    "operations": ("How the nodes and their workers fare.", ("nodes", "stats", "autoscale", "metrics")),
    "keys": ("API keys, as the store holds them.", ("keys",)),
    "health": ("For probes, load balancers and people.", ("health",)),
    "documentation": ("This description, and what each problem means.", ("docs",)),
    OLDER: ("Addresses that other job servers have, for those who come from there.", ("aliases",)),
}
"""The groups in which endpoints are told, each with what it is about and the modules that it is made of."""

_TAG_OF = {module: name for name, (_, modules) in TAGS.items() for module in modules}

ANYWHERE = (
    "bad-request",
    "not-found",
    "request-timeout",
    "payload-too-large",
    "uri-too-long",
    "expectation-failed",
    "headers-too-large",
    "internal",
    "too-many-connections",
)
WITH_SCOPE = (
    "unauthenticated",
    "forbidden",
    "rate-limited",
    "store-unavailable",
    "store-timeout",
    "store-full",
    "store-read-only",
)
WITH_PARAMETERS = ("invalid-parameter",)
WITH_BODY = (
    "empty-body",
    "malformed-json",
    "number-out-of-range",
    "json-too-deep",
    "bad-encoding",
    "unsupported-media-type",
    "unsupported-encoding",
    "invalid-body",
    "unknown-field",
)

GENERAL = frozenset({*ANYWHERE, *WITH_SCOPE, *WITH_PARAMETERS, *WITH_BODY}) & KINDS.keys()
"""The problems that are not worth telling of each address."""

# What stands in a path, by the variable's name.
VARIABLES: dict[str, dict[str, Any]] = {
    "job_id": {
        "description": "The job's id.",
        "schema": {"type": "string", "format": "uuid"},
    },
    "workflow_id": {
        "description": "The workflow's id.",
        "schema": {"type": "string", "format": "uuid"},
    },
    "type": {
        "description": "The type of the jobs.",
        "schema": {"type": "string", "pattern": schema_pattern(TYPE_NAME), "examples": ["email"]},
    },
    "token": {
        "description": "The lease's token, as the claim answered it.",
        "schema": {"type": "string", "minLength": 1},
    },
    "node_id": {"description": "The node's id.", "schema": {"type": "string", "minLength": 1}},
    "id": {"description": "The key's id: not the key.", "schema": {"type": "string", "minLength": 1}},
    "name": {"description": "The problem's name.", "schema": {"type": "string", "enum": sorted(KINDS)}},
}

WHOLE = {"type": "integer", "minimum": 0}
HEADERS: dict[str, dict[str, Any]] = {
    "X-Request-ID": {
        "description": "The request's id, under which the node's log has more: your own if you sent one.",
        "required": True,
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    },
    "Retry-After": {"description": "Seconds to wait before the same request may succeed.", "schema": WHOLE},
    "RateLimit-Policy": {
        "description": "For keys with a rate limit: how many requests (q) in how many seconds (w).",
        "schema": {"type": "string", "examples": ['"key";q=600;w=60']},
    },
    "RateLimit": {
        "description": "For keys with a rate limit: how many requests remain (r), for how many seconds (t).",
        "schema": {"type": "string", "examples": ['"key";r=599;t=60']},
    },
    "WWW-Authenticate": {"description": "How to show a key, or the scope that it lacks.", "schema": {"type": "string"}},
    "Location": {
        "description": "Where to go on: of a job or workflow that was stored, its address.",
        "schema": {"type": "string", "examples": ["/api/v1/jobs/b3864208-5177-41ad-8fa2-451fed8ec84f"]},
    },
    "Idempotency-Replayed": {
        "description": "That this is the answer of an earlier request with the same key.",
        "schema": {"type": "string", "const": "true"},
    },
    "Job-Existing": {
        "description": "That a job which was there before is the answer, or among the answers.",
        "schema": {"type": "string", "const": "true"},
    },
    "Gopher-Lease": {
        "description": "The token of the run that this began: keep it out of logs.",
        "schema": {"type": "string"},
    },
}


@dataclass(frozen=True, slots=True)
class Schemas:
    """How each model is referred to, and what the ones in `described` hold: parameters, which stand for themselves."""

    references: dict[type[BaseModel], dict[str, Any]]
    described: dict[type[BaseModel], dict[str, Any]]


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
        tags=[{"name": name, "description": about} for name, (about, _) in TAGS.items()],
    )
    spec.components.security_scheme("bearer", {"type": "http", "scheme": "bearer"})
    spec.components.security_scheme("header", {"type": "apiKey", "in": "header", "name": "X-API-Key"})
    for name, header in HEADERS.items():
        spec.components.header(name, header)
    schemas = _add_schemas(spec, endpoints)
    for endpoint in sorted(endpoints, key=lambda endpoint: list(TAGS).index(_tag(endpoint))):
        for path in (endpoint.path, *endpoint.aliases):
            operation = _operation(endpoint, schemas, path)
            spec.path(path, operations={endpoint.method.lower(): operation})
    return spec.to_dict()


def _tag(endpoint: Endpoint) -> str:
    return _TAG_OF[endpoint.module]


def _add_schemas(spec: Any, endpoints: Sequence[Endpoint]) -> Schemas:
    """Describes the models, and those in them, among the components."""
    told = {ProblemDocument: None, **dict.fromkeys(model for endpoint in endpoints for model in _models(endpoint))}
    queries: list[type[BaseModel]] = [*dict.fromkeys(endpoint.query for endpoint in endpoints)]
    references, definitions = models_json_schema(
        [(model, "validation") for model in (*told, *queries)], ref_template="#/components/schemas/{model}"
    )
    found = {cast("type[BaseModel]", model): reference for (model, _), reference in references.items()}
    schemas: dict[str, Any] = definitions["$defs"]
    described = {model: schemas.pop(found[model]["$ref"].rpartition("/")[2]) for model in queries}
    meant = repr([schemas, described, [found[model] for model in told]])
    for name, schema in sorted(schemas.items()):
        # What a value is made into stands there as well, and nobody refers to it.
        if f"'#/components/schemas/{name}'" in meant:
            spec.components.schema(name, _plain(schema))
    return Schemas(found, described)


def _models(endpoint: Endpoint) -> Iterator[type[BaseModel]]:
    if endpoint.body is not None:
        yield endpoint.body
    if endpoint.stream is not None:
        yield endpoint.stream.item
    for content in endpoint.answers.values():
        for form in _forms(content):
            if isinstance(form, Stream):
                yield form.item
            elif not isinstance(form, str):
                yield form


def _forms(content: Content | tuple[Content, ...] | None) -> tuple[Content, ...]:
    return content if isinstance(content, tuple) else () if content is None else (content,)


def _plain(schema: Any) -> Any:
    """Without the titles that only repeat a field's name, and defaults that only say that a field may be left out."""
    if isinstance(schema, dict):
        items = cast("dict[str, Any]", schema).items()
        return {
            key: _plain(value)
            for key, value in items
            if not (key == "title" and isinstance(value, str)) and not (key == "default" and value is None)
        }
    return [_plain(item) for item in cast("list[Any]", schema)] if isinstance(schema, list) else schema


def _operation(endpoint: Endpoint, schemas: Schemas, path: str) -> dict[str, Any]:
    alias = path != endpoint.path
    summary, _, rest = endpoint.description.partition("\n")
    operation: dict[str, Any] = {
        "operationId": endpoint.name + (re.sub(r"\W+", "_", path).rstrip("_") if alias else ""),
        "summary": summary.rstrip("."),
        "tags": [OLDER if alias else _tag(endpoint)],
        "parameters": [
            *_path_parameters(path),
            *_query_parameters(schemas.described[endpoint.query]),
            *_header_parameters(endpoint),
        ],
        "responses": _responses(endpoint, schemas),
        "security": [] if endpoint.scope is None else [{"bearer": [endpoint.scope]}, {"header": [endpoint.scope]}, {}],
    }
    if rest.strip():
        operation["description"] = re.sub(r"\n +", "\n", rest.strip())
    if alias:
        operation["deprecated"] = True
        operation["description"] = f"Another spelling of {endpoint.path}."
    if endpoint.body is not None:
        operation["requestBody"] = _body(endpoint, endpoint.body, schemas)
    return operation


def _body(endpoint: Endpoint, model: type[BaseModel], schemas: Schemas) -> dict[str, Any]:
    content = {"application/json": _content(model, schemas)}
    if endpoint.stream is not None:
        content[endpoint.stream.media] = _content(endpoint.stream, schemas)
    return {"required": needs_body(model) if endpoint.needs_body is None else endpoint.needs_body, "content": content}


def _content(form: Content, schemas: Schemas) -> dict[str, Any]:
    if isinstance(form, str):
        return {"schema": {"type": "object" if form == "application/json" else "string"}}
    if isinstance(form, Stream):
        # OpenAPI 3.1 has no word for what a stream is made of; from 3.2 on, it is itemSchema.
        content: dict[str, Any] = {"schema": {"type": "string"}, "x-itemSchema": schemas.references[form.item]}
        return {**content, "example": form.example} if form.example else content
    return {"schema": schemas.references[form]}


def _media_type(form: Content) -> str:
    return form if isinstance(form, str) else form.media if isinstance(form, Stream) else "application/json"


def _path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, **VARIABLES[name]} for name in re.findall(r"\{(\w+)\}", path)
    ]


def _query_parameters(schema: dict[str, Any]) -> list[dict[str, Any]]:
    parameters: list[dict[str, Any]] = []
    for name, field in schema.get("properties", {}).items():
        told = _plain(_without_null(field))
        parameter: dict[str, Any] = {"name": name, "in": "query", "required": name in schema.get("required", ())}
        if "description" in told:
            parameter["description"] = told.pop("description")
        if told.get("type") == "array":
            parameter |= {"style": "form", "explode": False}
            told.pop("default", None)
        parameters.append({**parameter, "schema": told})
    return parameters


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    # A parameter is there or not; it cannot be null.
    schema = dict(schema)
    choices = [choice for choice in schema.pop("anyOf", []) if choice != {"type": "null"}]
    if len(choices) == 1:
        return {**choices[0], **schema}
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
        by_status.setdefault(KINDS[name].status, []).append(name)
    return dict(sorted(by_status.items()))


def _responses(endpoint: Endpoint, schemas: Schemas) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    usual = ["X-Request-ID"] if endpoint.scope is None else ["X-Request-ID", "RateLimit-Policy", "RateLimit"]
    for status, content in endpoint.answers.items():
        response: dict[str, Any] = {
            "description": HTTPStatus(status).phrase,
            "headers": _headers([*usual, *endpoint.tells]),
        }
        if content is not None:
            response["content"] = {_media_type(form): _content(form, schemas) for form in _forms(content)}
        responses[str(status)] = response
    for status, names in problems_of(endpoint).items():
        told = "; ".join(f"`{name}`: {KINDS[name].title}" for name in names)
        response = responses.setdefault(str(status), {"description": told, "headers": _headers(usual), "content": {}})
        more = ["Retry-After"] if status in (429, 503) else ["WWW-Authenticate"] if status in (401, 403) else []
        response["headers"] |= _headers(more)
        response["x-problems"] = names
        response["content"]["application/problem+json"] = {"schema": schemas.references[ProblemDocument]}
    return responses


def _headers(names: Iterable[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}
