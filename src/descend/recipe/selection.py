"""The metrics that a recipe requests: by name, by import path, or as functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from descend.arguments import kind_of
from descend.errors import Problem, RecipeError, UserError
from descend.interface import option
from descend.metrics import LOSSES, Metric, Selection, find_metric, metric_names, own_metric
from descend.recipe.catalogue import import_object, is_import_path
from descend.recipe.recipe import Recipe

__all__ = ["build_metric", "build_selection"]


def build_selection(recipe: Recipe, task: str, classes: int) -> Selection:
    """Return the metrics that a resolved recipe requests in ``stop.monitor`` and ``stop.metrics``.

    Args:
        recipe: the recipe.
        task: the task.
        classes: the number of classes; 0 for regression.

    Raises:
        RecipeError: a metric does not exist, does not fit the task, or does not declare what it needs to.
    """
    problems: list[Problem] = []
    requested: dict[str, Metric] = {}
    monitor = "loss"
    several = recipe.stop.get("metrics") or ()
    for key, value in [
        ("monitor", recipe.stop.get("monitor", "loss")),
        *(("metrics", each) for each in several),
    ]:
        if isinstance(value, str) and (value in LOSSES or value == "auto") and key == "monitor":
            monitor = "loss" if value == "auto" else value
            continue
        try:
            metric = build_metric(value, task, classes)
        except UserError as cause:
            message, _, hint = str(cause).partition("; ")
            problems.append(Problem("stop", key, message, hint))
            continue
        same = requested.setdefault(metric.name, metric)
        if same.own is not metric.own:
            problems.append(
                Problem(
                    "stop", key, f"two metrics have the name '{metric.name}'", "give one of them another name"
                )
            )
        if key == "monitor":
            monitor = metric.name
    if problems:
        raise RecipeError(problems)
    return Selection(task, classes, tuple(requested.values()), monitor)


def build_metric(value: Any, task: str, classes: int, allow_imports: bool = True) -> Metric:
    """Return the metric that a value names: a name, an import path, a function, or a table of one with declarations.

    Args:
        value: such as "f1", "package.module:function", a function of (y_true, predictions), or a table
            ``{"function": ..., "better": "higher", "takes": "probabilities", "name": ...}``.
        task: the task.
        classes: the number of classes; 0 for regression.
        allow_imports: whether a function may be given by its import path, which runs its code. Default True.

    Raises:
        UserError: it names no metric, or one that does not fit the task.

    >>> build_metric("f1", "binary", 2).name
    'f1'
    >>> build_metric({"function": "sklearn.metrics:hamming_loss", "takes": "classes"}, "binary", 2).better
    'lower'
    """
    table = dict(value) if isinstance(value, Mapping) else {"function": value}
    function = table.pop("function")
    if isinstance(function, str) and not is_import_path(function):
        metric = find_metric(function, task)
        if table:
            raise UserError(
                f"'{function}' is a built-in metric and takes no {' or '.join(table)}; use \"{function}\""
            )
        if classes < metric.least_classes:
            known = ", ".join(metric_names(task, classes))
            raise UserError(f"'{function}' is always 1 for {classes} classes; one of: {known}")
        return metric
    if isinstance(function, str) and not allow_imports:
        raise UserError(
            f"'{function}' is an import path, and importing runs its code; allow it with "
            f"{option('--allow-imports', 'allow_imports=True')}"
        )
    subject = import_object(function) if isinstance(function, str) else function
    if not callable(subject):
        raise UserError(f"'{function}' is {kind_of(subject)}, not a function")
    return own_metric(subject, task, **table)
