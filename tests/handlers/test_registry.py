"""Registering handlers and hooks."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from gopher_node.handlers import InvalidHandler, Registry
from gopher_node.job import Priority, RetryPolicy


async def asynchronous() -> None: ...
def synchronous() -> None: ...
def generator():
    yield


class Callable:
    async def __call__(self) -> None: ...


def test_decorator_leaves_the_function_alone() -> None:
    """It can still be called and tested as what it is."""
    registry = Registry()

    @registry.handler("add")
    def add(a: int, b: int) -> int:
        return a + b

    assert add(1, 2) == 3


def test_options_are_kept_in_units_of_the_house() -> None:
    """Durations become seconds, priorities levels, and the docstring's first line describes."""
    registry = Registry()
    policy = RetryPolicy(base=1, cap=5)

    @registry.handler("mail", timeout="1m30s", max_retries=5, priority="high", concurrency=4, retry=policy)
    async def mail(to: str) -> None:
        """Send a mail.

        More of it.
        """

    handler = registry.get("mail")
    assert handler is not None
    assert (90.0, 5, Priority.HIGH, 4, policy) == (
        handler.timeout,
        handler.max_retries,
        handler.priority,
        handler.concurrency,
        handler.retry,
    )
    assert (handler.description, handler.mode) == ("Send a mail.", "async")
    assert {key: handler.describe()[key] for key in ("type", "priority", "timeout")} == {
        "type": "mail",
        "priority": "high",
        "timeout": 90.0,
    }
    json.dumps(handler.describe())


def test_mode_follows_from_the_function() -> None:
    """async def runs on the loop, def in a thread, and run="process" in a process."""
    registry = Registry()
    registry.handler("a")(asynchronous)
    registry.handler("t")(synchronous)
    registry.handler("p", run="process")(synchronous)
    registry.handler("partial")(functools.partial(asynchronous))

    assert {handler.type: handler.mode for handler in registry.handlers()} == {
        "a": "async",
        "t": "thread",
        "p": "process",
        "partial": "async",
    }


@pytest.mark.parametrize(
    ("type", "function", "options", "advice"),
    [
        ("no space", synchronous, {}, "'no space' is no job type"),
        ("", synchronous, {}, "is no job type"),
        ("a:b", synchronous, {}, "is no job type"),
        ("x" * 101, synchronous, {}, "at most 100"),
        ("x", synchronous, {"timeout": "5 apples"}, "timeout of the handler x must be a number of seconds"),
        ("x", synchronous, {"timeout": 0}, "more than 0"),
        ("x", synchronous, {"timeout": -1}, "timeout of the handler x"),
        ("x", synchronous, {"priority": "vital"}, "priority of the handler x must be low, normal, high or urgent"),
        ("x", synchronous, {"max_retries": -1}, "from 0 to 1,000"),
        ("x", synchronous, {"max_retries": "3"}, "max_retries of the handler x must be a whole number"),
        ("x", synchronous, {"concurrency": 0}, "from 1 to 10,000"),
        ("x", synchronous, {"retry": "30s"}, "retry of the handler x must be a RetryPolicy"),
        ("x", synchronous, {"run": "thread"}, "run='thread' of the handler x is unknown"),
        ("x", asynchronous, {"run": "process"}, "write `def`"),
        ("x", lambda: None, {"run": "process"}, "top level of a module"),
        ("x", functools.partial(synchronous), {"run": "process"}, "top level of a module"),
        ("x", generator, {}, "yields"),
        ("x", Callable(), {}, "is no function"),
        ("x", 3, {}, "is no function"),
    ],
)
def test_mistake_is_told_when_it_is_made(type: str, function: Any, options: dict[str, Any], advice: str) -> None:
    """A handler that cannot work is refused when it is registered, with what to change."""
    with pytest.raises(InvalidHandler, match=advice):
        Registry().handler(type, **options)(function)


def test_decorator_without_a_type_is_explained() -> None:
    """@handler alone is a common slip."""
    registry: Any = Registry()

    with pytest.raises(InvalidHandler, match=r'@handler\("email"\)'):
        registry.handler(synchronous)


def test_type_has_one_handler() -> None:
    """The second one is refused, and both are named."""
    registry = Registry()
    registry.handler("x")(synchronous)

    with pytest.raises(InvalidHandler, match=r"test_registry\.synchronous and .*test_registry\.asynchronous"):
        registry.handler("x")(asynchronous)


@pytest.mark.parametrize("builtin_first", [True, False])
def test_users_handler_takes_the_place_of_a_built_in_one(builtin_first: bool) -> None:
    """In whichever order they are registered; the others stay."""
    registry = Registry()
    if builtin_first:
        registry.load_builtin()
    registry.handler("email")(synchronous)
    registry.load_builtin()

    handler = registry.get("email")
    assert handler is not None
    assert synchronous is handler.function
    assert {"math", "webhook", "default", "email"} <= registry.types()
    assert registry.get("unheard-of") is None


async def test_hooks_run_in_order_and_back() -> None:
    """Start-up hooks fill the state, sync or async; shutdown hooks run the newest first, all of them."""
    registry, state, told = Registry(), SimpleNamespace(), []

    @registry.startup
    async def connect(state: SimpleNamespace) -> None:
        state.pool = "pool"

    @registry.startup
    def warm(state: SimpleNamespace) -> None:
        told.append(f"warm {state.pool}")

    @registry.shutdown
    async def disconnect(state: SimpleNamespace) -> None:
        told.append("disconnect")

    @registry.shutdown
    def stumble(state: SimpleNamespace) -> None:
        told.append("stumble")
        raise OSError("already gone")

    await registry.start(state)
    with pytest.raises(ExceptionGroup) as failed:
        await registry.stop(state)

    assert told == ["warm pool", "stumble", "disconnect"]
    assert [str(error) for error in failed.value.exceptions] == ["already gone"]


def test_hook_has_one_parameter() -> None:
    """One that could not be called is refused at once."""
    registry: Any = Registry()

    with pytest.raises(InvalidHandler, match="one parameter"):
        registry.startup(synchronous)


def test_package_is_light_until_it_is_used() -> None:
    """Importing gopher_node, or its client side, loads no handlers and no pydantic."""
    code = (
        "import sys, gopher_node\n"
        "assert 'pydantic' not in sys.modules and 'aiohttp' not in sys.modules\n"
        "from gopher_node import Retry, Fail, RetryPolicy\n"
        "assert 'pydantic' not in sys.modules\n"
        "from gopher_node import handler, startup, shutdown, JobContext\n"
        "assert 'redis' not in sys.modules and 'PIL' not in sys.modules and 'aiohttp' not in sys.modules\n"
        "assert set(gopher_node.__all__) <= set(dir(gopher_node))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names_all_exist() -> None:
    """What is promised can be imported, and nothing else."""
    import gopher_node

    for name in gopher_node.__all__:
        assert getattr(gopher_node, name)
    with pytest.raises(AttributeError, match="no attribute 'Retries'"):
        getattr(gopher_node, "Retries")  # noqa: B009
