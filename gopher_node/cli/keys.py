"""Commands about API keys: make, list, revoke and rotate them."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from gopher_node.cli import show
from gopher_node.cli.acts import each
from gopher_node.cli.connect import REMOTE, Remote
from gopher_node.cli.exits import UsageError
from gopher_node.cli.options import option, read_duration
from gopher_node.durations import parse_duration

if TYPE_CHECKING:
    from gopher_node.client import Client, KeyView

SCOPES = ("submit", "read", "work", "admin")

_RATE = re.compile(r"([1-9][0-9]{0,9})/(\S+)\Z")

KeyId = Annotated[str, Parameter(name="ID", help="The key's id, as `gopher-node keys` shows it.")]


def create(
    name: Annotated[str, Parameter(name="NAME", help="What the key is called, such as the program that uses it.")],
    /,
    *,
    scopes: Annotated[
        Sequence[str],
        option("What it may do: submit, read, work or admin; several with commas between.", "SCOPES", "--scopes", "-s"),
    ],
    expires: Annotated[
        str | None,
        option("How long it is good for, such as 90d, or until when, such as 2027-01-31; else for ever.", "TIME"),
    ] = None,
    rate: Annotated[str | None, option("How often it may ask, such as 100/1s or 5000/1h.", "LIMIT")] = None,
    remote: Remote = REMOTE,
) -> None:
    """
    Make an API key.

    The key alone goes to the standard output, this once; the node keeps no more than its hash.
    """
    wanted = _read_scopes(scopes)
    seconds, limit = _read_expiry(expires), _read_rate(rate)
    with remote.connect() as client:
        key = client.create_key(name, wanted, expires_in=seconds, rate_limit=limit)
    _show_new(key, remote)


def list_keys(*, remote: Remote = REMOTE) -> None:
    """
    List the API keys, also those that have expired.

    Those of the node's settings (GOPHER_API_KEYS) are changed there.
    """
    with remote.connect() as client:
        found = client.keys()
    if remote.json:
        for key in found:
            show.write_json(key.raw)
        return
    if not found:
        show.write(
            "No keys. `gopher-node keys create NAME --scopes admin` makes the first; then every request needs one."
        )
        return
    show.write_table(
        ("id", "name", "scopes", "created", "expires", "last used", "rate", "source"),
        [
            (
                key.id,
                key.name,
                ",".join(key.scopes),
                show.moment(key.created_at),
                _ends(key),
                show.moment(key.last_used_at),
                key.rate_limit and f"{key.rate_limit.limit}/{key.rate_limit.window:g}s",
                key.source,
            )
            for key in found
        ],
    )


def revoke(
    *ids: Annotated[str, Parameter(name="IDS", help="Ids of keys, as `keys list` shows.", required=True, negative="")],
    remote: Remote = REMOTE,
) -> int:
    """
    Revoke API keys.

    From then on no node takes them.
    """

    def revoke_one(client: Client, key_id: str) -> None:
        client.revoke_key(key_id)
        if remote.json:
            show.write_json({"id": key_id, "revoked": True})
        else:
            show.write(f"{show.visible(key_id)}  revoked")

    return each(ids, remote, revoke_one)


def rotate(
    key_id: KeyId,
    /,
    *,
    overlap: Annotated[
        str | None, option("How long the old key is still good, such as 1h; 0 ends it at once.", "DURATION")
    ] = None,
    remote: Remote = REMOTE,
) -> None:
    """
    Put a new key in place of one, with the same name, scopes, rate limit and lifetime.

    The new key alone goes to the standard output, this once. The old one stays good for an hour, or for --overlap.
    """
    seconds = read_duration("--overlap", overlap)
    with remote.connect() as client:
        key = client.rotate_key(key_id, overlap=seconds)
    _show_new(key, remote)


def _show_new(key: KeyView, remote: Remote) -> None:
    if remote.json:
        show.write_json(key.raw)
        return
    ends = f", good until {show.moment(key.expires_at)}" if key.expires_at else ""
    show.write_note(
        f"Key {key.id} ({key.name}; {', '.join(key.scopes)}{ends}). It is shown this once; keep it somewhere safe."
    )
    show.write(show.visible(key.key or ""))


def _ends(key: KeyView) -> str | None:
    if key.expires_at is None:
        return None
    return f"{show.moment(key.expires_at)}{' (expired)' if key.expires_at <= datetime.now(UTC) else ''}"


def _read_expiry(text: str | None) -> float | None:
    """In seconds from now."""
    if text is None:
        return None
    with suppress(ValueError):
        return parse_duration(text)
    try:
        end = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(
            f"--expires {text!r} must be a duration, such as 90d, or a time, such as 2027-01-31 or 2027-01-31T18:00."
        ) from None
    seconds = end.timestamp() - time.time()
    if seconds <= 0:
        raise UsageError(f"--expires {text!r} is over.")
    return seconds


def _read_scopes(given: Sequence[str]) -> list[str]:
    scopes = [word for text in given for word in text.replace("+", ",").split(",") if word]
    wrong = next((word for word in scopes if word not in SCOPES), None)
    if wrong is not None or not scopes:
        raise UsageError(f"--scopes {(wrong or '')!r} must be one or more of {', '.join(SCOPES)}, with commas between.")
    return list(dict.fromkeys(scopes))


def _read_rate(text: str | None) -> tuple[int, float] | None:
    if text is None:
        return None
    wrong = UsageError(f"--rate {text!r} must be a number of requests and a time, such as 100/1s.")
    match = _RATE.match(text)
    if not match:
        raise wrong
    # "100/s" is what people write.
    window = match[2] if match[2][0].isdigit() else f"1{match[2]}"
    try:
        return int(match[1]), parse_duration(window)
    except ValueError:
        raise wrong from None
