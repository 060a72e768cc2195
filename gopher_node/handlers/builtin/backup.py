"""The job type `backup`: a folder of FILES_ROOT as a compressed archive, of which the newest are kept."""

from __future__ import annotations

import hashlib
import os
import re
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime
from gzip import GzipFile
from pathlib import Path
from typing import Annotated, Any, BinaryIO, cast

from pydantic import AliasChoices, Field, StringConstraints

from gopher_node.errors import Fail
from gopher_node.handlers.builtin.files import Files, PathText, is_part, open_file
from gopher_node.handlers.builtin.payloads import Payload
from gopher_node.handlers.context import JobContext

FOLDER = "backups"
MAX_FILES = 1_000_000


class Backup(Payload):
    """What to keep. Archives are named by `name`, the time and the job: backups/<name>-<time>-<job>.tar.gz."""

    source: PathText = Field(".", validation_alias=AliasChoices("source", "folder", "path"))
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")] | None = Field(
        None, description="By default the folder's own name."
    )
    keep: int = Field(7, ge=1, le=1000, description="How many archives of this name stay; older ones are deleted.")


class Digest:
    """A file that is hashed as it is written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()

    def write(self, content: bytes) -> int:
        self._hash.update(content)
        return self._file.write(content)

    def flush(self) -> None:
        self._file.flush()

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def back_up(ctx: JobContext, payload: Backup) -> dict[str, Any]:
    """Pack a folder of FILES_ROOT into backups/, with its SHA-256 beside it, and keep the newest archives."""
    files = Files(ctx)
    source = files.folder(payload.source)
    shelf = files.locate(FOLDER)
    if source == shelf:
        raise Fail("The folder of the backups itself cannot be backed up into it.", code="path-refused")
    name = payload.name or re.sub(r"[^A-Za-z0-9._-]", "_", source.name).lstrip("._-") or "files"
    job = hashlib.sha256(ctx.job_id.encode()).hexdigest()[:12]

    # An earlier run of this job may have come as far as its archive, which then is whole.
    archive = next(iter(sorted(shelf.glob(f"{name}-*-{job}.tar.gz"))), None)
    if archive is None:
        moment = datetime.now(UTC)
        archive = files.place(f"{FOLDER}/{name}-{moment:%Y%m%dT%H%M%SZ}-{job}.tar.gz")
        with files.writing(archive) as file:
            digest = _pack(ctx, source, shelf, file)
    else:
        with archive.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    with files.writing(archive.with_name(f"{archive.name}.sha256")) as file:
        file.write(f"{digest}  {archive.name}\n".encode())
    return {
        "path": files.name(archive),
        "bytes": archive.stat().st_size,
        "sha256": digest,
        "removed": [files.name(old) for old in _remove_old(shelf, name, payload.keep)],
    }


def _pack(ctx: JobContext, source: Path, shelf: Path, file: BinaryIO) -> str:
    digest = Digest(file)
    # Written in one direction, so the hash of what was written is the hash of the file.
    with (
        GzipFile("", "wb", fileobj=cast(BinaryIO, digest), mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|") as tar,
    ):
        for count, path in enumerate(_walk(source, shelf)):
            ctx.raise_if_cancelled()
            if count >= MAX_FILES:
                raise Fail(f"{source.name} holds more than {MAX_FILES:,} files.", code="too-many-files")
            _add(tar, path, path.relative_to(source).as_posix())
    return digest.hexdigest()


def _walk(source: Path, shelf: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(source):
        here = Path(folder)
        # Links to folders are kept as links, and the archives are not packed into the next archive.
        linked = [name for name in folders if (here / name).is_symlink()]
        folders[:] = sorted(name for name in folders if name not in linked and here / name != shelf)
        yield from (here / name for name in sorted([*folders, *linked, *names]) if not is_part(name))


def _add(tar: tarfile.TarFile, path: Path, name: str) -> None:
    try:
        entry = tar.gettarinfo(path, name)
    except FileNotFoundError:
        return  # deleted since the folder was listed
    if entry.isreg():
        # A second name of a file that is already packed comes as a link to it, and has no content.
        with open_file(path) as content:
            tar.addfile(entry, content)
    elif entry.isdir() or entry.issym() or entry.islnk():
        tar.addfile(entry)


def _remove_old(shelf: Path, name: str, keep: int) -> list[Path]:
    pattern = re.compile(rf"{re.escape(name)}-\d{{8}}T\d{{6}}Z-[0-9a-f]{{12}}\.tar\.gz\Z")
    archives = sorted((path for path in shelf.iterdir() if pattern.match(path.name)), reverse=True)
    for old in archives[keep:]:
        old.unlink(missing_ok=True)
        old.with_name(f"{old.name}.sha256").unlink(missing_ok=True)
    return archives[keep:]
