"""API keys: make, list, rotate and revoke those that the store holds. Those of the settings are only listed."""

from __future__ import annotations

import contextlib
import re
import secrets
import time
from dataclasses import replace
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from gopher_node.api.access.auth import ACCESS, Access, note
from gopher_node.api.access.key_ring import Key, digest_of
from gopher_node.api.answers.documents import Count, Document, Moment
from gopher_node.api.answers.problems import Problem
from gopher_node.api.answers.views import format_time, respond
from gopher_node.api.endpoint import endpoint
from gopher_node.api.parts import PARTS
from gopher_node.api.requests.fields import Timeout, duration, name
from gopher_node.api.requests.queries import NoQuery
from gopher_node.errors import StoreError
from gopher_node.settings.kinds import Scope
from gopher_node.store.keys import MAX_LIMIT, KeyRecord

OVERLAP_MS = 3_600_000
"""How long a rotated key still works where nobody says: long enough to hand the new one out."""

_KEY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@:/+-]{0,99}\Z")
_REFUSED = ("invalid-name", "invalid-duration", "out-of-range")


KeyName = Annotated[str, name(_KEY_NAME, "1 to 100 letters, digits, blanks or ._@:/+-, the first a letter or digit")]
Window = Annotated[int, duration(1000, 86_400_000)]
Overlap = Annotated[int, duration(0)]


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class RateLimit(_Body):
    """How often a key may be used."""

    limit: Annotated[int, Field(ge=1, le=MAX_LIMIT, description="How many requests the key may make in a window.")]
    window: Window = Field(description="How long a window is, from 1s to a day.", examples=["1m", 60])


class NewKey(_Body):
    """What a new key is called and may do."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"name": "shop", "scopes": ["submit", "read"]},
                {
                    "name": "mailer",
                    "scopes": ["work"],
                    "expires_in": "90d",
                    "rate_limit": {"limit": 600, "window": "1m"},
                },
            ]
        }
    )

    name: KeyName = Field(description="What the logs and the list of keys call it.", examples=["shop"])
    scopes: Annotated[list[Scope], Field(min_length=1, max_length=4)] = Field(
        description="What it may do: submit jobs, read, work (leases), or all of that and operate the system."
    )
    expires_in: Timeout | None = Field(
        None, description="How long it works; until it is revoked unless it is said.", examples=["90d"]
    )
    rate_limit: RateLimit | None = Field(None, description="How often it may be used; as often as it likes, else.")


class Rotation(_Body):
    """How a key is replaced. All of it may be left out."""

    overlap: Overlap = Field(
        OVERLAP_MS,
        description="How long the old key still works; an hour by default.",
        examples=["10m", 0],
        json_schema_extra={"default": "1h"},
    )


class RateLimitDocument(Document):
    limit: Count
    window: float = Field(description="Seconds.")


class KeyDocument(Document):
    """A key, without the key itself."""

    id: str = Field(examples=["1f0c2a9b7d44"])
    name: str
    scopes: list[Scope]
    created_at: Moment | None
    expires_at: Moment | None
    last_used_at: Moment | None = Field(description="To the minute; null for a key that was never used.")
    rate_limit: RateLimitDocument | None
    source: Literal["store", "settings"] = Field(description="Keys of the settings are changed there.")


class KeyListDocument(Document):
    items: list[KeyDocument]


class NewKeyDocument(KeyDocument):
    key: str = Field(description="The key itself. It is shown this once; only its SHA-256 is kept.")


@endpoint("GET", "/api/v1/keys", scope="admin", answers={200: KeyListDocument})
async def list_keys(request: web.Request, query: NoQuery) -> web.Response:
    """List all keys, also those that have expired."""
    access = request.app[ACCESS]
    records = sorted(await request.app[PARTS].store.keys.all(), key=lambda record: (record.created_ms, record.id))
    items = [_show_configured(key) for key in access.keys.configured]
    return respond({"items": items + [_show(record, access) for record in records]})


@endpoint(
    "POST",
    "/api/v1/keys",
    scope="admin",
    body=NewKey,
    answers={201: NewKeyDocument},
    problems=("last-admin-key", *_REFUSED),
)
async def create_key(request: web.Request, query: NoQuery, body: NewKey) -> web.Response:
    """
    Make a key. From the first one on, every request needs one.

    The key is in the answer and never shown again.
    """
    access = request.app[ACCESS]
    if not access.keys.in_force and "admin" not in body.scopes:
        detail = (
            "The first key needs the scope admin: from then on every request needs a key, and no other could be made."
        )
        raise Problem("last-admin-key", detail)
    now_ms = time.time_ns() // 1_000_000
    rate = body.rate_limit and (body.rate_limit.limit, body.rate_limit.window / 1000)
    expires_ms = None if body.expires_in is None else now_ms + body.expires_in
    record, key = _make(body.name, tuple(dict.fromkeys(body.scopes)), now_ms, expires_ms, rate)
    await request.app[PARTS].store.keys.add(record)
    return await _show_new(request, record, key)


@endpoint("GET", "/api/v1/keys/{id}", scope="admin", answers={200: KeyDocument}, problems=("key-not-found",))
async def get_key(request: web.Request, query: NoQuery) -> web.Response:
    """Show one key, without the key itself."""
    access, id = request.app[ACCESS], request.match_info["id"]
    for key in access.keys.configured:
        if key.id == id:
            return respond(_show_configured(key))
    return respond(_show(await _find(request), access))


@endpoint(
    "DELETE",
    "/api/v1/keys/{id}",
    scope="admin",
    answers={204: None},
    problems=("key-not-found", "key-in-settings", "last-admin-key"),
)
async def revoke_key(request: web.Request, query: NoQuery) -> web.Response:
    """Revoke a key, at once and on every node."""
    access, keys = request.app[ACCESS], request.app[PARTS].store.keys
    record = await _find(request)
    others = [other for other in await keys.all() if other.id != record.id]
    if not _may_go(others, access):
        detail = "Make another key with the scope admin before you revoke this one."
        raise Problem("last-admin-key", detail)
    if not await keys.revoke(record.id):
        raise Problem("key-not-found")
    note(request, revoked_id=record.id, revoked_name=record.name)
    await _look(access)
    return web.Response(status=204)


@endpoint(
    "POST",
    "/api/v1/keys/{id}/rotate",
    scope="admin",
    body=Rotation,
    answers={201: NewKeyDocument},
    problems=("key-not-found", "key-in-settings", "invalid-duration"),
)
async def rotate_key(request: web.Request, query: NoQuery, body: Rotation) -> web.Response:
    """
    Replace a key by a new one of the same name, scopes, rate limit and lifetime.

    The old key still works for `overlap`, so that its users can be given the new one; it ends at once with 0.
    """
    keys = request.app[PARTS].store.keys
    old = await _find(request)
    now_ms = time.time_ns() // 1_000_000
    expires_ms = None if old.expires_ms is None else now_ms + old.expires_ms - old.created_ms
    record, key = _make(old.name, tuple(old.scopes), now_ms, expires_ms, old.rate)
    ends_ms = now_ms + body.overlap
    ending = replace(old, expires_ms=ends_ms if old.expires_ms is None else min(old.expires_ms, ends_ms))
    if not await keys.add(record, ending):
        # It has been revoked in the meantime.
        raise Problem("key-not-found")
    note(request, rotated_id=old.id)
    return await _show_new(request, record, key)


async def _find(request: web.Request) -> KeyRecord:
    id = request.match_info["id"]
    if any(key.id == id for key in request.app[ACCESS].keys.configured):
        raise Problem("key-in-settings", "Change GOPHER_API_KEYS, or api_keys in the configuration file, and restart.")
    for record in await request.app[PARTS].store.keys.all():
        if record.id == id:
            return record
    raise Problem("key-not-found")


def _may_go(others: list[KeyRecord], access: Access) -> bool:
    """Whether somebody can still operate the node with these keys, or without any."""
    now_ms = time.time_ns() // 1_000_000
    operators = [key for key in access.keys.configured if key.allows("admin")]
    operators += [other for other in others if "admin" in other.scopes and not _is_over(other, now_ms)]
    nobody_needs_one = not others and not access.keys.configured and not access.needs_keys
    return bool(operators) or nobody_needs_one


def _is_over(record: KeyRecord, now_ms: int) -> bool:
    return record.expires_ms is not None and record.expires_ms <= now_ms


def _make(
    name: str, scopes: tuple[str, ...], now_ms: int, expires_ms: int | None, rate: tuple[int, float] | None
) -> tuple[KeyRecord, str]:
    """The record, and the key that it is of: 256 random bits behind the id by which it is found."""
    id = secrets.token_hex(6)
    key = f"gn_{id}_{secrets.token_hex(32)}"
    record = KeyRecord(
        id=id,
        name=name,
        digest=digest_of(key),
        scopes=scopes,
        created_ms=now_ms,
        expires_ms=expires_ms,
        rate=rate,
        last_used_ms=None,
    )
    return record, key


async def _show_new(request: web.Request, record: KeyRecord, key: str) -> web.Response:
    access = request.app[ACCESS]
    note(request, made_id=record.id, made_name=record.name, scopes=list(record.scopes))
    await _look(access)
    return respond({**_show(record, access), "key": key}, status=201)


async def _look(access: Access) -> None:
    # The change is stored. If the store is away by now, all nodes hear of it when it is back.
    with contextlib.suppress(StoreError):
        await access.keys.look()


def _show(record: KeyRecord, access: Access) -> dict[str, Any]:
    return {
        "id": record.id,
        "name": record.name,
        "scopes": list(record.scopes),
        "created_at": format_time(record.created_ms),
        "expires_at": format_time(record.expires_ms),
        "last_used_at": format_time(access.keys.last_used(record.id) or record.last_used_ms),
        "rate_limit": record.rate and {"limit": record.rate[0], "window": record.rate[1]},
        "source": "store",
    }


def _show_configured(key: Key) -> dict[str, Any]:
    unknown = dict.fromkeys(("created_at", "expires_at", "last_used_at", "rate_limit"))
    return {"id": key.id, "name": key.name, "scopes": list(key.scopes), **unknown, "source": "settings"}


ENDPOINTS = (list_keys, create_key, get_key, revoke_key, rotate_key)
