"""Build the output activation and the loss of a resolved recipe, and the number of outputs that they require."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from torch import nn

from descend.errors import Problem, RecipeError, UserError
from descend.interface import setting
from descend.losses import Loss
from descend.nn.outputs import OUTPUTS, Link
from descend.recipe.adapters import CallableLoss, OnProbabilities
from descend.recipe.callable_losses import build_callable_loss, two_rows
from descend.recipe.catalogue import find
from descend.recipe.construct import call, settings_of
from descend.recipe.facts import Facts
from descend.recipe.loss_requirements import loss_requirements
from descend.recipe.recipe import Recipe

__all__ = ["build_loss", "build_output", "link_of", "network_outputs"]

_OUTPUTS_OF_TASK: Mapping[str, tuple[str, ...]] = {
    "regression": ("identity",),
    "multi_regression": ("identity",),
    "binary": ("sigmoid", "sine"),
    "multi_label": ("sigmoid", "sine"),
    "multiclass": ("softmax",),
}
"""Output activations of each task; that of a regression may also be the one that its loss requires."""


def network_outputs(recipe: Recipe, facts: Facts) -> int:
    """Return the number of outputs of the network: the predictions of a row, each times the outputs that the loss takes."""
    return facts.outputs if facts.classification else facts.outputs * loss_requirements(recipe.loss).blocks


def link_of(recipe: Recipe, facts: Facts) -> Link:
    """Return the link function, from predictions to raw outputs; an ensemble applies it to the mean prediction.

    Raises:
        RecipeError: the output activation, one from an import path, does not declare it.
    """
    link = getattr(build_output(recipe, facts), "link", None)
    if link is None:
        message = f"the output '{recipe.model['output']}' declares no link, which the mean prediction needs"
        raise RecipeError([Problem("model", "output", message, f"use one of: {', '.join(OUTPUTS)}")])
    return "logits" if facts.task == "multi_label" and link == "logit" else cast(Link, link)


def build_output(recipe: Recipe, facts: Facts) -> nn.Module:
    """Build the output activation.

    Raises:
        RecipeError: it does not fit the task.
    """
    name = recipe.model["output"]
    needs = loss_requirements(recipe.loss)
    allowed = _OUTPUTS_OF_TASK[facts.task]
    if not facts.classification:
        free = not needs.known and name == "exp"  # its loss takes logarithms
        allowed = (name,) if free else (needs.output,)
    if name in OUTPUTS and name not in allowed:
        raise RecipeError(
            [
                Problem(
                    "model",
                    "output",
                    f"'{name}' does not fit the task {facts.task}"
                    + ("" if facts.classification else f" with the loss {needs.name or recipe.loss['name']}"),
                    f"one of: {', '.join(allowed)}",
                )
            ]
        )
    context = {"levels": needs.levels} if needs.levels else {}
    return cast(nn.Module, call("model", find("model", name, "output"), context, {}))


def build_loss(recipe: Recipe, facts: Facts, output: nn.Module) -> Loss | OnProbabilities | CallableLoss:
    """Build the loss as a function of (raw outputs, targets, weights).

    Where the loss has a numerically stable form in logits and the output's link is the logit, the two are fused.

    Raises:
        RecipeError: the loss does not fit the task.
    """
    loss = call("loss", find("loss", recipe.loss["name"]), {}, settings_of(recipe, "loss"))
    _check_target_scale(recipe, facts)
    if not isinstance(loss, Loss):
        return build_callable_loss(loss, facts, output, network_outputs(recipe, facts))
    if facts.task not in loss.tasks:
        raise RecipeError(
            [
                Problem(
                    "loss",
                    "name",
                    f"'{recipe.loss['name']}' does not fit the task {facts.task}",
                    f"it is for {' and '.join(sorted(loss.tasks))}{_task_hint(loss, facts)}",
                )
            ]
        )
    loss = loss.for_task(facts.task)
    built: Loss | OnProbabilities = loss
    if loss.form == "logits" and getattr(output, "link", None) != "logit":
        built = OnProbabilities(loss.on_probabilities(), output)
    try:
        built(*two_rows(facts, network_outputs(recipe, facts)))
    except UserError as cause:  # a cost matrix for another number of classes, for instance
        raise RecipeError([Problem("loss", None, str(cause))]) from cause
    return built


def _task_hint(loss: Loss, facts: Facts) -> str:
    """Return how to declare the task that a loss is for, where the targets may be meant for it."""
    if facts.classification and loss.tasks <= {"regression", "multi_regression"}:
        return f"; if the targets are numbers: {setting('data.task', 'regression')}"
    if facts.task == "regression" and not loss.tasks & {"regression", "multi_regression"}:
        return f"; if the targets are classes: {setting('data.task', 'classification')}"
    return ""


def _check_target_scale(recipe: Recipe, facts: Facts) -> None:
    """Refuse standardized targets where the loss takes those in their own units, or the output is positive."""
    needs = loss_requirements(recipe.loss)
    if (
        recipe.model["output"] == "exp"
        and needs.target_space != "raw"
        and recipe.get("data.target_scale") != "none"
    ):
        message = "'exp' predicts positive numbers, but standardized targets are also negative"
        hint = "set target_space = 'raw' on the loss, or data.target_scale = 'none'"
        raise RecipeError([Problem("model", "output", message, hint)])
    scale = recipe.get("data.target_scale")
    if not facts.classification and needs.target_space == "raw" and scale not in ("none", "auto", None):
        message = f"'{scale}' does not fit the loss {needs.name}, which takes targets in their own units"
        raise RecipeError([Problem("data", "target_scale", message, "use 'none' or 'auto'")])
