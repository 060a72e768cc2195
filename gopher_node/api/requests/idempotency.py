"""
Idempotency keys: a submit that is told again with its key is answered as it was the first time.

The fingerprint covers the bytes of the body, decompressed, and not what they mean: a client that repeats a request
sends what it sent before, and two spellings of the same JSON are rather a mistake than a repeat. A key belongs to the
API key that it came with, so callers cannot meet each other's.
"""

from __future__ import annotations

import hashlib
import re

from aiohttp import web

from gopher_node.api.access.auth import caller_of
from gopher_node.api.answers.problems import Problem
from gopher_node.api.endpoint import Header
from gopher_node.store import Once

HEADER = "Idempotency-Key"
REPLAYED = {"Idempotency-Replayed": "true"}
HEADERS = {
    HEADER: Header(
        description="Names this request, so that it may be told again: with the same key and body it is answered as it "
        "was the first time, for as long as the node's setting `retention.idempotency` says: 24 hours if unset.",
        schema={"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    )
}
PROBLEMS = ("invalid-idempotency-key", "idempotency-key-reused")

_KEY = re.compile(r"[!-~]{1,255}\Z")


def read_once(request: web.Request, operation: str, body: bytes) -> Once | None:
    """
    What makes this request one that is done once, or None without a key. Raises Problem.

    The path is no part of it, for a repeat may use another spelling of the same address.
    """
    key = read_key(request)
    if key is None:
        return None
    fingerprint = hashlib.sha256(b"POST %s\n" % operation.encode() + body).hexdigest()
    return Once(key, fingerprint)


def read_key(request: web.Request) -> str | None:
    """The request's key, which is its caller's own, or None. Raises Problem."""
    if HEADER not in request.headers:
        return None
    keys = request.headers.getall(HEADER)
    if len(keys) > 1 or not _KEY.match(keys[0]):
        raise Problem("invalid-idempotency-key", "Send the header once, with 1 to 255 visible ASCII characters.")
    return f"{caller_of(request)}:{keys[0]}"


def refuse_key(request: web.Request, advice: str) -> None:
    """For requests that cannot be repeated as a whole. Raises Problem."""
    if HEADER in request.headers:
        raise Problem("invalid-idempotency-key", advice)
