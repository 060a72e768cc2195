"""The command that starts a node."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter


def run(
    *,
    role: Annotated[str | None, Parameter(help="all, api or worker; all by default.", metavar="ROLE")] = None,
    host: Annotated[
        str | None, Parameter(help="The address the API listens on; 127.0.0.1 by default.", metavar="HOST")
    ] = None,
    port: Annotated[
        str | None, Parameter(help="The port of the API, 8080 by default; 0 takes a free one.", metavar="PORT")
    ] = None,
    concurrency: Annotated[
        str | None, Parameter(help="How many jobs run at the same time; 100 by default.", metavar="N")
    ] = None,
    handlers: Annotated[
        list[str] | None,
        Parameter(help="Your modules with handlers, such as myapp.jobs,myapp.mail.", negative="", metavar="MODULES"),
    ] = None,
    types: Annotated[
        list[str] | None,
        Parameter(help="The job types to run; without it, all that have a handler.", negative="", metavar="TYPES"),
    ] = None,
    data_dir: Annotated[
        str | None, Parameter(help="Where the node's own store and files live; .data by default.", metavar="DIR")
    ] = None,
    redis_url: Annotated[
        str | None,
        Parameter(help="The server that several nodes share; without it the node runs one of its own.", metavar="URL"),
    ] = None,
    config: Annotated[
        Path | None,
        Parameter(
            help="A TOML file with settings; by default config/gopher-node.toml, if there is one.", metavar="FILE"
        ),
    ] = None,
    log_level: Annotated[
        str | None, Parameter(help="debug, info, warning, error or critical; info by default.", metavar="LEVEL")
    ] = None,
    log_format: Annotated[
        str | None, Parameter(help="console, json or auto; auto by default.", metavar="FORMAT")
    ] = None,
    reload: Annotated[
        bool,
        Parameter(
            help="For development: start the node anew when a Python file changes.", negative="", show_default=False
        ),
    ] = False,
) -> int:
    """
    Start a node: the API, the scheduler and the workers, or what its role has of them.

    What no flag says, the environment says (SERVER_PORT, REDIS_URL …), and then the configuration file.

    Ctrl-C stops the node gracefully, and a second one at once.
    """
    from gopher_node.settings import Settings

    flags: dict[str, str | None] = {
        "role": role,
        "server.host": host,
        "server.port": port,
        "worker.concurrency": concurrency,
        "handlers": None if handlers is None else ",".join(handlers),
        "worker.types": None if types is None else ",".join(types),
        "data_dir": data_dir,
        "redis.url": redis_url,
        "log.level": log_level,
        "log.format": log_format,
    }
    settings = Settings.load(flags, config=config)
    if reload:
        import asyncio

        from gopher_node.cli.reload import Reloader, Sources, node_command

        return asyncio.run(Reloader(node_command(flags, config), Sources.of(settings)).run())

    from gopher_node import node

    return node.run(settings)
