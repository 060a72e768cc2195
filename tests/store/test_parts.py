"""Scripts take parts that are made when they are first asked for: whatever is called has to be there."""

from __future__ import annotations

import re
from importlib.resources import files

from gopher_node.store import Store
from gopher_node.store.scripts import source
from tests.store.keyspace import command

LUA = files("gopher_node.store") / "lua"
TEXTS = {file.name.removesuffix(".lua"): file.read_text() for file in LUA.iterdir() if file.name.endswith(".lua")}
SCRIPTS = sorted(name for name, text in TEXTS.items() if text.startswith("#!lua"))
PARTS = set(TEXTS) - set(SCRIPTS) - {"prelude"}
# Lua lets a function refer to 60 names outside of it. The one that makes the parts refers to what the prelude has.
MOST_NAMES = 60


def _code(text: str) -> str:
    return re.sub(r"'[^'\n]*'", "''", re.sub(r"--.*", "", text))


def _called(text: str) -> set[tuple[str, str]]:
    """The functions of parts that a text calls: where they stand, or by the name under which it has taken the part."""
    code = _code(text)
    taken = {
        part
        for part in PARTS
        if re.search(rf"^local [\w, ]*\b{part}\b[\w, ]* = .*\bparts\.{part}\b", code, re.MULTILINE)
    }
    names = "|".join(sorted(taken)) or "-"
    return set(re.findall(r"\bparts\.(\w+)\.(\w+)", code)) | set(re.findall(rf"(?<![\w.])({names})\.(\w+)\(", code))


def _given(part: str) -> set[str]:
    found = re.search(r"\nreturn \{([^{}]*)\}\s*$", TEXTS[part])
    assert found, f"{part}.lua does not end with what it gives"
    return set(re.findall(r"(\w+) =", found[1]))


def test_parts_have_what_is_called_of_them() -> None:
    """No part lacks what some file calls, and none gives what nobody calls."""
    called = {one for text in TEXTS.values() for one in _called(text)}
    assert {(part, name) for part in PARTS for name in _given(part)} == called


def test_whoever_names_a_part_has_taken_it() -> None:
    """A part stands alone only behind `parts.`, or where it was taken under its name."""
    for file, text in TEXTS.items():
        code = _code(text)
        for part in PARTS:
            declared = re.search(
                rf"^\s*(local|for) [\w, ]*\b{part}\b|\([\w, ]*\b{part}\b[\w, ]*\)$", code, re.MULTILINE
            )
            assert declared or not re.search(rf"(?<![\w.]){part}\.", code), f"{file}.lua calls {part} unasked"


async def test_all_scripts_are_understood(valkey_store: Store) -> None:
    """The server knows their language, and none of them exceeds what that allows."""
    for name in SCRIPTS:
        assert await command(valkey_store, "SCRIPT", "LOAD", source(name))
    declared = re.findall(r"^local (?:function )?([\w, ]+?)(?: =|\(|$| --)", TEXTS["prelude"], re.MULTILINE)
    assert len({name.strip() for line in declared for name in line.split(",")}) <= MOST_NAMES - 10
