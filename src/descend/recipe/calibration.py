"""Build the calibration of a classification, and refuse one that does not fit the task."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from descend.errors import Problem, RecipeError, RunError, UserError
from descend.interface import key_name, setting
from descend.nn.calibration import Calibration
from descend.recipe.build_loss import build_output
from descend.recipe.catalogue import find
from descend.recipe.construct import call
from descend.recipe.facts import Facts
from descend.recipe.recipe import Recipe

__all__ = ["build_calibration", "restored_calibration"]


def build_calibration(recipe: Recipe, facts: Facts) -> Calibration | None:
    """Return the calibration that a resolved recipe chooses, not yet fitted; None for none.

    Raises:
        RecipeError: it does not fit the task or the output activation, or there are no validation rows to fit it on.
    """
    name = recipe.model.get("calibration", "none")
    calibration: Calibration | None = call("model", find("model", name, "calibration"), {}, {})
    if calibration is None:
        return None
    none = f"or {setting('model.calibration', 'none')}"
    if not facts.classification:
        problem = f"'{name}' calibrates probabilities, and the task is {facts.task}", f"use {none[3:]}"
    elif getattr(build_output(recipe, facts), "link", None) != "logit":
        output = recipe.model["output"]
        problem = f"'{name}' requires logits, and the raw outputs of '{output}' are not", f"use {none[3:]}"
    elif facts.task not in calibration.tasks:
        problem = (
            f"'{name}' is for the tasks {', '.join(sorted(calibration.tasks))}, and the task is {facts.task}",
            f"use {setting('model.calibration', 'temperature')}, {none}",
        )
    elif not facts.validation_rows:
        problem = (
            f"'{name}' is fitted on validation rows, and there are none",
            f"hold out rows ({key_name('data.validation')}), {none}",
        )
    else:
        return calibration
    raise RecipeError([Problem("model", "calibration", *problem)])


def restored_calibration(
    recipe: Recipe, facts: Facts, state: Mapping[str, Tensor], place: str
) -> Calibration | None:
    """Return the calibration of a file from its tensors by name; None where the file has none.

    Raises:
        RunError: the tensors are not those of the calibration that the recipe names.
        RecipeError: the calibration does not fit the data.
    """
    if not state:
        return None
    calibration = build_calibration(recipe, facts)
    if calibration is None:
        raise RunError(f"the weights of {place} include a calibration, and its recipe has none")
    try:
        calibration.restore(state)
    except UserError as cause:
        raise RunError(f"the weights of {place} do not fit the recipe: {cause}") from cause
    return calibration.eval()
