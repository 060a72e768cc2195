"""The kinds of value a setting can have. Each reads what a person wrote, or says what is allowed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Literal, cast, get_args
from urllib.parse import urlsplit

from pydantic import PlainValidator, SecretStr

from gopher_node.durations import MAX_DURATION, format_duration, parse_duration
from gopher_node.job import DEFAULT_WEIGHTS, TYPE_NAME, Priority

MAX_WEIGHT = 1000

_WHOLE = re.compile(r"-?[0-9]{1,18}\Z")
_MODULE = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\Z")
_SOCKET = re.compile(r"([^/@]*@)?/[^?#]+(\?.*)?\Z")
_DATABASE = re.compile(r"(/[0-9]{0,5})?\Z")
_HOST = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9]([A-Za-z0-9_-]{0,62}))*\Z")
_API_KEY = re.compile(r"[!-+\--9;-~]{32,512}\Z")  # visible, and without the "," and ":" that end it
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_BASE_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*\Z")
_ADDRESS = re.compile(r"(?:[^<>]*<[^@\s<>]+@[^@\s<>]+>|[^@\s<>]+@[^@\s<>]+)\Z")


@dataclass(frozen=True, slots=True)
class Masked:
    """Marks a setting that must never be shown: all of it, or the part of a URL that is a credential."""

    part: Literal["all", "credentials"]


Scope = Literal["submit", "read", "work", "admin"]
"""What a key allows: to submit jobs, to look, to work (leases), or all of that and to operate the system."""


@dataclass(frozen=True, slots=True)
class ConfiguredKey:
    """An API key of the settings. The key itself is not kept: a request's key is known by its SHA-256, in hex."""

    digest: str
    scopes: tuple[Scope, ...]


def _kind(read: Callable[[object], object], *, optional: bool = False) -> PlainValidator:
    """`read` makes a value of what was written, or raises ValueError that says what is allowed."""
    return PlainValidator((lambda value: None if value is None else read(value)) if optional else read)


def whole(low: int, high: int, *, word: str = "", optional: bool = False) -> PlainValidator:
    """A whole number between the two, both included, or this word."""

    def read(value: object) -> int | str:
        if word and isinstance(value, str) and value.strip().lower() == word:
            return word
        number = int(value) if isinstance(value, str) and _WHOLE.match(value.strip()) else value
        if not isinstance(number, int) or isinstance(number, bool) or not low <= number <= high:
            raise ValueError(f"must be a whole number from {low} to {high}" + (f", or {word}" if word else ""))
        return number

    return _kind(read, optional=optional)


def seconds(low: float, high: float = MAX_DURATION) -> PlainValidator:
    """A duration between the two, both in seconds and included."""

    def read(value: object) -> float:
        duration = parse_duration(value)
        if not low <= duration <= high:
            raise ValueError(f"must be a duration from {format_duration(low)} to {format_duration(high)}")
        return duration

    return _kind(read)


def fraction() -> PlainValidator:
    """A number from 0 to 1, both included."""

    def read(value: object) -> float:
        try:
            number = float(value) if isinstance(value, (str, int, float)) and not isinstance(value, bool) else -1.0
        except (ValueError, OverflowError):
            number = -1.0
        if not 0 <= number <= 1:
            raise ValueError("must be a number from 0 to 1")
        return number

    return _kind(read)


def choice(literal: object, synonyms: Mapping[str, str] | None = None) -> PlainValidator:
    """One of the words of a Literal, in any case."""
    words: tuple[str, ...] = get_args(literal)

    def read(value: object) -> str:
        word = value.strip().lower() if isinstance(value, str) else ""
        word = (synonyms or {}).get(word, word)
        if word not in words:
            raise ValueError(f"must be {', '.join(words[:-1])} or {words[-1]}")
        return word

    return _kind(read)


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be text, and not empty")
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        raise ValueError("must not contain control characters or line breaks")
    return value.strip()


def _secret(value: object) -> SecretStr:
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    _text(text)
    return SecretStr(cast(str, text))


def _path(value: object) -> Path:
    try:
        return Path(_text(str(value) if isinstance(value, Path) else value)).expanduser().absolute()
    except RuntimeError:
        raise ValueError("must be a path; the home directory it names is not known") from None


def _host(value: object) -> str:
    text = _text(value)
    if not _is_host(text):
        raise ValueError("must be a host name or an IP address, such as 127.0.0.1, 0.0.0.0 or ::1")
    return text


def _is_host(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        # No name ends in a number, so what does is an address with a slip in it.
        return bool(_HOST.match(text)) and not text.rpartition(".")[2].isdigit()
    return True


def _truth(value: object) -> bool:
    words = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    known = words.get(value.strip().lower()) if isinstance(value, str) else value
    if not isinstance(known, bool):
        raise ValueError("must be true or false")
    return known


def _namespace(value: object) -> str:
    text = _text(value)
    if not TYPE_NAME.match(text) or len(text) > 64:
        raise ValueError(
            "must be 1 to 64 letters, digits, dots, dashes or underscores, and begin with a letter or digit"
        )
    return text


def _mail_address(value: object) -> str:
    text = _text(value)
    if not _ADDRESS.match(text):
        raise ValueError("must be an address such as jobs@example.org or Jobs <jobs@example.org>")
    return text


def _items(value: object) -> list[str]:
    if isinstance(value, str):
        value = value.split(",")
    items = cast("list[object]", value) if isinstance(value, (list, tuple)) else [None]
    names = [_text(item) for item in items if isinstance(item, str) and item.strip()]
    if not all(isinstance(item, str) for item in items):
        raise ValueError("must be a list of names, or names separated by commas")
    return list(dict.fromkeys(names))


def _modules(value: object) -> list[str]:
    names = _items(value)
    for name in names:
        if not _MODULE.match(name):
            raise ValueError(f'must name Python modules, such as "myapp.jobs,myapp.mail"; {name!r} is no module name')
    return names


def _types(value: object) -> list[str]:
    names = _items(value)
    for name in names:
        if not TYPE_NAME.match(name):
            raise ValueError(
                f'must name job types, such as "email,math"; {name!r} is not made of up to 100 letters, digits, '
                "dots, dashes and underscores"
            )
    if not names:
        raise ValueError('must name at least one job type, such as "email,math"; leave it out to run every type')
    return names


def _networks(value: object) -> list[IPv4Network | IPv6Network | str]:
    return [_network(name) for name in _items(value)]


def _network(name: str) -> IPv4Network | IPv6Network | str:
    try:
        return ip_network(name)
    except ValueError as error:
        if "host bits" in str(error):
            raise ValueError(f"{name} is an address and no network; did you mean {ip_network(name, False)}?") from None
    if not _is_host(name):
        raise ValueError(
            'must list addresses, networks or host names, such as "127.0.0.1,10.0.0.0/8,hooks.example.org"; '
            f"{name!r} is none"
        )
    return name.lower()


def _addresses(value: object) -> list[IPv4Network | IPv6Network]:
    networks = [_network(name) for name in _items(value)]
    for network in networks:
        if isinstance(network, str):
            raise ValueError(f'must list addresses or networks, such as "10.0.0.5,192.168.0.0/16"; {network!r} is none')
    return cast("list[IPv4Network | IPv6Network]", networks)


def _origins(value: object) -> list[str]:
    return [_origin(text) for text in _items(value)]


def _origin(text: str) -> str:
    if text == "*":
        return text
    scheme, _, rest = text.partition("://")
    if not _has_address(text, ("http", "https")) or "@" in rest or rest.strip("/") != rest.split("/")[0]:
        raise ValueError(
            f'must list origins, such as "https://jobs.example.org,http://localhost:3000", or be "*"; {text!r} is none'
        )
    # As browsers write it: in lower case, without a path, and without the port that the scheme has anyway.
    origin = f"{scheme}://{rest.rstrip('/')}".lower()
    return re.sub(r"(?<=^https://)(.*):443\Z|(?<=^http://)(.*):80\Z", r"\1\2", origin)


def _base_path(value: object) -> str:
    path = value.strip().rstrip("/") if isinstance(value, str) else "?"
    if not _BASE_PATH.match(path) or "." in path.split("/") or ".." in path.split("/"):
        raise ValueError('must be a path such as "/jobs", made of letters, digits, dots, dashes and underscores')
    return path


def _api_keys(value: object) -> list[ConfiguredKey]:
    items = cast("list[object]", value) if isinstance(value, list) else []
    made = [item for item in items if isinstance(item, ConfiguredKey)]
    # Settings that are made in code, as when they are copied, hold such keys already.
    keys = made if made and len(made) == len(items) else [_api_key(text) for text in _items(cast("object", value))]
    if len({key.digest for key in keys}) != len(keys):
        raise ValueError("must name each key once")
    return keys


def _api_key(text: str) -> ConfiguredKey:
    # What was written is a secret, also where it is wrong: no message repeats it.
    allowed = (
        "must list keys of 32 characters or more, or sha256: and the 64 hexadecimal digits of a key's SHA-256; each "
        'may be followed by ":" and its scopes, such as "KEY:submit+read"; without any it has the scope admin'
    )
    hashed = text.startswith("sha256:")
    key, colon, words = text.removeprefix("sha256:").partition(":")
    scopes = words.split("+") if colon else ["admin"]
    if not (_DIGEST.match(key.lower()) if hashed else _API_KEY.match(key)):
        raise ValueError(allowed)
    if not all(scope in get_args(Scope) for scope in scopes):
        raise ValueError(f"{allowed}; the scopes are {', '.join(get_args(Scope))}")
    digest = key.lower() if hashed else hashlib.sha256(key.encode()).hexdigest()
    return ConfiguredKey(digest, cast("tuple[Scope, ...]", tuple(dict.fromkeys(scopes))))


def _web_url(value: object) -> str:
    text = _text(value)
    if not _has_address(text, ("http", "https")):
        raise ValueError("must be a URL such as https://example.org/path or http://127.0.0.1:8080")
    return text


def _redis_url(value: object) -> str:
    scheme, _, rest = _text(value).partition("://")
    text = f"{scheme.lower()}://{rest}"
    if scheme.lower() == "unix":
        valid = bool(_SOCKET.match(rest))
    else:
        valid = _has_address(text, ("redis", "rediss")) and bool(_DATABASE.match(urlsplit(text).path))
    if not valid:
        raise ValueError(
            "must be redis://HOST:6379/0, rediss://HOST:6379/0 (with TLS) or unix:///path/to/redis.sock, "
            "with special characters of a password percent-encoded"
        )
    return text


def _has_address(url: str, schemes: tuple[str, ...]) -> bool:
    try:
        parts = urlsplit(url)
        # Reading `port` is what checks it.
        return parts.scheme in schemes and _is_host(parts.hostname or "") and parts.port != 0
    except ValueError:
        return False


def _weights(value: object) -> dict[Priority, int]:
    allowed = (
        'must be "8:4:2:1" (urgent:high:normal:low), "3:2:1" (high:normal:low, urgent twice high) or '
        f'"urgent=8,high=4,normal=2,low=1", each from 1 to {MAX_WEIGHT}'
    )
    try:
        given = _weights_by_level(value)
    except ValueError:
        raise ValueError(allowed) from None
    if not all(type(weight) is int and 1 <= weight <= MAX_WEIGHT for weight in given.values()):
        raise ValueError(allowed)
    return {level: given.get(level, default) for level, default in DEFAULT_WEIGHTS.items()}


def _weights_by_level(value: object) -> dict[Priority, int]:
    if isinstance(value, Mapping):
        pairs = [(Priority.parse(level), weight) for level, weight in cast("Mapping[object, int]", value).items()]
    else:
        text = _text(value)
        if "=" in text:
            named = [item.split("=") for item in text.split(",")]
            pairs = [(Priority.parse(level), int(weight)) for level, weight in named]
        else:
            numbers = [int(number) for number in text.split(":")]
            if len(numbers) == len(Priority) - 1:
                numbers.insert(0, min(2 * numbers[0], MAX_WEIGHT))
            pairs = list(zip(DEFAULT_WEIGHTS, numbers, strict=True))
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a level is named twice")
    return dict(pairs)


Duration = Annotated[float, PlainValidator(parse_duration)]
"""Seconds in Python; a number of seconds, or text such as "30s", where it is written."""

Secret = Annotated[SecretStr | None, _kind(_secret, optional=True), Masked("all")]
Text = Annotated[str | None, _kind(_text, optional=True)]
Location = Annotated[Path, _kind(_path)]
OptionalLocation = Annotated[Path | None, _kind(_path, optional=True)]
Truth = Annotated[bool, _kind(_truth)]
BasePath = Annotated[str, _kind(_base_path)]
Origins = Annotated[list[str], _kind(_origins)]
ApiKeys = Annotated[list[ConfiguredKey], _kind(_api_keys), Masked("all")]
Host = Annotated[str, _kind(_host)]
OptionalHost = Annotated[str | None, _kind(_host, optional=True)]
Namespace = Annotated[str, _kind(_namespace)]
MailAddress = Annotated[str | None, _kind(_mail_address, optional=True)]
Modules = Annotated[list[str], _kind(_modules)]
Types = Annotated[list[str] | None, _kind(_types, optional=True)]
Addresses = Annotated[list[IPv4Network | IPv6Network], _kind(_addresses)]
Networks = Annotated[list[IPv4Network | IPv6Network | str], _kind(_networks)]
Endpoint = Annotated[str, _kind(_web_url)]
WebUrl = Annotated[str | None, _kind(_web_url, optional=True), Masked("credentials")]
RedisUrl = Annotated[str | None, _kind(_redis_url, optional=True), Masked("credentials")]
Weights = Annotated[dict[Priority, int], _kind(_weights)]
