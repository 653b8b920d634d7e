"""Validation of a comparison, before any training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from descend.arguments import integer
from descend.errors import Problem, RecipeError, UserError
from descend.experiments.comparison.variants import Variant
from descend.experiments.objective import MetricChoice, Objective, choose_objective
from descend.interface import option
from descend.metrics import LOSSES, metric_names
from descend.recipe.build import build_loss, build_model, build_optimizer, build_output
from descend.recipe.facts import facts_of
from descend.recipe.toml import path_of
from descend.runs.plan import Plan, Planner

__all__ = ["check_metric", "check_numbers", "n_learning_rates", "plan_variants", "scored_part"]

DEFAULT_TUNE = 8
"""Default number of learning rates tried for each variant."""


def n_learning_rates(tune: int | None, variants: Sequence[Variant]) -> int:
    """Return the number of learning rates to try for each variant.

    Raises:
        UserError: ``tune`` is negative, or the learning rate is both set and tuned.
    """
    lr_is_set = any(variant.sets_lr for variant in variants)
    if tune is None:
        return 0 if lr_is_set else DEFAULT_TUNE
    tune = integer("tune", tune, 0)
    if tune and lr_is_set:
        raise UserError(
            "optimizer.lr is set, so there is no learning rate to tune: remove it from recipe and variants, or omit "
            f"{option('--tune', 'tune=')}"
        )
    return tune


def check_numbers(seeds: int, tests: bool, rates: tuple[float, float], level: float) -> None:
    """Check the numeric arguments of a comparison.

    Raises:
        UserError: one of them is out of range.
    """
    if integer("seeds", seeds, 1) < 2 and tests:
        raise UserError(
            "tests require at least two seeds, since one does not show the variation by chance: "
            f"{option('--seeds 5', 'seeds=5')}, or {option('--no-tests', 'tests=False')}"
        )
    try:
        low, high = (float(rate) for rate in rates)
    except (TypeError, ValueError):
        raise UserError(f"rates: expected two numbers, such as (1e-4, 1.0), got {rates!r}") from None
    if not (0 < low < high and math.isfinite(high)):
        raise UserError(f"rates: expected two ascending numbers above 0, got {low:g} and {high:g}")
    if not 0 < level < 1:
        raise UserError(f"level: expected a number between 0 and 1, got {level:g}")


def plan_variants(planner: Planner, variants: Sequence[Variant], seed: int) -> list[Plan]:
    """Plan and build every variant.

    Raises:
        RecipeError: some variants cannot be trained; the problems of all at once.
    """
    plans: list[Plan] = []
    problems: list[Problem] = []
    for variant in variants:
        try:
            plan = planner.plan(variant.recipe, seed)
            _build(plan)
            plans.append(plan)
        except RecipeError as error:
            problems += [problem.of(variant.name) for problem in error.problems]
    if problems:
        raise RecipeError(problems)
    return plans


def _build(plan: Plan) -> None:
    """Build the parts of a training and discard them, so that misfits are reported before anything is trained."""
    facts = facts_of(plan.prepared.schema)
    loss = build_loss(plan.recipe, facts, build_output(plan.recipe, facts))
    model = build_model(plan.recipe, facts, plan.seed, plan.prepared.train)
    build_optimizer(plan.recipe, model, loss=loss)


def _scored_rows(plan: Plan) -> tuple[Any, ...]:
    prepared = plan.prepared
    return tuple(tuple(getattr(prepared, part).rows.tolist()) for part in ("validation", "test"))


def scored_part(plans: Sequence[Plan]) -> str:
    """Return the part of the data that the final score is measured on.

    Raises:
        UserError: the variants have different validation or test rows, or there are no validation rows.
    """
    first = plans[0].prepared
    if not len(first.validation):
        raise UserError(
            "there are no validation rows, which are needed to select learning rates and to set the target; keep "
            "data.validation above 0"
        )
    tasks = {
        (plan.prepared.schema.task, plan.prepared.schema.target_names, plan.prepared.schema.classes)
        for plan in plans
    }
    distinct = {id(plan.prepared): plan for plan in plans}.values()
    if len(tasks) > 1 or len({_scored_rows(plan) for plan in distinct}) > 1:
        raise UserError(
            "the variants are not measured on the same rows and targets, so their scores cannot be compared; do not "
            "vary data.target, data.task, data.validation, data.test, data.split, data.groups, or anything they "
            "depend on"
        )
    return "test" if len(first.test) else "validation"


def check_metric(
    requested: MetricChoice | None, plans: Sequence[Plan], part: str, allow_imports: bool = False
) -> Objective:
    """Return the requested metric, by default the main one of the task.

    Args:
        requested: the metric, or None.
        plans: the plans of the variants.
        part: the part of the data that the final scores are measured on.
        allow_imports: whether the metric may be an import path.

    Raises:
        UserError: the metric does not exist, is undefined on these rows, or is a loss that differs between the variants.
    """
    task = plans[0].prepared.schema.task
    if requested == "loss":
        losses = {
            (
                *(
                    repr((key, path_of(value)))
                    for key, value in plan.recipe.loss.items()
                    if key != "label_smoothing"
                ),
                repr(plan.recipe.model["output"]),
                repr(plan.recipe.get("data.target_scale")),
            )
            for plan in plans
        }
        if len(losses) > 1:
            raise UserError(
                "the variants have different losses, whose values cannot be compared; compare by a metric: "
                + ", ".join(name for name in metric_names(task) if name not in LOSSES)
            )
    return choose_objective(requested, plans, sorted({"validation", part}), allow_imports)
