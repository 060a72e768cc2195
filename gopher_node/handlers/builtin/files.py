"""The one folder in which built-in handlers read and write, and whole files or none as what they write."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Generator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Annotated, BinaryIO

from pydantic import AfterValidator, StringConstraints

from gopher_node.errors import Fail
from gopher_node.handlers.context import JobContext

PART_PREFIX = ".gopher-"
MAX_NAME_BYTES = 255


def _plain(path: str) -> str:
    if any(ord(character) < 32 or ord(character) == 127 for character in path):
        raise ValueError("a path has no control characters")
    try:
        longest = max(len(part.encode()) for part in path.split("/"))
    except UnicodeEncodeError:
        raise ValueError("a path is text that UTF-8 can hold") from None
    if longest > MAX_NAME_BYTES:
        raise ValueError(f"a file's name is at most {MAX_NAME_BYTES} bytes")
    return path


PathText = Annotated[str, StringConstraints(min_length=1, max_length=1024), AfterValidator(_plain)]
"""A path in a payload: relative to FILES_ROOT, or absolute and inside of it."""


class Files:
    """
    The folder FILES_ROOT, for one run of a job.

    No path leads out of it: symbolic links and `..` are followed first and judged by where they end. What is
    written appears under its name when it is whole, and replaces what was there, so a run can be repeated.
    """

    def __init__(self, ctx: JobContext) -> None:
        self.root = Path(os.path.realpath(ctx.settings.files.root))
        self.job = job_name(ctx)
        self._part = f"{PART_PREFIX}{self.job}-{ctx.attempt}.part"
        self._attempt = ctx.attempt
        self._swept: set[Path] = set()

    def locate(self, path: str) -> Path:
        """Where a path leads, whether or not something is there. Raises Fail if it leads out."""
        found = Path(os.path.realpath(self.root / path))
        if found != self.root and not found.is_relative_to(self.root):
            raise Fail(f"The path {path} leads out of FILES_ROOT, the folder that jobs may use.", code="path-refused")
        return found

    def file(self, path: str) -> Path:
        found = self.locate(path)
        if not found.is_file():
            raise Fail(f"There is no file {path} in FILES_ROOT.", code="file-missing")
        return found

    def folder(self, path: str) -> Path:
        found = self.locate(path)
        if found == self.root:
            found.mkdir(parents=True, exist_ok=True)  # on a new node, nothing has been written yet
        if not found.is_dir():
            raise Fail(f"There is no folder {path} in FILES_ROOT.", code="file-missing")
        return found

    def place(self, path: str) -> Path:
        """Where a file may be written; its folder is created."""
        found = self.locate(path)
        if found.is_dir():
            raise Fail(f"{path} is a folder; name the file to write.", code="path-refused")
        try:
            found.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise Fail(f"The folder of {path} cannot be made: a file has its name.", code="path-refused") from None
        return found

    def name(self, path: Path) -> str:
        """The path as users know it: relative to FILES_ROOT."""
        return path.relative_to(self.root).as_posix()

    @contextmanager
    def writing(self, target: Path) -> Generator[BinaryIO]:
        """A file that takes the name `target` when the block ends well, and is gone when it does not."""
        self._remove_stale(target.parent)
        with write_whole(target, target.parent / self._part) as file:
            yield file

    def _remove_stale(self, folder: Path) -> None:
        # What an earlier run of this job left. Should that run still live, it loses its file and cannot finish late.
        if self._attempt == 1 or folder in self._swept:
            return
        self._swept.add(folder)
        for stale in folder.glob(f"{PART_PREFIX}{self.job}-*.part"):
            if stale.name != self._part:
                stale.unlink(missing_ok=True)


@contextmanager
def write_whole(target: Path, part: Path) -> Generator[BinaryIO]:
    """Write `part`, and when the block ends well, give it the name `target`; either way `part` is gone then."""
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def open_file(path: Path) -> BufferedReader:
    """Open for reading what `Files.locate` found; a link put there since is not followed. Raises Fail."""
    try:
        # Without O_NONBLOCK a named pipe would hold the job until somebody writes to it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.EACCES):
            raise Fail(f"{path.name} cannot be read: {os.strerror(error.errno)}.", code="file-missing") from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Fail(f"{path.name} is no regular file.", code="path-refused")
    return os.fdopen(descriptor, "rb")


def job_name(ctx: JobContext) -> str:
    """The job's id as a part of a file's name: not every id is a UUID."""
    return re.sub(r"[^A-Za-z0-9-]", "_", ctx.job_id)


def is_part(name: str) -> bool:
    """Whether a file is one that a run has not finished."""
    return name.startswith(PART_PREFIX) and name.endswith(".part")


def _sync_folder(folder: Path) -> None:
    # A rename is durable only when the folder is.
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
