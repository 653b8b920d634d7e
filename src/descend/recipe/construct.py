"""Calls of constructors with the settings of a recipe and the parts that a builder supplies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from descend.errors import Problem, RecipeError
from descend.param_types import signature_of
from descend.process.memory import memory_shortage
from descend.recipe.catalogue import Constructor
from descend.recipe.parameters import of_settings
from descend.recipe.recipe import Recipe
from descend.recipe.sections import SECTIONS
from descend.recipe.validate import refusal_of

__all__ = ["call", "parameter_names", "settings_of"]


def call(
    section: str, constructor: Constructor, context: Mapping[str, Any], settings: Mapping[str, Any]
) -> Any:
    """Call a constructor with the settings and the parts of the context that it takes; report its errors as problems."""
    named, takes_any = parameter_names(constructor)
    supplied = {name: value for name, value in context.items() if name in named or takes_any}
    try:
        return constructor(**supplied, **settings)
    except RecipeError:
        raise
    except Exception as cause:  # anyone's constructor may raise anything
        if shortage := memory_shortage(cause):
            raise RecipeError([Problem(section, None, shortage, "use smaller or fewer layers")]) from cause
        raise RecipeError([Problem(section, None, refusal_of(section, cause))]) from cause


def parameter_names(constructor: Constructor) -> tuple[set[str], bool]:
    """Return the names of a constructor's parameters, and whether it takes any other keyword."""
    signature = signature_of(constructor)
    if signature is None:
        return set(), True
    parameters = signature.parameters
    return set(parameters), any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def settings_of(recipe: Recipe, section: str) -> dict[str, Any]:
    """Return the constructor's settings: the section without ``name`` and the keys that belong to no constructor."""
    own = SECTIONS[section].settings
    excluded = {"name", *(of_settings(own) if own else ())}
    return {key: value for key, value in getattr(recipe, section).items() if key not in excluded}
