"""The tree of commands, and how each way of ending becomes an exit code and at most one message."""

from __future__ import annotations

import contextlib
import difflib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from cyclopts import App
from cyclopts.exceptions import CycloptsError, MissingArgumentError, UnusedCliTokensError

from gopher_node import __version__
from gopher_node.cli import jobs, queues, serve, submit
from gopher_node.cli.exits import EXIT_CODES, Exit, exit_code
from gopher_node.cli.show import visible
from gopher_node.errors import GopherError

PROGRAM = "gopher-node"

# Each command, and the examples that its help ends with.
COMMANDS: tuple[tuple[str, Callable[..., Any], tuple[str, ...]], ...] = (
    (
        "run",
        serve.run,
        (
            "--port 9000 --concurrency 20",
            "--handlers myapp.jobs --reload",
            "--role=worker --redis-url redis://10.0.0.5/0",
        ),
    ),
    (
        "submit",
        submit.submit,
        (
            """-t math -p '{"operation": "fibonacci", "n": 30}' --wait 10s""",
            "-t email -p @mail.json --priority high -r 5",
            "-t report --at 2026-12-24T18:00 --tag monthly",
        ),
    ),
    (
        "get",
        jobs.get,
        ("0b2ee8f4-6d0c-4a3e-9d49-0a1c7f6f2f55", "0b2ee8f4-6d0c-4a3e-9d49-0a1c7f6f2f55 --json | jq .result"),
    ),
    ("cancel", jobs.cancel, ("0b2ee8f4-6d0c-4a3e-9d49-0a1c7f6f2f55",)),
    ("delete", jobs.delete, ("0b2ee8f4-6d0c-4a3e-9d49-0a1c7f6f2f55",)),
    ("list-failed", jobs.list_failed, ("", "--type email --limit 500", "--json | jq -r .job_id")),
    ("retry", jobs.retry, ("0b2ee8f4-6d0c-4a3e-9d49-0a1c7f6f2f55",)),
    ("retry-all", jobs.retry_all, ("", "--type email")),
    ("stats", queues.stats, ("", "--json | jq .queue_size")),
    ("health", queues.health, ("", "--url http://10.0.0.5:8080 && echo good")),
    ("purge", queues.purge, ("email", "email --priority low --yes")),
)


def _examples(command: str, examples: Sequence[str]) -> str:
    lines = "\n\n".join(f"  {PROGRAM} {command} {example}".rstrip() for example in examples)
    return f"Examples:\n\n{lines}"


def build() -> App:
    app = App(
        name=PROGRAM,
        help=(
            "A job server that is one command. Without a command it starts a node, as `run` does; "
            "the other commands talk to a node over HTTP."
        ),
        usage=f"Usage: {PROGRAM} [COMMAND] [OPTIONS]",
        help_epilogue=(
            f"Examples:\n\n  {PROGRAM} --role=all\n\n  {PROGRAM} submit -t default --wait 10s\n\n  {PROGRAM} stats\n\n"
            f"{PROGRAM} COMMAND --help tells more of each.\n\n{EXIT_CODES}"
        ),
        help_format="plaintext",
        group_parameters="Options",
        version=__version__,
        default_command=serve.run,
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
        result_action="return_value",
    )
    for place, (name, function, examples) in enumerate(COMMANDS):
        app.command(function, name=name, help_epilogue=_examples(name, examples), sort_key=place)
    return app


def execute(arguments: Sequence[str]) -> int:
    """Run one command line and answer its exit code. Whatever goes wrong is told in a sentence on stderr."""
    try:
        code = int(build()(arguments) or Exit.OK)
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
    names = [name for name, _, _ in COMMANDS]
    command = arguments[0] if arguments and arguments[0] in names else ""
    where = f"{PROGRAM} {command}".rstrip()
    message = str(error)
    if isinstance(error, UnusedCliTokensError) and error.unused_tokens:
        stray = error.unused_tokens[0]
        close = difflib.get_close_matches(stray, names, n=1)
        if command:
            message = f"{where} does not take the argument {stray!r}."
        else:
            message = f"There is no command {stray!r}" + (f"; did you mean {close[0]}?" if close else ".")
    elif isinstance(error, MissingArgumentError) and error.argument:
        option = error.keyword or error.argument.name
        given = error.keyword or error.argument.tokens
        message = f"{option} needs a value." if given else f"{where} needs {option}."
    return f"{message} See `{where} --help`."
