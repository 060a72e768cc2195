"""The API's description: complete, valid, and what its pages say of it."""

import hashlib
import html.parser
import re
from base64 import b64encode

import pytest
from openapi_spec_validator import validate

from gopher_node.api.problem_kinds import KINDS

METHODS = {"get", "post", "put", "patch", "delete"}


@pytest.fixture
async def description(api):
    return (await api.get("/openapi.json")).json


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
    assert {"/livez", "/readyz", "/startupz", "/health", "/openapi.json", "/docs", "/problems/{name}"} == free


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


@pytest.mark.parametrize("name", sorted(KINDS))
async def test_each_problem_has_a_page(api, name):
    told = (await api.get(f"/problems/{name}")).json
    assert (told["type"], told["status"]) == (f"/problems/{name}", KINDS[name].status)
    assert told["advice"]
    page = await api.get(f"/problems/{name}", headers={"Accept": "text/html"})
    assert KINDS[name].title in html.unescape(page.body.decode())


async def test_a_problem_that_there_is_not(api):
    assert (await api.get("/problems/nothing")).problem == "not-found"
