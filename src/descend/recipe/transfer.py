"""What a recipe says of another network's weights and of parts held fixed, done to a network."""

from __future__ import annotations

import warnings
from typing import Any

from torch import nn

from descend.errors import Problem, RecipeError, UserError
from descend.recipe.recipe import Recipe
from descend.training.transfer import digest_of, freeze, read_weights, transfer

__all__ = ["freeze_parts", "start_from_pretrained"]


def freeze_parts(recipe: Recipe, model: nn.Module) -> None:
    """Hold what ``model.freeze`` names fixed; see :func:`descend.training.transfer.freeze`.

    Raises:
        RecipeError: a pattern matches nothing, or nothing is left to train.
    """
    said = recipe.model["freeze"]
    try:
        freeze(model, [said] if isinstance(said, str) else said)
    except UserError as cause:
        raise RecipeError([Problem("model", "freeze", str(cause))]) from cause


def start_from_pretrained(recipe: Recipe, model: nn.Module) -> dict[str, Any] | None:
    """Put the weights of ``model.pretrained`` into a network, and say what became of every tensor.

    Where the last layer is started anew, or tensors of the file are not used, a warning says so.

    Returns:
        The path, the file's digest, and the names of what was matched, replaced and not used; None where the recipe names
        no weights.

    Raises:
        RecipeError: the weights cannot be read, or do not fit.
    """
    path = recipe.model.get("pretrained")
    if path is None:
        return None
    try:
        report = transfer(model, read_weights(path), recipe.model["pretrained_head"])
        digest = digest_of(path)
    except UserError as cause:
        message = str(cause).removeprefix("pretrained: ")
        hint = "the networks may differ in the last layer alone; of a table, constant columns are no inputs"
        problem = Problem("model", "pretrained", message, hint if "do not fit" in message else "")
        raise RecipeError([problem]) from cause
    if report.unused or (report.replaced and recipe.model["pretrained_head"] == "auto"):
        warnings.warn(f"pretrained weights of {path}: {report}", stacklevel=2)
    return {
        "path": path,
        "digest": digest,
        "summary": str(report),
        "matched": list(report.matched),
        "replaced": list(report.replaced),
        "unused": list(report.unused),
    }
