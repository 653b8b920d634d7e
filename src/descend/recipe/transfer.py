"""Apply the recipe's pretrained weights and frozen parts to a network."""

from __future__ import annotations

import warnings
from typing import Any

from torch import nn

from descend.errors import Problem, RecipeError, UserError
from descend.recipe.recipe import Recipe
from descend.training.transfer import digest_of, freeze, read_weights, transfer

__all__ = ["freeze_parts", "start_from_pretrained"]


def freeze_parts(recipe: Recipe, model: nn.Module) -> None:
    """Freeze the parts that ``model.freeze`` names; see :func:`descend.training.transfer.freeze`.

    Raises:
        RecipeError: a pattern matches nothing, or nothing is left to train.
    """
    patterns = recipe.model["freeze"]
    try:
        freeze(model, [patterns] if isinstance(patterns, str) else patterns)
    except UserError as cause:
        raise RecipeError([Problem("model", "freeze", str(cause))]) from cause


def start_from_pretrained(recipe: Recipe, model: nn.Module) -> dict[str, Any] | None:
    """Copy the weights of ``model.pretrained`` into a network, and report how each tensor was used.

    A warning is issued where the last layer is initialized again, or where tensors of the file are not used.

    Returns:
        The path, the file's digest, and the names of the tensors that were matched, replaced and not used; None where the
        recipe names no weights.

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
        hint = "the networks may differ in the last layer only; constant columns of a table are not inputs"
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
