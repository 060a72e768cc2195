"""From a payload's bytes to a handler's arguments."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from gopher_node.handlers import Handler, InvalidHandler, InvalidPayload, JobContext, Registry


class Order(BaseModel):
    id: int
    tags: list[str] = []


@dataclass
class Point:
    x: int
    y: int = 0


class Card(TypedDict):
    number: str


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]


def made(function: Any, **options: Any) -> Handler:
    registry = Registry()
    registry.handler("it", **options)(function)
    handler = registry.get("it")
    assert handler is not None
    return handler


def errors_of(handler: Handler, payload: bytes) -> list[tuple[str, str]]:
    with pytest.raises(InvalidPayload) as refused:
        handler.parse(payload)
    return [(error["pointer"], error["code"]) for error in refused.value.errors]


def test_parameters_are_fields_of_the_payload() -> None:
    """What is left out takes the function's default."""

    def add(a: int, b: int = 10, *, when: datetime | None = None) -> Any:
        return a + b, when

    handler = made(add)
    ctx: Any = None

    assert handler.run(ctx, handler.parse(b'{"a": 1}')) == (11, None)
    assert (3, datetime(2026, 1, 2, tzinfo=UTC)) == handler.run(
        ctx, handler.parse(b'{"a": 1, "b": 2, "when": "2026-01-02T00:00:00Z"}')
    )


def test_every_mistake_is_named() -> None:
    """Wrong types, missing and unknown fields are told at once, as JSON pointers, in strict types."""

    def take(a: int, b: bool, order: Order, c: str = "") -> None: ...

    found = errors_of(made(take), b'{"a": "1", "b": 0, "order": {"id": 1, "tags": [1]}, "d/e~f": null}')

    assert sorted(found) == [
        ("/a", "int-type"),
        ("/b", "bool-type"),
        ("/d~1e~0f", "unknown-field"),
        ("/order/tags/0", "string-type"),
    ]
    assert ("/a", "missing") in errors_of(made(take), b"{}")


def test_message_names_type_and_places() -> None:
    """The error reads as a sentence, and says that there is more."""

    def take(a: int, b: int, c: int, d: int, e: int, f: int) -> None: ...

    with pytest.raises(InvalidPayload, match=r"job type it: /a: Field required; .*\(and 1 more\)"):
        made(take).parse(b"{}")


@pytest.mark.parametrize("payload", [b"", b"{", b"nonsense", b'{"a": NaN}', b"\xff\xfe", b"[" * 100_000])
def test_malformed_json_is_an_invalid_payload(payload: bytes) -> None:
    """Bytes that are no JSON are refused in the same way as values that do not fit."""

    def take(a: int) -> None: ...

    assert len(errors_of(made(take), payload)) == 1


def test_errors_do_not_outgrow_their_use() -> None:
    """A list of ten thousand wrong items yields a hundred errors."""

    def take(numbers: list[int]) -> None: ...

    assert len(errors_of(made(take), b'{"numbers": [' + b",".join([b'"x"'] * 10_000) + b"]}")) == 100


@pytest.mark.parametrize(
    ("annotation", "payload", "value"),
    [
        (Order, b'{"id": 1}', Order(id=1)),
        (Point, b'{"x": 1, "y": 2}', Point(1, 2)),
        (Card, b'{"number": "1"}', {"number": "1"}),
        (dict, b'{"a": [1]}', {"a": [1]}),
        (dict[str, int], b'{"a": 1}', {"a": 1}),
        (
            Annotated[Cat | Dog, Field(discriminator="kind")],
            b'{"kind": "dog", "name": "Rex"}',
            Dog(kind="dog", name="Rex"),
        ),
    ],
)
def test_one_structured_parameter_takes_the_whole_payload(annotation: Any, payload: bytes, value: Any) -> None:
    """Models, dataclasses, TypedDicts and dicts stand for all of it, whatever the parameter's name."""

    def take(order): ...

    take.__annotations__["order"] = annotation

    assert {"order": value} == made(take).parse(payload)


def test_parameter_named_payload_takes_the_whole_payload() -> None:
    """Also when it is a list, or anything."""

    def numbers(payload: list[int]) -> None: ...
    def anything(ctx, payload): ...

    assert made(numbers).parse(b"[1, 2]") == {"payload": [1, 2]}
    assert errors_of(made(numbers), b'{"a": 1}') != [("/1", "int-type")]
    assert made(anything).parse(b"null") == {"payload": None}


def test_two_structured_parameters_are_fields() -> None:
    """Only a single one can be the whole payload."""

    def take(order: Order, point: Point) -> None: ...

    assert {"order": Order(id=1), "point": Point(2)} == made(take).parse(b'{"order": {"id": 1}, "point": {"x": 2}}')


def test_handler_without_parameters_takes_an_empty_payload() -> None:
    """A payload that nobody would read is a mistake."""

    def tick() -> str:
        return "tock"

    handler = made(tick)
    ctx: Any = None

    assert handler.run(ctx, handler.parse(b"{}")) == "tock"
    assert errors_of(handler, b'{"a": 1}') == [("/a", "unknown-field")]


def test_context_is_the_first_parameter() -> None:
    """By its name or by its annotation; and it is no field of the payload."""

    def by_name(ctx, a: int): ...
    def by_type(context: JobContext, a: int) -> None: ...
    def without(a: int) -> None: ...

    assert [made(function).binding.takes_context for function in (by_name, by_type, without)] == [True, True, False]
    assert [made(function).parse(b'{"a": 1}') for function in (by_name, by_type, without)] == [{"a": 1}] * 3


def test_field_names_that_models_reserve_are_free() -> None:
    """A payload may say json, copy or model_config."""

    def take(json: str, copy: int, model_config: bool, schema: Any = None) -> None: ...

    assert made(take).parse(b'{"json": "a", "copy": 1, "model_config": true}') == {
        "json": "a",
        "copy": 1,
        "model_config": True,
    }


def test_members_of_a_union_are_no_part_of_the_pointer() -> None:
    """Pointers lead into the payload, and not into pydantic's own structure."""

    def take(value: int | list[Order]) -> None: ...

    assert {("/value", "int-type"), ("/value/0/id", "missing")} == set(errors_of(made(take), b'{"value": [{}]}'))


def test_missing_choice_between_shapes_is_named_as_a_field() -> None:
    """The field that tells cats from dogs is what is missing or wrong."""

    def take(payload: Pet) -> None: ...

    assert errors_of(made(take), b"{}") == [("/kind", "missing")]
    assert errors_of(made(take), b'{"kind": "cow"}') == [("/kind", "enum")]
    with pytest.raises(InvalidPayload, match="/kind: Input should be one of 'cat', 'dog'"):
        made(take).parse(b'{"kind": "cow"}')
    assert errors_of(made(take), b'{"kind": "cat", "lives": []}') == [("/lives", "int-type")]


def test_schema_describes_the_payload() -> None:
    """Users of the API see fields, types and defaults."""

    def add(ctx: JobContext, a: int, b: int = 3) -> None: ...

    assert made(add).payload_schema() == {
        "title": "it",
        "type": "object",
        "additionalProperties": False,
        "required": ["a"],
        "properties": {"a": {"title": "A", "type": "integer"}, "b": {"title": "B", "type": "integer", "default": 3}},
    }


def test_types_without_a_schema_allow_anything() -> None:
    """A default or a type that JSON Schema cannot tell is no reason to refuse a handler."""

    def take(a: Any = print) -> None: ...
    def call(a: Callable[[], int]) -> None: ...

    assert made(take).payload_schema()["properties"]["a"] == {"title": "A"}
    assert made(call).payload_schema() == {}


def test_decorated_function_keeps_its_signature() -> None:
    """functools.wraps is enough for the payload to be checked."""

    def logged(function: Any) -> Any:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return call

    @logged
    def add(ctx: JobContext, order: Order) -> int:
        return order.id

    handler = made(add)
    ctx: Any = object()

    assert handler.run(ctx, handler.parse(b'{"id": 7}')) == 7


def test_what_the_function_raises_passes_through() -> None:
    """No error of a user's is wrapped."""

    def fail() -> None:
        raise KeyError("mine")

    handler = made(fail)
    ctx: Any = None

    with pytest.raises(KeyError, match="mine"):
        handler.run(ctx, handler.parse(b"{}"))


def starred(*numbers: int) -> None: ...
def double_starred(**fields: int) -> None: ...
def positional(a: int, /) -> None: ...
def context_last(a: int, context: JobContext) -> None: ...
def untold(a: Untold) -> None: ...  # noqa: F821
def unknowable(a: threading_lock) -> None: ...


threading_lock = type(__import__("threading").Lock())


@pytest.mark.parametrize(
    ("function", "advice"),
    [
        (starred, r"parameter \*numbers.*name each field.*payload: dict"),
        (double_starred, r"parameter \*\*fields"),
        (positional, "remove the / after a"),
        (context_last, "make it the first parameter"),
        (untold, "type of a .* is Untold.*Import it at the top.*not under TYPE_CHECKING"),
        (unknowable, "parameters of the handler it cannot be checked"),
    ],
)
def test_signature_that_no_payload_fits_is_refused(function: Any, advice: str) -> None:
    """The error comes when the handler is registered, and says what to change."""
    with pytest.raises(InvalidHandler, match=f"(?s){advice}"):
        made(function)
