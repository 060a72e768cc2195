"""The API's description: complete, valid, and what its pages say of it."""

import hashlib
import html.parser
import json
import re
from base64 import b64encode

import pytest
from openapi_spec_validator import validate

from gopher_node.api.answers.problem_kinds import KINDS
from gopher_node.handlers.builtin import registry as builtin
from gopher_node.job import Priority as Level
from gopher_node.job import State

METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture
def registry():
    """The examples are of the built-in types."""
    return builtin


DESCRIPTION = []
"""The description, once it was asked for: it takes a while, and is the same each time."""


@pytest.fixture
async def description(serve):
    if not DESCRIPTION:
        DESCRIPTION.append((await (await serve()).get("/openapi.json")).body)
    return json.loads(DESCRIPTION[0])


def operations(description):
    return [
        (method.upper(), path, operation)
        for path, item in description["paths"].items()
        for method, operation in item.items()
        if method in METHODS
    ]


def test_it_is_openapi_3_1(description):
    assert description["openapi"].startswith("3.1")
    validate(description)


async def test_every_route_is_described_and_nothing_else(api, description):
    routes = {
        (route.method, re.sub(r"\{(\w+):[^}]+\}", r"{\1}", route.resource.canonical))
        for route in api.app.router.routes()
        if route.method != "HEAD"
    }
    assert {(method, path) for method, path, _ in operations(description)} == routes


def test_operations_have_a_summary_and_a_name_of_their_own(description):
    names = [operation["operationId"] for _, _, operation in operations(description)]
    assert len(names) == len(set(names))
    assert [path for _, path, operation in operations(description) if not operation["summary"]] == []


def test_variables_of_the_path_are_parameters(description):
    for _, path, operation in operations(description):
        told = {found["name"] for found in operation["parameters"] if found["in"] == "path"}
        assert told == set(re.findall(r"\{(\w+)\}", path)), path


def test_fields_that_are_read_say_what_they_take(description):
    """The limits of the validating models reach the description."""
    schemas = description["components"]["schemas"]
    fields = schemas["Submission"]["properties"]
    assert {"type", "payload", "priority", "max_retries", "delay", "execute_at"} <= fields.keys()
    silent = [name for name, field in fields.items() if "description" not in field and name != "payload"]
    assert silent == []
    assert "examples" in schemas["Submission"]


def test_what_needs_no_key_says_so(description):
    free = {path for _, path, operation in operations(description) if operation["security"] == []}
    assert {
        "/livez",
        "/readyz",
        "/healthz",
        "/startupz",
        "/health",
        "/openapi.json",
        "/docs",
        "/problems",
        "/problems/{name}",
        "/",
    } == free


def test_words_are_those_of_the_code(description):
    schemas = description["components"]["schemas"]
    assert schemas["Status"]["enum"] == [state.value for state in State]
    assert schemas["Priority"]["enum"] == [level.label for level in sorted(Level, reverse=True)]
    assert schemas["PriorityNumber"]["enum"] == sorted(Level)


async def test_parameters_that_are_read_say_what_they_take(description):
    silent = [
        f"{path}: {found['name']}"
        for _, path, operation in operations(description)
        for found in operation["parameters"]
        if "description" not in found
    ]
    assert silent == []
    (limit,) = (one for one in description["paths"]["/api/v1/jobs"]["get"]["parameters"] if one["name"] == "limit")
    assert limit["schema"] == {"type": "integer", "minimum": 1, "maximum": 200, "default": 50}


def test_tags_are_those_that_are_told(description):
    told = {tag["name"] for tag in description["tags"]}
    assert {tag for _, _, operation in operations(description) for tag in operation["tags"]} == told


# What a field's example is an example beside, and to what it is sent.
BESIDE = {
    "Submission": ("POST", "/api/v1/jobs", {"type": "elsewhere"}),
    "Edit": ("PATCH", "/api/v1/jobs/{job_id}", {}),
    "WorkflowSubmission": ("POST", "/api/v1/workflows", {"jobs": [{"type": "elsewhere"}]}),
    "JobIds": ("POST", "/api/v1/dead-letters/retry", {}),
    "Claim": ("POST", "/api/v1/leases", {"types": ["nothing"]}),
    "Heartbeat": ("POST", "/api/v1/leases/{token}/heartbeat", {}),
    "Completion": ("POST", "/api/v1/leases/{token}/complete", {}),
    "Failure": ("POST", "/api/v1/leases/{token}/fail", {"error": "Away."}),
    "NewKey": ("POST", "/api/v1/keys", {"name": "shop", "scopes": ["admin"]}),
    "NewRateLimit": ("POST", "/api/v1/rate-limits/{type}", {"limit": 5}),
    "QueueEdit": ("PATCH", "/api/v1/queues/{type}", {}),
    "Move": ("PUT", "/jobs/{job_id}/status", {"status": "running"}),
}


async def _send(api, method, path, content):
    """With what the path names made for this request alone."""
    variables = {}
    if "{job_id}" in path:
        variables["job_id"] = await api.submit(type="mine", **({} if method == "PUT" else {"delay": "5m"}))
    if "{workflow_id}" in path:
        made = await api.post("/api/v1/workflows", {"jobs": [{"type": "mine"}]})
        variables["workflow_id"] = made.json["workflow_id"]
    if "{token}" in path:
        await api.submit(type="mine")
        claimed = await api.post("/api/v1/leases", {"types": ["mine"]})
        variables["token"] = claimed.json["items"][0]["token"]
    if "{id}" in path:
        made = await api.post("/api/v1/keys", {"name": "mine", "scopes": ["read"]})
        variables["id"] = made.json["id"]
    if "{name}" in path:
        await api.post("/api/v1/recurring", {"name": "mine", "every": "1h", "type": "mine"})
        variables["name"] = "mine"
    if "{type}" in path:
        variables["type"] = "mine"
    if "wait" in content:
        await api.submit(type=content["types"][-1])  # so that nothing is waited for
    answer = await api.call(method, path.format(**variables), json=content)
    assert answer.status < 300, (method, path, content, answer.json)
    if answer.status == 201 and "job_id" in content:
        # Others may show the same example.
        assert (await api.call("DELETE", f"/api/v1/jobs/{content['job_id']}")).status == 204


KEY = "a-key-that-lets-the-examples-in-0123456789"


async def test_examples_of_bodies_are_accepted(serve, description):
    api = await serve(api_keys=KEY)
    api.session.headers["Authorization"] = f"Bearer {KEY}"
    sent = 0
    for method, path, operation in operations(description):
        form = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
        schema = description["components"]["schemas"].get(form.get("$ref", "").rpartition("/")[2], {})
        for content in schema.get("examples", ()):
            await _send(api, method, path, content)
            sent += 1
    assert sent > 10


@pytest.mark.parametrize("model", BESIDE)
async def test_examples_of_fields_are_accepted(serve, description, model):
    api = await serve(api_keys=KEY)
    api.session.headers["Authorization"] = f"Bearer {KEY}"
    method, path, beside = BESIDE[model]
    for field, schema in description["components"]["schemas"][model]["properties"].items():
        for example in schema.get("examples", ()):
            others = {} if field == "queue" else beside
            if field in ("unique_until", "on_duplicate"):
                others = {**others, "unique_key": "mine"}
            await _send(api, method, path, {**others, field: example})


async def test_the_example_of_a_stream_is_accepted(api, description):
    content = description["paths"]["/api/v1/jobs/bulk"]["post"]["requestBody"]["content"]["application/x-ndjson"]
    answer = await api.call(
        "POST",
        "/api/v1/jobs/bulk",
        data=content["example"].encode(),
        headers={"Content-Type": "application/x-ndjson"},
    )
    assert [json.loads(line)["status"] for line in answer.body.splitlines()] == [201, 201]


class Resources(html.parser.HTMLParser):
    """All that a page would load, and the anchors in it."""

    def __init__(self):
        super().__init__()
        self.loads, self.links, self.anchors = [], [], set()

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.anchors.add(found.get("id"))
        if tag in ("script", "link", "img", "iframe") or "src" in found:
            self.loads.append((tag, found))
        if tag == "a":
            self.links.append(found["href"])


async def test_the_page_loads_nothing_and_its_links_lead_somewhere(api):
    answer = await api.get("/docs")
    page = answer.body.decode()
    read = Resources()
    read.feed(page)
    assert read.loads == []
    assert [link for link in read.links if link.startswith("#") and link[1:] not in read.anchors] == []
    for link in {link for link in read.links if not link.startswith("#")}:
        assert (await api.get("/" + link)).status == 200, link

    style = re.search(r"<style>(.*)</style>", page, re.DOTALL)[1]
    digest = b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert f"'sha256-{digest}'" in policy


async def test_each_problem_has_a_page(api):
    for name, kind in KINDS.items():
        told = (await api.get(f"/problems/{name}")).json
        assert (told["type"], told["status"]) == (f"/problems/{name}", kind.status)
        assert told["advice"], name
        page = await api.get(f"/problems/{name}", headers={"Accept": "text/html"})
        assert kind.title in html.unescape(page.body.decode()), name


async def test_a_problem_that_there_is_not(api):
    assert (await api.get("/problems/nothing")).problem == "not-found"
