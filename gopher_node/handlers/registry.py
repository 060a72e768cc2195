"""Which function runs which type of job, and how a node comes to know them."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import ModuleType, NoneType, SimpleNamespace
from typing import Any, Literal, TypeVar

from pydantic import ValidationError

from gopher_node.durations import parse_duration
from gopher_node.errors import SettingError
from gopher_node.flow import UNLIMITED, BreakerPolicy, FlowPolicy, Rate
from gopher_node.handlers.binding import Binding, InvalidHandler, InvalidPayload, bind
from gopher_node.handlers.context import MAX_RETRIES, JobContext
from gopher_node.job import TYPE_NAME, Priority, RetryPolicy
from gopher_node.limits import overlay, read_limits, show_policy

MAX_CONCURRENCY = 10_000

Mode = Literal["async", "thread", "process"]
Value = TypeVar("Value")
Function = TypeVar("Function", bound=Callable[..., Any])
Hook = TypeVar("Hook", bound=Callable[[SimpleNamespace], Any])


@dataclass(frozen=True, slots=True)
class Handler:
    """
    A function that runs the jobs of one type, and what holds for them where the job itself says nothing.

    `timeout` is in seconds. `concurrency` is how many run at once on one node. What is None is the node's default.
    `endpoint` is the host that the jobs are sent to, if they are. `policy` is what bounds them in the whole cluster.
    """

    type: str
    function: Callable[..., Any]
    description: str
    mode: Mode
    timeout: float | None
    max_retries: int | None
    priority: Priority | None
    concurrency: int | None
    retry: RetryPolicy | None
    binding: Binding = field(repr=False)
    endpoint: str | None = None
    policy: FlowPolicy = UNLIMITED

    def parse(self, payload: bytes) -> dict[str, Any]:
        """The keyword arguments for `run`. Raises InvalidPayload with everything that is wrong."""
        binding = self.binding
        try:
            value = binding.validate(payload)
        except ValidationError as error:
            raise InvalidPayload.of(self.type, payload, error) from None
        return value if binding.whole is None else {binding.whole: value}

    def run(self, ctx: JobContext, arguments: dict[str, Any]) -> Any:
        """The result, or for an async handler the coroutine that gives it. What the function raises passes through."""
        if self.binding.takes_context:
            return self.function(ctx, **arguments)
        return self.function(**arguments)

    def is_like(self, other: Handler | None) -> bool:
        """Whether it does the same, however fast it may."""
        return other is not None and self.function is other.function

    def payload_schema(self) -> dict[str, Any]:
        """JSON Schema of the payload."""
        return self.binding.schema(self.type)

    def describe(self) -> dict[str, Any]:
        """What a user of the API may know of it, as JSON values."""
        return {
            "type": self.type,
            "description": self.description,
            "mode": self.mode if self.endpoint is None else "push",
            "endpoint": self.endpoint,
            "timeout": self.timeout,
            "max_retries": self.max_retries,
            "priority": None if self.priority is None else self.priority.label,
            "concurrency": self.concurrency,
            "policy": show_policy(self.policy),
            "payload_schema": self.payload_schema(),
        }


class Registry:
    """
    The handlers and hooks of a node.

    A type has one handler: a second one is refused when it is registered, except that a user's handler takes the
    place of a built-in one.
    """

    def __init__(self) -> None:
        self.startup_hooks: list[Callable[[SimpleNamespace], Any]] = []
        self.shutdown_hooks: list[Callable[[SimpleNamespace], Any]] = []
        self._handlers: dict[str, Handler] = {}
        self._builtin: dict[str, Handler] = {}

    def get(self, type: str) -> Handler | None:
        return self._handlers.get(type) or self._builtin.get(type)

    def types(self) -> frozenset[str]:
        return frozenset(self._handlers) | frozenset(self._builtin)

    def handlers(self) -> list[Handler]:
        """All of them, by type."""
        return [handler for _, handler in sorted((self._builtin | self._handlers).items())]

    def register(self, handler: Handler) -> None:
        taken = self._handlers.get(handler.type)
        if taken is not None:
            raise InvalidHandler(
                f"Two handlers for the job type {handler.type}: {_name(taken.function)} and "
                f"{_name(handler.function)}. Give one of them another type."
            )
        self._handlers[handler.type] = handler

    def replace_builtin(self, handler: Handler) -> None:
        """For what the node itself registers. Raises InvalidHandler if the user has a handler of that type."""
        taken = self._handlers.get(handler.type)
        if taken is not None:
            raise InvalidHandler(f"The job type {handler.type} has a handler, {_name(taken.function)}.")
        self._builtin[handler.type] = handler

    def limit(self, policies: Mapping[str, FlowPolicy]) -> None:
        """Have the policies of the settings hold for the handlers of these types; they go before their own."""
        for handlers in (self._builtin, self._handlers):
            for type in handlers.keys() & policies.keys():
                handler = handlers[type]
                handlers[type] = replace(handler, policy=overlay(handler.policy, policies[type]))

    def handler(
        self,
        type: str,
        *,
        description: str = "",
        timeout: float | str | None = None,
        max_retries: int | None = None,
        priority: Priority | str | int | None = None,
        concurrency: int | None = None,
        run: Literal["process"] | None = None,
        retry: RetryPolicy | None = None,
        rate_limit: str | Rate | None = None,
        group_rate_limit: str | Rate | None = None,
        max_running: int | None = None,
        group_max_running: int | None = None,
        max_backlog: int | None = None,
        breaker: BreakerPolicy | bool | None = None,
    ) -> Callable[[Function], Function]:
        """
        Make a function the handler of a job type; the function itself stays as it is.

        An `async def` runs on the node's loop, a `def` in a thread, and with `run="process"` a `def` runs in a
        process of its own that can be killed: for work that keeps a processor busy. `timeout` is seconds or text
        such as "30s". The description is the docstring's first line unless one is given.

        `concurrency` is how many run at once on one node. The rest holds for all nodes together, and `group_…` for
        each group: `rate_limit` is text such as "100/s" or a Rate, `max_running` how many run at once, `max_backlog`
        how many may wait before new ones are refused, `breaker` whether, or when, jobs are held back because runs fail.

        A first parameter named `ctx`, or annotated JobContext, gets the context. The others are the payload's
        fields, strictly typed and no others allowed. A single one that is a pydantic model, a dataclass, a
        TypedDict or a dict, or that is named `payload`, gets the whole payload instead.

        Raises InvalidHandler, which says what to change.
        """
        _check_type(type)
        seconds = None if timeout is None else _read(parse_duration, timeout, f"The timeout of the handler {type}")
        level = None if priority is None else _read(Priority.parse, priority, f"The priority of the handler {type}")
        if seconds == 0:
            raise InvalidHandler(f"The timeout of the handler {type} must be more than 0.")
        _check_number(max_retries, 0, MAX_RETRIES, f"max_retries of the handler {type}")
        _check_number(concurrency, 1, MAX_CONCURRENCY, f"concurrency of the handler {type}")
        words: dict[str, object] = {
            "rate_limit": rate_limit,
            "group_rate_limit": group_rate_limit,
            "max_running": max_running,
            "group_max_running": group_max_running,
            "max_backlog": max_backlog,
            "breaker": breaker,
        }
        policy = _read(read_limits, words, f"Of the handler {type}:")
        _check_retry(retry, type)

        def decorate(function: Function) -> Function:
            self.register(
                Handler(
                    type=type,
                    function=function,
                    mode=_mode(type, function, run),
                    description=description or (inspect.getdoc(function) or "").partition("\n")[0],
                    timeout=seconds,
                    max_retries=max_retries,
                    priority=level,
                    concurrency=concurrency,
                    retry=retry,
                    binding=bind(type, function),
                    policy=policy,
                )
            )
            return function

        return decorate

    def startup(self, hook: Hook) -> Hook:
        """Call this function, sync or async, with `ctx.state` before the node takes its first job."""
        _check_hook(hook, "startup")
        self.startup_hooks.append(hook)
        return hook

    def shutdown(self, hook: Hook) -> Hook:
        """Call this function, sync or async, with `ctx.state` after the node's last job; the newest hook first."""
        _check_hook(hook, "shutdown")
        self.shutdown_hooks.append(hook)
        return hook

    async def start(self, state: SimpleNamespace, forgive: Callable[[Exception], None] | None = None) -> None:
        """Run the start-up hooks in order. What one raises passes through, or goes to `forgive`; the next follows."""
        for hook in self.startup_hooks:
            try:
                await _call(hook, state)
            except Exception as error:
                if forgive is None:
                    raise
                forgive(error)

    async def stop(self, state: SimpleNamespace) -> None:
        """Run every shutdown hook, the newest first. What they raise comes together at the end."""
        errors: list[Exception] = []
        for hook in reversed(self.shutdown_hooks):
            try:
                await _call(hook, state)
            except Exception as error:
                errors.append(error)
        if errors:
            raise ExceptionGroup("Shutdown hooks failed.", errors)

    def load(self, modules: Iterable[str]) -> None:
        """
        Import modules, which register their handlers and hooks as they are imported, in the default registry.

        The working directory is on the path. Raises SettingError when one cannot be imported.
        """
        here = os.getcwd()
        if here not in sys.path and "" not in sys.path:
            sys.path.insert(0, here)
        for module in modules:
            _import(module, here)

    def load_builtin(self) -> None:
        """Add the built-in handlers, and their hooks, once."""
        if self._builtin:
            return
        from gopher_node.handlers.builtin import registry as builtin

        self._builtin = dict(builtin._handlers)
        self.startup_hooks[:0] = builtin.startup_hooks
        self.shutdown_hooks[:0] = builtin.shutdown_hooks


def _check_type(type: Any) -> None:
    if not isinstance(type, str):
        raise InvalidHandler('Give the decorator the job type it is for: @handler("email"), not @handler.')
    if not TYPE_NAME.match(type):
        raise InvalidHandler(
            f"{type!r} is no job type: use letters, digits, dot, dash and underscore, at most 100, no space."
        )


def _check_retry(retry: object, type: str) -> None:
    if not isinstance(retry, (RetryPolicy, NoneType)):
        raise InvalidHandler(f"The retry of the handler {type} must be a RetryPolicy, such as RetryPolicy(base=30).")


def _check_number(value: Any, low: int, high: int, what: str) -> None:
    if value is not None and not (isinstance(value, int) and low <= value <= high):
        raise InvalidHandler(f"{what} must be a whole number from {low} to {high:,}.")


def _is_function(value: Any) -> bool:
    # An object with a __call__ is none: whether it is async is hidden in it.
    return inspect.isroutine(value) or isinstance(value, functools.partial)


def _read(parse: Callable[[Any], Value], value: Any, what: str) -> Value:
    try:
        return parse(value)
    except ValueError as error:
        raise InvalidHandler(f"{what} {error}.") from None


def _mode(type: str, function: Callable[..., Any], run: str | None) -> Mode:
    if not _is_function(function):
        raise InvalidHandler(f"The handler {type} is {function!r}, which is no function.")
    is_async = inspect.iscoroutinefunction(function)
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidHandler(f"The handler {type} yields; a handler returns its result once.")
    if run is None:
        return "async" if is_async else "thread"
    if run != "process":
        raise InvalidHandler(
            f'run={run!r} of the handler {type} is unknown: leave it out, or write run="process" '
            "to run it in a process of its own."
        )
    if is_async:
        raise InvalidHandler(f'The handler {type} is async, so it cannot have run="process": write `def`.')
    if "<" in getattr(function, "__qualname__", "<") or function.__module__ == "__main__":
        raise InvalidHandler(
            f"The handler {type} runs in a process, which must be able to import it: "
            "define it at the top level of a module that is not the program itself."
        )
    return "process"


def _check_hook(hook: Any, name: str) -> None:
    try:
        inspect.signature(hook).bind(None)
    except TypeError:
        raise InvalidHandler(
            f"A {name} hook is a function with one parameter: @{name} above def prepare(state)."
        ) from None


async def _call(hook: Callable[[SimpleNamespace], Any], state: SimpleNamespace) -> None:
    answer = hook(state)
    if inspect.isawaitable(answer):
        await answer


def _name(function: Callable[..., Any]) -> str:
    return f"{function.__module__}.{getattr(function, '__qualname__', repr(function))}"


def _import(module: str, here: str) -> ModuleType:
    where = "The setting GOPHER_HANDLERS (--handlers)"
    if not all(part.isidentifier() for part in module.split(".")):
        hint = module.removesuffix(".py").strip("./").replace("/", ".")
        raise SettingError(f"{where} names {module!r}, which is no module. Write it as in `import {hint}`: {hint}")
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not (module == error.name or module.startswith(error.name + ".")):
            raise _broken(where, module, error) from error
        raise SettingError(
            f"{where} names the module {module}, but there is no module {error.name}. "
            f"Looked in {here} and in the Python path; run from the directory that holds it, or install it."
        ) from None
    except Exception as error:
        raise _broken(where, module, error) from error


def _broken(where: str, module: str, error: Exception) -> SettingError:
    # The frames of the import machinery, and ours, say nothing about the user's mistake.
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen importlib")
        and os.path.dirname(frame.filename) not in (os.path.dirname(importlib.__file__), os.path.dirname(__file__))
    ]
    lines = [*traceback.format_list(frames[-4:]), *traceback.format_exception_only(error)]
    tail = "".join(lines).rstrip()
    return SettingError(f"{where} names the module {module}, which fails when it is imported:\n{tail}")


registry = Registry()
handler = registry.handler
startup = registry.startup
shutdown = registry.shutdown
