"""Runs one command line, and makes each way of ending an exit code and at most one message."""

from __future__ import annotations

import contextlib
import difflib
import os
import sys
from collections.abc import Sequence

from cyclopts.exceptions import CycloptsError, MissingArgumentError, UnknownOptionError, UnusedCliTokensError

from gopher_node.cli.exits import Exit, exit_code
from gopher_node.cli.show import visible
from gopher_node.cli.tree import COMMANDS, GROUPS, PROGRAM, build
from gopher_node.errors import GopherError


def execute(arguments: Sequence[str]) -> int:
    """Run one command line and answer its exit code. Whatever goes wrong is told in a sentence on stderr."""
    try:
        # What stands first decides which commands are needed at all.
        code = int(build(arguments[0] if arguments else "")(arguments) or Exit.OK)
        sys.stdout.flush()
        return code
    except CycloptsError as error:
        return _complain(_usage_message(error, arguments), Exit.USAGE)
    except GopherError as error:
        return _complain(str(error), exit_code(error))
    except BrokenPipeError:
        _drop_output()  # who read it has seen enough
        return Exit.BROKEN_PIPE
    except OSError as error:
        _drop_output()
        return _complain(f"{error}.", Exit.FAILED)
    except KeyboardInterrupt:
        return _complain("Interrupted.", Exit.INTERRUPTED)


def _drop_output() -> None:
    """What could not be written once, Python would try again, and complain of, when it flushes on its way out."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(message: str, code: Exit) -> int:
    print(f"{PROGRAM}: {visible(message)}", file=sys.stderr)  # noqa: T201
    return code


def _usage_message(error: CycloptsError, arguments: Sequence[str]) -> str:
    words, known = _command(arguments)
    where = " ".join([PROGRAM, *words])
    message = str(error)
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        stray = error.unused_tokens[0]
        if known and not stray.startswith("-"):
            close = difflib.get_close_matches(stray, known, n=1)
            told = " ".join([*words, stray])
            message = f"There is no command {told!r}" + (f"; did you mean {close[0]}?" if close else ".")
        else:
            message = f"{where} does not take the argument {stray!r}."
    elif isinstance(error, UnknownOptionError):
        message = _without_far_guess(error.token.keyword or error.token.value, message)
    elif isinstance(error, MissingArgumentError) and error.argument:
        option = error.keyword or error.argument.name
        given = error.keyword or error.argument.tokens
        message = f"{option} needs a value." if given else f"{where} needs {option}."
    return f"{message} See `{where} --help`."


def _without_far_guess(stray: str, message: str) -> str:
    # The dashes alone make any two short options alike, so a guess stays only if the names without them are.
    told, _, guess = message.partition(" Did you mean --")
    name = stray.lstrip("-").partition("=")[0]
    return message if difflib.get_close_matches(name, [guess.rstrip("?")], n=1) else told


def _command(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words that name the command, and the names that could stand behind them."""
    groups = {group.name: group for group in GROUPS}
    first = arguments[0] if arguments else ""
    if first in groups:
        known = [command.name for command in groups[first].commands]
        return ([first, arguments[1]], []) if len(arguments) > 1 and arguments[1] in known else ([first], known)
    names = [command.name for command in COMMANDS]
    return ([first], []) if first in names else ([], [*names, *groups])
