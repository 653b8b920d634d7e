"""Filling in a recipe for given data: constructors' defaults, and what ``auto`` means here, with reasons.

A rule of :mod:`descend.recipe.defaults` proposes names and values for keys that are left to ``auto``. What
the recipe says always wins; what neither says comes from the constructor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from descend.errors import Problem, RecipeError, did_you_mean
from descend.param_types import MISSING, Parameter
from descend.recipe.catalogue import CATALOGUE
from descend.recipe.defaults import Facts, Proposal, proposals
from descend.recipe.parameters import of_settings
from descend.recipe.recipe import Recipe
from descend.recipe.sections import SECTIONS, Section, section_parameters

__all__ = ["Resolved", "resolve"]


@dataclass(frozen=True)
class Resolved:
    """A recipe in which every key has its value, and the reason for each value that was left to ``auto``."""

    recipe: Recipe
    reasons: Mapping[str, str]

    def to_toml(self) -> str:
        """TOML text with the reasons as remarks."""
        return self.recipe.to_toml({key: f"auto: {reason}" for key, reason in self.reasons.items()})


def resolve(recipe: Recipe, facts: Facts) -> Resolved:
    """The recipe with every key filled in.

    Raises:
        RecipeError: a setting does not fit the data or another setting.
    """
    complete: dict[str, dict[str, Any]] = {}
    reasons: dict[str, str] = {}
    problems: list[Problem] = []
    for name, section in SECTIONS.items():
        own = of_settings(section.settings) if section.settings else {}
        said = {
            key: value for key, value in getattr(recipe, name).items() if not _is_auto(own.get(key), value)
        }
        later = {each: getattr(recipe, each) for each in SECTIONS if each not in complete}
        proposed = proposals(name, facts, said, {**later, **complete})
        values: dict[str, Any] = {}
        chosen: Any = None
        if section.named:
            chosen, why, fault = _name(section, said, proposed)
            if fault is not None:
                problems.append(fault)
                complete[name] = {"name": proposed["name"].value}  # for the rules of the sections that follow
                continue
            values["name"] = chosen
            if "name" not in said:
                reasons[f"{name}.name"] = why
        parameters = section_parameters(section, chosen)
        if parameters is None:  # the constructor takes any key
            parameters, values = own, {**values, **said}
        follows = not section.named or chosen == (proposed["name"].value if "name" in proposed else None)
        for key, parameter in parameters.items():
            if key in said:
                values[key] = said[key]
            elif key in proposed and (follows or key not in _of_name(section, chosen)):
                values[key], reasons[f"{name}.{key}"] = proposed[key].value, proposed[key].reason
            elif parameter.default is not MISSING:
                values[key] = parameter.default
            else:
                problems.append(Problem(name, key, f"{parameter.owner} needs a value for it"))
        # What is None by default needs no word, unless a rule would say otherwise.
        complete[name] = {
            key: value
            for key, value in values.items()
            if value is not None
            or key in proposed
            or key not in parameters
            or parameters[key].default is not None
        }
    if problems:
        raise RecipeError(problems)
    return Resolved(Recipe.of(complete), reasons)


def _is_auto(parameter: Parameter | None, value: Any) -> bool:
    """Whether a value leaves its key to the rules. Where None is the default, as of a column's name, it does not."""
    return isinstance(value, str) and value == "auto" and (parameter is None or parameter.default is not None)


def _of_name(section: Section, chosen: Any) -> set[str]:
    """Keys that belong to the chosen constructor rather than to the section."""
    own = set(section_parameters(section) or {})
    return set(section_parameters(section, chosen) or {}) - own


def _name(
    section: Section, said: Mapping[str, Any], proposed: Mapping[str, Proposal]
) -> tuple[Any, str, Problem | None]:
    """The name of the constructor: as said, as proposed, or the first that takes all keys said."""
    if "name" in said:
        return said["name"], "", None
    own = set(section_parameters(section) or {})
    keys = set(said) - own
    first = proposed["name"].value
    for name in [first, *CATALOGUE[section.name]]:
        if keys <= set(section_parameters(section, name) or {}):
            why = (
                proposed["name"].reason
                if name == first
                else f"the first that takes {', '.join(sorted(keys))}"
            )
            return name, why, None
    known = set(section_parameters(section, first) or {})
    stray = sorted(keys - known)
    return (
        None,
        "",
        Problem(
            section.name,
            stray[0],
            f"no {section.name} takes {' and '.join(sorted(keys))} together",
            did_you_mean(stray[0], known),
        ),
    )
