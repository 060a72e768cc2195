"""How many more jobs may run on this node, in all and of each type."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from gopher_node.handlers import Handler


class _Gate:
    __slots__ = ("free",)

    def __init__(self, free: int) -> None:
        self.free = free


class Slots:
    """
    Counts free slots: of the node, of each type whose handler has a `concurrency`, and of all that need a process.

    `opened` is set when a slot becomes free where there was none.
    """

    def __init__(self, total: int, handlers: Iterable[Handler], processes: int) -> None:
        self.total = total
        self.free = total
        self.opened = asyncio.Event()
        self._gates: dict[str, list[_Gate]] = {}
        process_gate = _Gate(processes)
        for handler in handlers:
            gates = [_Gate(handler.concurrency)] if handler.concurrency is not None else []
            if handler.mode == "process":
                gates.append(process_gate)
            if gates:
                self._gates[handler.type] = gates

    def take(self, type: str) -> None:
        self.free -= 1
        for gate in self._gates.get(type, ()):
            gate.free -= 1

    def give_back(self, type: str) -> None:
        self.free += 1
        opened = self.free == 1
        for gate in self._gates.get(type, ()):
            gate.free += 1
            opened = opened or gate.free == 1
        if opened:
            self.opened.set()

    def limits(self) -> dict[str, int]:
        """Free slots of the types that have fewer of them than the node."""
        limits: dict[str, int] = {}
        for type, gates in self._gates.items():
            free = min(gate.free for gate in gates)
            if free < self.free:
                # One claim may take several types that share a gate, and so more than it lets through: they wait.
                limits[type] = max(0, free)
        return limits
