"""The live display of what a node counts."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from gopher_node.cli import show
from gopher_node.cli.stats import QUEUE_COLUMNS, fields, queue_rows
from gopher_node.client import NodeNotReady, ServerUnavailable

if TYPE_CHECKING:
    from gopher_node.client import Client, StatsView

_COUNTED = (("submitted", "jobs_submitted"), ("completed", "jobs_completed"), ("failed", "jobs_failed"))


class Watch:
    """
    Looks at regular times. The first look must be answered; a node that goes away later is waited for.

    Rates are the difference to the look before, so they are those of all nodes together.
    """

    def __init__(self, client: Client, seconds: float, *, as_json: bool) -> None:
        self._client = client
        self._seconds = seconds
        self._as_json = as_json
        self._before: tuple[float, StatsView] | None = None

    def run(self) -> int:
        if not self._as_json and show.on_terminal(sys.stdout):
            return self._live()
        while True:
            found = self._look()
            if isinstance(found, str):
                show.write_note(f"gopher-node: {found}")
            elif self._as_json:
                show.write_json(found[0].raw)
            else:
                show.write(_line(*found))
            show.flush()
            self._pause()

    def _live(self) -> int:
        from rich.live import Live

        found = self._look()
        with Live(_panel(found), console=show.console(), auto_refresh=False, transient=False) as live:
            while True:
                self._pause()
                found = self._look()
                live.update(_panel(found), refresh=True)

    def _pause(self) -> None:
        # The next look is due at a whole multiple of the interval, however long the last one took.
        time.sleep(self._seconds - time.monotonic() % self._seconds)

    def _look(self) -> tuple[StatsView, dict[str, float]] | str:
        try:
            found = self._client.stats()
        except (ServerUnavailable, NodeNotReady) as error:
            if self._before is None:
                raise
            return str(error)
        now, before = time.monotonic(), self._before
        self._before = now, found
        if before is None:
            return found, {}
        passed = max(now - before[0], 0.001)
        # The counters begin anew with an emptied store.
        return found, {
            name: max(0, getattr(found, member) - getattr(before[1], member)) / passed for name, member in _COUNTED
        }


def _line(found: StatsView, rates: dict[str, float]) -> str:
    facts = [f"waiting={found.queue_size}", f"running={found.workers_active}"]
    facts += [f"{name}={getattr(found, member)}" for name, member in _COUNTED]
    facts += [f"{name}_per_second={rate:.1f}" for name, rate in rates.items()]
    return " ".join([f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}", *facts])


def _panel(found: tuple[StatsView, dict[str, float]] | str) -> Any:
    from rich.console import Group
    from rich.text import Text

    if isinstance(found, str):
        return Text(show.visible(found), style="red")
    view, rates = found
    per_second = {name.capitalize(): f"  ({rate:.1f} a second)" for name, rate in rates.items()}
    lines = [
        Text.assemble((f"{name:<16}", "bold"), show.visible(f"{value}{per_second.get(name, '')}"))
        for name, value in fields(view)
        if value is not None
    ]
    return Group(*lines, show.rich_table(QUEUE_COLUMNS, queue_rows(view)) if view.queues else Text(""))
