"""The job types `email` and `send_email`: one mail by SMTP, or a file in the outbox while no server is set."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, AliasChoices, Field, StringConstraints

from gopher_node.errors import Fail, Retry
from gopher_node.handlers.builtin.files import job_name, write_whole
from gopher_node.handlers.builtin.payloads import Payload
from gopher_node.handlers.context import JobContext

if TYPE_CHECKING:
    from aiosmtplib import SMTPResponse

    from gopher_node.settings import Settings

OUTBOX = "outbox"
MAX_RECIPIENTS = 100
SMTP_TIMEOUT = 30.0
SMTPS_PORT = 465

_LOCAL = r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_SPEC = rf"{_LOCAL}@{_LABEL}(?:\.{_LABEL})*"
_ADDRESS = re.compile(rf"(?:(?P<name>[^<>]*)<(?P<spec>{_SPEC})>|(?P<bare>{_SPEC}))\Z")


def _parse_address(text: str) -> Address:
    found = _ADDRESS.match(text.strip())
    if not found:
        raise ValueError("must be an address such as ada@example.org or Ada <ada@example.org>")
    try:
        return Address((found["name"] or "").strip(' "'), addr_spec=found["spec"] or found["bare"])
    except Exception:  # the parser's errors are of many kinds, and all mean the same
        raise ValueError("must be an address such as ada@example.org or Ada <ada@example.org>") from None


def _check_address(text: str) -> str:
    _parse_address(text)
    return text


# No line end of any kind, or a header could hold another header.
Line = Annotated[str, StringConstraints(max_length=998, pattern="^[^\\x00-\\x1f\\x7f-\\x9f\\u2028\\u2029]*$")]
MailAddress = Annotated[Line, AfterValidator(_check_address)]
MailAddresses = MailAddress | Annotated[list[MailAddress], Field(max_length=MAX_RECIPIENTS)]


class Email(Payload):
    """A mail. With `html`, `body` is what readers without HTML see."""

    to: MailAddress | Annotated[list[MailAddress], Field(min_length=1, max_length=MAX_RECIPIENTS)]
    subject: Line
    body: str = Field("", validation_alias=AliasChoices("body", "text", "message"))
    html: str | None = None
    cc: MailAddresses = Field(default_factory=list[str])
    bcc: MailAddresses = Field(default_factory=list[str])
    reply_to: MailAddress | None = None
    sender: MailAddress | None = Field(
        None, description="By default the setting SMTP_FROM.", validation_alias=AliasChoices("from", "sender")
    )


async def send(ctx: JobContext, payload: Email) -> dict[str, Any]:
    """Send a mail by SMTP; without SMTP_HOST it is written to the outbox in the data directory."""
    message = compose(ctx, payload)
    if ctx.settings.smtp.host is None:
        path = await asyncio.to_thread(_write, ctx, message)
        return {
            "delivered": False,
            "message_id": message["Message-ID"],
            "path": str(path),
            "note": "SMTP_HOST is not set, so the mail was written to a file and not sent.",
        }
    refused, response = await _deliver(ctx, message, _all_recipients(payload))
    return {
        "delivered": True,
        "message_id": message["Message-ID"],
        "response": response,
        "refused": {address: f"{answer.code} {answer.message}" for address, answer in refused.items()},
    }


def compose(ctx: JobContext, payload: Email) -> EmailMessage:
    sender = _sender(payload, ctx.settings)
    message = EmailMessage()
    message["From"] = sender
    message["To"] = [_parse_address(address) for address in _listed(payload.to)]
    if payload.cc:
        message["Cc"] = [_parse_address(address) for address in _listed(payload.cc)]
    if payload.bcc:
        # Read by people in the outbox; it is left out of what is sent.
        message["Bcc"] = [_parse_address(address) for address in _listed(payload.bcc)]
    if payload.reply_to:
        message["Reply-To"] = [_parse_address(payload.reply_to)]
    message["Subject"] = payload.subject
    message["Date"] = datetime.now(UTC)
    # From the job, so that a mail that was sent twice can be recognised, and mail systems do.
    message["Message-ID"] = f"<{job_name(ctx)}@{sender.domain}>"
    message.set_content(payload.body)
    if payload.html is not None:
        message.add_alternative(payload.html, subtype="html")
    return message


def _sender(payload: Email, settings: Settings) -> Address:
    text = payload.sender or settings.smtp.sender
    if text is None:
        if settings.smtp.host is not None:
            raise Fail("The mail has no sender: set SMTP_FROM, or put `from` into the payload.", code="setting-missing")
        text = "gopher-node@localhost"
    try:
        return _parse_address(text)
    except ValueError as error:
        raise Fail(f"The setting SMTP_FROM {error}.", code="setting-invalid") from None


def _listed(addresses: str | list[str]) -> list[str]:
    return [addresses] if isinstance(addresses, str) else addresses


def _all_recipients(payload: Email) -> list[str]:
    everyone = [*_listed(payload.to), *_listed(payload.cc), *_listed(payload.bcc)]
    return list(dict.fromkeys(_parse_address(address).addr_spec for address in everyone))


def _write(ctx: JobContext, message: EmailMessage) -> Path:
    outbox = ctx.settings.data_dir / OUTBOX
    outbox.mkdir(parents=True, exist_ok=True)
    path = outbox / f"{job_name(ctx)}.eml"
    part = path.with_suffix(f".{ctx.attempt}.part")
    part.unlink(missing_ok=True)
    with write_whole(path, part) as file:
        file.write(message.as_bytes(policy=SMTP_POLICY))
    return path


async def _deliver(
    ctx: JobContext, message: EmailMessage, recipients: list[str]
) -> tuple[dict[str, SMTPResponse], str]:
    import aiosmtplib  # only nodes that send mail need it

    smtp = ctx.settings.smtp
    assert smtp.host is not None
    implicit = smtp.tls == "tls" or (smtp.tls == "auto" and smtp.port == SMTPS_PORT)
    client = aiosmtplib.SMTP(
        hostname=smtp.host,
        port=smtp.port,
        use_tls=implicit,
        start_tls=False if implicit or smtp.tls == "none" else start_tls(ctx.settings),
        username=smtp.username,
        password=smtp.password.get_secret_value() if smtp.password and smtp.username else None,
        timeout=SMTP_TIMEOUT,
    )
    try:
        async with client:
            return await client.send_message(message, recipients=recipients)
    except aiosmtplib.SMTPRecipientsRefused as error:
        answers = "; ".join(f"{refused.recipient}: {refused.code} {refused.message}" for refused in error.recipients)
        if any(400 <= refused.code < 500 for refused in error.recipients):
            raise Retry(f"The mail server takes no recipient now: {answers}") from error
        raise Fail(f"The mail server refuses every recipient: {answers}", code="mail-refused") from error
    except aiosmtplib.SMTPResponseException as error:
        answer = f"{error.code} {error.message}"
        if isinstance(error, aiosmtplib.SMTPAuthenticationError) and error.code >= 500:
            raise Fail(
                f"The mail server refuses SMTP_USERNAME and SMTP_PASSWORD: {answer}", code="mail-refused"
            ) from error
        if error.code >= 500:
            raise Fail(f"The mail server refuses the mail: {answer}", code="mail-refused") from error
        raise Retry(f"The mail server cannot take the mail now: {answer}") from error
    except (aiosmtplib.SMTPServerDisconnected, aiosmtplib.SMTPConnectError, TimeoutError, OSError) as error:
        raise Retry(f"The mail server {smtp.host}:{smtp.port} cannot be reached: {error}") from error
    except aiosmtplib.SMTPException as error:
        raise Fail(
            f"The mail server does not offer what is needed: {error} See the setting SMTP_TLS.", code="mail-refused"
        ) from error


def start_tls(settings: Settings) -> bool | None:
    """None is: if the server offers it. A password does not depend on an offer that anybody between can remove."""
    smtp = settings.smtp
    if smtp.tls == "starttls":
        return True
    return True if smtp.username and not _is_loopback(smtp.host or "") else None


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
