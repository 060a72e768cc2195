"""Which node a command talks to, and who it says it is."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from gopher_node.cli.exits import UsageError
from gopher_node.cli.options import option, switch
from gopher_node.errors import GopherError

if TYPE_CHECKING:
    from gopher_node.client import Client, Forbidden, ServerUnavailable
    from gopher_node.settings import Settings


class NotLetIn(GopherError):
    """The node does not let this caller do that."""


class NotKnownThere(GopherError):
    """The node is too old for this command, or too new."""


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Remote:
    """The options that all commands over HTTP share."""

    url: Annotated[
        str | None,
        Parameter(
            help="Address of the node; http://127.0.0.1:8080 by default, or as your settings say.",
            env_var="GOPHER_URL",
            metavar="URL",
        ),
    ] = None
    api_key_file: Annotated[
        Path | None,
        option("The file that holds your API key, in place of GOPHER_API_KEY in the environment.", "FILE"),
    ] = None
    ca: Annotated[
        Path | None,
        option("The authority (PEM) that signed the node's certificate, where the system does not know it.", "FILE"),
    ] = None
    json: Annotated[bool, switch("Print the node's JSON; of lists, one object on each line.")] = False

    @contextmanager
    def connect(self) -> Generator[Client]:
        """A client of the node. What it says about keys is told with what to do about it."""
        from gopher_node.client import Forbidden, NotFound, ServerUnavailable, Unauthenticated

        with self.client() as client:
            try:
                yield client
            except Unauthenticated as error:
                raise NotLetIn(_unauthenticated(client.url)) from error
            except Forbidden as error:
                raise NotLetIn(_forbidden(error)) from error
            except ServerUnavailable as error:
                if "CERTIFICATE_VERIFY_FAILED" not in error.reason:
                    raise
                raise ServerUnavailable(error.url, error.reason, _untrusted(error)) from error
            except NotFound as error:
                if error.type != "not-found":
                    raise
                raise NotKnownThere(
                    f"The node at {client.url} does not know what this command asks for. Use a command line of the "
                    "node's version (`gopher-node doctor` tells both), or look whether the address is complete."
                ) from error

    def client(self, *, url: str | None = None, **options: Any) -> Client:
        from gopher_node.client import Client

        url = url or self.url or _configured_url()
        key = _read_key_file(self.api_key_file) if self.api_key_file else None
        if self.ca and not self.ca.exists():
            raise UsageError(f"--ca {self.ca}: There is no such file.")
        try:
            given: dict[str, Any] = {"api_key": key, "ca": self.ca, **options}
            return Client(url, **given)
        except ValueError as error:
            text = str(error)
            if text.startswith("ca: "):
                raise UsageError(f"--ca {text.removeprefix('ca: ')}") from None
            if text.startswith("api_key"):
                raise UsageError("The API key has characters that no key has.") from None
            raise UsageError(f"--url or GOPHER_URL: {text}") from None


REMOTE = Remote()


def _configured_url() -> str:
    from gopher_node.settings import Settings

    return url_of(Settings.load())


def url_of(settings: Settings) -> str:
    """The node that these settings name, or else the one that they describe."""
    if settings.url:
        return settings.url
    # A node that listens everywhere is found on this machine.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.server.host, settings.server.host)
    scheme = "https" if settings.server.tls_cert else "http"
    port = settings.server.port
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{settings.server.base_path}"


def _read_key_file(path: Path) -> str:
    try:
        key = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise UsageError(f"The key file {path} cannot be read: {reason}.") from None
    if not key or "\n" in key:
        raise UsageError(f"The key file {path} must hold one API key and nothing else.")
    return key


def _untrusted(error: ServerUnavailable) -> str:
    return (
        f"The certificate of {error.url} is not one that is trusted here ({error.reason}). "
        "Name the file of the authority that signed it with --ca, or in SSL_CERT_FILE."
    )


def _unauthenticated(url: str) -> str:
    return (
        f"The node at {url} wants an API key, and none or no valid one was shown; a key may also have expired or been "
        "revoked. Set GOPHER_API_KEY, or name a file with --api-key-file; whoever has the scope admin makes keys with "
        "`gopher-node keys create NAME --scopes read,submit`."
    )


def _forbidden(error: Forbidden) -> str:
    if not error.scope:
        return str(error)
    return (
        f"Your API key lacks the scope {error.scope}, which this needs. Use a key that has it; whoever has the scope "
        f"admin makes one with `gopher-node keys create NAME --scopes {error.scope}`."
    )
