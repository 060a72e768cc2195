"""How many more jobs may run on this node, in all and of each type."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable

from gopher_node.handlers import Handler


class _Gate:
    """Free slots, and how many of them the last claim was offered and has not used."""

    __slots__ = ("free", "offered")

    def __init__(self, free: int) -> None:
        self.free = free
        self.offered: float = math.inf


class Slots:
    """
    Counts free slots: of the node, of each type whose handler has a `concurrency`, and of all that need a process.

    `opened` is set when there is a free slot that the last claim might have used had it been offered. `free` is below 0
    while more jobs run than there are slots from now on.
    """

    def __init__(self, total: int, handlers: Iterable[Handler], processes: int) -> None:
        self.total = total
        self.free = total
        self.opened = asyncio.Event()
        self._peak = 0
        self._gates: dict[str, list[_Gate]] = {}
        process_gate = _Gate(processes)
        for handler in handlers:
            gates = [_Gate(handler.concurrency)] if handler.concurrency is not None else []
            if handler.mode == "process":
                gates.append(process_gate)
            if gates:
                self._gates[handler.type] = gates

    def limits(self) -> dict[str, int]:
        """For a claim that is now made: free slots of the types that have fewer of them than the node."""
        limits: dict[str, int] = {}
        for type, gates in self._gates.items():
            free = min(gate.free for gate in gates)
            if free < self.free:
                # One claim may take several types that share a gate, and so more than it lets through: they wait.
                limits[type] = max(0, free)
            for gate in gates:
                gate.offered = gate.free if gate.free < self.free else math.inf
        return limits

    def take(self, type: str) -> None:
        self.free -= 1
        self._peak = max(self._peak, self.total - self.free)
        for gate in self._gates.get(type, ()):
            gate.free -= 1
            gate.offered -= 1
            # One was given back while the claim was under way.
            if gate.offered <= 0 < gate.free:
                self.opened.set()

    def give_back(self, type: str) -> None:
        self.free += 1
        if self.free == 1:
            self.opened.set()
        for gate in self._gates.get(type, ()):
            gate.free += 1
            # The claim used all it was offered, so more may be waiting.
            if gate.offered <= 0:
                self.opened.set()

    def resize(self, total: int) -> None:
        """Have so many slots from now on. Those that are taken beyond that go as their jobs end."""
        was_full = self.free <= 0
        self.free += total - self.total
        self.total = total
        if was_full and self.free > 0:
            self.opened.set()

    def take_peak(self) -> int:
        """How many slots were taken at once, at most, since this was last asked."""
        peak, self._peak = self._peak, self.total - self.free
        return peak
