"""The job types `email` and `send_email`, against a real SMTP server."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session

from gopher_node.errors import Fail, Retry
from gopher_node.handlers import InvalidPayload
from gopher_node.handlers.builtin.mail import start_tls
from gopher_node.settings import Settings
from tests.handlers.conftest import JOB, Node

MAIL = {"to": "ada@example.org", "subject": "Hello", "body": "It works."}


class Mailbox:
    """Keeps what it is sent. `answers` maps an address, or DATA, to what it is answered."""

    def __init__(self) -> None:
        self.mails: list[Envelope] = []
        self.answers: dict[str, str] = {}
        self.port = 0

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Any) -> str:
        if address in self.answers:
            return self.answers[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if "DATA" in self.answers:
            return self.answers["DATA"]
        self.mails.append(envelope)
        return "250 queued as 7"

    def read(self, index: int = 0) -> EmailMessage:
        message = message_from_bytes(self.mails[index].content, policy=default)
        assert isinstance(message, EmailMessage)
        return message


@asynccontextmanager
async def serving(mailbox: Mailbox, **options: Any) -> AsyncIterator[Mailbox]:
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(mailbox, hostname="mail.test", **options), "127.0.0.1", 0
    )
    mailbox.port = server.sockets[0].getsockname()[1]
    try:
        yield mailbox
    finally:
        server.close()
        await server.wait_closed()


@pytest.fixture
async def mailbox(node: Node) -> AsyncIterator[Mailbox]:
    async with serving(Mailbox()) as mailbox:
        node.configure(smtp={"host": "127.0.0.1", "port": mailbox.port, "sender": "Jobs <jobs@example.org>"})
        yield mailbox


def outbox(node: Node) -> list[Path]:
    return sorted((node.settings.data_dir / "outbox").iterdir())


async def test_without_a_server_the_mail_is_a_file(node: Node) -> None:
    """The first mail works before anything is set, and the result says that it was not sent."""
    result = await node.call("email", MAIL)

    (path,) = outbox(node)
    message = message_from_bytes(path.read_bytes(), policy=default)
    assert isinstance(message, EmailMessage)
    assert (result["delivered"], result["path"]) == (False, str(path))
    assert "SMTP_HOST is not set" in result["note"]
    assert (message["To"], message["Subject"]) == ("ada@example.org", "Hello")
    assert message.get_content() == "It works.\r\n"


async def test_repeated_run_replaces_the_file(node: Node) -> None:
    """A mail is in the outbox once, however often its job runs."""
    first = await node.call("email", MAIL)
    second = await node.call("send_email", MAIL, attempt=2)

    assert first == second
    assert len(outbox(node)) == 1


async def test_mail_is_sent(node: Node, mailbox: Mailbox) -> None:
    """With everything that a mail can have; blind copies are seen by nobody."""
    result = await node.call(
        "email",
        {
            "to": ["Ada Lovelace <ada@example.org>", "bob@example.org"],
            "cc": "cleo@example.org",
            "bcc": ["dan@example.org", "ada@example.org"],
            "from": '"Grüße, das Team" <team@example.com>',
            "reply_to": "desk@example.org",
            "subject": "Grüße ✓",
            "body": "Schön.\n" + "x" * 2000,
            "html": "<p>Schön.</p>",
        },
    )

    (mail,) = mailbox.mails
    message = mailbox.read()
    assert (result["delivered"], result["refused"], result["response"]) == (True, {}, "queued as 7")
    assert mail.mail_from == "team@example.com"
    assert mail.rcpt_tos == ["ada@example.org", "bob@example.org", "cleo@example.org", "dan@example.org"]
    assert message["Subject"] == "Grüße ✓"
    assert message["From"].addresses[0].display_name == "Grüße, das Team"
    assert message["Bcc"] is None
    assert b"dan@" not in mail.content
    assert [part.get_content_type() for part in message.iter_parts()] == ["text/plain", "text/html"]
    plain = message.get_body(("plain",))
    assert plain is not None
    assert plain.get_content().replace("\r\n", "\n") == "Schön.\n" + "x" * 2000 + "\n"


async def test_repeated_run_sends_the_same_message_id(node: Node, mailbox: Mailbox) -> None:
    """By which mail systems recognise a mail that was sent twice."""
    await node.call("email", MAIL)
    await node.call("email", MAIL, attempt=2)

    assert [mailbox.read(n)["Message-ID"] for n in range(2)] == [f"<{JOB}@example.org>"] * 2


@pytest.mark.parametrize("name", ["body", "text", "message"])
async def test_old_names_of_the_body_are_known(node: Node, mailbox: Mailbox, name: str) -> None:
    """Payloads of other systems work as they are."""
    await node.call("send_email", {"to": "ada@example.org", "subject": "Hello", name: "text"})

    assert mailbox.read().get_content().strip() == "text"


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"subject": "Hi\r\nBcc: all@example.org"}, "/subject"),
        ({"subject": "Hi\u2028Bcc: all@example.org"}, "/subject"),
        ({"subject": "Hi\x85Bcc: all@example.org"}, "/subject"),
        ({"to": "ada@example.org\nBcc: all@example.org"}, "/to"),
        ({"to": "ada@example.org> SIZE=1 <x@example.org"}, "/to"),
        ({"to": "ada@example.org, bob@example.org"}, "/to"),
        ({"to": "a..b@example.org"}, "/to"),
        ({"to": "no address"}, "/to"),
        ({"to": []}, "/to"),
        ({"to": ["ada@example.org", "bad"]}, "/to/1"),
        ({"to": ["ada@example.org"] * 101}, "/to"),
        ({"from": "Ada\x00 <ada@example.org>"}, "/from"),
        ({"cc": "x"}, "/cc"),
        ({"attachment": "/etc/passwd"}, "/attachment"),
    ],
)
async def test_header_injection_and_bad_addresses_are_refused(node: Node, change: dict[str, Any], pointer: str) -> None:
    """Before any mail is made."""
    with pytest.raises(InvalidPayload) as refused:
        await node.call("email", MAIL | change)

    assert pointer in {error["pointer"] for error in refused.value.errors}


async def test_partly_refused_mail_is_sent_to_the_others(node: Node, mailbox: Mailbox) -> None:
    """And not again to those who have it; the result names who has not."""
    mailbox.answers["bad@example.org"] = "550 no such user"

    result = await node.call("email", MAIL | {"to": ["ada@example.org", "bad@example.org"]})

    assert result["refused"] == {"bad@example.org": "550 no such user"}
    assert mailbox.mails[0].rcpt_tos == ["ada@example.org"]


@pytest.mark.parametrize(
    ("answers", "outcome", "words"),
    [
        ({"ada@example.org": "450 mailbox busy"}, Retry, "450 mailbox busy"),
        ({"ada@example.org": "550 no such user"}, Fail, "550 no such user"),
        ({"DATA": "451 try later"}, Retry, "451 try later"),
        ({"DATA": "552 too large"}, Fail, "552 too large"),
    ],
)
async def test_answers_decide_whether_to_try_again(
    node: Node, mailbox: Mailbox, answers: dict[str, str], outcome: type[Exception], words: str
) -> None:
    """4xx may pass, 5xx will not; what the server said is in the error."""
    mailbox.answers = answers

    with pytest.raises(outcome, match=words):
        await node.call("email", MAIL)


async def test_unreachable_server_is_tried_again(node: Node) -> None:
    """A mail server that restarts loses nobody's mail."""
    async with serving(Mailbox()) as gone:
        pass
    node.configure(smtp={"host": "127.0.0.1", "port": gone.port, "sender": "jobs@example.org"})

    with pytest.raises(Retry, match=f"127.0.0.1:{gone.port} cannot be reached"):
        await node.call("email", MAIL)


async def test_server_that_hangs_up_is_tried_again(node: Node) -> None:
    """In the middle of a conversation."""

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello\r\n")
        await reader.readline()
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        node.configure(smtp={"host": "127.0.0.1", "port": port, "sender": "jobs@example.org"})
        with pytest.raises(Retry, match="cannot be reached"):
            await node.call("email", MAIL)


async def test_missing_sender_names_the_setting(node: Node) -> None:
    """A permanent failure, and what to do about it."""
    node.configure(smtp={"host": "127.0.0.1"})

    with pytest.raises(Fail, match="SMTP_FROM") as failed:
        await node.call("email", MAIL)
    assert failed.value.code == "setting-missing"


async def test_password_is_not_sent_in_the_clear(node: Node) -> None:
    """Where encryption was asked for and the server offers none, the mail fails before any login."""
    async with serving(Mailbox(), auth_required=False) as mailbox:
        smtp = {"host": "127.0.0.1", "port": mailbox.port, "sender": "jobs@example.org", "tls": "starttls"}
        node.configure(smtp=smtp | {"username": "jobs", "password": "secret"})

        with pytest.raises(Fail, match="SMTP_TLS"):
            await node.call("email", MAIL)
    assert mailbox.mails == []


@pytest.mark.parametrize(
    ("smtp", "needed"),
    [
        ({"host": "mail.example.org"}, None),
        ({"host": "mail.example.org", "username": "jobs"}, True),
        ({"host": "mail.example.org", "tls": "starttls"}, True),
        ({"host": "localhost", "username": "jobs"}, None),
        ({"host": "127.0.0.1", "username": "jobs"}, None),
        ({"host": "10.0.0.1", "username": "jobs"}, True),
    ],
)
def test_login_elsewhere_needs_encryption(smtp: dict[str, Any], needed: bool | None) -> None:
    """An offer to encrypt can be removed on the way, so a password does not depend on it."""
    assert needed is start_tls(Settings(smtp=smtp))


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's context whose certificate this process trusts."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    subprocess.run(
        [*command.split(), "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)],
        check=True,
        capture_output=True,
    )
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


@pytest.mark.parametrize(("password", "outcome"), [("secret", None), ("wrong", Fail)])
async def test_login_over_starttls(
    node: Node, certificate: ssl.SSLContext, password: str, outcome: type[Exception] | None
) -> None:
    """Encrypted first, then logged in; a wrong password names its settings."""

    def authenticate(*told: Any) -> AuthResult:
        return AuthResult(success=told[-1].password == b"secret", handled=False)

    options = {"tls_context": certificate, "auth_required": True, "authenticator": authenticate}
    async with serving(Mailbox(), **options) as mailbox:
        smtp = {"host": "127.0.0.1", "port": mailbox.port, "sender": "jobs@example.org"}
        node.configure(smtp=smtp | {"username": "jobs", "password": password})
        if outcome:
            with pytest.raises(outcome, match="SMTP_USERNAME and SMTP_PASSWORD"):
                await node.call("email", MAIL)
        else:
            await node.call("email", MAIL)

    assert len(mailbox.mails) == (0 if outcome else 1)
