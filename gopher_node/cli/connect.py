"""Which node a command talks to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from gopher_node.cli.exits import UsageError
from gopher_node.cli.options import switch

if TYPE_CHECKING:
    from gopher_node.client import Client


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
    json: Annotated[bool, switch("Print the node's JSON.")] = False

    def connect(self) -> Client:
        from gopher_node.client import Client

        try:
            return Client(self.url or _configured_url())
        except ValueError as error:
            raise UsageError(f"--url or GOPHER_URL: {error}") from None


REMOTE = Remote()


def _configured_url() -> str:
    from gopher_node.settings import Settings

    settings = Settings.load()
    if settings.url:
        return settings.url
    # A node that listens everywhere is found on this machine.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.server.host, settings.server.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.server.port}"
