"""The job types `backup`, `sync` and `cleanup`, on real files."""

from __future__ import annotations

import hashlib
import os
import tarfile
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from gopher_node.errors import Fail, JobCancelled
from gopher_node.handlers import InvalidPayload
from tests.handlers.conftest import Node

DAY = 86_400


def fill(folder: Path, files: dict[str, str], age: float = 0) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        os.utime(path, (time.time() - age,) * 2)


def unpack(archive: Path, into: Path) -> dict[str, str]:
    # Not by extractall: older Pythons lack its filter, and newer ones warn when there is none.
    with tarfile.open(archive) as tar:
        for member in tar:
            path = into / member.name
            if (content := tar.extractfile(member)) is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content.read())
            elif member.isdir():
                path.mkdir(parents=True, exist_ok=True)
    return {path.relative_to(into).as_posix(): path.read_text() for path in into.rglob("*") if path.is_file()}


def cancelled(node: Node, type: str, payload: dict[str, Any]) -> Any:
    handler = node.registry.get(type)
    assert handler is not None
    ctx = node.context(type)
    ctx.request_cancel()
    return handler.run(ctx, handler.parse(orjson.dumps(payload)))


def test_backup_can_be_unpacked(node: Node, tmp_path: Path) -> None:
    """It holds the folder's files, with its hash beside it in the form that sha256sum reads."""
    files = {"a.txt": "a", "deep/er/b.txt": "b" * 100_000, "é.txt": "é"}
    fill(node.files / "site", files)
    (node.files / "site" / "empty").mkdir()

    result = node.call("backup", {"source": "site"})

    archive = node.files / result["path"]
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert unpack(archive, tmp_path / "out") == files
    assert (tmp_path / "out" / "empty").is_dir()
    assert (result["sha256"], result["bytes"]) == (digest, archive.stat().st_size)
    assert archive.with_name(archive.name + ".sha256").read_text() == f"{digest}  {archive.name}\n"
    assert result["path"].startswith("backups/site-2")


def test_repeated_run_makes_no_second_backup(node: Node) -> None:
    """A run after a crash finds the archive that the first one finished."""
    fill(node.files / "site", {"a.txt": "a"})

    first = node.call("backup", {"source": "site"})
    (node.files / f"{first['path']}.sha256").unlink()
    second = node.call("backup", {"source": "site"}, attempt=2)

    assert first == second
    assert len(node.names("backups")) == 2


def test_backup_of_everything_leaves_out_backups(node: Node, tmp_path: Path) -> None:
    """With an empty payload: all of FILES_ROOT, without archives, half-written files, and what links lead to."""
    fill(node.files, {"a.txt": "a", ".gopher-x-1.part": "half", "backups/old.tar.gz": "old"})
    fill(tmp_path / "outside", {"secret": "secret"})
    (node.files / "link").symlink_to(tmp_path / "outside")
    os.mkfifo(node.files / "pipe")

    result = node.call("backup", {})

    with tarfile.open(node.files / result["path"]) as tar:
        assert [(entry.name, entry.issym()) for entry in tar] == [("a.txt", False), ("link", True)]


def test_newest_backups_are_kept(node: Node) -> None:
    """Of this name; others are left alone."""
    fill(node.files / "site", {"a.txt": "a"})
    old = [f"site-2020010{day}T000000Z-00000000000{day}.tar.gz" for day in range(1, 6)]
    fill(node.files / "backups", dict.fromkeys([*old, "other-20200101T000000Z-000000000001.tar.gz"], "old"))
    fill(node.files / "backups", {f"{old[0]}.sha256": "x", "site-notes.txt": "mine"})

    result = node.call("backup", {"source": "site", "keep": 3})

    assert result["removed"] == [f"backups/{name}" for name in (old[2], old[1], old[0])]
    assert [name for name in node.names("backups") if name.startswith("site-20200")] == old[3:]
    assert {"site-notes.txt", "other-20200101T000000Z-000000000001.tar.gz"} <= set(node.names("backups"))


def test_cancelled_backup_leaves_nothing(node: Node) -> None:
    """A thread gives way between two files."""
    fill(node.files / "site", {"a.txt": "a"})

    with pytest.raises(JobCancelled):
        cancelled(node, "backup", {"source": "site"})
    assert node.names("backups") == []


def test_sync_copies_what_changed(node: Node) -> None:
    """And nothing else; what is only in the destination stays."""
    fill(node.files / "from", {"a.txt": "a", "deep/b.txt": "b"}, age=DAY)
    (node.files / "from" / "run.sh").write_text("x")
    (node.files / "from" / "run.sh").chmod(0o755)
    fill(node.files / "to", {"mine.txt": "mine"})

    first = node.call("sync", {"source": "from", "destination": "to"})
    second = node.call("sync", {"source": "from", "destination": "to"})
    fill(node.files / "from", {"a.txt": "A"})
    third = node.call("sync", {"source": "from", "destination": "to"})

    assert (first["copied"], first["files"], first["bytes"]) == (3, ["a.txt", "run.sh", "deep/b.txt"], 3)
    assert (second["copied"], second["unchanged"]) == (0, 3)
    assert third["files"] == ["a.txt"]
    assert (node.files / "to" / "a.txt").read_text() == "A"
    assert os.access(node.files / "to" / "run.sh", os.X_OK)
    assert node.names("to") == ["a.txt", "deep/b.txt", "mine.txt", "run.sh"]


def test_sync_by_hash_looks_inside(node: Node) -> None:
    """Same size and time with another content is seen; another time with the same content is no change."""
    fill(node.files / "from", {"a.txt": "new", "b.txt": "same"})
    fill(node.files / "to", {"a.txt": "old", "b.txt": "same"}, age=DAY)
    os.utime(node.files / "to" / "a.txt", ns=(0, (node.files / "from" / "a.txt").stat().st_mtime_ns))

    by_time = node.call("sync", {"source": "from", "destination": "to", "dry_run": True})
    by_hash = node.call("sync", {"source": "from", "destination": "to", "compare": "hash"})

    assert (by_time["files"], by_hash["files"]) == (["b.txt"], ["a.txt"])
    assert (node.files / "to" / "a.txt").read_text() == "new"


def test_sync_can_delete(node: Node) -> None:
    """What the source does not have, with folders that are empty then; a name may change its kind."""
    fill(node.files / "from", {"a/b.txt": "now a folder", "c": "now a file"})
    fill(node.files / "to", {"a": "was a file", "c/d.txt": "was a folder", "x/y/z.txt": "gone", "keep/k": "k"})
    fill(node.files / "from", {"keep/k": "k"})

    result = node.call("sync", {"source": "from", "destination": "to", "delete": True})

    assert result["deleted"] == 3
    assert node.names("to") == ["a/b.txt", "c", "keep/k"]
    assert not (node.files / "to" / "x").exists()


def test_dry_run_changes_nothing(node: Node) -> None:
    """But tells what would be done."""
    fill(node.files / "from", {"a.txt": "a"})
    fill(node.files / "to", {"b.txt": "b"}, age=DAY)

    synced = node.call("sync", {"source": "from", "destination": "to", "delete": True, "dry_run": True})
    cleaned = node.call("cleanup", {"folder": "to", "older_than": "1h", "dry_run": True})

    assert (synced["copied"], synced["deleted"], cleaned["deleted"]) == (1, 1, 1)
    assert node.names() == ["from/a.txt", "to/b.txt"]


def test_sync_writes_through_no_link(node: Node) -> None:
    """Neither a file nor a folder of the destination may stand for another place; links in the source are left out."""
    fill(node.files / "from", {"a.txt": "new"})
    fill(node.files / "elsewhere", {"a.txt": "old"})
    (node.files / "from" / "link.txt").symlink_to("a.txt")
    (node.files / "to").mkdir()
    (node.files / "to" / "a.txt").symlink_to("../elsewhere/a.txt")

    with pytest.raises(Fail, match="is a link"):
        node.call("sync", {"source": "from", "destination": "to"})
    assert (node.files / "elsewhere" / "a.txt").read_text() == "old"


@pytest.mark.parametrize(("source", "destination"), [("a", "a"), ("a", "a/b"), ("a/b", "a"), (".", "x"), ("a", ".")])
def test_sync_into_itself_is_refused(node: Node, source: str, destination: str) -> None:
    """It would grow for ever, or delete what it copies."""
    fill(node.files / "a" / "b", {"f": "f"})

    with pytest.raises(Fail, match="contain each other"):
        node.call("sync", {"source": source, "destination": destination, "delete": True})


def test_cleanup_deletes_old_files(node: Node) -> None:
    """Those that fit the pattern and are old enough; what is left out stays."""
    fill(node.files / "logs", {"a.log": "12345", "deep/b.log": "123", "c.txt": "x"}, age=31 * DAY)
    fill(node.files / "logs", {"new.log": "new"})

    result = node.call("cleanup", {"folder": "logs", "older_than": "30d", "pattern": "*.log"})
    again = node.call("cleanup", {"folder": "logs", "older_than": "30d", "pattern": "*.log"}, attempt=2)

    assert result == {
        "deleted": 2,
        "bytes": 8,
        "files": ["logs/a.log", "logs/deep/b.log"],
        "more": False,
        "dry_run": False,
    }
    assert again["deleted"] == 0
    assert node.names("logs") == ["c.txt", "new.log"]


def test_cleanup_can_stay_on_top(node: Node) -> None:
    """Without going into folders."""
    fill(node.files / "tmp", {"a": "", "deep/b": ""}, age=DAY)

    assert node.call("cleanup", {"path": "tmp", "older_than": 60, "recursive": False})["files"] == ["tmp/a"]


def test_cleanup_is_bounded(node: Node) -> None:
    """One run deletes no more than its limit, and says that there is more."""
    fill(node.files / "tmp", {f"{n:03}": "" for n in range(10)}, age=DAY)

    first = node.call("cleanup", {"folder": "tmp", "older_than": "1h", "limit": 7})
    second = node.call("cleanup", {"folder": "tmp", "older_than": "1h", "limit": 7})

    assert [(first["deleted"], first["more"]), (second["deleted"], second["more"])] == [(7, True), (3, False)]


def test_cleanup_neither_follows_nor_deletes_links(node: Node, tmp_path: Path) -> None:
    """Wherever they lead."""
    fill(tmp_path / "outside", {"precious": "p"}, age=DAY)
    fill(node.files / "other", {"mine": "m"}, age=DAY)
    (node.files / "tmp").mkdir()
    (node.files / "tmp" / "out").symlink_to(tmp_path / "outside")
    (node.files / "tmp" / "in").symlink_to("../other")
    (node.files / "tmp" / "file").symlink_to("../other/mine")

    assert node.call("cleanup", {"folder": "tmp", "older_than": 0})["deleted"] == 0
    assert (tmp_path / "outside" / "precious").exists()
    assert (node.files / "other" / "mine").exists()


def test_cancelled_cleanup_stops(node: Node) -> None:
    """A thread gives way between two files."""
    fill(node.files / "tmp", {"a": ""}, age=DAY)

    with pytest.raises(JobCancelled):
        cancelled(node, "cleanup", {"folder": "tmp", "older_than": 0})
    assert node.names("tmp") == ["a"]


@pytest.mark.parametrize(
    ("type", "payload", "pointer"),
    [
        ("cleanup", {"folder": "a"}, "/older_than"),
        ("cleanup", {"folder": "a", "older_than": "a while"}, "/older_than"),
        ("cleanup", {"folder": "a", "older_than": -1}, "/older_than"),
        ("cleanup", {"folder": "a", "older_than": 1, "limit": 0}, "/limit"),
        ("sync", {"source": "a"}, "/destination"),
        ("sync", {"source": "a", "destination": "b", "compare": "size"}, "/compare"),
        ("backup", {"keep": 0}, "/keep"),
        ("backup", {"name": "../x"}, "/name"),
    ],
)
def test_bad_payload_is_refused(node: Node, type: str, payload: dict[str, Any], pointer: str) -> None:
    """By its place."""
    with pytest.raises(InvalidPayload) as refused:
        node.call(type, payload)

    assert [error["pointer"] for error in refused.value.errors] == [pointer]


def test_sync_from_a_folder_that_is_not_there(node: Node) -> None:
    """A mistake, unless that was foreseen; then it is like an empty one."""
    with pytest.raises(Fail, match="no folder from"):
        node.call("sync", {"source": "from", "destination": "to"})
    done = node.call("sync", {"source": "from", "destination": "to", "missing_ok": True})
    assert (done["copied"], done["deleted"]) == (0, 0)


async def test_default_returns_its_payload(node: Node) -> None:
    """What a job without a type does."""
    assert await node.call("default", {"a": [1, None, "x"]}) == {"a": [1, None, "x"]}
