"""The metric that trainings are compared by: the requested one, or the main one of the task where it is defined."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from descend.data.schema import Schema
from descend.errors import UserError
from descend.interface import option
from descend.metrics import Metric, OwnName, main_metric
from descend.recipe import Recipe
from descend.recipe.selection import build_metric
from descend.runs.monitored import undefined_on
from descend.runs.plan import Plan

__all__ = [
    "MetricChoice",
    "Objective",
    "choose_objective",
    "measuring",
    "objective_of_metric",
    "requested_metric",
]

MetricChoice = str | Callable[..., Any] | Mapping[str, Any]
"""A metric as ``stop.monitor`` takes it: a name, an import path, a function, or a table with a function."""

_WITHOUT_VARIANCE = "rmse"
"""The metric of regression that is used where R² is undefined: it is defined on one row."""


@dataclass(frozen=True)
class Objective:
    """The metric that trainings are compared by.

    Args:
        name: its name in records; that of a metric of one's own knows its direction.
        requested: what recipes must request so that it is measured in training; None if it always is.
        why: the reason for another metric than the main one, if none was specified.
    """

    name: str
    requested: MetricChoice | None = None
    why: str = ""


def choose_objective(
    requested: MetricChoice | None, plans: Sequence[Plan], parts: Sequence[str], allow_imports: bool = False
) -> Objective:
    """Return the objective of trainings on the data of these plans.

    Args:
        requested: the metric specified by the user, or None.
        plans: the plans; they have the same task.
        parts: the parts of the data that it is measured on.
        allow_imports: whether a string may be an import path.

    Raises:
        UserError: the metric does not exist, does not fit the task, or is undefined on one of the parts.
    """
    schema = plans[0].prepared.schema
    metric = requested_metric(requested, schema, allow_imports)
    if metric is None:
        return Objective("loss")
    faults = (
        f"{metric.name} is undefined on the {len(rows):,} {part} rows: {reason}"
        for plan in {id(plan.prepared): plan for plan in plans}.values()
        for part in parts
        if len(rows := getattr(plan.prepared, part))
        and (reason := undefined_on(metric, rows, plan.prepared.schema)) is not None
    )
    fault = next(faults, None)
    if fault is not None and requested is None and not schema.classes:
        return Objective(_WITHOUT_VARIANCE, None, fault)
    if fault is not None:
        other = option("--metric loss", "metric='loss'")
        raise UserError(f"{fault}; compare by another one, such as {other}, or hold out more rows")
    return objective_of_metric(metric, requested)


def requested_metric(
    requested: MetricChoice | None, schema: Schema, allow_imports: bool = False
) -> Metric | None:
    """Return the requested metric, or the main one of the task; None for the loss.

    Raises:
        UserError: the metric does not exist, does not fit the task, or is the objective.
    """
    if requested == "loss":
        return None
    if requested == "objective":
        raise UserError(
            "the objective depends on the recipe, so its values cannot be compared; compare by the loss or a metric"
        )
    chosen = main_metric(schema.task) if requested is None else requested
    return build_metric(chosen, schema.task, len(schema.classes), allow_imports)


def objective_of_metric(metric: Metric, requested: MetricChoice | None) -> Objective:
    """Return the objective that is a metric, with what recipes must request."""
    name = metric.name if metric.own is None else OwnName(metric.name, metric.better)
    always = metric.each_epoch and metric.own is None
    return Objective(name, None if always else requested)


def measuring(recipe: Recipe, objective: Objective) -> Recipe:
    """Return the recipe with the objective among the metrics that it measures."""
    if objective.requested is None:
        return recipe
    own = tuple(recipe.get("stop.metrics", ()) or ())
    return (
        recipe
        if objective.requested in own
        else recipe.replace({"stop.metrics": (*own, objective.requested)})
    )
