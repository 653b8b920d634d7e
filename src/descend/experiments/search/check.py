"""Whether a space can be searched: every problem at once, before any training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from descend.errors import Problem, RecipeError
from descend.experiments.search.space import Space, SpaceError, as_space
from descend.recipe import Recipe
from descend.runs.plan import Planner

__all__ = ["checked"]

_FIXED = {
    "data.target": "what is predicted",
    "data.task": "what is predicted",
    "data.validation": "the rows that trials are compared on",
    "data.test": "the rows that are kept for the winner",
    "data.split": "the rows that trials are compared on",
    "data.groups": "the rows that trials are compared on",
    "data.weights": "how rows count",
}
"""Keys that all trials must share, and what they decide."""

_OF_THE_MACHINE = ("engine", "checkpoint")


def checked(
    space: Space | Mapping[str, Any] | str | Path,
    recipe: Recipe,
    planner: Planner,
    seed: int,
    *,
    halving: bool = False,
) -> Space:
    """The space, if it can be read and searched. Of one that cannot be read, the part that can is tried nevertheless.

    Every dimension's corners are tried: both ends of a range, every choice, each with its conditions met.

    Args:
        space: what varies, in any form.
        recipe: what does not.
        planner: of the data.
        seed: of the search.
        halving: whether rungs count epochs, whose number must then be the same for all.

    Raises:
        RecipeError: empty or impossible ranges, unknown keys, values that a constructor or the data refuse, and keys that all
            trials must share; all at once.
        UserError: it is no space.
    """
    faults: tuple[Problem, ...] = ()
    try:
        found = as_space(space)
    except SpaceError as cause:
        faults, found = cause.problems, Space(cause.rest)
    faults += _problems(found, recipe, planner, seed, halving=halving)
    if faults:
        raise RecipeError(faults, "space")
    return found


def _problems(
    space: Space, recipe: Recipe, planner: Planner, seed: int, *, halving: bool
) -> tuple[Problem, ...]:
    problems: dict[str, Problem] = {}

    def note(problem: Problem) -> None:
        problems.setdefault(str(replace(problem, source="")), problem)

    usable = []
    for dimension in space:
        section, _, key = dimension.key.partition(".")
        if dimension.key in _FIXED:
            why = f"{_FIXED[dimension.key]} must be the same for all trials"
            note(Problem(section, key, why, "say it in the recipe", "space"))
        elif section in _OF_THE_MACHINE:
            note(Problem(section, key, "it changes nothing that is learned", "say it in the recipe", "space"))
        elif halving and dimension.key == "stop.max_epochs":
            why = "successive halving stops trainings itself, by epochs"
            note(Problem(section, key, why, "say one number in the recipe", "space"))
        else:
            usable.append(dimension)
    for dimension in usable:
        for value in dimension.corners():
            point = space.fixed(dimension.key, value)
            point = {name: said for name, said in point.items() if name in {each.key for each in usable}}
            try:
                planner.plan(recipe.replace(point), seed)
            except RecipeError as cause:
                for problem in cause.problems:
                    note(problem.of("space"))
    return tuple(problems.values())
