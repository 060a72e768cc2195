"""All keys of a store's namespace as they stand, read and written past the store."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from gopher_node.store import Store

Value = str | list[str] | set[str] | dict[str, str] | dict[str, float]

# One script, so that what it tells was true at one moment.
_DUMP = """
local out = {}
for i, key in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do
  local kind = redis.call('TYPE', key).ok
  local value
  if kind == 'hash' then value = redis.call('HGETALL', key)
  elseif kind == 'zset' then value = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  elseif kind == 'set' then value = redis.call('SMEMBERS', key)
  elseif kind == 'list' then value = redis.call('LRANGE', key, 0, -1)
  else value = {redis.call('GET', key)} end
  out[i] = {key, kind, redis.call('PTTL', key), value}
end
return out
"""

_ERASE = """
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. '*')) do redis.call('UNLINK', key) end
"""

_RESTORE = """
local at = 2
while ARGV[at] do
  local key, verb, words = ARGV[1] .. ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  redis.call(verb, key, unpack(ARGV, at + 4, at + 3 + words))
  if ARGV[at + 3] ~= '-1' then redis.call('PEXPIRE', key, 3600000) end
  at = at + 4 + words
end
"""


@dataclass(frozen=True, slots=True)
class Key:
    """A key's kind, its ms to live or -1, and what it holds: a zset as member -> score."""

    kind: str
    ttl: int
    value: Any


Dump = dict[str, Key]


def prefix(store: Store) -> str:
    return "{" + store.namespace + "}:"


async def command(store: Store, *words: Any) -> Any:
    """Send one plain command to the store's server."""
    return await store._connections.request(*words)


async def dump(store: Store) -> Dump:
    """Every key of the namespace, by its name without the prefix."""
    start = prefix(store)
    found: list[list[Any]] = await command(store, "EVAL", _DUMP, 0, start)
    return {
        _text(key).removeprefix(start): Key(_text(kind), ttl, _value(_text(kind), [_text(item) for item in flat]))
        for key, kind, ttl, flat in found
    }


async def restore(store: Store, content: Dump) -> None:
    """Write what another namespace, or this one at another time, held; what had a time to live has an hour."""
    words: list[Any] = []
    for name, key in content.items():
        verb, values = _writing(key)
        words += [name, verb, len(values), key.ttl, *values]
    await command(store, "EVAL", _RESTORE, 0, prefix(store), *words)


async def erase(store: Store) -> None:
    """Delete every key of the namespace: a dump takes the longer, the more keys there are in all."""
    await command(store, "EVAL", _ERASE, 0, prefix(store))


def _writing(key: Key) -> tuple[str, list[Any]]:
    match key.kind:
        case "hash":
            return "HSET", [part for pair in key.value.items() for part in pair]
        case "zset":
            return "ZADD", [part for member, score in key.value.items() for part in (repr(score), member)]
        case "set":
            return "SADD", list(key.value)
        case "list":
            return "RPUSH", key.value
        case _:
            return "SET", [key.value]


def differences(before: Dump, after: Dump) -> list[str]:
    """What was changed between two dumps, a line for each key; the remaining life of a key does not count."""
    return [
        f"{key}: {before[key].value if key in before else None} -> {after[key].value if key in after else None}"
        for key in sorted(before.keys() | after.keys())
        if (before.get(key) and before[key].value) != (after.get(key) and after[key].value)
    ]


def canonical(found: Dump) -> list[tuple[str, list[str]]]:
    """A dump without what differs between two runs of the same story: times, random names, turns, orders of hashes."""
    return sorted((_mask(name), _parts(key)) for name, key in found.items() if name != "turn")


def _parts(key: Key) -> list[str]:
    match key.kind:
        case "hash" | "zset":
            return sorted(_mask(f"{name}={value}") for name, value in key.value.items())
        case "set":
            return sorted(_mask(member) for member in key.value)
        case "list":
            return [_mask(item) for item in key.value]
        case _:
            return [_mask(key.value)]


def _mask(text: str) -> str:
    text = re.sub(r"\b[0-9a-f]{32}\b", "<random>", text)
    text = re.sub(r"\b[0-9a-f]{16}\b", "<short>", text)
    return re.sub(r"\b1[0-9]{12}(\.[0-9]+)?\b", "<time>", text)


def _value(kind: str, flat: list[str]) -> Value:
    match kind:
        case "hash":
            return dict(zip(flat[::2], flat[1::2], strict=True))
        case "zset":
            return {member: float(score) for member, score in zip(flat[::2], flat[1::2], strict=True)}
        case "set":
            return set(flat)
        case "list":
            return flat
        case _:
            return flat[0]


def _text(value: Any) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)
