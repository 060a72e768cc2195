"""HTTPS: the certificate, its renewal, and what does not speak the language of the port."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import ssl
from pathlib import Path

import pytest
import trustme

from gopher_node.api.access import tls
from gopher_node.api.access.tls import Certificate
from gopher_node.errors import SettingError


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


class Files:
    """A certificate and its key, where a node finds them."""

    def __init__(self, folder: Path, authority: trustme.CA) -> None:
        self.cert, self.key = folder / "tls.crt", folder / "tls.key"
        self._authority = authority
        self._moment = 1_000_000_000

    def issue(self, *names: str) -> bytes:
        """Write a new one, and return it as clients see it."""
        leaf = self._authority.issue_cert(*names)
        chain = b"".join(pem.bytes() for pem in leaf.cert_chain_pems)
        self.write(chain, leaf.private_key_pem.bytes())
        return ssl.PEM_cert_to_DER_cert(leaf.cert_chain_pems[0].bytes().decode())

    def write(self, cert: bytes, key: bytes) -> None:
        self.cert.write_bytes(cert)
        self.key.write_bytes(key)
        self._moment += 1
        for file in (self.cert, self.key):
            os.utime(file, (self._moment, self._moment))

    @property
    def settings(self) -> dict[str, Path]:
        return {"tls_cert": self.cert, "tls_key": self.key}


@pytest.fixture
def files(tmp_path: Path, authority: trustme.CA) -> Files:
    return Files(tmp_path, authority)


@pytest.fixture
def trust(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def test_https(serve, files, trust):
    """The address says https, a client that trusts the authority gets its answer, and another does not."""
    files.issue("127.0.0.1")
    api = await serve(**files.settings)

    assert api.server.url.startswith("https://127.0.0.1:")
    answer = await api.call("POST", "/api/v1/jobs", json={"type": "mail"}, ssl=trust)
    assert answer.status == 201
    with pytest.raises(Exception, match="certificate verify failed"):
        await api.get("/livez", ssl=ssl.create_default_context())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_versions_that_are_spoken(serve, files, trust, version):
    """TLS 1.2 and later."""
    files.issue("127.0.0.1")
    api = await serve(**files.settings)
    trust.minimum_version = trust.maximum_version = version

    assert (await api.get("/livez", ssl=trust)).status == 200


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
async def test_versions_that_are_not(files):
    """What is older than TLS 1.2 is broken. OpenSSL refuses it by itself today; this must not hang on its build."""
    files.issue("127.0.0.1")

    assert Certificate(files.cert, files.key).context.minimum_version == ssl.TLSVersion.TLSv1_2


async def _served(api, trust) -> bytes:
    """The certificate that a new connection is shown."""
    host, port = api.server.address
    _, writer = await asyncio.open_connection(host, port, ssl=trust, server_hostname="127.0.0.1")
    try:
        return writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.close()


async def test_a_renewed_certificate_is_picked_up(serve, files, trust):
    """Without a restart; one whose key does not fit is reported, and the last good one stays."""
    first = files.issue("127.0.0.1")
    api = await serve(**files.settings)
    certificate = api.server._certificate
    assert await _served(api, trust) == first

    second = files.issue("127.0.0.1")
    assert await _served(api, trust) == first
    certificate.renew()
    assert await _served(api, trust) == second

    cert, key = files.cert.read_bytes(), files.key.read_bytes()
    files.issue("127.0.0.1")
    for bad in ((files.cert.read_bytes(), key), (b"", b""), (cert, b"nonsense")):
        files.write(*bad)
        certificate.renew()
        assert await _served(api, trust) == second
    files.cert.unlink()
    certificate.renew()
    assert await _served(api, trust) == second


async def test_the_files_are_looked_at(serve, files, monkeypatch):
    """Again and again, until the server stops; and what has not changed is not loaded."""
    files.issue("127.0.0.1")
    monkeypatch.setattr(tls, "LOOK_EVERY", 0.01)
    looked = asyncio.Event()
    looks = 0
    state = Certificate._state

    def look(self):
        nonlocal looks
        looks += 1
        if looks == 4:
            looked.set()
        return state(self)

    monkeypatch.setattr(Certificate, "_state", look)
    api = await serve(**files.settings)
    monkeypatch.setattr(Certificate, "_load", None)

    await asyncio.wait_for(looked.wait(), 10)

    timer = api.server._certificate._timer
    await api.server.stop()
    assert timer.cancelled() or api.server._certificate._timer.cancelled()


async def test_other_bytes_on_a_tls_port_end_cleanly(serve, files, trust, caplog):
    """Plain HTTP, nonsense, and silence that ends: the connection ends, and nothing is written about it."""
    files.issue("127.0.0.1")
    caplog.set_level(logging.WARNING)
    api = await serve(**files.settings)
    for sent in (b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n", b"\0" * 100, b""):
        reader, writer = await asyncio.open_connection(*api.server.address)
        writer.write(sent)
        writer.write_eof()
        with contextlib.suppress(ConnectionResetError):
            assert b"HTTP" not in await asyncio.wait_for(reader.read(), 10)
        writer.close()

    assert (await api.get("/livez", ssl=trust)).status == 200
    assert caplog.records == []


async def test_a_handshake_that_does_not_come_is_cut_off(serve, files, monkeypatch):
    """Whoever connects and says nothing holds no connection for long."""
    monkeypatch.setattr("gopher_node.api.server.HANDSHAKE_TIMEOUT", 0.1)
    files.issue("127.0.0.1")
    api = await serve(**files.settings)

    reader, writer = await asyncio.open_connection(*api.server.address)
    with contextlib.suppress(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), 10) == b""
    writer.close()


async def test_tls_on_a_plain_port_ends_cleanly(api):
    """A client that expects TLS is answered 400, which it cannot read, and the connection ends."""
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection(*api.server.address, ssl=ssl.create_default_context(), server_hostname="x")

    assert (await api.get("/livez")).status == 200


def _encrypted(files: Files) -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(files.key.read_bytes(), None)
    secret = serialization.BestAvailableEncryption(b"secret")
    form = serialization.PrivateFormat.TraditionalOpenSSL
    files.write(files.cert.read_bytes(), key.private_bytes(serialization.Encoding.PEM, form, secret))


BAD = {
    "no certificate": lambda files: files.cert.unlink(),
    "no key": lambda files: files.key.unlink(),
    "no PEM": lambda files: files.write(b"nonsense", b"nonsense"),
    "swapped": lambda files: files.write(files.key.read_bytes(), files.cert.read_bytes()),
    "an encrypted key": _encrypted,
    "a folder": lambda files: (files.key.unlink(), files.key.mkdir()),
}


@pytest.mark.parametrize("spoil", BAD.values(), ids=BAD)
async def test_files_of_no_use_stop_the_start(serve, files, spoil):
    """The message names both settings, and nobody is asked for a password."""
    files.issue("127.0.0.1")
    spoil(files)

    with pytest.raises(SettingError, match=r"SERVER_TLS_CERT=.*SERVER_TLS_KEY=.* cannot be used: "):
        await serve(**files.settings)


async def test_a_key_of_another_certificate_stops_the_start(serve, files):
    """Both files are good, and do not belong together."""
    files.issue("127.0.0.1")
    cert = files.cert.read_bytes()
    files.issue("127.0.0.1")
    files.write(cert, files.key.read_bytes())

    with pytest.raises(SettingError, match="key values mismatch"):
        await serve(**files.settings)
