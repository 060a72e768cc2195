"""The doctor's visit: which checks there are, in which order, and how their findings are told."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from gopher_node.cli import show
from gopher_node.cli.config import Config
from gopher_node.cli.connect import REMOTE, Remote
from gopher_node.cli.exits import Exit

if TYPE_CHECKING:
    from gopher_node.cli.doctor.finding import Finding


def doctor(*, config: Config = None, remote: Remote = REMOTE) -> int:
    """
    Find out what is wrong with a set-up, and say how to mend it.

    It looks at the settings here, at the node that they or --url name, at your API key, at the store's server where
    the settings name it, at queues that nobody serves, and at failed jobs. It changes nothing. The exit code is 1 if
    there is an error; a warning is none. With --json there is one finding on each line.
    """
    worst = {"ok": 0, "warning": 0, "error": 0}
    for finding in _examine(config, remote):
        worst[finding.level] += 1
        if remote.json:
            show.write_json(finding.as_json())
        else:
            _tell(finding)
        show.flush()
    if not remote.json:
        counts = [show.count(worst[level], level) for level in ("error", "warning") if worst[level]]
        show.write("\n" + (f"{' and '.join(counts)}." if counts else "All is well."))
    return Exit.FAILED if worst["error"] else Exit.OK


def _examine(config: Config, remote: Remote) -> Iterator[Finding]:
    from gopher_node.cli.connect import url_of
    from gopher_node.cli.doctor import here, key, node, store

    settings, findings = here.check_settings(config)
    yield from findings
    yield here.check_open_files(settings)
    url = remote.url or (url_of(settings) if settings else None)
    reached, findings = node.check_reached(remote, url)
    yield from findings
    seen = None
    if reached:
        yield from key.check(remote, reached)
        seen, findings = node.check_node(remote, reached)
        yield from findings
        yield from node.check_jobs(remote, reached)
    if settings:
        yield from store.check(settings, durability=seen, url=reached.url if reached else None)


def _tell(finding: Finding) -> None:
    if show.on_terminal(sys.stdout):
        from rich.text import Text

        style = {"ok": "green", "warning": "yellow", "error": "bold red"}[finding.level]
        parts = [(f"{finding.level:<9}", style), (f"{finding.check:<12}", "bold"), show.visible(finding.finding)]
        screen = show.console()
        screen.print(Text.assemble(*parts), soft_wrap=True)
        if finding.advice:
            screen.print(Text(f"{'':21}→ {show.visible(finding.advice)}"), soft_wrap=True)
        return
    show.write(show.visible(f"{finding.level:<9}{finding.check:<12}{finding.finding}"))
    if finding.advice:
        show.write(show.visible(f"{'':21}→ {finding.advice}"))
