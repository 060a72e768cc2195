"""What bounds the jobs of each type: what handlers and settings declare, overlaid by what operators set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from gopher_node.flow import LIMITS, UNLIMITED, FlowPolicy, check_group, check_limit, encode_limit
from gopher_node.job import TYPE_NAME, Priority
from gopher_node.store.scripts import Run


class Flow:
    """
    The policies of all types, which all nodes share.

    A change holds at once. It is a no-op where it changes nothing, and so when it is told twice.
    """

    def __init__(self, run: Run) -> None:
        self._run = run

    async def set(self, type: str, patch: Mapping[str, Any], *, now: int | None = None) -> FlowPolicy:
        """
        Let limits of a type be these, whatever is declared; None takes the operator's word for one away.

        Returns the policy that holds now. Raises ValueError, and changes nothing, if one cannot be.
        """
        words: list[Any] = []
        for name, value in patch.items():
            check_limit(name, value)
            field = LIMITS[name]
            words += ["drop", field, ""] if value is None else ["put", field, orjson.dumps(encode_limit(value))]
        return await self._change(type, words, now)

    async def declare(self, policies: Mapping[str, FlowPolicy], *, now: int | None = None) -> None:
        """What handlers and settings say of these types from now on: their limits, not what is paused or draining."""
        words: list[Any] = []
        for type, policy in policies.items():
            _check(type)
            limits = policy.limits()
            words += [type, orjson.dumps(limits) if limits else b""]
        if words:
            await self._run("set_flow", "declare", *words, now=now)

    async def get(self, type: str) -> FlowPolicy:
        text = await self._run("get_flow", type)
        return UNLIMITED if text is None else FlowPolicy.decode(orjson.loads(text))

    async def all(self) -> dict[str, FlowPolicy]:
        """The policies of the types that have one."""
        flat = await self._run("get_flow")
        pairs = zip(flat[::2], flat[1::2], strict=True)
        return {type.decode(): FlowPolicy.decode(orjson.loads(text)) for type, text in pairs}

    async def pause(
        self, type: str, priority: Priority | None = None, group: str | None = None, *, now: int | None = None
    ) -> FlowPolicy:
        """
        Serve no job of the type, of one of its priorities or of one of its groups, until that is resumed.

        What runs goes on, and new jobs are taken. Raises ValueError if both a priority and a group are given, or if a
        thousand groups are paused already.
        """
        return await self._change(type, _paused("add", priority, group) or ["put", "paused", b"true"], now)

    async def resume(
        self, type: str, priority: Priority | None = None, group: str | None = None, *, now: int | None = None
    ) -> FlowPolicy:
        """
        Serve again what was paused. Of a whole type: it takes new jobs again, too, if it was draining.

        Priorities and groups that were paused by themselves stay so until they are resumed by themselves.
        """
        of_type = ["drop", "paused", "", "drop", "draining", ""]
        return await self._change(type, _paused("remove", priority, group) or of_type, now)

    async def drain(self, type: str, *, now: int | None = None) -> FlowPolicy:
        """Take no new jobs of the type until it is resumed; those that are there are served."""
        return await self._change(type, ["put", "draining", b"true"], now)

    async def _change(self, type: str, words: Sequence[Any], now: int | None) -> FlowPolicy:
        _check(type)
        answer = await self._run("set_flow", "set", type, *words, now=now)
        if answer is None:
            raise ValueError("At most 1,000 groups of a type can be paused at a time.")
        return FlowPolicy.decode(orjson.loads(answer[0]))


def _check(type: str) -> None:
    if not TYPE_NAME.match(type):
        raise ValueError("This is not the name of a type.")


def _paused(verb: str, priority: Priority | None, group: str | None) -> list[Any]:
    """The words for one priority or group; none for the type."""
    if priority is not None and group is not None:
        raise ValueError("Give a priority or a group, not both.")
    if group is not None:
        check_group(group)
        return [verb, "paused_groups", group]
    return [] if priority is None else [verb, "paused_priorities", str(priority.value)]
