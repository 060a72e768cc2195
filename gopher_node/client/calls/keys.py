"""Questions about API keys."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gopher_node.client.calls.call import API, Call, Duration, encode, members, plain, read_nothing, segment, strings
from gopher_node.client.problems import NotFound, Problem
from gopher_node.client.views import KeyView, items_of


def keys() -> Call[tuple[KeyView, ...]]:
    return Call(method="GET", path=f"{API}/keys", read=_read_keys)


def create(
    name: str, scopes: Sequence[str], expires_in: Duration | None, rate_limit: tuple[int, Duration] | None
) -> Call[KeyView]:
    body = members(name=name, scopes=strings("scopes", scopes), expires_in=expires_in)
    if rate_limit is not None:
        limit, window = rate_limit
        body["rate_limit"] = {"limit": limit, "window": plain("window", window)}
    return Call(method="POST", path=f"{API}/keys", body=encode(body, "key"), read=KeyView.read)


def revoke(key_id: str) -> Call[None]:
    return Call(method="DELETE", path=_path(key_id), read=read_nothing)


def rotate(key_id: str, overlap: Duration | None) -> Call[KeyView]:
    body = encode(members(overlap=overlap))
    return Call(method="POST", path=f"{_path(key_id)}/rotate", body=body, read=KeyView.read)


def _path(key_id: str) -> str:
    name = segment(key_id)
    if name is None:
        raise NotFound(Problem(status=404, type="key-not-found", detail=f"No key has the id {key_id!r}."))
    return f"{API}/keys/{name}"


def _read_keys(content: Any) -> tuple[KeyView, ...]:
    return tuple(KeyView.read(item) for item in items_of(content))
