"""What holds for a node that nobody has configured: each line fails if the default is turned the other way."""

from __future__ import annotations

import ast
import gzip
import io
import json
import tomllib
import uuid
from pathlib import Path

import pytest
from aiohttp import http_parser

import gopher_node
from gopher_node.api import server
from gopher_node.errors import SettingError
from gopher_node.handlers.builtin.addresses import AddressRefused, check_address
from gopher_node.job import JobError
from gopher_node.settings import Settings

JSON = {"Content-Type": "application/json"}
SOURCES = sorted(Path(gopher_node.__file__).parent.rglob("*.py"))

DEFAULTS = {
    "server.host": "127.0.0.1",
    "server.anonymous": False,
    "server.read_timeout": 10.0,
    "server.write_timeout": 10.0,
    "server.trusted_proxies": [],
    "server.cors_origins": [],
    "server.max_connections": 4096,
    "server.max_connections_per_address": 512,
    "webhook.allow": [],
    "webhook.timeout": 10.0,
    "api_keys": [],
}


@pytest.mark.parametrize(("path", "expected"), DEFAULTS.items())
def test_settings(path, expected):
    """Local, closed to web pages and proxies, patient for seconds and not minutes."""
    value = Settings.load({}, {})
    for name in path.split("."):
        value = getattr(value, name)
    assert value == expected


def test_the_server():
    """Idle connections, handshakes and headers are bounded, where the library would be generous."""
    assert (server.KEEP_ALIVE, server.MAX_HEADERS, server.HANDSHAKE_TIMEOUT) == (15.0, 100, 5.0)


def body(size: int) -> bytes:
    frame = b'{"type":"mail","priority":"low"' + b" " * (size - 32) + b"}"
    assert len(frame) == size
    return frame


MIB = 1024 * 1024
BATCH = json.dumps([{"type": "mail"}] * 1001).encode()
PAYLOAD = json.dumps({"type": "mail", "payload": "x" * (256 * 1024 - 1)}).encode()

LIMITS = {
    "body of 1 MiB": ("/api/v1/jobs", body(MIB), JSON, 201),
    "body beyond": ("/api/v1/jobs", body(MIB + 1), JSON, 413),
    "compressed body beyond": ("/api/v1/jobs", gzip.compress(body(MIB + 1)), {**JSON, "Content-Encoding": "gzip"}, 413),
    "payload beyond 256 KiB": ("/api/v1/jobs", PAYLOAD, JSON, 413),
    "depth of 64": ("/api/v1/jobs", b'{"type":"a","payload":' + b"[" * 63 + b"]" * 63 + b"}", JSON, 201),
    "depth beyond": ("/api/v1/jobs", b'{"type":"a","payload":' + b"[" * 64 + b"]" * 64 + b"}", JSON, 400),
    "batch beyond 1,000": ("/api/v1/jobs/bulk", BATCH, JSON, 413),
    "a field that does not exist": ("/api/v1/jobs", b'{"type":"a","state":"completed"}', JSON, 422),
    "a name that moves the slot": ("/api/v1/jobs", b'{"type":"a{b}"}', JSON, 422),
    "a form, as any web page may send": ("/api/v1/jobs", b'{"type":"a"}', {"Content-Type": "text/plain"}, 415),
}


@pytest.mark.parametrize(("path", "content", "headers", "status"), LIMITS.values(), ids=LIMITS)
async def test_bodies(api, path, content, headers, status):
    """What may be sent has an end, and beyond it nothing is stored."""
    answer = await api.call("POST", path, data=io.BytesIO(content), headers=headers)

    assert answer.status == status
    assert await api.stored() == (1 if status == 201 else 0)


HEADS = {
    "a header of 20 KB": (b"GET /livez HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 20_000 + b"\r\n\r\n", 431),
    "101 headers": (b"GET /livez HTTP/1.1\r\n" + b"".join(b"A%d: a\r\n" % n for n in range(101)) + b"\r\n", 431),
    "an address of 20 KB": (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    "two framings": (
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
        400,
    ),
}


@pytest.mark.parametrize(("raw", "status"), HEADS.values(), ids=HEADS)
async def test_heads(api, raw, status):
    """Nor may what comes before the body be of any size, or be read in two ways."""
    assert (await api.exchange(raw)).status == status


async def test_ids_are_random(api):
    """Nobody finds another's job by counting."""
    ids = [await api.submit() for _ in range(2)]

    assert all(uuid.UUID(id).version == 4 for id in ids)


async def test_nobody_learns_what_the_node_is_made_of(api):
    """No library and no version."""
    assert (await api.get("/livez")).headers["Server"] == "gopher-node"


@pytest.mark.parametrize(
    "address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fd00::1", "100.64.0.1", "0.0.0.0"]
)
def test_private_addresses_are_not_called(address):
    """A job's author does not reach what only this machine can."""
    with pytest.raises(AddressRefused):
        check_address(address, Settings.load({}, {}).webhook.allow)


def test_errors_are_cut():
    """A handler that prints its life story does not fill the store."""
    error = JobError(code="c", message="m" * 100_000, kind="k", traceback="t" * 100_000)

    assert len(error.message) <= 4 * 1024
    assert len(error.traceback or "") <= 16 * 1024


def _imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return names | {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}


def test_nothing_that_was_stored_or_sent_is_unpickled():
    """Or whoever writes to the store runs code here. The worker speaks so only with its own child processes."""
    found = {path.parent.name + "/" + path.name for path in SOURCES if _imports(path) & {"pickle", "marshal", "shelve"}}

    assert found == {"worker/alone.py", "worker/child.py", "worker/processes.py"}


def test_no_request_follows_redirects():
    """The place that a redirect names has not been checked."""
    calls = [
        keyword
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        for keyword in node.keywords
        if keyword.arg in ("allow_redirects", "follow_redirects")
    ]

    assert calls
    assert not any(ast.literal_eval(keyword.value) for keyword in calls)


def test_http_is_parsed_by_the_parser_that_is_looked_after():
    """The one in plain Python takes things that proxies read otherwise; and what is older has known holes."""
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]

    assert "aiohttp>=3.14.1" in project["dependencies"]
    assert http_parser.HttpRequestParser is not http_parser.HttpRequestParserPy


def test_a_slip_in_the_configuration_stops_the_start():
    """Nothing that was meant to protect is left out in silence."""
    for environ in ({"GOPHER_API_KEY_": "x"}, {"GOPHER_API_KEYS": "short"}, {"SERVER_ANONYMOUS": "maybe"}):
        with pytest.raises(SettingError):
            Settings.load({}, environ)
