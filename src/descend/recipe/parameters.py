"""What a section of a recipe may say, read from constructors: names, types, ranges, defaults.

Nothing here knows a method. A parameter's type annotation, with the domains of
:mod:`descend.param_types`, is checked by pydantic and put into words for messages.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import json
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import annotated_types
from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

__all__ = ["MISSING", "Parameter", "check", "describe", "of_constructor", "of_settings", "signature_of"]

MISSING: Any = inspect.Parameter.empty
"""The default of a parameter that has none."""


@dataclass(frozen=True)
class Parameter:
    """One key of a section: its type, its default, and the constructor that owns it."""

    name: str
    annotation: Any
    default: Any
    owner: str


def of_constructor(constructor: Callable[..., Any], context: Sequence[str]) -> dict[str, Parameter] | None:
    """The keys that a constructor takes beside ``context``, what the builder supplies.

    None where the constructor takes any keyword, so that nothing can be said about its keys. What can only be
    given by its position is the builder's.

    >>> def sgd(params, *, lr: float = 0.1): ...
    >>> list(of_constructor(sgd, ["params"]))
    ['lr']
    """
    try:
        found = _of_constructor(constructor, tuple(context))
    except TypeError:  # a callable that cannot be hashed
        found = _of_constructor.__wrapped__(constructor, tuple(context))
    return None if found is None else dict(found)


def signature_of(constructor: Callable[..., Any]) -> inspect.Signature | None:
    """A constructor's signature, read once; None where it shows none.

    >>> list(signature_of(lambda params, lr=0.1: None).parameters)
    ['params', 'lr']
    """
    try:
        return _signature_of(constructor)
    except TypeError:  # a callable that cannot be hashed
        return _signature_of.__wrapped__(constructor)


@functools.lru_cache(maxsize=512)
def _signature_of(constructor: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(constructor)
    except (TypeError, ValueError):
        return None


@functools.lru_cache(maxsize=512)
def _of_constructor(
    constructor: Callable[..., Any], context: tuple[str, ...]
) -> Mapping[str, Parameter] | None:
    signature = signature_of(constructor)
    if signature is None:
        return None
    hints = _hints(constructor)
    owner = getattr(constructor, "__name__", type(constructor).__name__)
    found: dict[str, Parameter] = {}
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            return None
        nameless = parameter.kind in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY)
        if nameless or parameter.name in (*context, "self"):
            continue
        annotation = hints.get(parameter.name, parameter.annotation)
        if annotation is parameter.empty or isinstance(annotation, str):
            annotation = Any
        found[parameter.name] = Parameter(parameter.name, annotation, parameter.default, owner)
    return found


def of_settings(settings: type) -> dict[str, Parameter]:
    """The keys of a section that is a frozen dataclass."""
    return dict(_of_settings(settings))


@functools.lru_cache(maxsize=64)
def _of_settings(settings: type) -> Mapping[str, Parameter]:
    hints = typing.get_type_hints(settings, include_extras=True)
    return {
        field.name: Parameter(
            field.name,
            hints[field.name],
            field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default,
            settings.__name__,
        )
        for field in dataclasses.fields(settings)
    }


def _hints(constructor: Callable[..., Any]) -> dict[str, Any]:
    subject = constructor.__init__ if inspect.isclass(constructor) else constructor
    try:
        return typing.get_type_hints(subject, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}


def check(parameter: Parameter, value: Any) -> tuple[Any, str | None]:
    """The value as its parameter's type, and what is wrong with it, if anything.

    Types are strict: a string is not a number and True is not 1; a whole number serves as a real one and a
    list as a tuple. NaN and infinities are never accepted, nor is what TOML cannot hold. Where None is
    allowed, "none" says it in TOML.

    >>> from descend.param_types import Positive
    >>> lr = Parameter("lr", Positive, 1e-3, "sgd")
    >>> check(lr, 1)
    (1.0, None)
    >>> check(lr, -1)[1]
    'expected a number above 0, found -1'
    """
    if type(value) in (bool, int, float, str):
        return _check_plain(parameter.annotation, value)
    return _check(parameter.annotation, value)


@functools.lru_cache(maxsize=4096, typed=True)
def _check_plain(annotation: Any, value: Any) -> tuple[Any, str | None]:
    """Of a single number or word: the same ones are checked again and again where many recipes differ in little."""
    return _check(annotation, value)


def _check(annotation: Any, value: Any) -> tuple[Any, str | None]:
    if annotation is Any and (value is None or callable(value)):
        return value, None
    if callable(value):
        allowed = any(
            typing.get_origin(part) is typing.get_origin(Callable[..., Any]) for part in _parts(annotation)
        )
        return value, None if allowed else f"expected {describe(annotation)}, found a function or class"
    if (
        isinstance(value, str)
        and value == "none"
        and type(None) in _parts(annotation)
        and not _says(annotation, "none")
    ):
        return None, None
    if value is None:
        ok = type(None) in _parts(annotation)
        return None, None if ok else f"expected {describe(annotation)}, found None"
    try:
        encoded = json.dumps(_plain(value), allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError):
        return value, f"expected {describe(annotation)}, found {_found(value)}"
    if annotation is Any:
        return json.loads(encoded), None
    try:
        return _adapter(annotation).validate_json(encoded, strict=True), None
    except ValidationError:
        return value, f"expected {describe(annotation)}, found {_found(value)}"
    except PydanticUserError:  # a type of someone's constructor that cannot be checked
        return value, None


def _says(annotation: Any, word: str) -> bool:
    """Whether a word is one of the annotation's own."""
    return any(
        typing.get_origin(part) is Literal and word in typing.get_args(part) for part in _parts(annotation)
    )


@functools.lru_cache(maxsize=512)
def _adapter(annotation: Any) -> TypeAdapter[Any]:
    kept = tuple(part for part in _parts(annotation) if not _is_callable_type(part))
    subject: Any = typing.Union[kept] if kept else Any  # noqa: UP007 - built at run time from its parts
    return TypeAdapter(subject, config=ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=False))


def _is_callable_type(part: Any) -> bool:
    return typing.get_origin(part) is typing.get_origin(Callable[..., Any])


def _parts(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        return typing.get_args(annotation)
    return (annotation,)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # a NumPy or torch scalar
        return value.item()
    return value


def _found(value: Any) -> str:
    if isinstance(value, str):
        return f"the text '{_cut(value)}'"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} (numbers must be finite)"
    if isinstance(value, tuple):
        value = list(value)
    try:
        return _cut(repr(value))
    except (ValueError, RecursionError):  # too many digits, or nested too deeply
        return "a whole number too large to show" if isinstance(value, int) else "something too deep to show"


def _cut(text: str) -> str:
    shown: str = text.encode("utf-8", "backslashreplace").decode()
    return shown if len(shown) <= 60 else shown[:57] + "..."


def describe(annotation: Any) -> str:
    """A type in words, as messages and ``descend methods`` say it.

    >>> from descend.param_types import Count, Fraction
    >>> describe(Count), describe(Fraction | None), describe(tuple[Count, ...])
    ('a whole number >= 1', 'a number >= 0 and below 1, or "none"', 'a list of whole numbers >= 1')
    >>> describe(Literal["step", "epoch"])
    '"step" or "epoch"'
    """
    if annotation is Any:
        return "a number, a text, a list, a table or a class"
    parts = [part for part in _parts(annotation) if not _is_callable_type(part)]
    words = [_describe_one(part, plural=False) for part in parts if part is not type(None)]
    if type(None) in parts:
        words.append('"none"')
    if len(words) > 1:
        return ", ".join(words[:-1]) + ("," if len(words) > 2 or " " in words[0] else "") + " or " + words[-1]
    return words[0] if words else "a function"


def _describe_one(part: Any, *, plural: bool) -> str:
    origin, arguments = typing.get_origin(part), typing.get_args(part)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_describe_one(each, plural=plural) for each in arguments)
    if origin is typing.Annotated:
        base = _describe_one(arguments[0], plural=plural)
        bounds = [_bound(mark) for mark in arguments[1:]]
        return " ".join([base, " and ".join(bound for bound in bounds if bound)]).strip()
    if origin is Literal:
        quoted = [f'"{item}"' if isinstance(item, str) else str(item) for item in arguments]
        return quoted[0] if len(quoted) == 1 else ", ".join(quoted[:-1]) + " or " + quoted[-1]
    if origin in (tuple, list, Sequence, typing.get_origin(Sequence[int])):
        items = [item for item in arguments if item is not Ellipsis]
        if origin is tuple and len(items) > 1 and Ellipsis not in arguments:
            return f"a list of {len(items)}: " + ", ".join(
                _describe_one(item, plural=False) for item in items
            )
        return "a list of " + (_describe_one(items[0], plural=True) if items else "values")
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return "tables" if plural else "a table"
    names: dict[Any, tuple[str, str]] = {
        bool: ("true or false", "true or false"),
        int: ("a whole number", "whole numbers"),
        float: ("a number", "numbers"),
        str: ("a text", "texts"),
    }
    own_name = str(getattr(part, "__name__", part))
    single, many = names.get(part, (own_name, own_name))
    return many if plural else single


def _bound(mark: Any) -> str:
    match mark:
        case annotated_types.Gt(limit):
            return f"above {limit}"
        case annotated_types.Ge(limit):
            return f">= {limit}"
        case annotated_types.Lt(limit):
            return f"below {limit}"
        case annotated_types.Le(limit):
            return f"<= {limit}"
    return ""
