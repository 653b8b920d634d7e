"""Messages in the words of an estimator: its parameters, instead of the keys of the recipe that they set."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

from descend.errors import Problem, RecipeError
from descend.estimators.parameters import RECIPE_KEYS
from descend.interface import parameters

__all__ = ["in_own_words", "problem_of_parameter"]

P = ParamSpec("P")
R = TypeVar("R")

PARAMETERS: Mapping[str, str] = {key: name for name, key in RECIPE_KEYS.items()}
"""The parameter that sets each key of the recipe."""


def in_own_words(method: Callable[P, R]) -> Callable[P, R]:
    """Return a method of an estimator whose messages name parameters of the estimator."""

    @functools.wraps(method)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        with parameters(PARAMETERS):
            try:
                return method(*args, **kwargs)
            except RecipeError as cause:
                if cause.of_what != "recipe":
                    raise
                owner = (
                    getattr(args[0], "estimator", None) or args[0]
                )  # a search has the parameters of its estimator
                given = {name: getattr(owner, name, None) for name in RECIPE_KEYS}
                problems = [problem_of_parameter(problem, given) for problem in cause.problems]
                raise RecipeError(problems, type(owner).__name__) from None

    return call


def problem_of_parameter(problem: Problem, given: Mapping[str, Any]) -> Problem:
    """Return a problem of a recipe at the place where an estimator's user specified it.

    Args:
        problem: the problem, at a section and key.
        given: the parameters of the estimator.

    >>> print(problem_of_parameter(Problem("optimizer", "lr", "expected a number above 0, got -1"), {"lr": -1}))
    lr: expected a number above 0, got -1
    >>> print(problem_of_parameter(Problem("stop", "patiense", "unknown key"), {"lr": 0.1}))
    recipe: [stop] patiense: unknown key
    """
    outer, _, inner = (problem.key or "name").partition(".")
    name = PARAMETERS.get(f"{problem.section}.{outer}")
    method = PARAMETERS.get(f"{problem.section}.name")
    if name is not None and given.get(name) is not None:
        return dataclasses.replace(problem, section="", key=f"{name}.{inner}" if inner else name)
    if method is not None and isinstance(given.get(method), Mapping):
        return dataclasses.replace(problem, section="", key=f"{method}: {problem.key}")
    return problem.of("recipe")
