"""How much of the processors and of the memory that this process may use it does use."""

from __future__ import annotations

import os
import resource
import sys
import time
from pathlib import Path

ROOT = Path("/")


def read_number(path: Path, field: int = 0) -> int | None:
    """The number that is this word of the file. None: there is no such file, or it says `max`."""
    try:
        return int(path.read_text().split()[field])
    except (OSError, ValueError, IndexError):
        return None


def cgroups(root: Path = ROOT) -> list[Path]:
    """The folders of the control groups (version 2) that this process is in, itself first; those of version 1 last."""
    mount = root / "sys/fs/cgroup"
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    folders: list[Path] = []
    for line in lines:
        if line.startswith("0::"):
            own = mount / line[3:].lstrip("/")
            # A container may be shown the name that its group has outside, where it sees its own at the top.
            folders += [folder for folder in (own, *own.parents) if folder.is_relative_to(mount) and folder.is_dir()]
    return [*folders, mount / "memory", mount / "cpu"]


def processors(root: Path = ROOT) -> float:
    """How many processors' time it may use."""
    count = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    for folder in cgroups(root):
        for quota, period in (
            (read_number(folder / "cpu.max"), read_number(folder / "cpu.max", 1)),
            (read_number(folder / "cpu.cfs_quota_us"), read_number(folder / "cpu.cfs_period_us")),
        ):
            if quota is not None and quota > 0 and period:
                count = min(count, quota / period)
    return max(count, 0.01)


def memory_limit(root: Path = ROOT) -> int | None:
    """The least that any control group allows, in bytes. None: none of them bounds it."""
    found = [
        limit
        for folder in cgroups(root)
        for name in ("memory.max", "memory.high", "memory.limit_in_bytes")
        if (limit := read_number(folder / name)) is not None and 0 < limit < 1 << 60  # which is how version 1 says none
    ]
    return min(found, default=None)


def memory_used(root: Path = ROOT) -> int:
    """The bytes of memory that this process holds; where the system tells no more, the most that it ever held."""
    pages = read_number(root / "proc/self/statm", 1)
    if pages is not None:
        return pages * resource.getpagesize()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def memory_left(root: Path = ROOT) -> int | None:
    """The bytes that the machine could still give to anybody. None: it does not tell."""
    try:
        for line in (root / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None


class Load:
    """
    Measures from one reading to the next. Both are made on the loop's thread, whose own time counts too: it can use one
    processor, however many there are.
    """

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self._processors = processors(root)
        self._limit = memory_limit(root)
        self._last: tuple[float, float, float] | None = None

    def read(self, now: float) -> tuple[float, float]:
        """The part of the processors, and of the memory, that is used: 0 to about 1 each."""
        return self._cpu(now, time.process_time(), time.thread_time()), self._memory()

    def _cpu(self, now: float, process: float, loop: float) -> float:
        last, self._last = self._last, (now, process, loop)
        if last is None or now <= last[0]:
            return 0.0
        seconds = now - last[0]
        return max((process - last[1]) / seconds / self._processors, (loop - last[2]) / seconds)

    def _memory(self) -> float:
        used, left = memory_used(self._root), memory_left(self._root)
        bounds = [] if left is None else [used + left]
        if self._limit is not None:
            bounds.append(self._limit)
        return used / max(1, min(bounds)) if bounds else 0.0
