"""Checks of arguments that several public functions share."""

from __future__ import annotations

import operator
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from descend.errors import UserError

__all__ = ["COMMON", "as_path", "device_name", "integer", "kind_of", "target_names"]


def kind_of(value: object) -> str:
    """Return what kind of object a value is, with an article, as the end of "expected ..., got ...".

    >>> kind_of(3), kind_of("a"), kind_of(None), kind_of(dict), kind_of((1, 2))
    ('an int', "the string 'a'", 'None', 'the class dict', 'a tuple')
    """
    if value is None:
        return "None"
    if isinstance(value, str):
        return f"the string {value!r}" if len(value) <= 60 else f"the string {value[:57]!r}..."
    if isinstance(value, type):
        return f"the class {value.__name__}"
    name = type(value).__name__
    article = "an" if name[:1].lower() in "aeio" or name.startswith("ndarray") else "a"
    return f"{article} {name}"


def integer(name: str, value: Any, least: int | None = None) -> int:
    """Return an integer argument.

    Args:
        name: the name of the argument.
        value: its value, also an integer of NumPy.
        least: the smallest value. Default None: any.

    Raises:
        UserError: it is not an integer, or is too small.

    >>> integer("seed", 3)
    3
    """
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or (least is not None and number < least):
        shown = repr(value) if isinstance(value, bool | int | float) else kind_of(value)
        bound = "" if least is None else f" >= {least}"
        raise UserError(f"{name}: expected an integer{bound}, got {shown}")
    return number


def as_path(name: str, value: Any) -> Path:
    """Return an argument that is a path.

    Raises:
        UserError: it is not a path, or is empty.

    >>> as_path("out", "runs/iris").name
    'iris'
    """
    if isinstance(value, str | os.PathLike) and not isinstance(os.fspath(value), bytes) and value != "":
        return Path(value)
    found = "an empty string" if value == "" and isinstance(value, str) else kind_of(value)
    raise UserError(f"{name}: expected a path, got {found}")


def device_name(name: str, value: Any) -> str:
    """Return the name of a device, given as a string or as a ``torch.device``.

    Raises:
        UserError: it is neither.

    >>> device_name("device", "cuda:1")
    'cuda:1'
    """
    if isinstance(value, str):
        return value
    if type(value).__module__ == "torch" and type(value).__name__ == "device":
        return str(value)
    raise UserError(f"{name}: expected the name of a device, such as 'cpu' or 'cuda:1', got {kind_of(value)}")


def target_names(name: str, value: Any) -> str | list[str]:
    """Return the name of the target column, or the names of several.

    Raises:
        UserError: it is neither a string nor several strings, or a name is listed twice.

    >>> target_names("target", ("a", "b"))
    ['a', 'b']
    """
    if isinstance(value, str):
        return value
    several = not isinstance(value, Mapping) and hasattr(value, "__iter__")
    names = list(value) if several else []
    if names and all(isinstance(each, str) for each in names):
        if repeated := next((each for at, each in enumerate(names) if each in names[:at]), None):
            raise UserError(f"{name}: '{repeated}' is listed twice")
        return names
    columns = (
        f"{kind_of(value)}; values of targets are passed with the inputs: (X, y)"
        if several
        else kind_of(value)
    )
    raise UserError(f"{name}: expected the name of a column or a list of names, got {columns}")


COMMON: dict[str, Callable[[str, Any], Any]] = {
    "seed": integer,
    "out": as_path,
    "device": device_name,
    "target": target_names,
}
"""The checks of arguments that have the same meaning in all functions; None is the default of all but ``seed``."""
