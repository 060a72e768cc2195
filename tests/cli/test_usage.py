"""The command line before anything is sent: help, slips, and where a node is looked for."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from gopher_node import __version__
from gopher_node.cli.connect import Remote
from gopher_node.cli.tree import COMMANDS, GROUPS
from gopher_node.settings import SETTINGS

NAMES = [command.name for command in COMMANDS]
IN_GROUPS = {f"{group.name} {command.name}": command.function for group in GROUPS for command in group.commands}
# What does the same under two names has one page.
PAGES = [*IN_GROUPS, *(command.name for command in COMMANDS if command.function not in IN_GROUPS.values())]
ID = "7f7a2b1e-6f0e-4d7a-9a55-0d9a9f3ad001"


def test_every_command_of_the_seeds_is_there() -> None:
    """A user of the older systems finds the same words."""
    seeds = {"stats", "submit", "list-failed", "retry", "retry-all", "health", "purge"}

    assert seeds | {"run", "get", "cancel", "delete"} <= set(NAMES)


def test_help_lists_the_commands_and_the_exit_codes(gopher: Any) -> None:
    """The first help page leads to everything else."""
    ran = gopher("--help")

    assert ran.code == 0
    assert all(f" {name} " in ran.out for name in [*NAMES, *(group.name for group in GROUPS)])
    assert "--role" in ran.out
    assert "gopher-node --role=all" in ran.out
    assert "Exit codes: 0 done" in ran.out
    assert ran.err == ""


@pytest.mark.parametrize("name", PAGES)
def test_each_command_has_help_with_examples(gopher: Any, name: str) -> None:
    """Help says what a command does, what it takes, and how it is written. No secret is taken as a flag."""
    ran = gopher(*name.split(), "--help")

    assert ran.code == 0
    # What stands on a command line stands in the list of processes too.
    assert "--api-key " not in ran.out
    assert f"Usage: gopher-node {name}" in ran.out
    assert f"Examples:\n\n  gopher-node {name}" in ran.out


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_each_group_has_help_with_its_commands(gopher: Any, group: Any) -> None:
    """A group's word leads to what is in it, and says what it does alone."""
    ran = gopher(group.name, "--help")

    assert ran.code == 0
    assert all(f" {command.name} " in ran.out for command in group.commands)
    assert f"Without a command it does what `{group.commands[0].name}` does." in ran.out


def test_the_version_is_told(gopher: Any) -> None:
    """--version prints it and nothing else."""
    ran = gopher("--version")

    assert (ran.code, ran.out) == (0, f"{__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("sumbit", "There is no command 'sumbit'; did you mean submit? See `gopher-node --help`."),
        ("xyz", "There is no command 'xyz'. See `gopher-node --help`."),
        ("submit", "gopher-node submit needs --type, or --file. See `gopher-node submit --help`."),
        ("submit -t", "-t needs a value. See `gopher-node submit --help`."),
        ("submit -t a b", "gopher-node submit does not take the argument 'b'. See `gopher-node submit --help`."),
        ("submit -t a --prioritty 1", "Unknown option: --prioritty. Did you mean --priority? See"),
        ("get a --wait 5s", "Unknown option: --wait. See `gopher-node get --help`."),
        ("submit -t a -r many", "many"),
        ("submit -t a --priority 9", "--priority '9' must be low, normal, high or urgent, or their numbers 1 to 4."),
        ("submit -t a --delay soon", "--delay 'soon' must be a number of seconds"),
        ("submit -t a --wait 5parsecs", "--wait '5parsecs' must be"),
        ("submit -t a --timeout x", "--timeout 'x' must be"),
        ("submit -t a --retention x", "--retention 'x' must be"),
        ("submit -t a --at tomorrow", "--at 'tomorrow' is not a time. Write it like"),
        ("submit -t a --at 2030-01-01 --delay 1s", "give one of them"),
        ("submit -t a -p {x", "The payload is not JSON: "),
        ("submit -t a -p NaN", "The payload is not JSON: "),
        ("submit -t a -p @missing.json", "The payload file missing.json cannot be read: No such file or directory."),
        ("get", "gopher-node get needs ID."),
        ("get a b", "gopher-node get does not take the argument 'b'."),
        ("retry", "Say which jobs are meant: their ids, a filter such as --type, or --all for every job."),
        ("jobs cancel", "Say which jobs are meant"),
        ("jobs delete --yes", "Say which jobs are meant"),
        ("jobs run-now a --all", "but not both"),
        ("jobs cancel a --type email", "but not both"),
        ("jobs lst", "There is no command 'jobs lst'; did you mean list? See `gopher-node jobs --help`."),
        ("jobs xyz", "There is no command 'jobs xyz'. See `gopher-node jobs --help`."),
        ("jobs list a", "gopher-node jobs list does not take the argument 'a'. See `gopher-node jobs list --help`."),
        ("job list", "There is no command 'job'; did you mean jobs?"),
        ("jobs --status gone", "--status 'gone' must be one of scheduled, "),
        ("jobs --created-after soon", "--created-after 'soon' is not a time."),
        ("jobs --limit 0", "--limit must be at least 1."),
        ("jobs wait", "gopher-node jobs wait needs ID."),
        ("jobs wait a --timeout x", "--timeout 'x' must be"),
        ("jobs edit a", "Say what is to change: --priority, --delay or --at."),
        ("jobs edit a --delay 1s --at 2030-01-01", "give one of them"),
        ("dead-letters retry", "Say which dead letters are meant"),
        ("dead-letters delete a --all", "but not both"),
        ("queues show a/b", "'a/b' cannot be the name of a queue"),
        ("handlers show a/b", "'a/b' cannot be the name of a job type"),
        ("keys create", "gopher-node keys create needs"),
        ("keys create x --scopes write", "--scopes 'write' must be one or more of submit, read, work, admin"),
        (
            "keys create x -s read --rate often",
            "--rate 'often' must be a number of requests and a time, such as 100/1s.",
        ),
        ("keys create x -s read --rate 5/never", "--rate "),
        ("keys create x -s read --expires x", "--expires 'x' must be"),
        ("keys rotate x --overlap y", "--overlap 'y' must be"),
        ("keys revoke", "gopher-node keys revoke needs IDS."),
        ("stats --history 0", "--history must be at least 1 minute."),
        ("stats --type a", "--type narrows down --history"),
        ("watch --interval 1ms", "--interval '1ms' must be at least 0.1s."),
        ("completion tcsh", "There is no completion for 'tcsh', only for bash, zsh, fish."),
        ("keys create x --scopes read --rate 5/x", "--rate '5/x' must be a number of requests and a time"),
        ("keys create x --scopes read --expires soon", "--expires 'soon' must be a duration, such as 90d, or a time"),
        ("submit --file missing.ndjson", "The file missing.ndjson cannot be read: No such file or directory."),
        ("submit --file a -t b", "Beside --file, each line says all about its job"),
        ("submit -t a --idempotency-key ä", "--idempotency-key must be 1 to 255 visible ASCII characters."),
        ("stats --api-key-file missing", "The key file missing cannot be read: No such file or directory."),
        ("stats --ca missing.pem", "--ca missing.pem: There is no such file."),
        ("list-failed --limit 0", "--limit must be at least 1."),
        ("purge a/b", "'a/b' cannot be the name of a queue"),
        ("purge email --priority top", "--priority 'top' must be"),
        ("stats --url nonsense", "'nonsense' is not the address of a node. Write it like http://127.0.0.1:8080."),
        ("--port", "--port needs a value."),
    ],
)
def test_a_slip_is_told_in_a_sentence(gopher: Any, arguments: str, message: str) -> None:
    """What makes no sense ends with code 2, before anything is sent, and says what to do."""
    ran = gopher(*arguments.split())

    assert ran.code == 2
    assert ran.out == ""
    assert ran.err.startswith("gopher-node: ")
    assert message in ran.err
    assert ran.err.count("\n") == 1


def test_an_empty_standard_input_is_no_payload(gopher: Any) -> None:
    """`-p -` without anything behind it is a slip, and not an empty payload."""
    ran = gopher("submit", "-t", "a", "-p", "-")

    assert ran.code == 2
    assert "The payload is not JSON" in ran.err


@pytest.mark.parametrize(
    "command",
    [
        *("stats", "health", "submit -t a", "list-failed", "purge a", "watch"),
        *(f"jobs events {ID}", f"jobs wait {ID}", "jobs cancel --all"),
    ],
)
def test_without_a_node_the_exit_code_is_4(gopher: Any, command: str) -> None:
    """The message names the address and what to do."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"

        ran = gopher(*command.split(), "--url", url)

    assert ran.code == 4
    assert ran.err.startswith(f"gopher-node: No node can be reached at {url} (Connection refused). Start one there")


@pytest.mark.parametrize(
    ("environment", "config", "url"),
    [
        ({}, "", "http://127.0.0.1:8080"),
        ({"SERVER_PORT": "9000"}, "", "http://127.0.0.1:9000"),
        ({"SERVER_HOST": "0.0.0.0"}, "", "http://127.0.0.1:8080"),
        ({"SERVER_HOST": "::"}, "", "http://[::1]:8080"),
        ({"SERVER_TLS_CERT": "/c", "SERVER_TLS_KEY": "/k", "SERVER_BASE_PATH": "/q"}, "", "https://127.0.0.1:8080/q"),
        ({"SERVER_HOST": "10.0.0.5"}, "[server]\nport = 7000", "http://10.0.0.5:7000"),
        ({"SERVER_TLS_CERT": "c", "SERVER_TLS_KEY": "k"}, "", "https://127.0.0.1:8080"),
        ({"SERVER_BASE_PATH": "/jobs"}, "", "http://127.0.0.1:8080/jobs"),
        ({"SERVER_PORT": "9000"}, 'url = "https://node.example"', "https://node.example"),
    ],
)
def test_the_node_of_the_settings_is_asked(
    gopher: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, environment: dict[str, str], config: str, url: str
) -> None:
    """Without --url and GOPHER_URL, the command line asks the node that would be started here."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "gopher-node.toml").write_text(config)

    with Remote().connect() as client:
        assert client.url == url


def test_an_empty_address_is_none(gopher: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compose files pass "" for what is not set."""
    monkeypatch.setenv("GOPHER_URL", "")

    ran = gopher("stats", "--url", "")

    assert ran.code == 4
    assert "http://127.0.0.1:8080" in ran.err


def test_settings_that_cannot_be_used_end_with_78(gopher: Any) -> None:
    """All that is wrong is told at once, under the names of the flags."""
    ran = gopher("run", "--role=boss", "--port=99999", "--concurrency", "none", "--log-level=loud")

    assert ran.code == 78
    for text in (
        '--role="boss" must be',
        '--port="99999" must be',
        '--concurrency="none" must be',
        '--log-level="loud"',
    ):
        assert text in ran.err


def test_a_missing_configuration_ends_with_78(gopher: Any) -> None:
    """A file that was named must be there."""
    ran = gopher("--config", "missing.toml")

    assert ran.code == 78
    assert "missing.toml" in ran.err


def test_the_flags_of_run_are_settings(gopher: Any) -> None:
    """Each flag has the name that the settings' own messages call it by."""
    flags = {setting.flag for setting in SETTINGS}
    out = gopher("run", "--help").out

    ours = {word.partition("=")[0] for word in out.split() if word.startswith("--")} - {"--config", "--reload"}

    assert len(ours) == 10
    assert ours <= flags
