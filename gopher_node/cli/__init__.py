"""The command line: `gopher-node` starts a node, and its subcommands talk to one over HTTP."""

import sys
from typing import Any


def main() -> None:
    """The console entry point."""
    from gopher_node.cli.app import execute

    # A terminal that knows fewer characters than a job's content gets their escapes, and not an error.
    stdout: Any = sys.stdout
    if stdout is not None:
        stdout.reconfigure(errors="backslashreplace")
    sys.exit(execute(sys.argv[1:]))
