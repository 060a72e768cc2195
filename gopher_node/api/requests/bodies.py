"""Reads JSON bodies: bounded in size, depth and time, and each way to get it wrong has its own answer."""

from __future__ import annotations

import asyncio
import re
from typing import Any, cast

import orjson
from aiohttp import web

from gopher_node.api.answers.problems import Problem
from gopher_node.api.parts import PARTS

MAX_BODY = 1024 * 1024
MAX_DEPTH = 64

_MEDIA_TYPES = frozenset({"application/json", "application/json; charset=utf-8", "application/json;charset=utf-8"})
_ENCODINGS = frozenset({"", "identity", "gzip", "deflate"})

# The parser turns integers beyond 64 bits into floats without a word. 64 bits have at least 19 digits, and to look for
# so many in a row is cheap; only a body that has them is searched for numbers outside of strings.
_DIGITS = bytes(ord("0") if ord("0") <= byte <= ord("9") else ord(" ") for byte in range(256))
_LONG = b"0" * 19
_STRING_OR_LONG_INTEGER = re.compile(
    rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|((?<![0-9.eE+])-?[0-9]{19,}+(?![.eE]))',
    re.DOTALL,
)


async def read_json(request: web.Request, *, limit: int = MAX_BODY, depth: int = MAX_DEPTH) -> Any:
    """
    The body as a JSON value. `limit` is in bytes, after decompression.

    Raises Problem.
    """
    return parse_json(await read_bytes(request, limit=limit), depth=depth)


async def read_bytes(request: web.Request, *, limit: int = MAX_BODY) -> bytes:
    """The body, decompressed, of a request that says it sends JSON. Raises Problem."""
    if request.headers.get("Content-Type") not in _MEDIA_TYPES and not is_text(request, "application/json"):
        raise Problem("unsupported-media-type", "Send the header Content-Type: application/json, and UTF-8.")
    check_encoding(request)
    return await _read(request, limit)


def check_encoding(request: web.Request) -> None:
    """Raises Problem for a body that is compressed in a way that is not read here."""
    if request.headers.get("Content-Encoding", "").strip().lower() not in _ENCODINGS:
        raise Problem(
            "unsupported-encoding",
            "Send the body as it is, or compressed with gzip or deflate.",
            headers={"Accept-Encoding": "gzip, deflate"},
        )


def is_text(request: web.Request, media_type: str) -> bool:
    """Whether the request says that its body is of this media type, in UTF-8."""
    charset = request.charset or "utf-8"
    return request.content_type == media_type and charset.lower() in ("utf-8", "utf8")


async def _read(request: web.Request, limit: int) -> bytes:
    # The declared size is refused before the body is waited for.
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    content = request.content
    try:
        if content.is_eof():
            body = content.read_nowait()
        else:
            body = await _read_rest(request, limit)
    except web.RequestPayloadError:
        raise broken_body(request) from None
    if len(body) > limit:
        raise _too_large(limit)
    return body


async def _read_rest(request: web.Request, limit: int) -> bytes:
    deadline = request.app[PARTS].settings.server.read_timeout
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(deadline):
            while chunk := await request.content.readany():
                chunks.append(chunk)
                size += len(chunk)
                if size > limit:
                    raise _too_large(limit)
    except TimeoutError:
        raise Problem("request-timeout", f"A request must arrive whole within {deadline:g} s.") from None
    return b"".join(chunks)


def broken_body(request: web.Request) -> Problem:
    """What is wrong with a body that cannot be read to its end."""
    if request.headers.get("Content-Encoding"):
        return Problem("bad-encoding")
    return Problem("bad-request", "The body is not framed as its headers say.")


def _too_large(limit: int) -> Problem:
    return Problem("payload-too-large", f"This body may have at most {limit} bytes.", limit=limit)


def parse_json(body: bytes, *, depth: int = MAX_DEPTH) -> Any:
    """The value of a JSON text, without loss. Raises Problem. Of a key that stands twice, the last one counts."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _parse_problem(body, error, depth) from None
    if _LONG in body.translate(_DIGITS):
        _refuse_long_integers(body)
    # Fewer brackets than levels allowed cannot be nested too deeply.
    if body.count(b"[") + body.count(b"{") > depth and _is_deeper(value, depth):
        raise _too_deep(depth)
    return value


def _parse_problem(body: bytes, error: orjson.JSONDecodeError, depth: int) -> Problem:
    if not body.strip():
        return Problem("empty-body", "Send a JSON body.")
    if error.msg.startswith("number is infinity"):
        return _out_of_range(_byte_offset(error))
    if error.msg.startswith("depth limit"):
        return _too_deep(depth)
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as wrong:
        return Problem("malformed-json", f"Byte {wrong.start} is not UTF-8.", offset=wrong.start)
    offset = _byte_offset(error)
    return Problem("malformed-json", f"At byte {offset}: {error.msg}.", offset=offset)


def _byte_offset(error: orjson.JSONDecodeError) -> int:
    return len(error.doc[: error.pos].encode("utf-8"))


def _refuse_long_integers(body: bytes) -> None:
    for found in _STRING_OR_LONG_INTEGER.finditer(body):
        digits = found[1]
        if digits and (len(digits) > 20 or not -(2**63) <= int(digits) < 2**64):
            raise _out_of_range(found.start())


def _out_of_range(offset: int) -> Problem:
    return Problem(
        "number-out-of-range",
        f"At byte {offset}: integers have at most 64 bits and floats are finite. Send a larger number as a string.",
        offset=offset,
    )


def _is_deeper(value: Any, depth: int) -> bool:
    level = [value]
    for _ in range(depth):
        level = [inner for outer in level for inner in _items(outer) if isinstance(inner, (dict, list))]
        if not level:
            return False
    return True


def _items(value: Any) -> Any:
    if isinstance(value, dict):
        return cast("dict[str, Any]", value).values()
    return cast("list[Any]", value) if isinstance(value, list) else ()


def _too_deep(depth: int) -> Problem:
    return Problem("json-too-deep", f"Arrays and objects may be nested {depth} levels deep.", limit=depth)
