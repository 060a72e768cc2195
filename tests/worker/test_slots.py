"""Free slots, and when one that opens is worth another claim."""

from __future__ import annotations

from typing import Any

import pytest

from gopher_node.handlers import Handler, Registry
from gopher_node.worker.slots import Slots

from . import in_process


def handlers(**options: dict[str, Any]) -> list[Handler]:
    registry = Registry()
    for type, how in options.items():
        registry.handler(type, **how)(in_process.die)
    return registry.handlers()


def opened(slots: Slots) -> bool:
    was = slots.opened.is_set()
    slots.opened.clear()
    return was


def test_first_free_slot_of_a_full_node_opens_it() -> None:
    """A node that was full may claim again with its first free slot; the next ones are no news."""
    slots = Slots(2, handlers(a={}), processes=1)
    for _ in range(2):
        slots.take("a")
    assert (slots.free, opened(slots)) == (0, False)

    slots.give_back("a")
    assert opened(slots)
    slots.give_back("a")
    assert not opened(slots)


def test_only_types_with_fewer_slots_than_the_node_are_limited() -> None:
    """A claim is told of a cap where it matters."""
    slots = Slots(3, handlers(capped={"concurrency": 2}, wide={"concurrency": 50}, free={}), processes=1)

    assert slots.limits() == {"capped": 2}
    slots.take("free")
    assert slots.limits() == {}
    slots.take("capped")
    assert slots.limits() == {}
    slots.take("capped")
    assert slots.limits() == {}


def test_slot_of_a_type_that_used_all_it_was_offered_opens() -> None:
    """Jobs of the type may be waiting, so its next free slot is worth a claim."""
    slots = Slots(10, handlers(capped={"concurrency": 1}), processes=1)
    slots.limits()
    slots.take("capped")
    assert not opened(slots)

    slots.give_back("capped")

    assert opened(slots)


def test_slot_of_a_type_that_had_room_left_does_not() -> None:
    """The claim took all there was: an idle type costs no further claims."""
    slots = Slots(10, handlers(capped={"concurrency": 2}), processes=1)
    slots.limits()
    slots.take("capped")

    slots.give_back("capped")

    assert not opened(slots)


def test_slot_given_back_during_a_claim_is_not_forgotten() -> None:
    """A slot that came free while the claim was under way was not offered to it: it opens when the claim is used up."""
    slots = Slots(10, handlers(capped={"concurrency": 2}), processes=1)
    slots.take("capped")
    slots.limits()
    slots.give_back("capped")
    assert not opened(slots)

    slots.take("capped")

    assert opened(slots)


@pytest.mark.parametrize("processes", [1, 3])
def test_process_types_share_the_processors(processes: int) -> None:
    """All types that run in processes are limited by the processors together, and each by its own cap."""
    slots = Slots(
        10, handlers(one={"run": "process"}, two={"run": "process", "concurrency": 2}, thread={}), processes=processes
    )

    assert slots.limits() == {"one": processes, "two": min(2, processes)}
    slots.take("one")
    assert slots.limits() == {"one": processes - 1, "two": min(2, processes - 1)}
    slots.take("two")
    slots.take("two")
    assert slots.limits() == {"one": max(0, processes - 3), "two": 0}
