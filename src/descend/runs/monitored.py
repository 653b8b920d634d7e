"""What a recipe monitors must be there: validation rows, and metrics that are defined on them."""

from __future__ import annotations

from descend.data.preparation import Part, Prepared
from descend.data.schema import Schema
from descend.errors import Problem, RecipeError, UserError
from descend.interface import key_name, setting
from descend.metrics import Metric, undefined_reason
from descend.recipe import Recipe
from descend.recipe.members import network_recipe, networks_per_run, selection_of
from descend.recipe.selection import build_selection
from descend.runs.evaluate import units_of

__all__ = ["check_monitored", "undefined_on"]


def check_monitored(recipe: Recipe, prepared: Prepared) -> None:
    """Refuse settings that monitor what is not there, or is undefined.

    Raises:
        RecipeError: all problems at once.
    """
    problems = _metric_problems(recipe, prepared)
    validated = len(prepared.validation) > 0
    watches = recipe.schedule.get("monitor") == "validation"
    if not validated and watches:
        problems.append(
            Problem(
                "schedule",
                "monitor",
                "there are no validation rows to monitor",
                'use "objective", or hold out rows',
            )
        )
    if not validated and (
        networks_per_run(recipe) > recipe.model["ensemble"] or selection_of(recipe) == "greedy"
    ):
        problems.append(
            Problem(
                *(("model", "members") if recipe.model["members"] else ("init", "restarts")),
                "there are no validation rows to select the best network on",
                f"hold out rows ({key_name('data.validation')})",
            )
        )
    if recipe.stop.get("refit") and any(
        network_recipe(recipe, number).schedule.get("monitor") == "validation"
        for number in range(networks_per_run(recipe))
    ):
        problems.append(
            Problem(
                "stop",
                "refit",
                "the schedule follows the loss on validation rows, which the training on all rows does not have",
                'use schedule.monitor = "objective", or another schedule',
            )
        )
    if not validated and recipe.get("stop.target") is not None:
        problems.append(Problem("stop", "target", "there are no validation rows to measure it on"))
    if problems:
        raise RecipeError(problems)


def _metric_problems(recipe: Recipe, prepared: Prepared) -> list[Problem]:
    """Try the requested metrics on the validation rows, or else the training rows, with perfect predictions."""
    try:
        selection = build_selection(recipe, prepared.schema.task, len(prepared.schema.classes))
    except RecipeError as cause:
        return list(cause.problems)
    problems: list[Problem] = []
    part = "validation" if len(prepared.validation) else "train"
    rows: Part = getattr(prepared, part)
    for metric in selection.requested:
        key = "monitor" if metric.name == selection.monitor else "metrics"
        try:
            reason = undefined_on(metric, rows, prepared.schema)
        except UserError as cause:
            message, _, hint = str(cause).partition("; ")
            problems.append(Problem("stop", key, message, hint))
            continue
        if reason is not None and key == "monitor" and part == "validation":
            problems.append(
                Problem(
                    "stop",
                    "monitor",
                    f"'{metric.name}' is undefined on the {len(rows):,} validation rows: {reason}",
                    f"use {setting('stop.monitor', 'loss')}, or hold out more rows",
                )
            )
    return problems


def undefined_on(metric: Metric, part: Part, schema: Schema) -> str | None:
    """Return why a metric is undefined on the rows of a part whatever the predictions, or None if it can be defined.

    Raises:
        UserError: a metric of the user's own fails on these rows.
    """
    units = units_of(schema, part.targets.device)
    targets = part.targets if units is None else units(part.targets)
    return undefined_reason(metric, schema.task, targets, part.weights, len(schema.classes))
