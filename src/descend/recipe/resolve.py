"""Resolving a recipe for given data: every key that it leaves open gets a value.

Specified values always win. For keys that are left to "auto", a rule of :mod:`descend.recipe.defaults` proposes a value
with a reason; every other key gets its constructor's default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from descend.errors import Problem, RecipeError, did_you_mean
from descend.param_types import MISSING, Parameter
from descend.recipe.catalogue import CATALOGUE
from descend.recipe.defaults import Proposal, proposals
from descend.recipe.facts import Facts
from descend.recipe.parameters import of_settings
from descend.recipe.recipe import Recipe
from descend.recipe.sections import SECTIONS, Section, section_parameters

__all__ = ["Resolved", "resolve"]


@dataclass(frozen=True)
class Resolved:
    """A recipe in which every key has a value, and the reason for each value that was left to "auto"."""

    recipe: Recipe
    reasons: Mapping[str, str]

    def to_toml(self) -> str:
        """Return the recipe in TOML, with the reasons as comments."""
        return self.recipe.to_toml({key: f"auto: {reason}" for key, reason in self.reasons.items()})


def resolve(recipe: Recipe, facts: Facts) -> Resolved:
    """Return the recipe with a value for every key, and the reasons.

    Raises:
        RecipeError: a setting does not fit the data or another setting.
    """
    complete: dict[str, dict[str, Any]] = {}
    reasons: dict[str, str] = {}
    problems: list[Problem] = []
    for name, section in SECTIONS.items():
        own = of_settings(section.settings) if section.settings else {}
        specified = {
            key: value for key, value in getattr(recipe, name).items() if not _is_auto(own.get(key), value)
        }
        later = {each: getattr(recipe, each) for each in SECTIONS if each not in complete}
        proposed = proposals(name, facts, specified, {**later, **complete})
        values: dict[str, Any] = {}
        chosen: Any = None
        if section.named:
            chosen, why, fault = _name(section, specified, proposed)
            if fault is not None:
                problems.append(fault)
                complete[name] = {"name": proposed["name"].value}  # for the rules of the sections that follow
                continue
            values["name"] = chosen
            if "name" not in specified:
                reasons[f"{name}.name"] = why
        parameters = section_parameters(section, chosen)
        if parameters is None:  # the constructor takes any key
            parameters, values = own, {**values, **specified}
        follows = not section.named or chosen == (proposed["name"].value if "name" in proposed else None)
        for key, parameter in parameters.items():
            if key in specified:
                values[key] = specified[key]
            elif key in proposed and (follows or key not in _of_name(section, chosen)):
                values[key], reasons[f"{name}.{key}"] = proposed[key].value, proposed[key].reason
            elif parameter.default is not MISSING:
                values[key] = parameter.default
            else:
                problems.append(Problem(name, key, f"{parameter.owner} requires a value"))
        # Keys that are None by default are left out, unless a rule would give them a value.
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
    """Whether a value leaves its key to the rules. Where the default is None, as for a column's name, it does not."""
    return isinstance(value, str) and value == "auto" and (parameter is None or parameter.default is not None)


def _of_name(section: Section, chosen: Any) -> set[str]:
    """Return the keys that belong to the chosen constructor rather than to the section."""
    own = set(section_parameters(section) or {})
    return set(section_parameters(section, chosen) or {}) - own


def _name(
    section: Section, specified: Mapping[str, Any], proposed: Mapping[str, Proposal]
) -> tuple[Any, str, Problem | None]:
    """Choose the constructor: as specified, as proposed, or the first one that takes all specified keys."""
    if "name" in specified:
        return specified["name"], "", None
    own = set(section_parameters(section) or {})
    keys = set(specified) - own
    first = proposed["name"].value
    for name in [first, *CATALOGUE[section.name]]:
        if keys <= set(section_parameters(section, name) or {}):
            why = (
                proposed["name"].reason
                if name == first
                else f"the first method that takes {', '.join(sorted(keys))}"
            )
            return name, why, None
    known = set(section_parameters(section, first) or {})
    unknown = sorted(keys - known)
    return (
        None,
        "",
        Problem(
            section.name,
            unknown[0],
            f"no {section.name} takes all of {', '.join(sorted(keys))}",
            did_you_mean(unknown[0], known),
        ),
    )
