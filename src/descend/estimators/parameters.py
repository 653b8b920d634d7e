"""Constructor parameters of an estimator as sections of a recipe."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from descend.errors import Problem, RecipeError
from descend.recipe import Recipe
from descend.recipe.nesting import nested
from descend.runs.plan import as_recipe

__all__ = ["RECIPE_KEYS", "Sections", "sections_of"]

Sections = dict[str, dict[str, Any]]
"""Sections of a recipe, not validated yet."""

RECIPE_KEYS: Mapping[str, str] = {
    "preset": "model.preset",
    "minutes": "model.minutes",
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
    "class_weight": "data.class_weights",
    "validation_fraction": "data.validation",
    "max_epochs": "stop.max_epochs",
    "patience": "stop.patience",
    "refit": "stop.refit",
    "device": "engine.device",
}
"""Key of the recipe that each parameter sets."""

_COLUMN_KEYS = {
    "split": "pass the training rows to fit",
    "groups": "pass groups to Search.fit, or to cross_val_score of scikit-learn with GroupKFold",
    "weights": "pass weights as fit(X, y, sample_weight=...)",
}
"""Keys that name a column of a table, and what an estimator has instead."""

_TASKS = {
    "classification": ("classification", "binary", "multiclass", "multi_label"),
    "regression": ("regression", "multi_regression"),
}


def sections_of(parameters: Mapping[str, Any], task: str) -> Sections:
    """Return the sections of a recipe that an estimator's parameters specify.

    The parameters override the recipe among them; a parameter of None leaves the recipe's value. An optimizer or
    schedule with another name replaces the recipe's section, whose settings belong to the other method. There is no
    test part, because an estimator is evaluated by its caller.

    Args:
        parameters: ``recipe`` and any of :data:`RECIPE_KEYS`.
        task: "classification" or "regression".

    Raises:
        RecipeError: the recipe is invalid or cannot be used for estimators.

    >>> sections = sections_of({"recipe": {"optimizer": {"name": "sgd", "lr": 0.1}}, "lr": 0.5}, "regression")
    >>> sections["optimizer"], sections["data"]
    ({'name': 'sgd', 'lr': 0.5}, {'task': 'regression', 'test': 0.0})
    """
    sections = _sections(parameters.get("recipe"))
    for name, recipe_key in RECIPE_KEYS.items():
        value = parameters.get(name)
        if value is None:
            continue
        section, _, key = recipe_key.partition(".")
        values = sections.setdefault(section, {})
        if key == "name":
            sections[section] = _method_section(value, values)
        else:
            values[key] = _value(name, value)
    data = sections.setdefault("data", {})
    data.pop("target", None)
    problems = [
        Problem("data", key, "estimators take X and y without further columns", remedy)
        for key, remedy in _COLUMN_KEYS.items()
        if data.get(key) is not None
    ]
    if data.setdefault("task", task) == "auto":
        data["task"] = task
    if data["task"] not in _TASKS[task]:
        problems.append(
            Problem("data", "task", f"'{data['task']}' is not supported by an estimator for {task}")
        )
    if problems:
        raise RecipeError(problems)
    data["test"] = 0.0
    return sections


def _sections(recipe: Recipe | Mapping[str, Any] | str | Path | None) -> Sections:
    """Return the sections of a recipe, those of a mapping unchecked, so that all problems are reported at once."""
    sections = nested(recipe) if isinstance(recipe, Mapping) else {}
    if not sections or not all(isinstance(one, Mapping | str) or callable(one) for one in sections.values()):
        return {name: dict(values) for name, values in as_recipe(recipe, allow_imports=False).items()}
    return {
        name: dict(value) if isinstance(value, Mapping) else {"name": value}
        for name, value in sections.items()
    }


def _value(name: str, value: Any) -> Any:
    """Return the value of a key for that of a parameter: one width, and classes that are not strings, have other forms."""
    if name == "hidden" and isinstance(value, numbers.Integral):
        return (value,)
    if name == "class_weight" and isinstance(value, Mapping):
        return {str(label): weight for label, weight in value.items()}
    return value


def _method_section(value: Any, before: Mapping[str, Any]) -> dict[str, Any]:
    """Return the section that a name, or a name with settings, specifies."""
    if isinstance(value, Mapping):
        return dict(value)
    return {**before, "name": value} if before.get("name") == value else {"name": value}
