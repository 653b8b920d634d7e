"""An estimator's constructor parameters as a recipe."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any

from descend.errors import Problem, RecipeError
from descend.launch import as_recipe
from descend.recipe import Recipe

__all__ = ["PLACES", "asked_recipe"]

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
    "classification": ("auto", "classification", "binary", "multiclass"),
    "regression": ("auto", "regression", "multi_regression"),
}


def asked_recipe(parameters: Mapping[str, Any], task: str) -> Recipe:
    """What an estimator's parameters ask for, as one recipe.

    The recipe among the parameters comes first and the others are put over it; those that are None say
    nothing. An optimizer or schedule of another name takes the whole place of the recipe's, whose settings
    belong to the other method. There is no test part: an estimator is judged by who holds the test data.

    Args:
        parameters: ``recipe`` and any of :data:`PLACES`.
        task: "classification" or "regression".

    Raises:
        RecipeError: every fault of the parameters at once.

    >>> recipe = asked_recipe({"recipe": {"optimizer": {"name": "sgd", "lr": 0.1}}, "lr": 0.5}, "regression")
    >>> recipe.get("optimizer.name"), recipe.get("optimizer.lr"), recipe.get("data.test")
    ('sgd', 0.5, 0.0)
    """
    base = as_recipe(parameters.get("recipe"), allow_imports=False)
    sections: dict[str, dict[str, Any]] = {name: dict(values) for name, values in base.items()}
    for name, place in PLACES.items():
        value = parameters.get(name)
        if value is None:
            continue
        section, _, key = place.partition(".")
        if key == "name":
            sections[section] = _chosen(value, sections[section])
        else:
            sections[section][key] = (value,) if name == "hidden" and isinstance(value, numbers.Integral) else value
    data = sections["data"]
    data.pop("target", None)
    problems = [
        Problem("data", key, "an estimator takes X and y; columns that steer the training have no place in X")
        for key in _OF_COLUMNS
        if data.get(key) is not None
    ]
    if data.get("task", "auto") not in _TASKS[task]:
        problems.append(Problem("data", "task", f"'{data['task']}' does not fit an estimator for {task}"))
    if problems:
        raise RecipeError(problems)
    if data.get("task", "auto") == "auto":
        data["task"] = task
    data["test"] = 0.0
    return Recipe.of(sections)


def _chosen(value: Any, before: Mapping[str, Any]) -> dict[str, Any]:
    """The section that a name, or a name with settings, stands for."""
    if isinstance(value, Mapping):
        return dict(value)
    return {**before, "name": value} if before.get("name") == value else {"name": value}
