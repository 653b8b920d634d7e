"""Wrap the optimizer of a recipe, and check that it can be used with the other parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch.optim import Optimizer

from descend.errors import Problem, RecipeError, UserError
from descend.optim import WRAPPERS
from descend.optim.wrapper import has_evaluation_weights
from descend.recipe.constraints import ActiveConstraint
from descend.recipe.recipe import Recipe

__all__ = ["check_evaluation_weights", "wrap_optimizer"]


def check_evaluation_weights(
    recipe: Recipe, optimizer: Optimizer, constraints: Sequence[ActiveConstraint]
) -> None:
    """Refuse what moves or averages the weights in another way, where the optimizer evaluates an average of its own.

    Raises:
        RecipeError: naming the setting.
    """
    if not has_evaluation_weights(optimizer):
        return
    name, problems = recipe.optimizer["name"], []
    if recipe.stop["average"]:
        problems.append(
            Problem(
                "stop",
                "average",
                f"'{name}' evaluates the average of its own iterates",
                "set it to 0, or use 'adamw', whose weights can be averaged",
            )
        )
    moved = "regularize" if recipe.regularize["l1_prox"] else "constrain" if _projects(constraints) else ""
    if moved:
        key = "l1_prox" if moved == "regularize" else None
        message = (
            f"'{name}' averages its own iterates, which a change of the weights after a step does not reach"
        )
        problems.append(Problem(moved, key, message, "use 'adamw'"))
    if problems:
        raise RecipeError(problems)


def wrap_optimizer(
    recipe: Recipe, optimizer: Optimizer, constraints: Sequence[ActiveConstraint]
) -> Optimizer:
    """Return the optimizer within the wrappers that the recipe chooses, SAM inside and Lookahead outside.

    Hooks belong to the wrapped optimizer and are registered there.

    Raises:
        RecipeError: the optimizer cannot be wrapped, or the constraints hold for the steps but not between two points.
    """
    for key in WRAPPERS:
        value = recipe.optimizer.get(key)
        settings = _settings(key, value)
        if settings is None:
            continue
        if key == "lookahead" and any(each.fixed_norm_weights for each in constraints):
            message = "a point between two weights that satisfy the constraint does not satisfy it"
            raise RecipeError([Problem("optimizer", key, message, "use it without this constraint")])
        try:
            optimizer = WRAPPERS[key](optimizer, **settings)
        except UserError as cause:
            message, _, hint = str(cause).partition("; ")
            raise RecipeError([Problem("optimizer", key, message, hint)]) from cause
    return optimizer


def _settings(key: str, value: Any) -> dict[str, Any] | None:
    """Return the settings of a wrapper, or None where the recipe does not use it."""
    if isinstance(value, Mapping):
        return dict(value)
    if not value:
        return None
    return {"rho" if key == "sam" else "steps": value}


def _projects(constraints: Sequence[ActiveConstraint]) -> bool:
    return any(hasattr(each, "constraint") for each in constraints)
