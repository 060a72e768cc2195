"""What can be seen without a node: the settings, and this machine's limits."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from gopher_node.cli.doctor.finding import Finding, error, ok, warning
from gopher_node.cli.doctor.start import check_start
from gopher_node.cli.show import sentence
from gopher_node.errors import SettingError
from gopher_node.settings import Settings

if TYPE_CHECKING:
    from gopher_node.settings import Described

SPARE_FILES = 256  # the store's connections, logs, and what handlers open

# Settings (by the start of their path) that do nothing beside others, and why.
_UNUSED: tuple[tuple[str, Callable[[Settings], bool], str], ...] = (
    ("redis.", lambda settings: settings.redis.url is None, "without REDIS_URL the node runs a server of its own"),
    ("worker.concurrency", lambda settings: settings.role == "api", "a node with the role api runs no jobs"),
    ("worker.types", lambda settings: settings.role == "api", "a node with the role api runs no jobs"),
    ("smtp.", lambda settings: settings.smtp.host is None, "without SMTP_HOST mails are written to files"),
    ("payment.secret", lambda settings: settings.payment.url is None, "without PAYMENT_URL there is no endpoint"),
    ("server.anonymous", lambda settings: bool(settings.api_keys), "where there are API keys, all must show one"),
    (
        "server.tls_key",
        lambda settings: settings.server.tls_cert is None,
        "without SERVER_TLS_CERT the node serves plain HTTP",
    ),
)


def check_settings(config: Path | None) -> tuple[Settings | None, list[Finding]]:
    """The settings, if they can be used at all."""
    try:
        settings = Settings.load(config=config)
    except SettingError as problem:
        first, *rest = str(problem).splitlines()
        faults = [line.strip().removeprefix("- ") for line in rest] or [first.partition(": ")[2] or first]
        advice = "Mend it where it is written; `gopher-node run --help` and config/gopher-node.toml tell what there is."
        return None, [error("settings", sentence(fault), advice) for fault in faults]
    described = settings.describe()
    no_effect = "Rename or remove it; it has no effect."
    findings = [warning("settings", sentence(text), no_effect) for text in settings.warnings]
    findings += _unused(settings, described)
    findings += check_start(settings, config)
    if not findings:
        given = sum(entry.source != "default" for entry in described.values())
        findings.append(ok("settings", f"{given} of {len(described)} are set, and all can be used."))
    return settings, findings


def _unused(settings: Settings, described: dict[str, Described]) -> Iterator[Finding]:
    for path, entry in described.items():
        if entry.source == "default":
            continue
        for start, unused, why in _UNUSED:
            if path.startswith(start) and unused(settings):
                yield warning("settings", f"{entry.source} has no effect: {why}.", "Remove it, or set what it needs.")


def check_open_files(settings: Settings | None) -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    connections = settings.server.max_connections if settings else 4096
    needed = connections + SPARE_FILES
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return ok("open files", f"A process may have {'any number' if soft < 0 else soft} open.")
    return warning(
        "open files",
        f"A process started here may have {soft} open, and a node with SERVER_MAX_CONNECTIONS={connections} may need "
        f"{needed}.",
        f"Raise the limit before a start: `ulimit -n {needed}`"
        + ("" if hard == resource.RLIM_INFINITY or hard >= needed else " (as root, for the hard limit is lower)")
        + f", or LimitNOFILE={needed} in the systemd unit.",
    )
