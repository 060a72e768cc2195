"""API keys: how a command shows one, what it is told without, and the commands that make and end them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
import trustme

from tests.cli.processes import running_node

pytestmark = pytest.mark.process

ADMIN = "a0" * 32


@dataclass(frozen=True)
class Guarded:
    url: str
    ca: Path


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """A node that serves HTTPS under an authority of its own, and wants keys."""
    place = tmp_path_factory.mktemp("guarded")
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    ca, cert, key = (place / name for name in ("ca.pem", "cert.pem", "key.pem"))
    authority.cert_pem.write_to_path(ca)
    cert.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(key)
    told = {"GOPHER_API_KEYS": ADMIN, "SERVER_TLS_CERT": str(cert), "SERVER_TLS_KEY": str(key)}
    with running_node(place / "data", api_key=ADMIN, ca=ca, **told) as url:
        assert url.startswith("https://")
        yield Guarded(url, ca)


@pytest.fixture
def at_guarded(gopher: Any, guarded: Guarded, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a command line against that node, with the authority's file and without a key."""
    monkeypatch.setenv("GOPHER_URL", guarded.url)

    def run(*arguments: str, **options: Any) -> Any:
        return gopher(*arguments, "--ca", str(guarded.ca), **options)

    return run


@pytest.fixture
def as_admin(at_guarded: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The same, with the key of whoever runs the node."""
    monkeypatch.setenv("GOPHER_API_KEY", ADMIN)
    return at_guarded


def made(as_admin: Any, *scopes: str) -> str:
    ran = as_admin("keys", "create", "test", "--scopes", ",".join(scopes))
    assert ran.code == 0, ran.err
    return ran.out.strip()


def test_without_a_key_the_message_says_what_to_do(at_guarded: Any) -> None:
    """Code 1, for the node was reached, and one sentence about where keys come from."""
    for command in ("stats", "jobs", "get 1", "cancel a b", "submit -t a"):
        ran = at_guarded(*command.split())

        assert (ran.code, ran.out) == (1, ""), command
        assert "wants an API key" in ran.err
        assert "Set GOPHER_API_KEY, or name a file with --api-key-file" in ran.err
        assert ran.err.count("\n") == 1


def test_a_missing_scope_is_named(at_guarded: Any, as_admin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which one it is, and how a key that has it is made."""
    monkeypatch.setenv("GOPHER_API_KEY", made(as_admin, "read"))

    assert at_guarded("stats").code == 0
    ran = at_guarded("submit", "-t", "echo")
    assert ran.code == 1
    assert "lacks the scope submit" in ran.err
    assert "`gopher-node keys create NAME --scopes submit`" in ran.err
    assert "lacks the scope admin" in at_guarded("keys").err
    assert at_guarded("delete", "a", "b").err.count("lacks the scope admin") == 1


def test_a_key_is_read_from_a_file(
    at_guarded: Any, as_admin: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The file has precedence over the environment, and holds the key and nothing else."""
    (tmp_path / "key").write_text(f"{made(as_admin, 'read')}\n")
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "two").write_text("a\nb\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    monkeypatch.setenv("GOPHER_API_KEY", "x" * 40)

    assert at_guarded("stats").code == 1
    assert at_guarded("stats", "--api-key-file", "key").code == 0
    for name in ("empty", "two", "binary", "missing"):
        ran = at_guarded("stats", "--api-key-file", name)
        assert ran.code == 2
        assert f"key file {name}" in ran.err


def test_a_certificate_that_is_not_trusted_is_told(
    gopher: Any, guarded: Guarded, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With the two ways to name its authority, of which SSL_CERT_FILE is one."""
    ran = gopher("stats", "--url", guarded.url)
    assert ran.code == 4
    assert "CERTIFICATE_VERIFY_FAILED" in ran.err
    assert "SSL_CERT_FILE" in ran.err

    (tmp_path / "none.pem").write_text("nothing")
    ran = gopher("stats", "--url", guarded.url, "--ca", "none.pem")
    assert ran.code == 2
    assert ran.err.startswith("gopher-node: --ca none.pem cannot be read as certificates")

    monkeypatch.setenv("SSL_CERT_FILE", str(guarded.ca))
    assert "wants an API key" in gopher("stats", "--url", guarded.url).err


def test_a_key_is_made_listed_rotated_and_revoked(as_admin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The key alone goes to the standard output, once; from its revocation on it opens nothing."""
    ran = as_admin("keys", "create", "shop", "--scopes", "submit,read", "--expires", "90d", "--rate", "1000/1s")
    assert ran.code == 0
    key = ran.out.strip()
    assert re.fullmatch(r"gn_[0-9a-f]+_[0-9a-f]{64}", key)
    assert key not in ran.err
    key_id = key.split("_")[1]
    assert f"Key {key_id} (shop; submit, read, good until 20" in ran.err

    listed = as_admin("keys")
    row = next(line for line in listed.lines if line.startswith(key_id))
    assert "shop" in row
    assert "submit,read" in row
    assert "1000/1s" in row
    assert key not in listed.out
    assert "settings" in listed.out

    ran = as_admin("keys", "rotate", key_id, "--overlap", "0", "--json")
    new = ran.json["key"]
    assert ran.json["name"] == "shop"
    assert new != key
    monkeypatch.setenv("GOPHER_API_KEY", key)
    assert as_admin("stats").code == 1
    monkeypatch.setenv("GOPHER_API_KEY", new)
    assert as_admin("stats").code == 0

    monkeypatch.setenv("GOPHER_API_KEY", ADMIN)
    new_id = new.split("_")[1]
    assert as_admin("keys", "revoke", new_id).out == f"{new_id}  revoked\n"
    ran = as_admin("keys", "revoke", "0123456789ab", key_id)
    assert ran.code == 3
    assert "gopher-node: 0123456789ab: " in ran.err
    assert ran.out == f"{key_id}  revoked\n"
    monkeypatch.setenv("GOPHER_API_KEY", new)
    assert as_admin("stats").code == 1


def test_a_key_of_the_settings_is_changed_there(as_admin: Any) -> None:
    """The node's refusal is passed on."""
    configured = next(line for line in as_admin("keys").lines if line.endswith("settings")).split()[0]

    ran = as_admin("keys", "revoke", configured)

    assert ran.code == 1
    assert "GOPHER_API_KEYS" in ran.err


def test_the_doctor_says_what_a_key_may_do(at_guarded: Any, as_admin: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """None, an invalid one, one with some scopes, and one with all."""

    def found() -> dict[str, Any]:
        ran = at_guarded("doctor", "--json")
        findings = [orjson.loads(line) for line in ran.lines]
        (key,) = [finding for finding in findings if finding["check"] == "key"]
        return {**key, "code": ran.code}

    limited, working = made(as_admin, "read", "submit"), made(as_admin, "work")
    before = len(at_guarded("jobs", "--json").lines)

    monkeypatch.delenv("GOPHER_API_KEY")
    assert (found()["code"], found()["level"]) == (1, "error")
    assert "none is set here" in found()["finding"]
    monkeypatch.setenv("GOPHER_API_KEY", "y" * 40)
    assert "is not valid" in found()["finding"]
    monkeypatch.setenv("GOPHER_API_KEY", limited)
    assert found()["finding"] == "Your API key is valid and has the scopes read, submit."
    monkeypatch.setenv("GOPHER_API_KEY", working)
    assert (found()["code"], found()["level"]) == (0, "warning")
    assert "Without read" in found()["finding"]
    monkeypatch.setenv("GOPHER_API_KEY", ADMIN)
    assert found()["finding"] == "Your API key is valid and may do everything (admin)."
    # To look changes nothing.
    assert len(at_guarded("jobs", "--json").lines) == before


def test_tls_is_told_apart_from_plain_http(gopher: Any, guarded: Guarded, node_url: str) -> None:
    """The doctor says which scheme is the right one, and what an untrusted certificate needs."""
    ran = gopher("doctor", "--url", guarded.url.replace("https:", "http:"))
    assert ran.code == 1
    assert "https://" in ran.out
    ran = gopher("doctor", "--url", node_url.replace("http:", "https:"))
    assert ran.code == 1
    assert "does not speak TLS" in ran.out
    ran = gopher("doctor", "--url", guarded.url)
    assert ran.code == 1
    assert "is not trusted here" in ran.out
    assert "--ca or SSL_CERT_FILE" in ran.out


def test_a_key_ends_at_a_time(as_admin: Any) -> None:
    """Which may be written as a date; one that is over is none."""
    year = datetime.now(UTC).year + 1
    ran = as_admin("keys", "create", "dated", "--scopes", "read", "--expires", f"{year}-06-01T00:00:00+00:00", "--json")
    assert ran.json["expires_at"][:16] == f"{year}-06-01T00:00"
    over = as_admin("keys", "create", "dated", "--scopes", "read", "--expires", "2020-01-31")
    assert (over.code, over.err) == (2, "gopher-node: --expires '2020-01-31' is over.\n")


def test_an_expired_key_is_marked(gopher: Any, told: Any) -> None:
    """In the list, which has all."""
    key = {"id": "1", "name": "a", "scopes": ["read"], "expires_at": "2020-01-01T00:00:00Z"}
    told.answer({"items": [key, {**key, "expires_at": "2199-01-01T00:00:00Z"}]})

    _, old, new = gopher("keys", "list", "--url", told.url).lines

    assert "2020-01-01 00:00:00Z (expired)" in old
    assert "expired" not in new


def test_an_untrusted_certificate_names_the_option(gopher: Any, guarded: Guarded) -> None:
    """The command line's, and not the SDK's; and the other address is hinted at where TLS is missing or not wanted."""
    ran = gopher("health", "--url", guarded.url)
    assert ran.code == 4
    assert "with --ca, or in SSL_CERT_FILE" in ran.err

    plain = gopher("health", "--url", guarded.url.replace("https:", "http:"))
    assert plain.code == 4
    assert "if it speaks TLS, use https://" in plain.err


def test_a_plain_port_is_told_to_https(gopher: Any, told: Any) -> None:
    """With what to write instead."""
    ran = gopher("health", "--url", told.url.replace("http:", "https:"))
    assert ran.code == 4
    assert "does not speak TLS" in ran.err
    assert "use http://" in ran.err
