"""
Sees to it that nothing hangs unseen: each test has its time, each worker process of the tests has to be heard of, and
the whole run ends. What fails is told at once, so that a run which is cut off has said why.

pytest-timeout alone is not enough. It stops counting once a test has failed, so that what then hangs in the fixtures
hangs for ever; its thread needs the interpreter's lock, which the hanging test may hold; and what it says in a worker
process goes nowhere. So its limits are kept here by a thread that needs no lock, to the test's very end, and
the controller watches the processes.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import threading
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

SILENCE = 240.0
"""Seconds without any news after which a worker process is taken to hang. No test has as many."""

DEADLINE = 1500.0
"""Seconds after which the run ends, whatever it does."""

TELL = signal.SIGUSR2
"""Has a worker process say what its threads do."""


def install(config: pytest.Config) -> None:
    """For pytest_configure of the controller, of each of its worker processes, and of a run without any."""
    if hasattr(config, "workerinput"):
        config.pluginmanager.register(TimeLimits(), "time-limits")
        return
    config.pluginmanager.register(Failures(config), "failures-at-once")
    if config.getoption("tx", None):
        config.pluginmanager.register(Watchdog(config), "watchdog")


class TimeLimits:
    """In a worker process: what pytest-timeout measures, without the interpreter's lock, and after a failure too."""

    def __init__(self) -> None:
        # Output is not captured at this moment; later, descriptor 2 is not where anybody reads.
        self._stderr = os.dup(2)
        self._limit = 0.0
        faulthandler.register(TELL, file=self._stderr, all_threads=True)

    @pytest.hookimpl
    def pytest_timeout_set_timer(self, item: pytest.Item, settings: Any) -> bool:
        self._limit = settings.timeout
        self._arm()
        return True

    @pytest.hookimpl
    def pytest_timeout_cancel_timer(self, item: pytest.Item) -> bool:
        """Not yet: a test that has failed still has fixtures to leave."""
        return True

    @pytest.hookimpl(trylast=True)
    def pytest_exception_interact(self) -> None:
        """Again, for pytest itself has just cancelled it."""
        self._arm()

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self) -> Generator[None, object, object]:
        try:
            return (yield)
        finally:
            self._limit = 0.0
            faulthandler.cancel_dump_traceback_later()

    def _arm(self) -> None:
        if self._limit:
            faulthandler.dump_traceback_later(self._limit, exit=True, file=self._stderr)


class Failures:
    """Prints each failure when it happens, and not again at the end."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._style = config.option.tbstyle

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        terminal = self._config.pluginmanager.getplugin("terminalreporter")
        if not report.failed or terminal is None or self._style == "no":
            return
        terminal.ensure_newline()
        where = getattr(getattr(report, "node", None), "gateway", None)
        terminal.write_sep("_", f"{report.nodeid} ({report.when}{f', {where.id}' if where else ''})")
        report.toterminal(terminal._tw)
        for title, content in report.sections:
            terminal.write_sep("-", title)
            terminal.write(content if content.endswith("\n") else f"{content}\n")
        terminal.flush()

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self) -> None:
        self._config.option.tbstyle = "no"


class Watchdog:
    """In the controller: kills a worker process that nothing is heard of, for which xdist then starts another one."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._stderr = os.dup(2)  # later, descriptor 2 is captured here too
        self._began = time.monotonic()
        self._heard: dict[Any, float] = {}
        self._killed: dict[Any, float] = {}
        threading.Thread(target=self._watch, daemon=True, name="watchdog").start()

    @pytest.hookimpl
    def pytest_xdist_node_collection_finished(self, node: Any) -> None:
        self._heard[node] = time.monotonic()

    @pytest.hookimpl
    def pytest_runtest_logreport(self, report: Any) -> None:
        # What is reported of a worker that has crashed comes from the controller, and changes nothing.
        if node := getattr(report, "node", None):
            self._heard[node] = time.monotonic()

    def _watch(self) -> None:
        while True:
            time.sleep(min(5.0, SILENCE / 5))
            now = time.monotonic()
            if now - self._began > DEADLINE:
                self._give_up()
            for node in self._nodes():
                silent = now - self._heard.setdefault(node, now)
                if node not in self._killed and silent > SILENCE:
                    self._tell(f"[{node.gateway.id}] nothing heard for {silent:.0f} s, so it is killed.")
                    self._describe(node)
                    self._kill(node)
                    self._killed[node] = now
                elif now - self._killed.get(node, now) > 10 and not node._down:
                    # Something still holds its end of the pipe, whose closing is what xdist waits for.
                    node.process_from_remote(node.ENDMARK)

    def _give_up(self) -> None:
        self._tell(f"THE TESTS ARE ENDED: they have taken longer than {DEADLINE / 60:.0f} minutes. What still runs:")
        nodes = self._nodes()
        for node in nodes:
            self._describe(node)
        for node in nodes:
            self._kill(node)
        os._exit(1)

    def _nodes(self) -> list[Any]:
        session = self._config.pluginmanager.getplugin("dsession")
        return list(getattr(session, "_active_nodes", ()))

    def _describe(self, node: Any) -> None:
        """What is known about it: its test, what the kernel says, and what its threads do, if it can still tell."""
        pid = node.gateway._io.popen.pid
        self._tell(f"[{node.gateway.id}] process {pid}, running {self._running(node)}")
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{pid}/status").read_text().splitlines()
            names = ("State", "Threads", "VmRSS", "SigPnd", "ShdPnd", "SigBlk")
            self._tell("\n".join(line for line in status if line.startswith(names)))
            for task in sorted(Path(f"/proc/{pid}/task").iterdir()):
                self._tell(f"thread {task.name} waits in {(task / 'wchan').read_text()}")
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
            os.kill(pid, TELL)
            time.sleep(1)

    def _running(self, node: Any) -> str:
        # The scheduler is the main thread's: however it looks at this moment, the watch goes on.
        with contextlib.suppress(Exception):
            sched = self._config.pluginmanager.getplugin("dsession").sched
            return sched.node2collection[node][sched.node2pending[node][0]]
        return "no test"

    @staticmethod
    def _kill(node: Any) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(node.gateway._io.popen.pid, signal.SIGKILL)

    def _tell(self, text: str) -> None:
        with contextlib.suppress(OSError):
            os.write(self._stderr, f"\n{text}\n".encode())
