"""The tree of commands, each with the examples that its help ends with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from cyclopts import App

from gopher_node import __version__
from gopher_node.cli.exits import EXIT_CODES

PROGRAM = "gopher-node"

_ID = "0b2ee8f4-6d0c-4a3e-9d49-0a1c7f6f2f55"


@dataclass(frozen=True, slots=True)
class Command:
    """Its function stands as "module:name", for what is not called is not imported either."""

    name: str
    function: str
    examples: tuple[str, ...]

    def load(self) -> Callable[..., Any]:
        module, _, name = self.function.partition(":")
        return getattr(import_module(f"gopher_node.cli.{module}"), name)


@dataclass(frozen=True, slots=True)
class Group:
    """Commands under one word. The word alone does what the first of them does."""

    name: str
    help: str
    commands: tuple[Command, ...]


COMMANDS: tuple[Command, ...] = (
    Command(
        "run",
        "serve:run",
        (
            "--port 9000 --concurrency 20",
            "--handlers myapp.jobs --reload",
            "--role=worker --redis-url redis://10.0.0.5/0",
        ),
    ),
    Command(
        "submit",
        "submit:submit",
        (
            """-t math -p '{"operation": "fibonacci", "n": 30}' --wait 10s""",
            "-t email -p @mail.json --priority high -r 5",
            "-t report --at 2026-12-24T18:00 --tag monthly",
            "--file jobs.ndjson",
        ),
    ),
    Command("get", "jobs:get", (_ID, f"{_ID} --json | jq .result")),
    Command("cancel", "acts:cancel", (_ID, "--type email --status scheduled")),
    Command("delete", "acts:delete", (_ID, "--status completed --created-before 2026-12-01")),
    Command("list-failed", "jobs:list_failed", ("", "--type email --limit 500", "--json | jq -r .job_id")),
    Command("retry", "acts:retry", (_ID, "--type email --tag monthly")),
    Command("retry-all", "acts:retry_all", ("", "--type email")),
    Command("stats", "stats:stats", ("", "--history 60 --type email", "--json | jq .queue_size")),
    Command("health", "nodes:health", ("", "--url http://10.0.0.5:8080 && echo good")),
    Command("purge", "queues:purge", ("email", "email --priority low --yes")),
    Command("workers", "nodes:workers", ("", "--json | jq .")),
    Command("watch", "stats:watch", ("", "--interval 5s >> counts.log")),
    Command("doctor", "doctor:doctor", ("", "--url https://jobs.example.org --ca authority.pem", "--json")),
    Command("completion", "completion:completion", ("bash > ~/.local/share/bash-completion/completions/gopher-node",)),
)


_JOBS = (
    Command("list", "jobs:list_jobs", ("", "--status failed,cancelled --type email", "--tag monthly --json")),
    Command("get", "jobs:get", (_ID,)),
    Command("wait", "jobs:wait", (_ID, f"{_ID} --timeout 5m")),
    Command("log", "jobs:log", (_ID, f"{_ID} --follow", f"{_ID} --json | jq -r .message")),
    Command("events", "jobs:events", (_ID, f"{_ID} --json | jq .progress")),
    Command("cancel", "acts:cancel", (_ID, "--type email --status scheduled", "--all --yes")),
    Command("retry", "acts:retry", (_ID, "--group acme --created-after 2026-12-24T18:00")),
    Command("run-now", "acts:run_now", (_ID, "--type report")),
    Command("edit", "jobs:edit", (f"{_ID} --priority urgent", f"{_ID} --delay 2h")),
    Command("delete", "acts:delete", (_ID, "--status completed --created-before 2026-12-01")),
)


_DEAD_LETTERS = (
    Command("list", "dead_letters:list_dead", ("", "--type email --group acme", "--json | jq -r .error.message")),
    Command("show", "dead_letters:show_dead", (_ID,)),
    Command("retry", "dead_letters:retry_dead", (_ID, "--type email", "--all --yes")),
    Command("delete", "dead_letters:delete_dead", (_ID, "--created-before 2026-12-01")),
)


_QUEUES = (
    Command("list", "queues:list_queues", ("", "--json | jq -r 'select(.served_by == 0).type'")),
    Command("show", "queues:show_queue", ("email",)),
    Command("purge", "queues:purge", ("email", "email --priority low --yes")),
    Command(
        "limit",
        "flow:limit",
        ("email --rate 100/s --burst 10", "email --group-rate 10/m --max-running 20", "email --rate none"),
    ),
    Command("pause", "flow:pause", ("email", "email --group customer-17")),
    Command("resume", "flow:resume", ("email", "email --priority low")),
    Command("drain", "flow:drain", ("email",)),
    Command("autoscale", "queues:autoscale", ("", "--type email --within 2m")),
)


_BREAKERS = (
    Command("list", "breakers:list_breakers", ("", "--json | jq -r 'select(.state != \"closed\").type'")),
    Command("show", "breakers:show_breaker", ("email",)),
    Command("open", "breakers:open_breaker", ("email",)),
    Command("close", "breakers:close_breaker", ("email",)),
    Command("reset", "breakers:reset_breaker", ("email",)),
)


_WORKFLOW = "7d9f4a52-1c0e-4f8b-8f57-3a2b6c9d0e11"
_WORKFLOWS = (
    Command("list", "workflows:list_workflows", ("", "--json | jq -r 'select(.status == \"failed\").workflow_id'")),
    Command("submit", "workflows:submit_workflow", ("order.json", "order.json --wait 5m", "- < order.json")),
    Command("show", "workflows:show_workflow", (_WORKFLOW,)),
    Command("jobs", "workflows:list_jobs", (_WORKFLOW, f"{_WORKFLOW} --json | jq .result")),
    Command("wait", "workflows:wait_workflow", (_WORKFLOW, f"{_WORKFLOW} --timeout 5m")),
    Command("cancel", "workflows:cancel_workflow", (_WORKFLOW,)),
)


_RECURRING = (
    Command("list", "recurring:list_recurring", ("", "--json | jq -r .name")),
    Command("show", "recurring:show_recurring", ("nightly-report",)),
    Command(
        "create",
        "recurring:create",
        (
            """nightly-report -t report --cron "30 2 * * *" --timezone Europe/Berlin""",
            """sync-orders -t sync -p '{"table": "orders"}' --every 15m --overlap skip""",
        ),
    ),
    Command("edit", "recurring:edit", ('nightly-report --cron "0 6 * * 1-5"', "sync-orders --every 5m")),
    Command("pause", "recurring:pause", ("sync-orders",)),
    Command("resume", "recurring:resume", ("sync-orders",)),
    Command("trigger", "recurring:trigger", ("nightly-report",)),
    Command("preview", "recurring:preview", ('"30 2 * * *" --timezone America/New_York -n 5', "--every 90m")),
    Command("delete", "recurring:delete", ("sync-orders --yes",)),
)


_NODES = (
    Command("list", "nodes:list_nodes", ("",)),
    Command("show", "nodes:show_node", ("web-1-4711-a3f09c",)),
)


_HANDLERS = (
    Command("list", "nodes:list_handlers", ("",)),
    Command("show", "nodes:show_handler", ("email", "email --json | jq .payload_schema")),
)


_KEYS = (
    Command("list", "keys:list_keys", ("",)),
    Command(
        "create",
        "keys:create",
        ("shop --scopes submit,read --expires 90d", "crawler -s work --rate 100/1s > crawler.key"),
    ),
    Command("revoke", "keys:revoke", ("4f1d09a2c3b7",)),
    Command("rotate", "keys:rotate", ("4f1d09a2c3b7 --overlap 1h",)),
)


_CONFIG = (Command("show", "config:show_config", ("", "--changed", "--json")),)


GROUPS: tuple[Group, ...] = (
    Group("jobs", "List, follow and change jobs, one by one or all that match.", _JOBS),
    Group("dead-letters", "Look at the failed jobs, and retry or delete them.", _DEAD_LETTERS),
    Group("workflows", "Submit and follow jobs that wait for each other.", _WORKFLOWS),
    Group("queues", "Show how much waits in each queue; limit, pause or empty one.", _QUEUES),
    Group("breakers", "Show the circuit breakers, and open or close one.", _BREAKERS),
    Group("recurring", "Make, change, pause and trigger jobs that recur, and see when they fire.", _RECURRING),
    Group("nodes", "Show the nodes that share the store.", _NODES),
    Group("handlers", "Show the job types that can be run, and what their payloads look like.", _HANDLERS),
    Group("keys", "Make, list, revoke and rotate API keys.", _KEYS),
    Group("config", "Show the settings, and where each comes from.", _CONFIG),
)


def build(first: str | None = None) -> App:
    """The whole tree; or, if the first word of the command line is known, what that needs of it."""
    alone = first in {entry.name for entry in (*COMMANDS, *GROUPS)}
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
        default_command=None if alone else COMMANDS[0].load(),
        exit_on_error=False,
        print_error=False,
        suppress_keyboard_interrupt=False,
        result_action="return_value",
    )
    for place, entry in enumerate((*COMMANDS, *GROUPS)):
        if alone and entry.name != first:
            continue
        if isinstance(entry, Command):
            _add(app, entry, place)
        else:
            # Beside others a group is only named, unless all is wanted.
            app.command(_build_group(entry, place, whole=alone or first is None))
    return app


def _build_group(group: Group, place: int, *, whole: bool) -> App:
    if not whole:
        return App(name=group.name, help=group.help, sort_key=place)
    commands = group.commands
    app = App(
        name=group.name,
        help=f"{group.help}\n\nWithout a command it does what `{commands[0].name}` does.",
        usage=f"Usage: {PROGRAM} {group.name} [COMMAND] [OPTIONS]",
        help_epilogue=f"{PROGRAM} {group.name} COMMAND --help tells more of each.",
        default_command=commands[0].load(),
        group_parameters="Options",
        version_flags=(),
        sort_key=place,
    )
    for index, command in enumerate(commands):
        _add(app, command, index, group.name)
    return app


def _add(app: App, command: Command, place: int, group: str = "") -> None:
    function = command.load()
    app.command(
        function,
        name=command.name,
        help=_paragraphs(function.__doc__ or ""),
        help_epilogue=_examples(f"{group} {command.name}".strip(), command.examples),
        version_flags=(),
        sort_key=place,
    )


def _paragraphs(text: str) -> str:
    """A docstring for a screen of any width: what was broken to fit into the source is one line again."""
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in text.strip().split("\n\n"))


def _examples(command: str, examples: Sequence[str]) -> str:
    lines = "\n\n".join(f"  {PROGRAM} {command} {example}".rstrip() for example in examples)
    return f"Examples:\n\n{lines}"
