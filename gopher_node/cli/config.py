"""The command that shows the settings as a node would have them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from gopher_node.cli import show
from gopher_node.cli.options import option, switch

Config = Annotated[
    Path | None, option("A TOML file with settings; by default config/gopher-node.toml, if there is one.", "FILE")
]


def show_config(
    *,
    config: Config = None,
    changed: Annotated[bool, switch("Only those that are not left to their defaults.")] = False,
    json: Annotated[bool, switch("Print JSON, one setting on each line.")] = False,
) -> None:
    """
    Show the settings that a node would have here, and where each comes from.

    What the environment and the configuration file say is merged as at a start. Secrets are hidden.
    """
    from gopher_node.settings import Settings

    settings = Settings.load(config=config)
    found = [
        (path, entry.value, entry.source)
        for path, entry in settings.describe().items()
        if not changed or entry.source != "default"
    ]
    for warning in settings.warnings:
        show.write_note(f"gopher-node: {show.sentence(warning)}")
    if json:
        for path, value, source in found:
            show.write_json({"setting": path, "value": value, "source": source})
        return
    show.write_table(
        ("setting", "value", "source"),
        [(path, None if value is None else _text(value), source) for path, value, source in found],
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else show.to_json(value)
