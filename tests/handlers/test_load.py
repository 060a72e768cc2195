"""Loading users' modules."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gopher_node.errors import SettingError
from gopher_node.handlers import Registry, registry

Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a module into the working directory, and forgets it afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    before = set(sys.modules)

    def write(code: str) -> str:
        name = f"jobs_{uuid.uuid4().hex[:8]}"
        (tmp_path / f"{name}.py").write_text(code)
        return name

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_module_is_found_in_the_working_directory(write: Write) -> None:
    """What it registers with the public decorators is there afterwards, and once only."""
    type = f"type-{uuid.uuid4().hex[:8]}"
    module = write(f"from gopher_node import handler\n@handler({type!r})\ndef run(a: int): return a\n")

    registry.load([module])
    registry.load([module])

    handler = registry.get(type)
    assert handler is not None
    assert module == handler.function.__module__


def test_missing_module_names_the_setting(write: Write) -> None:
    """The user learns which setting, which module, and where it was looked for."""
    with pytest.raises(
        SettingError, match=r"GOPHER_HANDLERS \(--handlers\) names .* nowhere.jobs, .*no module nowhere"
    ):
        Registry().load(["nowhere.jobs"])


def test_missing_import_of_a_module_is_told_apart(write: Write) -> None:
    """A module that imports what is not installed is not itself missing."""
    module = write("import not_installed_at_all\n")

    with pytest.raises(SettingError) as failed:
        Registry().load([module])

    assert "fails when it is imported" in str(failed.value)
    assert "import not_installed_at_all" in str(failed.value)
    assert "No module named 'not_installed_at_all'" in str(failed.value)


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("x = 1\nx.missing\n", "AttributeError"),
        ("def broken(:\n", "SyntaxError"),
        ("from gopher_node import handler\n@handler('a b')\ndef run(): ...\n", "InvalidHandler: 'a b' is no job type"),
    ],
)
def test_error_inside_a_module_shows_its_traceback(write: Write, code: str, cause: str) -> None:
    """The user sees their own line, and none of ours or of the import machinery."""
    module = write(code)

    with pytest.raises(SettingError) as failed:
        Registry().load([module])

    text = str(failed.value)
    assert f"names the module {module}, which fails" in text
    assert f"{module}.py" in text
    assert cause in text
    assert "importlib" not in text
    assert "gopher_node/handlers" not in text


def test_file_name_is_corrected(write: Write) -> None:
    """A path instead of a module's name is a common slip."""
    with pytest.raises(SettingError, match=r"Write it as in `import app\.jobs`"):
        Registry().load(["./app/jobs.py"])
