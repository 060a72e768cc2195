"""Where settings are written: flags, environment and file, each value kept with the name its writer used."""

from __future__ import annotations

import difflib
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import BaseModel, Field, ValidationError
from pydantic_settings import BaseSettings, InitSettingsSource

from gopher_node.errors import SettingError
from gopher_node.settings.kinds import Masked

CONFIG_VARIABLE = "GOPHER_CONFIG"
# The second says where the embedded store finds its program, which is a matter of the installation. The third is the
# one key that clients and the command line show.
_OTHER_VARIABLES = (CONFIG_VARIABLE, "GOPHER_VALKEY_BIN", "GOPHER_API_KEY")
DEFAULT_CONFIG = Path("config/gopher-node.toml")

_OWN_PREFIX = "GOPHER_"
_INSTEAD = {
    "REDIS_HOST": "REDIS_URL",
    "REDIS_PORT": "REDIS_URL",
    "REDIS_USER": "REDIS_URL",
    "REDIS_USERNAME": "REDIS_URL",
}
# What Kubernetes puts into every container for each of its services, whatever their names happen to be.
_SERVICE_LINK = re.compile(r"\w+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?)\Z")
_SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://", re.IGNORECASE)


def setting(default: object, why: str, *, env: tuple[str, ...] = (), flag: str = "", shown: bool = True) -> Any:
    """
    Declares a setting of a model, with the reason to change it.

    `env` are its names in the environment, the usual one first, where that is not simply SECTION_FIELD; `flag` is its
    name on the command line where that is not --section-field.
    """
    return Field(default=default, description=why, repr=shown, json_schema_extra={"env": [*env], "flag": flag})


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting as its users see it. `path` is its place in the TOML file and in `Settings`."""

    path: str
    env: tuple[str, ...]
    flag: str
    default: Any
    description: str
    masked: Literal["all", "credentials"] | None

    def show(self, value: object) -> str:
        """The value as a person may see it: short, on one line, without secrets."""
        if self.masked == "all" and value is not None:
            return '"***"'
        if self.masked == "credentials" and isinstance(value, str):
            value = hide_credentials(value)
        text = json.dumps(value, default=str, ensure_ascii=not str(value).isprintable())
        return text if len(text) <= 200 else text[:200] + "…"


@dataclass(frozen=True, slots=True)
class Given:
    """A value as it was written, and the name it was written under."""

    name: str
    value: object


def hide_credentials(url: str) -> str:
    """The URL without what is secret in it, also where it is so malformed that nothing else can read it."""
    scheme, colon, rest = url.rpartition("://")
    # Up to the last "@", for a password that nobody encoded may hold any character.
    _, at, place = rest.rpartition("@")
    shown = f"{scheme}{colon}***@{place}" if at else url
    return re.sub(r"(?i)(\w*(?:password|secret|token|key)=)[^&#]*", r"\1***", shown)


def list_settings(model: type[BaseModel], section: str = "") -> Iterator[Setting]:
    for name, field in model.model_fields.items():
        path = f"{section}.{name}" if section else name
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from list_settings(field.annotation, path)
            continue
        words = path.replace(".", "_")
        declared = cast("dict[str, Any]", field.json_schema_extra)
        marks = cast("list[object]", field.metadata)
        yield Setting(
            path=path,
            env=tuple(declared["env"]) or (words.upper() if section else _OWN_PREFIX + words.upper(),),
            flag=declared["flag"] or "--" + words.replace("_", "-"),
            default=field.default,
            description=field.description or "",
            masked=next((mark.part for mark in marks if isinstance(mark, Masked)), None),
        )


class Layers:
    """
    What was written about the settings, in the three places where it can be.

    It collects every problem and raises none of them, so that one start shows all that must be mended.
    """

    def __init__(self, settings: tuple[Setting, ...]) -> None:
        self._settings = {entry.path: entry for entry in settings}
        self._by_env = {name: entry for entry in settings for name in entry.env}
        self._sections = {path.partition(".")[0] for path in self._settings if "." in path}
        self._given: list[dict[str, Given]] = []
        self.problems: list[str] = []
        self.warnings: list[str] = []

    def read(self, flags: Mapping[str, object], environ: Mapping[str, str], config: Path | None) -> None:
        """Read all three. The order is the precedence: what a flag says, nothing else overrides."""
        self._given = [self._read_flags(flags), self._read_environ(environ), self._read_file(environ, config)]

    def sources(self, settings: type[BaseSettings]) -> tuple[InitSettingsSource, ...]:
        return tuple(InitSettingsSource(settings, _nested(layer)) for layer in self._given)

    def origins(self) -> dict[str, str]:
        """For each setting that is not left to its default, the name under which it was given."""
        return {path: given.name for layer in reversed(self._given) for path, given in layer.items()}

    def add_invalid(self, error: ValidationError) -> None:
        for detail in error.errors(include_url=False):
            path = ".".join(str(part) for part in detail["loc"][:2])
            reason = str(detail.get("ctx", {}).get("error", detail["msg"]))
            entry = self._settings.get(path)
            given = next((layer[path] for layer in self._given if path in layer), None)
            if entry and given:
                self.problems.append(f"{given.name}={entry.show(given.value)} {reason}")
            elif not entry:
                # A contradiction between several, which its text names.
                self.problems.append(reason)

    def complaint(self) -> SettingError:
        """All that was found wrong, as one error."""
        if len(self.problems) == 1:
            return SettingError(f"A setting cannot be used: {self.problems[0]}")
        return SettingError("\n  - ".join([f"{len(self.problems)} settings cannot be used:", *self.problems]))

    def _read_flags(self, flags: Mapping[str, object]) -> dict[str, Given]:
        found: dict[str, Given] = {}
        for path, value in _flatten(flags, self._sections):
            if path not in self._settings:
                self.problems.append(f"{path} is not a setting{self._guess(path, self._settings)}")
            elif value is not None:
                found[path] = Given(self._settings[path].flag, value)
        return found

    def _read_environ(self, environ: Mapping[str, str]) -> dict[str, Given]:
        found: dict[str, Given] = {}
        for name, entry in self._by_env.items():
            # Compose files and charts pass "" for what is not set.
            value = environ.get(name, "")
            if not value.strip():
                continue
            if _is_service_link(name, value):
                self.warnings.append(f"{name}={value} is what Kubernetes says about a service, and is ignored")
                continue
            earlier = found.setdefault(entry.path, Given(name, value))
            if str(earlier.value).strip() != value.strip():
                self.problems.append(
                    f"{earlier.name}={entry.show(earlier.value)} and {name}={entry.show(value)} "
                    "are two names of one setting and differ; keep one of them"
                )
        self._look_for_misspelt(environ)
        return found

    def _look_for_misspelt(self, environ: Mapping[str, str]) -> None:
        shared_prefixes = tuple(f"{section.upper()}_" for section in sorted(self._sections))
        for name, value in sorted(environ.items()):
            if name in self._by_env or name in _OTHER_VARIABLES or not value.strip() or _is_service_link(name, value):
                continue
            if name.startswith(_OWN_PREFIX):
                self.problems.append(f"{name} is not a setting{self._guess(name, self._by_env)}")
            elif name in _INSTEAD:
                self.warnings.append(f"{name} is not a setting of gopher-node and is ignored; use {_INSTEAD[name]}")
            elif name.startswith(shared_prefixes):
                # Other programs use these prefixes too, so only what looks like a slip is worth a word.
                guess = self._guess(name, self._by_env, likeness=0.8)
                if guess:
                    self.warnings.append(f"{name} is not a setting of gopher-node and is ignored{guess}")

    def _guess(self, name: str, known: Mapping[str, object], *, likeness: float = 0.6) -> str:
        if name.removeprefix(_OWN_PREFIX) in known:
            return f"; did you mean {name.removeprefix(_OWN_PREFIX)}?"
        close = difflib.get_close_matches(name, known, n=1, cutoff=likeness)
        return f"; did you mean {close[0]}?" if close else ""

    def _read_file(self, environ: Mapping[str, str], config: Path | None) -> dict[str, Given]:
        named = environ.get(CONFIG_VARIABLE, "").strip()
        path = config or (Path(named) if named else DEFAULT_CONFIG)
        if not config and not named and not path.is_file():
            return {}
        try:
            content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except OSError as error:
            self.problems.append(f"the configuration file {path} cannot be read: {error.strerror or error}")
            return {}
        except ValueError as error:
            self.problems.append(f"the configuration file {path} is not valid TOML: {error}")
            return {}
        found: dict[str, Given] = {}
        for key, value in _flatten(content, self._sections):
            if key in self._settings:
                found[key] = Given(f"{path}: {key}", value)
            elif key in self._sections:
                self.problems.append(f"{path}: {key} is a section; write [{key}] and its settings below")
            else:
                self.problems.append(f"{path}: {key} is not a setting{self._guess_key(key)}")
        return found

    def _guess_key(self, key: str) -> str:
        # An environment name's spelling is a likely slip: worker.num_workers, sender as smtp.from.
        by_env = self._by_env.get(key.replace(".", "_").upper())
        return f"; did you mean {by_env.path}?" if by_env else self._guess(key, self._settings)


def _is_service_link(name: str, value: str) -> bool:
    return bool(_SERVICE_LINK.match(name)) or (name.endswith("_PORT") and bool(_SERVICE_ADDRESS.match(value)))


def _flatten(content: Mapping[str, object], sections: set[str]) -> Iterator[tuple[str, object]]:
    """Only what is a section is opened, for a setting's value may be a table too."""
    for key, value in content.items():
        if key in sections and isinstance(value, Mapping):
            for name, inner in cast("Mapping[str, object]", value).items():
                yield f"{key}.{name}", inner
        else:
            yield key, value


def _nested(layer: Mapping[str, Given]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path, given in layer.items():
        section, _, name = path.rpartition(".")
        (tree.setdefault(section, {}) if section else tree)[name] = given.value
    return tree
