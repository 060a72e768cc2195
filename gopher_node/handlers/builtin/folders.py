"""The job types `sync` and `cleanup`: folders of FILES_ROOT made alike, and rid of old files."""

from __future__ import annotations

import fnmatch
import hashlib
import os
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator, Field, StringConstraints

from gopher_node.durations import parse_duration
from gopher_node.errors import Fail
from gopher_node.handlers.builtin.files import Files, PathText, is_part, open_file
from gopher_node.handlers.builtin.payloads import Payload
from gopher_node.handlers.context import JobContext

MAX_FILES = 100_000
MAX_LISTED = 100

Duration = Annotated[float, BeforeValidator(parse_duration, json_schema_input_type=float | str)]


class Sync(Payload):
    """A one-way copy. Symbolic links are left out."""

    source: PathText = Field(validation_alias=AliasChoices("source", "from"))
    destination: PathText = Field(validation_alias=AliasChoices("destination", "to"))
    compare: Literal["time", "hash"] = Field(
        "time", description="What tells that a file has changed: size and time of change, or size and content."
    )
    delete: bool = Field(False, description="Delete what is in the destination and not in the source.")
    missing_ok: bool = Field(False, description="Take a source that is not there for an empty one.")
    dry_run: bool = False


class Cleanup(Payload):
    """Which files go: those under the folder whose name fits the pattern and that have not changed for so long."""

    folder: PathText = Field(validation_alias=AliasChoices("folder", "path", "directory"))
    older_than: Duration = Field(description="Seconds, or text such as 30d or 12h.")
    pattern: Annotated[str, StringConstraints(min_length=1, max_length=255)] = "*"
    recursive: bool = True
    dry_run: bool = False
    limit: int = Field(10_000, ge=1, le=MAX_FILES, description="The most files that one run deletes.")


def sync(ctx: JobContext, payload: Sync) -> dict[str, Any]:
    """Copy what is new or changed from one folder of FILES_ROOT to another."""
    files = Files(ctx)
    source = files.locate(payload.source)
    if source.exists() or not payload.missing_ok:
        source = files.folder(payload.source)
    target = files.locate(payload.destination)
    if source == target or source.is_relative_to(target) or target.is_relative_to(source):
        raise Fail("The source and the destination must not contain each other.", code="path-refused")
    wanted = _regular_files(source) if source.exists() else {}
    present = _regular_files(target) if target.is_dir() else {}
    changed = [
        name
        for name, facts in wanted.items()
        if name not in present or _differs(source / name, facts, target / name, present[name], payload.compare)
    ]
    surplus = [name for name in present if name not in wanted] if payload.delete else []
    if not payload.dry_run:
        # Deleted first: a name may have been a file and now be a folder.
        for name in surplus:
            (target / name).unlink(missing_ok=True)
        _remove_empty(target, {(target / name).parent for name in surplus})
        for done, name in enumerate(changed):
            ctx.raise_if_cancelled()
            ctx.progress(done / len(changed), name[:200])
            _copy(files, source / name, target / name)
    return {
        "copied": len(changed),
        "deleted": len(surplus),
        "unchanged": len(wanted) - len(changed),
        "bytes": sum(wanted[name].st_size for name in changed),
        "files": changed[:MAX_LISTED],
        "dry_run": payload.dry_run,
    }


def cleanup(ctx: JobContext, payload: Cleanup) -> dict[str, Any]:
    """Delete old files under a folder of FILES_ROOT; links are neither followed nor deleted."""
    files = Files(ctx)
    folder = files.folder(payload.folder)
    newest = time.time() - payload.older_than
    deleted: list[str] = []
    freed, more = 0, False
    for path, facts, parent in _old_files(folder, payload, newest):
        ctx.raise_if_cancelled()
        if len(deleted) == payload.limit:
            more = True
            break
        if not payload.dry_run:
            try:
                # By the open folder: had it been replaced by a link, the path would now lead elsewhere.
                os.unlink(path.name, dir_fd=parent)
            except FileNotFoundError:
                continue
        deleted.append(files.name(path))
        freed += facts.st_size
    return {
        "deleted": len(deleted),
        "bytes": freed,
        "files": deleted[:MAX_LISTED],
        "more": more,
        "dry_run": payload.dry_run,
    }


def _regular_files(folder: Path) -> dict[str, os.stat_result]:
    found: dict[str, os.stat_result] = {}
    for here, folders, names, descriptor in os.fwalk(folder):
        folders.sort()
        for name in sorted(names):
            facts = _facts(name, descriptor)
            if facts is None or not stat.S_ISREG(facts.st_mode) or is_part(name):
                continue
            found[(Path(here) / name).relative_to(folder).as_posix()] = facts
            if len(found) > MAX_FILES:
                raise Fail(f"{folder.name} holds more than {MAX_FILES:,} files.", code="too-many-files")
    return found


def _old_files(folder: Path, payload: Cleanup, newest: float) -> Iterator[tuple[Path, os.stat_result, int]]:
    for here, folders, names, descriptor in os.fwalk(folder):
        folders[:] = sorted(folders) if payload.recursive else []
        for name in sorted(names):
            if not fnmatch.fnmatchcase(name, payload.pattern):
                continue
            facts = _facts(name, descriptor)
            if facts is not None and stat.S_ISREG(facts.st_mode) and facts.st_mtime <= newest:
                yield Path(here) / name, facts, descriptor


def _facts(name: str, folder: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _differs(
    source: Path, wanted: os.stat_result, target: Path, present: os.stat_result, compare: Literal["time", "hash"]
) -> bool:
    if wanted.st_size != present.st_size:
        return True
    if compare == "time":
        return wanted.st_mtime_ns != present.st_mtime_ns
    return _digest(source) != _digest(target)


def _digest(path: Path) -> str:
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _copy(files: Files, source: Path, target: Path) -> None:
    if files.place(files.name(target)) != target:
        raise Fail(f"{files.name(target)} is a link, or in one; nothing is written through it.", code="path-refused")
    with open_file(source) as content, files.writing(target) as copy:
        shutil.copyfileobj(content, copy, 1024 * 1024)
        facts = os.fstat(content.fileno())
        # With the source's time, by which the next run sees that nothing has changed.
        copy.flush()
        os.utime(copy.fileno(), ns=(facts.st_atime_ns, facts.st_mtime_ns))
        os.fchmod(copy.fileno(), stat.S_IMODE(facts.st_mode) & 0o777)


def _remove_empty(top: Path, folders: set[Path]) -> None:
    for folder in folders:
        while folder != top:
            try:
                folder.rmdir()
            except OSError:
                break
            folder = folder.parent
