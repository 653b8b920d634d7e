"""Annotated types of settings, and the functions that read, check and describe them.

A constructor declares the domain of each of its arguments once, ``lr: Positive = 1e-3``. The optimizers, the recipe,
the documentation and the search space read it from there: :func:`of_constructor` lists the arguments of a
constructor, :func:`check` checks a value against an annotation, and :func:`describe` describes an annotation in a
message. An annotation costs nothing at run time, and a type checker sees the plain type.
"""

from __future__ import annotations

import functools
import inspect
import json
import math
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import annotated_types
from annotated_types import Ge, Gt, Le, Lt
from pydantic import ConfigDict, PydanticUserError, TypeAdapter, ValidationError

__all__ = [
    "MISSING",
    "AtLeastOne",
    "BelowAQuarter",
    "Count",
    "Fraction",
    "Natural",
    "NonNegative",
    "Parameter",
    "Portion",
    "Positive",
    "Probability",
    "Share",
    "check",
    "describe",
    "of_constructor",
    "signature_of",
]

Positive = Annotated[float, Gt(0)]
"""A real number above 0, such as a learning rate."""

NonNegative = Annotated[float, Ge(0)]
"""A real number of at least 0, such as the weight of a penalty."""

Fraction = Annotated[float, Ge(0), Lt(1)]
"""A real number in [0, 1), such as a momentum or the decay of a moving average."""

Probability = Annotated[float, Ge(0), Le(1)]
"""A real number in [0, 1]."""

Share = Annotated[float, Gt(0), Lt(1)]
"""A real number in (0, 1), such as the constants of the Wolfe conditions."""

Count = Annotated[int, Ge(1)]
"""An integer of at least 1, such as a width or a number of epochs."""

Natural = Annotated[int, Ge(0)]
"""An integer of at least 0, such as a seed."""

Portion = Annotated[float, Gt(0), Le(1)]
"""A real number in (0, 1], such as the share of the rows that is used."""

AtLeastOne = Annotated[float, Ge(1)]
"""A real number of at least 1, such as a growth factor."""

BelowAQuarter = Annotated[float, Ge(0), Lt(0.25)]
"""A real number in [0, 1/4), such as the acceptance threshold of a trust-region step."""

MISSING: Any = inspect.Parameter.empty
"""The default of a parameter that has none."""


@dataclass(frozen=True)
class Parameter:
    """One argument of a constructor: its name, type and default, and the name of the constructor."""

    name: str
    annotation: Any
    default: Any
    owner: str


def of_constructor(constructor: Callable[..., Any], context: Sequence[str]) -> dict[str, Parameter] | None:
    """Return the arguments of a constructor, without positional-only ones and those named in ``context``.

    Args:
        constructor: a function or class.
        context: names of arguments to leave out, such as those that a builder supplies.

    Returns:
        The arguments by name; None where the constructor accepts any keyword, so that its arguments are unknown.

    >>> def sgd(params, *, lr: float = 0.1): ...
    >>> list(of_constructor(sgd, ["params"]))
    ['lr']
    """
    try:
        result = _of_constructor(constructor, tuple(context))
    except TypeError:  # an unhashable callable
        result = _of_constructor.__wrapped__(constructor, tuple(context))
    return None if result is None else dict(result)


def signature_of(constructor: Callable[..., Any]) -> inspect.Signature | None:
    """Return the signature of a constructor, cached; None where it has no readable one.

    >>> list(signature_of(lambda params, lr=0.1: None).parameters)
    ['params', 'lr']
    """
    try:
        return _signature_of(constructor)
    except TypeError:  # an unhashable callable
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
    result: dict[str, Parameter] = {}
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.VAR_KEYWORD:
            return None
        unnamed = parameter.kind in (parameter.VAR_POSITIONAL, parameter.POSITIONAL_ONLY)
        if unnamed or parameter.name in (*context, "self"):
            continue
        annotation = hints.get(parameter.name, parameter.annotation)
        if annotation is parameter.empty or isinstance(annotation, str):
            annotation = Any
        result[parameter.name] = Parameter(parameter.name, annotation, parameter.default, owner)
    return result


def _hints(constructor: Callable[..., Any]) -> dict[str, Any]:
    subject = constructor.__init__ if inspect.isclass(constructor) else constructor
    try:
        return typing.get_type_hints(subject, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}


def check(parameter: Parameter, value: Any) -> tuple[Any, str | None]:
    """Check a value against the type of a parameter.

    Types are strict: a string is not a number, and True is not 1. An integer is accepted as a real number, and a
    list as a tuple. NaN, infinities and anything that TOML cannot hold are refused. Where None is allowed, the
    string "none" means it, as in TOML.

    Returns:
        The value, converted to the type, and a message about what is wrong with it, or None.

    >>> lr = Parameter("lr", Positive, 1e-3, "sgd")
    >>> check(lr, 1)
    (1.0, None)
    >>> check(lr, -1)[1]
    'expected a number above 0, got -1'
    """
    if type(value) in (bool, int, float, str):
        return _check_scalar(parameter.annotation, value)
    return _check(parameter.annotation, value)


@functools.lru_cache(maxsize=4096, typed=True)
def _check_scalar(annotation: Any, value: Any) -> tuple[Any, str | None]:
    """Check a number or string; cached, since many recipes differ in a few values only."""
    return _check(annotation, value)


def _check(annotation: Any, value: Any) -> tuple[Any, str | None]:
    if annotation is Any and (value is None or callable(value)):
        return value, None
    if callable(value):
        allowed = any(_is_callable_type(part) for part in _parts(annotation))
        return value, None if allowed else f"expected {describe(annotation)}, got a function or class"
    if (
        isinstance(value, str)
        and value == "none"
        and type(None) in _parts(annotation)
        and not _has_literal(annotation, "none")
    ):
        return None, None
    if value is None:
        ok = type(None) in _parts(annotation)
        return None, None if ok else f"expected {describe(annotation)}, got None"
    value = _with_none(annotation, value)
    try:
        encoded = json.dumps(_plain(value), allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError):
        return value, f"expected {describe(annotation)}, got {_shown(value)}"
    if annotation is Any:
        return json.loads(encoded), None
    try:
        return _adapter(annotation).validate_json(encoded, strict=True), None
    except ValidationError:
        return value, _fault_of_item(
            annotation, value
        ) or f"expected {describe(annotation)}, got {_shown(value)}"
    except PydanticUserError:  # a type of another package's constructor that cannot be checked
        return value, None


def _with_none(annotation: Any, value: Any) -> Any:
    """Replace the string "none" in a list by None at places where the annotation of a tuple allows it."""
    if not isinstance(value, (list, tuple)) or "none" not in value:
        return value
    for part in _parts(annotation):
        places = typing.get_args(part) if typing.get_origin(part) is tuple else ()
        if len(places) == len(value) and Ellipsis not in places:
            pairs = zip(places, value, strict=True)
            return tuple(
                None if each == "none" and type(None) in _parts(place) else each for place, each in pairs
            )
    return value


def _fault_of_item(annotation: Any, value: Any) -> str | None:
    """Return what is wrong with the first invalid value of a table whose values have a type; None for others."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if not (inspect.isclass(origin) and issubclass(origin, Mapping) and isinstance(value, Mapping)):
        return None
    faults = ((key, _check(arguments[1], each)[1]) for key, each in value.items())
    return next((f"{fault}, for the key {key!r}" for key, fault in faults if fault), None)


def _has_literal(annotation: Any, word: str) -> bool:
    """Return whether a string is one of the literal values of an annotation."""
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
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # a NumPy or PyTorch scalar
        return value.item()
    return value


def _shown(value: Any) -> str:
    """Show a value in a message."""
    if isinstance(value, str):
        return f"the string '{_cut(value)}'"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} (numbers must be finite)"
    if isinstance(value, tuple):
        value = list(value)
    try:
        return _cut(repr(value))
    except (ValueError, RecursionError):  # too many digits, or nested too deeply
        return (
            "an integer too large to show" if isinstance(value, int) else "a value nested too deeply to show"
        )


def _cut(text: str) -> str:
    shown: str = text.encode("utf-8", "backslashreplace").decode()
    return shown if len(shown) <= 60 else shown[:57] + "..."


def describe(annotation: Any) -> str:
    """Describe a type, as messages and ``descend methods`` do.

    >>> describe(Count), describe(Fraction | None), describe(tuple[Count, ...])
    ('an integer >= 1', 'a number >= 0 and below 1, or "none"', 'a list of integers >= 1')
    >>> describe(Literal["step", "epoch"])
    '"step" or "epoch"'
    """
    if annotation is Any:
        return "a number, a string, a list, a table or a class"
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
        quoted = [json.dumps(item) if isinstance(item, str) else str(item) for item in arguments]
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
        int: ("an integer", "integers"),
        float: ("a number", "numbers"),
        str: ("a string", "strings"),
        type(None): ('"none"', '"none"'),
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
