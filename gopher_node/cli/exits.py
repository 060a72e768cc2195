"""What the command line's exit codes mean, and which error has which."""

from __future__ import annotations

from enum import IntEnum

from gopher_node.errors import GopherError, JobNotFound, SettingError, UnusableStore


class Exit(IntEnum):
    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    UNREACHABLE = 4
    CONFIG = 78
    INTERRUPTED = 130
    BROKEN_PIPE = 141


EXIT_CODES = (
    "Exit codes: 0 done, 1 the node refused or the job failed, 2 the command makes no sense, 3 not found, "
    "4 no node can be reached, 78 a setting cannot be used, 130 interrupted."
)


class UsageError(GopherError):
    """The command makes no sense as it was given."""


def exit_code(error: GopherError) -> Exit:
    if isinstance(error, UsageError):
        return Exit.USAGE
    if isinstance(error, (SettingError, UnusableStore)):
        return Exit.CONFIG
    if isinstance(error, JobNotFound):
        return Exit.NOT_FOUND

    from gopher_node.client.problems import NotFound, ServerUnavailable

    if isinstance(error, NotFound):
        return Exit.NOT_FOUND
    return Exit.UNREACHABLE if isinstance(error, ServerUnavailable) else Exit.FAILED
