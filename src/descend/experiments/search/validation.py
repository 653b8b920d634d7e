"""Validation of a search space against recipe and data: all problems at once, before any training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from descend.errors import Problem, RecipeError
from descend.experiments.search.space import Space, SpaceError, as_space
from descend.recipe import Recipe
from descend.runs.plan import Planner

__all__ = ["validate_space"]

_SHARED_KEYS = {
    "data.target": "the prediction target",
    "data.task": "the prediction target",
    "data.validation": "the rows that trials are compared on",
    "data.test": "the rows reserved for the winner",
    "data.split": "the rows that trials are compared on",
    "data.groups": "the rows that trials are compared on",
    "data.weights": "the weights of the rows",
}
"""Keys that all trials must share, and what they determine."""

_MACHINE_SECTIONS = ("engine", "checkpoint")
"""Sections that do not affect what is learned."""


def validate_space(
    space: Space | Mapping[str, Any] | str | Path,
    recipe: Recipe,
    planner: Planner,
    seed: int,
    *,
    halving: bool = False,
) -> Space:
    """Parse a space and check that every part of it can be trained.

    The recipe is planned with both ends of each range and with every choice, each with its conditions met. If some
    dimensions cannot be parsed, the others are still checked, so that one error reports all problems.

    Args:
        space: the dimensions to search, in any accepted form.
        recipe: the settings that do not vary.
        planner: the planner of the data.
        seed: seed of the search.
        halving: whether successive halving is used; its rungs count epochs, so ``stop.max_epochs`` must not vary.

    Returns:
        The parsed space.

    Raises:
        RecipeError: empty or impossible ranges, unknown keys, values rejected by a constructor or by the data, and
            keys that all trials must share; all at once.
        UserError: ``space`` has the wrong type or its file cannot be read.
    """
    problems: tuple[Problem, ...] = ()
    try:
        parsed = as_space(space)
    except SpaceError as error:
        problems, parsed = error.problems, Space(error.valid_dimensions)
    problems += _problems(parsed, recipe, planner, seed, halving=halving)
    if problems:
        raise RecipeError(problems, "space")
    return parsed


def _problems(
    space: Space, recipe: Recipe, planner: Planner, seed: int, *, halving: bool
) -> tuple[Problem, ...]:
    problems: dict[str, Problem] = {}

    def add(problem: Problem) -> None:
        problems.setdefault(str(replace(problem, source="")), problem)

    usable = []
    for dimension in space:
        section, _, key = dimension.key.partition(".")
        if dimension.key in _SHARED_KEYS:
            reason = f"{_SHARED_KEYS[dimension.key]} must be the same for all trials"
            add(Problem(section, key, reason, "set it in the recipe", "space"))
        elif section in _MACHINE_SECTIONS:
            reason = "it does not affect what is learned"
            add(Problem(section, key, reason, "set it in the recipe", "space"))
        elif halving and dimension.key == "stop.max_epochs":
            reason = "successive halving stops trials by the number of epochs itself"
            add(Problem(section, key, reason, "set one number in the recipe", "space"))
        else:
            usable.append(dimension)
    usable_keys = {dimension.key for dimension in usable}
    for dimension in usable:
        for value in dimension.probe_values():
            point = space.point_with(dimension.key, value)
            point = {key: setting for key, setting in point.items() if key in usable_keys}
            try:
                planner.plan(recipe.replace(point), seed)
            except RecipeError as error:
                for problem in error.problems:
                    add(problem.of("space"))
    return tuple(problems.values())
