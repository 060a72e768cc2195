"""The setting `push`: the job types that are sent to HTTP endpoints, and how."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, cast
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError

from gopher_node.job import TYPE_NAME
from gopher_node.settings import kinds

_ALLOWED = 'must name job types with their endpoints, such as "resize=https://example.org/resize,thumbnail=https://…"'
# A comma ends an endpoint only where the next one begins: URLs may hold commas.
_NEXT = re.compile(r",(?=\s*[^,=\s]+=\s*[A-Za-z][A-Za-z0-9+.-]*://)")


class PushTarget(BaseModel):
    """Where the jobs of a type are sent, and what holds for them there. What is unset is the node's default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Not shown: such addresses often are secrets themselves.
    url: kinds.Endpoint = Field(repr=False)
    secret: kinds.Secret = None
    sign: kinds.Truth = True
    timeout: Annotated[float, kinds.seconds(0.001)] | None = None
    concurrency: Annotated[int | None, kinds.whole(1, 10_000, optional=True)] = None

    @property
    def origin(self) -> str:
        """Scheme, host and port: as much of the URL as may be shown."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _push(value: object) -> dict[str, PushTarget]:
    if isinstance(value, str):
        value = _entries(value)
    if not isinstance(value, Mapping):
        raise ValueError(_ALLOWED)
    targets: dict[str, PushTarget] = {}
    for type, written in cast("Mapping[object, object]", value).items():
        if not isinstance(type, str) or not TYPE_NAME.match(type):
            raise ValueError(f"{_ALLOWED}; {type!r} is no job type")
        targets[type] = _target(type, written)
    return targets


def _entries(text: str) -> dict[str, str]:
    entries: dict[str, str] = {}
    for item in _NEXT.split(text):
        type, equals, url = (part.strip() for part in item.strip().partition("="))
        # What is no entry is not repeated: it may be the rest of a URL that is a secret.
        if not equals or type in entries:
            raise ValueError(f"{_ALLOWED}; {type} is named twice" if equals else _ALLOWED)
        entries[type] = url
    return entries


def _target(type: str, written: object) -> PushTarget:
    if isinstance(written, PushTarget):
        return written
    if not isinstance(written, (str, Mapping)):
        raise ValueError(
            f'{_ALLOWED}; {type} must be a URL or a table such as {{ url = "https://…", timeout = "30s" }}'
        )
    options = {"url": written} if isinstance(written, str) else dict(cast("Mapping[str, Any]", written))
    try:
        return PushTarget.model_validate(options)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        option = ".".join(str(part) for part in detail["loc"][:1])
        if detail["type"] == "extra_forbidden":
            known = ", ".join(PushTarget.model_fields)
            raise ValueError(f"{_ALLOWED}; {type}.{option} is not an option: they are {known}") from None
        reason = "must be given" if detail["type"] == "missing" else detail.get("ctx", {}).get("error", detail["msg"])
        raise ValueError(f"{_ALLOWED}; {type}.{option} {reason}") from None


Push = Annotated[dict[str, PushTarget], PlainValidator(_push), kinds.Masked("all")]
