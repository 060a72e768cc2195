"""Keys and certificates: what shows who the client is goes to the node and nowhere else, and only to the right node."""

from __future__ import annotations

import asyncio
import base64
import logging
import ssl
import traceback
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trustme
from aiohttp import web

from gopher_node.client import AsyncClient, Client, ServerUnavailable, Unauthenticated
from gopher_node.client.wire import Security, Wire

KEY = "gn_0123456789abcdef0123456789abcdef"
JOB = {"job_id": "i", "type": "a", "status": "enqueued"}


async def test_the_key_is_shown_to_the_node(stage: Any, connect: Any) -> None:
    """As a bearer token, with each request."""
    stage.answer(JOB)

    await connect(stage.url, api_key=KEY).get("i")

    assert stage.headers[0]["Authorization"] == f"Bearer {KEY}"


async def test_the_key_comes_from_the_environment(stage: Any, connect: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """GOPHER_API_KEY holds where no key is given, without the line end of the file it came from."""
    monkeypatch.setenv("GOPHER_API_KEY", f"{KEY}\n")
    stage.answer(JOB)

    await connect(stage.url).get("i")
    await connect(stage.url, api_key="another").get("i")
    await connect(stage.url, api_key="").get("i")

    assert [headers.get("Authorization") for headers in stage.headers] == [f"Bearer {KEY}", "Bearer another", None]


async def test_a_password_for_a_proxy_stands_beside_the_key(stage: Any, connect: Any) -> None:
    """Both have their place, and the address in the log has neither."""
    stage.answer(JOB)

    await connect(stage.url.replace("://", "://me:secret@"), api_key=KEY).get("i")

    assert stage.headers[0]["Authorization"] == f"Basic {base64.b64encode(b'me:secret').decode()}"
    assert stage.headers[0]["X-API-Key"] == KEY


@pytest.mark.parametrize("key", ["with space", "línea", "two\nlines", "nul\0"])
def test_a_key_that_no_header_holds_is_refused(key: str) -> None:
    """Before anything is sent, and without quoting it."""
    with pytest.raises(ValueError, match="api_key or GOPHER_API_KEY") as caught:
        Wire("http://node.example", 10, 0, Security(api_key=key))
    assert key not in str(caught.value)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
async def test_secrets_stay_out_of_texts_and_logs(
    kind: type[Any], caplog: pytest.LogCaptureFixture, free_port: int
) -> None:
    """No repr, message, traceback or log line has the key or the password of the address."""
    url = f"http://me:secret@127.0.0.1:{free_port}"
    refused = httpx2.Response(401, headers={"Content-Type": "application/problem+json"}, content=b"{}")
    transport = httpx2.MockTransport(lambda _request: refused)
    texts: list[str] = []

    async def ask(client: Any) -> None:
        texts.append(repr(client))
        try:
            if isinstance(client, Client):
                await asyncio.to_thread(client.stats)
            else:
                await client.stats()
        except (Unauthenticated, ServerUnavailable) as error:
            texts.extend([repr(error), *traceback.format_exception(error)])
        close = client.close()
        if close is not None:
            await close

    with caplog.at_level(logging.DEBUG):
        await ask(kind(url, api_key=KEY, transport=transport))
        await ask(kind(url, api_key=KEY, retries=0))
        texts.append(repr(Security(api_key=KEY)))

    everything = "\n".join([*texts, caplog.text])
    assert "127.0.0.1" in everything
    assert "Unauthenticated" in everything
    assert "ServerUnavailable" in everything
    assert KEY not in everything
    assert "secret" not in everything


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture
async def secure_url(authority: trustme.CA) -> AsyncIterator[str]:
    """The address of a server with a certificate of an authority that this machine does not know."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    app = web.Application()

    async def answer(_request: web.Request) -> web.Response:
        return web.json_response(JOB)

    app.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    yield f"https://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_an_unknown_certificate_is_not_trusted(secure_url: str, connect: Any) -> None:
    """The error says what to do about it, and the key was not sent."""
    with pytest.raises(ServerUnavailable, match="Name the file of the authority") as caught:
        await connect(secure_url, api_key=KEY, retries=0).get("i")
    assert not caught.value.outcome_unknown


async def test_an_authority_of_ones_own_is_trusted(secure_url: str, connect: Any, ca_file: Path) -> None:
    """Named as `ca`, it is believed."""
    assert (await connect(secure_url, ca=ca_file).get("i")).job_id == "i"
    assert (await connect(secure_url, ca=str(ca_file)).get("i")).job_id == "i"


async def test_the_authority_comes_from_the_environment(
    secure_url: str, connect: Any, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSL_CERT_FILE holds for a node on this machine as for any other."""
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))

    assert (await connect(secure_url).get("i")).job_id == "i"


async def test_the_checks_can_be_ones_own_or_none(secure_url: str, connect: Any, ca_file: Path) -> None:
    """A context of your own replaces them, and False turns them off."""
    context = ssl.create_default_context(cafile=ca_file)

    assert (await connect(secure_url, verify=context).get("i")).job_id == "i"
    assert (await connect(secure_url, verify=False).get("i")).job_id == "i"


def test_certificates_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    """At once, and with the file's name."""
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")

    for path in (tmp_path / "missing.pem", empty):
        with pytest.raises(ValueError, match=f"ca: .*{path.name} cannot be read"):
            Wire("https://node.example", 10, 0, Security(ca=path)).client_options()


def test_certificates_are_checked_by_default() -> None:
    """An https address gets all the checks there are."""
    context = Wire("https://node.example", 10, 0).client_options()["verify"]

    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
