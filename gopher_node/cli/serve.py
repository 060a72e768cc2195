"""The command that starts a node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from gopher_node.cli.options import option, switch


@Parameter(name="*")
@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """The settings that can be given on the command line. They are checked together with all others, and not here."""

    role: Annotated[str | None, option("all, api or worker; all by default.", "ROLE")] = None
    host: Annotated[str | None, option("The address the API listens on; 127.0.0.1 by default.", "HOST")] = None
    port: Annotated[str | None, option("The port of the API, 8080 by default; 0 takes a free one.", "PORT")] = None
    concurrency: Annotated[str | None, option("How many jobs run at the same time, or auto; 100 by default.", "N")] = (
        None
    )
    handlers: Annotated[
        Sequence[str] | None, option("Your modules with handlers, such as myapp.jobs,myapp.mail.", "MODULES")
    ] = None
    types: Annotated[
        Sequence[str] | None, option("The job types to run; without it, all that have a handler.", "TYPES")
    ] = None
    data_dir: Annotated[str | None, option("Where the node's own store and files live; .data by default.", "DIR")] = (
        None
    )
    redis_url: Annotated[
        str | None, option("The server that several nodes share; without it the node runs one of its own.", "URL")
    ] = None
    log_level: Annotated[str | None, option("debug, info, warning, error or critical; info by default.", "LEVEL")] = (
        None
    )
    log_format: Annotated[str | None, option("console, json or auto; auto by default.", "FORMAT")] = None

    def by_setting(self) -> dict[str, str | None]:
        """Each under its setting's path; None is a flag that was not given."""
        return {
            "role": self.role,
            "server.host": self.host,
            "server.port": self.port,
            "worker.concurrency": self.concurrency,
            "handlers": None if self.handlers is None else ",".join(self.handlers),
            "worker.types": None if self.types is None else ",".join(self.types),
            "data_dir": self.data_dir,
            "redis.url": self.redis_url,
            "log.level": self.log_level,
            "log.format": self.log_format,
        }


NO_FLAGS = Flags()


def run(
    *,
    flags: Flags = NO_FLAGS,
    config: Annotated[
        Path | None, option("A TOML file with settings; by default config/gopher-node.toml, if there is one.", "FILE")
    ] = None,
    reload: Annotated[bool, switch("For development: start the node anew when a Python file changes.")] = False,
) -> int:
    """
    Start a node: the API, the scheduler and the workers, or what its role has of them.

    What no flag says, the environment says (SERVER_PORT, REDIS_URL …), and then the configuration file.

    Ctrl-C stops the node gracefully, and a second one at once.
    """
    from gopher_node.settings import Settings

    given = flags.by_setting()
    settings = Settings.load(given, config=config)
    if reload:
        import asyncio

        from gopher_node.cli.reload import Reloader, Sources, node_command

        return asyncio.run(Reloader(node_command(given, config), Sources.of(settings)).run())

    from gopher_node import node

    return node.run(settings)
