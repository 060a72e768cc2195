"""The folder that built-in handlers are confined to."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from gopher_node.errors import Fail
from gopher_node.handlers import InvalidPayload
from gopher_node.handlers.builtin.files import Files, open_file
from tests.handlers.conftest import Node


@pytest.fixture
def outside(node: Node) -> Path:
    """A file that no job may touch, and links to it and its folder from inside."""
    folder = node.files.parent / "secrets"
    folder.mkdir()
    secret = folder / "secret.txt"
    secret.write_text("secret")
    (node.files / "link.txt").symlink_to(secret)
    (node.files / "link").symlink_to(folder)
    (node.files / "deep").mkdir()
    (node.files / "deep" / "up").symlink_to("../..")
    return secret


HOSTILE = [
    "../secrets/secret.txt",
    "deep/../../secrets/secret.txt",
    "link.txt",
    "link/secret.txt",
    "deep/up/secrets/secret.txt",
    "/etc/passwd",
    "//etc/passwd",
    "./././../secrets/secret.txt",
]


@pytest.mark.parametrize("path", HOSTILE)
def test_no_path_leads_out(node: Node, outside: Path, path: str) -> None:
    """Neither reading nor writing escapes by dots, links or absolute paths, and nothing is changed outside."""
    files = Files(node.context("it"))

    for method in (files.locate, files.file, files.place):
        with pytest.raises(Fail) as refused:
            method(path)
        assert refused.value.code == "path-refused"
    assert outside.read_text() == "secret"
    assert os.listdir(outside.parent) == ["secret.txt"]


@pytest.mark.parametrize("path", HOSTILE)
@pytest.mark.parametrize(
    ("type", "payload"),
    [
        ("image_resize", {"source": "PATH", "width": 1}),
        ("report", {"destination": "PATH"}),
        ("data_export", {"records": [], "destination": "PATH"}),
        ("backup", {"source": "PATH"}),
        ("sync", {"source": "PATH", "destination": "copy"}),
        ("sync", {"source": "deep", "destination": "PATH"}),
        ("cleanup", {"folder": "PATH", "older_than": 0}),
    ],
)
def test_every_handler_is_confined(node: Node, outside: Path, type: str, payload: dict[str, Any], path: str) -> None:
    """Each handler that takes a path refuses one that leads out, for good."""
    with pytest.raises(Fail) as refused:
        node.call(type, {key: path if value == "PATH" else value for key, value in payload.items()})

    assert refused.value.code == "path-refused"
    assert outside.read_text() == "secret"


@pytest.mark.parametrize("path", ["", "a\0b", "a\nb", "x" * 256, "x/" * 600, "é" * 128])
def test_impossible_path_is_refused_at_the_door(node: Node, path: str) -> None:
    """What no file system takes never becomes a run."""
    with pytest.raises(InvalidPayload) as refused:
        node.call("report", {"destination": path})

    assert [error["pointer"] for error in refused.value.errors] == ["/destination"]


def test_absolute_path_inside_is_fine(node: Node) -> None:
    """People paste the whole path; it is judged by where it leads."""
    (node.files / "a.txt").write_text("a")
    files = Files(node.context("it"))

    assert files.name(files.file(str(node.files / "a.txt"))) == "a.txt"


def test_root_may_itself_be_a_link(node: Node, tmp_path: Path) -> None:
    """The folder can lie on another disk."""
    real = tmp_path / "elsewhere"
    real.mkdir()
    node.files.rmdir()
    node.files.symlink_to(real)

    node.call("report", {"destination": "a.md"})

    assert os.listdir(real) == ["a.md"]


def test_file_appears_when_it_is_whole(node: Node) -> None:
    """A write that breaks off leaves the old content and no trace."""
    files = Files(node.context("it"))
    target = files.place("a/b.txt")
    target.write_text("old")

    def break_off() -> None:
        with files.writing(target) as file:
            file.write(b"new")
            assert target.read_text() == "old"
            raise RuntimeError

    with pytest.raises(RuntimeError):
        break_off()
    assert node.names() == ["a/b.txt"]

    with files.writing(target) as file:
        file.write(b"new")
    assert target.read_text() == "new"
    assert node.names() == ["a/b.txt"]


def test_lost_run_cannot_finish_late(node: Node) -> None:
    """A run that was given up and still writes loses its file to the next attempt, whose result stands."""
    target = Files(node.context("it")).place("a.txt")

    def write_late() -> None:
        with Files(node.context("it", attempt=1)).writing(target) as late:
            late.write(b"first")
            with Files(node.context("it", attempt=2)).writing(target) as file:
                file.write(b"second")

    with pytest.raises(FileNotFoundError):
        write_late()

    assert target.read_text() == "second"
    assert node.names() == ["a.txt"]


def test_leavings_of_a_killed_run_are_removed(node: Node) -> None:
    """The next attempt of the same job cleans up, and leaves other jobs' files alone."""
    for owner in ("other-job", "3f0c1f5e-1111-4222-8333-444455556666"):
        (node.files / f".gopher-{owner}-1.part").write_text("half")

    node.call("report", {"destination": "a.md"}, attempt=2)

    assert node.names() == [".gopher-other-job-1.part", "a.md"]


def test_only_regular_files_are_read(node: Node) -> None:
    """A named pipe would hold the job for ever; a link put in place of a file is not followed."""
    os.mkfifo(node.files / "pipe")
    (node.files / "link").symlink_to("pipe")

    with pytest.raises(Fail, match="no regular file"):
        open_file(node.files / "pipe")
    with pytest.raises(Fail, match="cannot be read"):
        open_file(node.files / "link")


def test_file_in_the_way_of_a_folder_is_told(node: Node) -> None:
    """Neither a file where a folder is needed nor a folder where a file is."""
    (node.files / "a").write_text("a file")
    (node.files / "folder").mkdir()
    files = Files(node.context("it"))

    with pytest.raises(Fail, match="a file has its name"):
        files.place("a/b.txt")
    with pytest.raises(Fail, match="is a folder"):
        files.place("folder")
    with pytest.raises(Fail, match="no folder a "):
        files.folder("a")


def test_ids_of_any_kind_make_file_names(node: Node) -> None:
    """Ids of recurring jobs are no UUIDs; none leads out of its folder."""
    result = node.call("report", {}, job_id="cron:../../x:2026")

    assert result["path"] == "reports/cron_______x_2026.md"
    assert node.names() == [result["path"]]
