"""An estimator's constructor parameters as a recipe."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from descend.errors import Problem, RecipeError
from descend.recipe import Recipe
from descend.recipe.sections import SECTIONS

__all__ = ["PLACES", "Sections", "as_recipe", "asked"]

Sections = dict[str, dict[str, Any]]
"""Sections of a recipe, not checked yet."""

PLACES: Mapping[str, str] = {
    "hidden": "model.hidden",
    "activation": "model.activation",
    "norm": "model.norm",
    "dropout": "model.dropout",
    "optimizer": "optimizer.name",
    "lr": "optimizer.lr",
    "schedule": "schedule.name",
    "weight_decay": "regularize.weight_decay",
    "batch_size": "data.batch_size",
    "scale": "data.scale",
    "validation_fraction": "data.validation",
    "max_epochs": "stop.max_epochs",
    "patience": "stop.patience",
    "device": "engine.device",
}
"""Where each parameter stands in a recipe."""

_OF_COLUMNS = ("split", "groups", "weights")
_TASKS = {
    "classification": ("classification", "binary", "multiclass"),
    "regression": ("regression", "multi_regression"),
}


def asked(parameters: Mapping[str, Any], task: str) -> Sections:
    """What an estimator's parameters ask for.

    The recipe among the parameters comes first and the others are put over it; those that are None say
    nothing. An optimizer or schedule of another name takes the whole place of the recipe's, whose settings
    belong to the other method. There is no test part: an estimator is judged by who holds the test data.

    Args:
        parameters: ``recipe`` and any of :data:`PLACES`.
        task: "classification" or "regression".

    Raises:
        RecipeError: the recipe is not one for estimators.

    >>> found = asked({"recipe": {"optimizer": {"name": "sgd", "lr": 0.1}}, "lr": 0.5}, "regression")
    >>> found["optimizer"], found["data"]
    ({'name': 'sgd', 'lr': 0.5}, {'task': 'regression', 'test': 0.0})
    """
    sections = _sections(parameters.get("recipe"))
    for name, place in PLACES.items():
        value = parameters.get(name)
        if value is None:
            continue
        section, _, key = place.partition(".")
        values = sections.setdefault(section, {})
        if key == "name":
            sections[section] = _chosen(value, values)
        else:
            values[key] = (value,) if name == "hidden" and isinstance(value, numbers.Integral) else value
    data = sections.setdefault("data", {})
    data.pop("target", None)
    problems = [
        Problem("data", key, "an estimator takes X and y; columns that steer the training have no place in X")
        for key in _OF_COLUMNS
        if data.get(key) is not None
    ]
    if data.setdefault("task", task) == "auto":
        data["task"] = task
    if data["task"] not in _TASKS[task]:
        problems.append(Problem("data", "task", f"'{data['task']}' does not fit an estimator for {task}"))
    if problems:
        raise RecipeError(problems)
    data["test"] = 0.0
    return sections


def as_recipe(sections: Mapping[str, Mapping[str, Any]]) -> Recipe:
    """The recipe of sections.

    Raises:
        RecipeError: every fault at once.
    """
    return Recipe(**sections) if set(sections) <= set(SECTIONS) else Recipe.of(sections)


def _sections(recipe: Recipe | Mapping[str, Any] | str | Path | None) -> Sections:
    if recipe is None:
        return {}
    if isinstance(recipe, str | Path):
        recipe = Recipe.load(recipe)
    return {
        name: dict(value) if isinstance(value, Mapping) else {"name": value} for name, value in recipe.items()
    }


def _chosen(value: Any, before: Mapping[str, Any]) -> dict[str, Any]:
    """The section that a name, or a name with settings, stands for."""
    if isinstance(value, Mapping):
        return dict(value)
    return {**before, "name": value} if before.get("name") == value else {"name": value}
