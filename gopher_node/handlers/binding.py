"""How a payload becomes a handler's arguments: read once from its signature, then a single validation per job."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, is_dataclass
from typing import Annotated, Any, NotRequired, Union, get_args, get_origin, is_typeddict

import orjson
from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, TypeAdapter, ValidationError
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUndefinedAnnotation
from pydantic_core import PydanticSerializationError, to_jsonable_python
from typing_extensions import TypedDict

from gopher_node.errors import GopherError
from gopher_node.handlers.context import JobContext

MAX_REPORTED_ERRORS = 100
# What clients are told in place of pydantic's words, where the API has its own.
CODES = {"extra_forbidden": "unknown-field", "json_invalid": "malformed-json"}


class InvalidHandler(GopherError):
    """This function cannot be a handler."""


class InvalidPayload(GopherError):
    """
    The payload does not fit the job's type.

    `errors` has an entry for each mistake: `pointer`, a JSON pointer into the payload, `code` and `detail`.
    """

    def __init__(self, type: str, errors: list[dict[str, str]]) -> None:
        shown = "; ".join(f"{error['pointer'] or 'payload'}: {error['detail']}" for error in errors[:5])
        more = f" (and {len(errors) - 5} more)" if len(errors) > 5 else ""
        super().__init__(f"The payload does not fit the job type {type}: {shown}{more}")
        self.type = type
        self.errors = errors

    @classmethod
    def of(cls, type: str, payload: bytes, error: ValidationError) -> InvalidPayload:
        try:
            content = orjson.loads(payload)
        except orjson.JSONDecodeError:
            content = None
        found = error.errors(include_url=False, include_input=False)[:MAX_REPORTED_ERRORS]
        return cls(type, [_entry(content, dict(mistake)) for mistake in found])


def _entry(content: Any, mistake: dict[str, Any]) -> dict[str, str]:
    code, location, detail = mistake["type"], mistake["loc"], mistake["msg"]
    if code in ("union_tag_not_found", "union_tag_invalid"):
        # Said of the field that chooses between the shapes of a payload, and not of the whole.
        location = (*location, mistake["ctx"]["discriminator"].strip("'"))
        expected = f"Input should be one of {mistake['ctx'].get('expected_tags')}"
        detail = "Field required" if code == "union_tag_not_found" else expected
        code = "missing" if code == "union_tag_not_found" else "enum"
    return {
        "pointer": _pointer(content, location, missing=code == "missing"),
        "code": CODES.get(code, code.replace("_", "-")),
        "detail": detail.removeprefix("Value error, "),
    }


def _pointer(content: Any, location: tuple[int | str, ...], *, missing: bool) -> str:
    # Pydantic's location also names union members and validators, which are no part of the payload: left out.
    steps: list[str] = []
    for index, step in enumerate(location):
        try:
            content = content[step]
        except (KeyError, IndexError, TypeError):
            if not (missing and index == len(location) - 1):
                continue
        steps.append(str(step).replace("~", "~0").replace("/", "~1"))
    return "".join(f"/{step}" for step in steps)


@dataclass(frozen=True, slots=True)
class Binding:
    """
    Where a handler's arguments come from.

    `whole` names the parameter that takes the whole payload; without it, each parameter is a field of the payload.
    """

    takes_context: bool
    whole: str | None
    adapter: TypeAdapter[Any]
    # The method of `adapter` without the adapter's own Python: half the time for a small payload.
    validate: Callable[[bytes], Any] = field(repr=False)

    def schema(self, title: str) -> dict[str, Any]:
        """The payload's JSON Schema; `{}`, which allows anything, if its types have none."""
        try:
            schema = self.adapter.json_schema()
        except PydanticInvalidForJsonSchema:
            return {}
        return {**schema, "title": title} if self.whole is None else schema


def bind(type: str, function: Callable[..., Any]) -> Binding:
    """Raises InvalidHandler, saying what to change."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError, NameError) as error:
        raise InvalidHandler(f"The signature of the handler {type} cannot be read: {error}.") from error

    takes_context = bool(parameters) and _is_context(parameters[0], function)
    fields = parameters[1:] if takes_context else parameters
    for parameter in fields:
        _check_parameter(type, parameter, function)
    annotations = {parameter.name: _annotation(type, parameter, function) for parameter in fields}

    whole = None
    if len(fields) == 1 and (fields[0].name == "payload" or _takes_everything(annotations[fields[0].name])):
        whole = fields[0].name
    try:
        adapter = TypeAdapter[Any](annotations[whole]) if whole else _adapter_of_fields(type, fields, annotations)
        validate = adapter.validator.validate_json
    except (PydanticUserError, PydanticUndefinedAnnotation) as error:
        raise InvalidHandler(f"The parameters of the handler {type} cannot be checked: {error}") from error
    return Binding(takes_context=takes_context, whole=whole, adapter=adapter, validate=validate)


def _is_context(parameter: inspect.Parameter, function: Callable[..., Any]) -> bool:
    if parameter.kind not in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
        return False
    return parameter.name == "ctx" or _means_context(parameter.annotation, function)


def _means_context(annotation: Any, function: Callable[..., Any]) -> bool:
    if isinstance(annotation, str):
        # The name may be imported for type checkers only, so the text has to do.
        return annotation.strip("\"' ").rpartition(".")[2] == JobContext.__name__
    return annotation is JobContext


def _check_parameter(type: str, parameter: inspect.Parameter, function: Callable[..., Any]) -> None:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
        stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**"
        raise InvalidHandler(
            f"The handler {type} has a parameter {stars}{parameter.name}, which no payload can be checked against: "
            "name each field, or take the whole payload with one parameter `payload: dict[str, Any]`."
        )
    if parameter.kind is parameter.POSITIONAL_ONLY:
        raise InvalidHandler(f"The handler {type} gets its payload by name: remove the / after {parameter.name}.")
    if parameter.name == "ctx" or _means_context(parameter.annotation, function):
        raise InvalidHandler(f"The handler {type} takes the context as {parameter.name}: make it the first parameter.")


def _annotation(type: str, parameter: inspect.Parameter, function: Callable[..., Any]) -> Any:
    annotation = parameter.annotation
    if annotation is parameter.empty:
        return Any
    if not isinstance(annotation, str):
        return annotation
    names = getattr(inspect.unwrap(function), "__globals__", {})
    try:
        return eval(annotation, names)
    except Exception as error:
        raise InvalidHandler(
            f"The type of {parameter.name} in the handler {type} is {annotation}, which cannot be found: {error}. "
            "Import it at the top of the module, and not under TYPE_CHECKING: payloads are checked against it."
        ) from error


def _takes_everything(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if origin is Annotated:
        return _takes_everything(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return all(_takes_everything(member) for member in get_args(annotation))
    kind = origin or annotation
    if is_dataclass(kind) or is_typeddict(kind):
        return True
    return inspect.isclass(kind) and issubclass(kind, (BaseModel, Mapping))


def _adapter_of_fields(type: str, fields: list[inspect.Parameter], annotations: dict[str, Any]) -> TypeAdapter[Any]:
    # A TypedDict rather than a model: validation then yields the keyword arguments themselves, and no field name
    # can collide with a method. A field that is left out takes the function's own default.
    items: dict[str, Any] = {}
    for parameter in fields:
        annotation = annotations[parameter.name]
        if parameter.default is not parameter.empty:
            annotation = NotRequired[Annotated[annotation, Field(json_schema_extra=_default(parameter.default))]]
        items[parameter.name] = annotation
    payload: Any = TypedDict(type, items)  # pyright: ignore[reportArgumentType, reportUnknownVariableType]
    payload.__pydantic_config__ = ConfigDict(strict=True, extra="forbid")
    return TypeAdapter[Any](payload)


def _default(value: Any) -> dict[str, Any]:
    try:
        return {"default": to_jsonable_python(value)}
    except PydanticSerializationError:
        return {}
