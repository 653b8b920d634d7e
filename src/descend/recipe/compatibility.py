"""Checks that the parts of a recipe can be used together, made on the built parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn
from torch.optim import Optimizer

from descend.errors import Problem, RecipeError
from descend.nn.members import members_of
from descend.nn.whitening import Whitening
from descend.recipe.recipe import Recipe

__all__ = ["check_batches", "check_needs"]


def check_batches(model: nn.Module, sizes: Sequence[int]) -> None:
    """Refuse batches of one row where a layer computes statistics over rows.

    Raises:
        RecipeError: naming the layer.
    """
    if 1 not in sizes:
        return
    batch_norms = (nn.BatchNorm1d, Whitening)
    for name, module in model.named_modules():
        if isinstance(module, batch_norms) and not (isinstance(module, Whitening) and module.is_spatial):
            message = f"'{name}' ({type(module).__name__}) has no statistics in a batch of one row"
            hint = "use 2 or more, or a norm of single rows: 'layer' or 'group'"
            raise RecipeError([Problem("data", "batch_size", message, hint)])


def check_needs(recipe: Recipe, model: nn.Module, optimizer: Optimizer, loss: Any = None) -> None:
    """Refuse an optimizer that needs second derivatives where a part of the recipe has none, or one output for each row.

    Raises:
        RecipeError: naming the part, and what to do.
    """
    if getattr(optimizer, "average", None) is not None and members_of(model) > 1:
        message = f"'{recipe.optimizer['name']}' averages the outputs of each row over steps, and the network has several"
        hint = "use adamw, or another model"
        raise RecipeError([Problem("optimizer", "name", message, hint)])
    needs: frozenset[str] = getattr(optimizer, "needs", frozenset())
    if not needs & {"graph", "outputs"}:
        return
    name = recipe.optimizer["name"]
    problems = []
    if not getattr(loss, "curved", True):
        message = f"'{name}' uses the second derivative of the loss, which for '{recipe.loss['name']}' is 0 almost everywhere"
        problems.append(
            Problem("optimizer", "name", message, "use adamw, sgd, lbfgs or bfgs, or the loss huber")
        )
    choice = recipe.regularize["orthogonality"]
    kind = choice["name"] if isinstance(choice, Mapping) else choice
    if kind in ("so", "dso") and float(recipe.regularize["orthogonality_strength"]):
        message = f"'{name}' differentiates twice, and '{kind}' provides its gradient only"
        hint = "use 'mc' or 'srip' here, or the optimizer bfgs or lbfgs"
        problems.append(Problem("regularize", "orthogonality", message, hint))
    for where, module in model.named_modules():
        if isinstance(module, Whitening) and not module.twice_differentiable:
            message = f"'{name}' differentiates twice, and the gradient of '{where}' is an approximation without a derivative"
            hint = "use backward = 'exact' in the norm, or the optimizer bfgs or lbfgs"
            problems.append(Problem("optimizer", "name", message, hint))
    if problems:
        raise RecipeError(problems)
