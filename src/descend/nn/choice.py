"""Selection of a constructor by its name, by a name with settings, or by the constructor itself.

The recipe keys ``activation`` and ``norm`` of a model are such choices. In TOML the three forms read
``activation = "relu"``, ``activation = { name = "leaky_relu", negative_slope = 0.2 }`` and, from Python
only, ``activation=torch.nn.Mish``.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from descend.errors import UserError, did_you_mean

__all__ = ["Choice", "choose"]

Choice = str | dict[str, Any] | Callable[..., Any]
"""A name, a name with settings (``{"name": ..., key: value}``), or a constructor."""


def choose(
    table: Mapping[str, Callable[..., Any]], choice: Choice, family: str
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return the constructor that a choice selects, and the settings to call it with.

    Args:
        table: the names and constructors, such as ``ACTIVATIONS``.
        choice: a name, a dict with the key ``name`` and settings, or a constructor.
        family: the kind of object, such as ``"activation"``, for the error message.

    Raises:
        UserError: the name is unknown, or the constructor has no such setting.

    >>> choose({"relu": lambda: "built"}, "relu", "activation")[0]()
    'built'
    >>> choose({"relu": lambda: "built"}, "rel", "activation")
    Traceback (most recent call last):
    ...
    descend.errors.UserError: unknown activation 'rel'; did you mean 'relu'?
    """
    if callable(choice):
        return choice, {}
    if isinstance(choice, str):
        name, settings = choice, {}
    elif isinstance(choice, Mapping) and isinstance(choice.get("name"), str):
        name, settings = choice["name"], {key: value for key, value in choice.items() if key != "name"}
    else:
        raise UserError(
            f"{family} must be a name, a table with the key 'name', or a constructor; got {choice!r}"
        )
    if name not in table:
        raise UserError(f"unknown {family} '{name}'; {did_you_mean(name, table)}")
    constructor = table[name]
    known = settings_of(constructor)
    for key in settings:
        if key not in known:
            advice = did_you_mean(key, known) or "it has no settings"
            raise UserError(f"{family} '{name}' has no setting '{key}'; {advice}")
    return constructor, settings


@functools.lru_cache(maxsize=512)
def settings_of(constructor: Callable[..., Any]) -> tuple[str, ...]:
    """Return the names of a constructor's settings: its parameters with a default. The result is cached.

    >>> settings_of(lambda features, *, eps=1e-5: None)
    ('eps',)
    """
    parameters = inspect.signature(constructor).parameters.values()
    return tuple(parameter.name for parameter in parameters if parameter.default is not parameter.empty)
