"""The command that prints a script with which a shell completes commands and options."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from gopher_node.cli import show
from gopher_node.cli.exits import UsageError

SHELLS: dict[str, Literal["bash", "zsh", "fish"]] = {"bash": "bash", "zsh": "zsh", "fish": "fish"}


def completion(
    shell: Annotated[str, Parameter(name="SHELL", help="bash, zsh or fish.")],
    /,
) -> None:
    """
    Print a script that makes a shell complete commands and options.

    For bash: source <(gopher-node completion bash). For zsh, put it as _gopher-node into a directory of $fpath. For
    fish: gopher-node completion fish | source.
    """
    if shell not in SHELLS:
        raise UsageError(f"There is no completion for {shell!r}, only for {', '.join(SHELLS)}.")
    from gopher_node.cli.tree import PROGRAM, build

    show.write(build().generate_completion(prog_name=PROGRAM, shell=SHELLS[shell]).rstrip())
