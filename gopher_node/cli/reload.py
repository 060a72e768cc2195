"""Development: runs the node as a child process, and starts it anew when Python files change."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import signal
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from gopher_node.cli.exits import Exit
from gopher_node.cli.show import on_terminal
from gopher_node.settings import SETTINGS, Settings

PERIOD = 0.5
"""Seconds between two looks at the files."""

Snapshot = dict[str, int]


class Sources:
    """
    The Python files whose change starts the node anew: those under the working directory, and those of the handlers'
    packages wherever they are. Hidden directories, virtual environments and the node's data are left out.
    """

    def __init__(self, roots: Iterable[Path], leave_out: Iterable[Path] = ()) -> None:
        self._roots = [root.resolve() for root in roots]
        self._leave_out = {str(path.resolve()) for path in leave_out}

    @classmethod
    def of(cls, settings: Settings) -> Sources:
        return cls([Path.cwd(), *_package_roots(settings.handlers)], [settings.data_dir, settings.files.root])

    def snapshot(self) -> Snapshot:
        """When each file was last changed."""
        found: Snapshot = {}
        for path in self._files():
            try:
                found[path] = os.stat(path).st_mtime_ns
            except OSError:
                # Gone between the listing and the look, as editors do when they save.
                continue
        return found

    def _files(self) -> Iterator[str]:
        for root in self._roots:
            if root.is_file():
                yield str(root)
            for folder, folders, files in os.walk(root):
                folders[:] = [name for name in folders if self._holds_sources(folder, name)]
                yield from (os.path.join(folder, name) for name in files if name.endswith(".py"))

    def _holds_sources(self, folder: str, name: str) -> bool:
        path = os.path.join(folder, name)
        if name.startswith(".") or name in ("__pycache__", "node_modules") or path in self._leave_out:
            return False
        return not os.path.exists(os.path.join(path, "pyvenv.cfg"))


class Reloader:
    """
    Keeps one child running until it ends well or a signal ends it.

    A changed file stops the child as SIGTERM does, gracefully, and then starts the next. A child that ends by itself
    with an error waits for a change too, for the mistake is most likely in the file that is being edited.
    """

    def __init__(self, command: Sequence[str], sources: Sources) -> None:
        self._command = command
        self._sources = sources
        self._child: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()

    async def run(self) -> int:
        """Returns the last child's exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop, number)
        while True:
            before = self._sources.snapshot()
            self._child = await asyncio.create_subprocess_exec(*self._command)
            if self._stopping.is_set():
                self._terminate()
            changed = await self._watch(self._child, before)
            if changed is None:
                return _exit_code(await self._child.wait())
            _say(f"{_shown(changed)} changed; the node starts anew.")
            self._terminate()
            code = await self._child.wait()
            if self._stopping.is_set():
                return _exit_code(code)

    async def _watch(self, child: asyncio.subprocess.Process, before: Snapshot) -> str | None:
        """The path that changed, or None when the child has ended, or is to end, for good."""
        ended = asyncio.create_task(child.wait())
        stopping = asyncio.create_task(self._stopping.wait())
        awaited = {ended, stopping}
        try:
            while not stopping.done():
                if ended in awaited and ended.done():
                    if ended.result() == 0:
                        return None
                    _say(f"The node ended with exit code {_exit_code(ended.result())}; it starts anew on a change.")
                    awaited.remove(ended)
                changed = _difference(before, self._sources.snapshot())
                if changed:
                    return changed
                await asyncio.wait(awaited, timeout=PERIOD, return_when=asyncio.FIRST_COMPLETED)
            return None
        finally:
            ended.cancel()
            stopping.cancel()

    def _stop(self, number: signal.Signals) -> None:
        self._stopping.set()
        # A terminal sends its Ctrl-C to the child as well, and a second signal would cut its drain short.
        if number != signal.SIGINT or not on_terminal(sys.stdin):
            self._terminate()

    def _terminate(self) -> None:
        if self._child and self._child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._child.terminate()


def node_command(flags: Mapping[str, str | None], config: Path | None) -> list[str]:
    """The command that starts a node with these flags in a process of its own."""
    names = {setting.path: setting.flag for setting in SETTINGS}
    given = [f"{names[path]}={value}" for path, value in flags.items() if value is not None]
    return [sys.executable, "-m", "gopher_node.cli", "run", *given, *([f"--config={config}"] if config else [])]


def _package_roots(modules: Iterable[str]) -> Iterator[Path]:
    for name in {module.partition(".")[0] for module in modules}:
        # Of a top-level name this finds where it is without importing it.
        spec = importlib.util.find_spec(name)
        if spec is None:
            continue
        if spec.submodule_search_locations:
            yield from map(Path, spec.submodule_search_locations)
        elif spec.origin:
            yield Path(spec.origin)


def _difference(before: Snapshot, after: Snapshot) -> str | None:
    return next((path for path in before.keys() | after.keys() if before.get(path) != after.get(path)), None)


def _shown(path: str) -> str:
    return os.path.relpath(path) if path.startswith(os.getcwd() + os.sep) else path


def _exit_code(code: int) -> int:
    """As a shell has it: what a signal ended is 128 and its number."""
    if code == -signal.SIGINT:
        return Exit.INTERRUPTED
    return code if code >= 0 else 128 - code


def _say(text: str) -> None:
    sys.stderr.write(f"gopher-node: {text}\n")
